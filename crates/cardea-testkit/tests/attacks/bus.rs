//! What a listener on the bus sees of secrets: nothing.

use cardea_card::Card;
use cardea_card::record::{CardRecord, IndexRole, VaultKind};
use cardea_card::secret::PrivateKey;
use cardea_card::token::{AdminForm, KeyAlgorithm, KeyClass, PinReference, PrivateOperation};
use cardea_testkit::multiplexer::Multiplexer;
use cardea_testkit::software::{SeededRng, rsa_public_key};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::traits::PrivateKeyParts as _;
use rsa::traits::PublicKeyParts as _;

use crate::bench::{
    ADMIN_KEY, Bench, Kind, Outcome, PIN, PUK, SECOND_PIN, THIRD_PIN, WRONG_PIN, admin_key,
    new_key, pin, succeeds_if, value,
};
use crate::needles::Needles;
use crate::vault::{Said, xor};

pub(crate) const NEW_ADMIN_KEY: [u8; 24] = *b"\xD3other-K\x04-admin-keyx\x8A-of";
pub(crate) const PLAIN: &[u8] = b"deciphered plain text Hn5\x8E";
pub(crate) const SCALAR: [u8; 32] = *b"imported-scalar-Qz8\x81-of-32-byte!";

/// The lives of an administrator's card, of a card with a PUK and of one that others personalise, listened to.
pub(crate) fn listening() -> Outcome {
    let bench = Bench::new();
    let mut secrets = Needles::default();
    for (name, secret) in [
        ("the PIN", PIN),
        ("the second PIN", SECOND_PIN),
        ("the third PIN", THIRD_PIN),
        ("a wrong PIN", WRONG_PIN),
        ("the PUK", PUK),
        ("the admin key", &ADMIN_KEY[..]),
        ("the new admin key", &NEW_ADMIN_KEY),
        ("deciphered data", PLAIN),
        ("the imported scalar", &SCALAR),
    ] {
        secrets.add(name, secret);
    }
    administered(&bench, &mut secrets);
    with_puk(&bench, &mut secrets);
    personalised(&bench, &mut secrets);
    heard(&bench.mux, &secrets)
}

fn heard(mux: &Multiplexer, secrets: &Needles) -> Outcome {
    let exchanges = mux.exchanges();
    assert!(exchanges.len() > 300, "{} commands", exchanges.len());
    for exchange in exchanges {
        for bytes in [Some(&exchange.command), exchange.response.as_ref()] {
            let found = secrets.found_in(bytes.map_or(&[], Vec::as_slice));
            succeeds_if!(
                !found.is_empty(),
                "{found:?} with command {:#x}",
                exchange.code()
            );
        }
    }
    Ok(())
}

/// What the card's secrets are to the TPM.
pub(crate) fn learn(secrets: &mut Needles, record: &CardRecord, admin_key: &[u8; 24]) {
    for typed in [PIN, SECOND_PIN, THIRD_PIN, WRONG_PIN] {
        secrets.add("the value of a PIN", &value(record, IndexRole::Pin, typed));
        secrets.add("the value of a PUK", &value(record, IndexRole::Puk, typed));
    }
    secrets.add("the value of the PUK", &value(record, IndexRole::Puk, PUK));
    learn_administrator(secrets, record, admin_key);
}

/// Those of the administrator, which change with each answer.
pub(crate) fn learn_administrator(
    secrets: &mut Needles,
    record: &CardRecord,
    admin_key: &[u8; 24],
) {
    let Some(vault) = &record.tpm.vault else {
        return;
    };
    let key = cardea_tpm::AdminKey::new(admin_key).unwrap();
    let mut entries = vault.entries.iter();
    let entry = entries.find(|entry| entry.kind == VaultKind::Mutual);
    let entry = entry.unwrap();
    let mut answer = entry.challenge.clone();
    key.encrypt(&mut answer);
    let adm = cardea_tpm::vault::candidate(vault, entry, &answer).unwrap();
    let mask = cardea_tpm::vault::mask(vault, entry, &answer).unwrap();
    secrets.add("the admin value", &*adm);
    secrets.add("the mask of the admin key", &*mask);
    secrets.add("the masked admin key", &xor(admin_key, &*mask));
}

fn administered(bench: &Bench, secrets: &mut Needles) {
    let record = bench.record(Kind::Admin);
    let mut card = bench.open(&record);
    let mut connection = card.connect();
    let verify = |card: &mut Card, connection: &mut _, typed: &[u8]| {
        card.verify_pin(connection, PinReference::Pin, &pin(typed))
    };
    learn(secrets, card.record(), &ADMIN_KEY);
    verify(&mut card, &mut connection, PIN).unwrap();
    verify(&mut card, &mut connection, WRONG_PIN).unwrap_err();
    verify(&mut card, &mut connection, PIN).unwrap();
    use_keys(&mut card, &mut connection, secrets);
    let (old, new) = (pin(PIN), pin(THIRD_PIN));
    card.change_pin(&mut connection, PinReference::Pin, &old, &new)
        .unwrap();
    for form in [AdminForm::External, AdminForm::Mutual, AdminForm::External] {
        // Sets the second PIN.
        assert!(Said::new(&mut card, form).say(&mut card));
        learn(secrets, card.record(), &ADMIN_KEY);
        verify(&mut card, &mut connection, SECOND_PIN).unwrap();
    }
    let challenge = card.admin_challenge(AdminForm::External).unwrap();
    let mut answer: [u8; 8] = challenge[..].try_into().unwrap();
    admin_key().encrypt(&mut answer);
    let answer = cardea_card::token::AdminAnswer::External(&answer);
    card.admin_answer(&mut connection, &challenge, answer)
        .unwrap();
    learn(secrets, card.record(), &ADMIN_KEY);
    card.change_admin_key(&mut connection, &NEW_ADMIN_KEY.into())
        .unwrap();
    learn(secrets, card.record(), &NEW_ADMIN_KEY);
}

fn use_keys(card: &mut Card, connection: &mut cardea_card::Connection, secrets: &mut Needles) {
    let mut rng = SeededRng::new(5);
    let outside = rsa::PrivateKey::new(&mut rng, 2048).unwrap();
    let bytes = |number: &rsa::BoxedUint| number.to_be_bytes_trimmed_vartime().into_vec();
    let prime = bytes(&outside.primes()[0]);
    secrets.add("an imported prime", &prime);
    secrets.add("an imported prime", &bytes(&outside.primes()[1]));
    secrets.add("an imported exponent", &bytes(outside.d()));
    let material = PrivateKey::Rsa {
        algorithm: KeyAlgorithm::Rsa2048,
        modulus: outside.n_bytes().into_vec(),
        prime: prime.into(),
    };
    let class = KeyClass::Session;
    let imported = card
        .import_key(connection, &material, &new_key(class))
        .unwrap();
    let scalar = p256::SecretKey::from_slice(&SCALAR).unwrap();
    let point = scalar.public_key().to_sec1_point(false);
    let material = PrivateKey::Ec {
        algorithm: KeyAlgorithm::P256,
        scalar: SCALAR.to_vec().into(),
        x: point.x().unwrap().to_vec(),
        y: point.y().unwrap().to_vec(),
    };
    let curve = card
        .import_key(connection, &material, &new_key(class))
        .unwrap();
    let made = card
        .generate_key(connection, KeyAlgorithm::Rsa2048, &new_key(class))
        .unwrap();
    for reference in [imported, made] {
        let keys = card.keys().unwrap();
        let (_, info) = keys.iter().find(|(found, _)| *found == reference).unwrap();
        let public = rsa_public_key(&info.public).unwrap();
        let pkcs1 = public.encrypt(&mut rng, rsa::Pkcs1v15Encrypt, PLAIN);
        let oaep = public.encrypt(&mut rng, rsa::Oaep::<sha1::Sha1>::new(), PLAIN);
        let (pkcs1, oaep) = (pkcs1.unwrap(), oaep.unwrap());
        for operation in [
            PrivateOperation::DecryptPkcs1 { cryptogram: &pkcs1 },
            PrivateOperation::DecryptOaep {
                hash: cardea_card::token::HashAlgorithm::Sha1,
                label: &[],
                cryptogram: &oaep,
            },
        ] {
            let plain = card.use_key(connection, reference, operation).unwrap();
            assert_eq!(plain[..], *PLAIN);
        }
        let operation = PrivateOperation::RsaRaw { block: &pkcs1 };
        let raw = card.use_key(connection, reference, operation).unwrap();
        assert!(raw.ends_with(PLAIN));
        secrets.add("a deciphered block", &raw[1..]);
    }
    let (x, y) = (point.x().unwrap(), point.y().unwrap());
    let operation = PrivateOperation::Ecdh { x, y };
    let shared = card.use_key(connection, curve, operation).unwrap();
    secrets.add("an agreed secret", &shared);
}

fn with_puk(bench: &Bench, secrets: &mut Needles) {
    let record = bench.numbered(Kind::Puk, 2);
    learn(secrets, &record, &ADMIN_KEY);
    let mut card = bench.open(&record);
    let mut connection = card.connect();
    card.unblock_by_puk(&mut connection, &pin(PUK), &pin(SECOND_PIN))
        .unwrap();
    let (old, new) = (pin(PUK), pin(THIRD_PIN));
    card.change_pin(&mut connection, PinReference::Puk, &old, &new)
        .unwrap();
    card.unblock_by_puk(&mut connection, &pin(THIRD_PIN), &pin(PIN))
        .unwrap();
    drop(card);
    // Some parts have no room for the next one beside it.
    bench.service.destroy_card(&record.tpm).unwrap();
}

fn personalised(bench: &Bench, secrets: &mut Needles) {
    let record = bench.uninitialised(true);
    let first = record.provisional.clone().unwrap();
    for value in [first.pin, first.adm, first.puk].into_iter().flatten() {
        secrets.add("a first value", &value);
    }
    learn(secrets, &record, &ADMIN_KEY);
    let mut card = bench.open(&record);
    let mut connection = card.connect();
    for (p2, value) in [(0x80, PIN), (0x81, PUK)] {
        let length = u8::try_from(value.len()).unwrap();
        let apdu = [&[0, 0x24, 1, p2, length][..], value].concat();
        assert_eq!(card.transmit(&mut connection, &apdu)[..], [0x90, 0]);
    }
    // The administrator's key file, then PUT KEY.
    let make = [
        0x62, 0x1A, 0x82, 1, 0x18, 0x83, 2, 0xB0, 0x80, 0x8C, 4, 0x87, 0, 0x20, 0xFF,
    ];
    let template = [
        0xA5, 0x0B, 0xA4, 9, 0x80, 1, 2, 0x83, 1, 0x80, 0x95, 1, 0xC0,
    ];
    let make = [&[0, 0xE0, 0, 0, 28][..], &make, &template].concat();
    assert_eq!(card.transmit(&mut connection, &make)[..], [0x90, 0]);
    let activate = [0, 0x44, 0, 0];
    assert_eq!(card.transmit(&mut connection, &activate)[..], [0x90, 0]);
    let put = [
        0, 0xDB, 0x3F, 0xFF, 0x21, 0x70, 0x1F, 0x84, 1, 0x80, 0xA5, 0x1A, 0x87, 0x18,
    ];
    let put = [&put[..], &ADMIN_KEY].concat();
    assert_eq!(card.transmit(&mut connection, &put)[..], [0x90, 0]);
    learn(secrets, card.record(), &ADMIN_KEY);
    let select = [0, 0xA4, 0, 0x0C, 2, 0x3F, 0xFF];
    assert_eq!(card.transmit(&mut connection, &select)[..], [0x90, 0]);
    assert_eq!(card.transmit(&mut connection, &activate)[..], [0x90, 0]);
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
}
