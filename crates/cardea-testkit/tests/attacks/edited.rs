//! A card file edited byte by byte.

use cardea_card::record::CardRecord;
use cardea_card::token::{KeyClass, PinReference, PrivateOperation, PublicKey};
use cardea_card::{Card, Connection};
use cardea_store::format::{HostKey, decode, encode};
use cardea_testkit::played::Share;
use cardea_testkit::software::{ManualClock, MemoryStore, SeededRng};
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;

use crate::bench::{Bench, Kind, Outcome, PIN, WRONG_PIN, pin, succeeds_if};

const KEY: [u8; 32] = [0x5C; 32];

fn card_file(bench: &Bench) -> (CardRecord, Vec<u8>) {
    let classes = [KeyClass::Session, KeyClass::Always];
    let record = bench.with_keys(&bench.record(Kind::Admin), &classes);
    let file = encode(&HostKey::new(KEY), &record).unwrap();
    (record, file)
}

/// Who has no host key: every byte, changed in two ways.
pub(crate) fn every_byte() -> Outcome {
    let bench = Bench::new();
    let (record, file) = card_file(&bench);
    let host_key = HostKey::new(KEY);
    let whole = decode(&host_key, &file).unwrap();
    assert!(whole.trusted && whole.record == record);
    let (share, mut readable) = (Share::of_run(), 0);
    for at in (0..file.len()).filter(|at| share.contains(*at)) {
        for change in [1, 0x80] {
            let mut edited = file.clone();
            edited[at] ^= change;
            let Ok(decoded) = decode(&host_key, &edited) else {
                continue;
            };
            readable += 1;
            succeeds_if!(decoded.trusted, "byte {at} ^ {change:#x} is this host's");
        }
        succeeds_if!(
            at > 0 && decode(&host_key, &file[..at]).is_ok(),
            "{at} bytes are a card file"
        );
    }
    assert!(
        readable > share.of_all(file.len()) / 2,
        "most of it is only data"
    );
    Ok(())
}

/// Who has the host key: the edited file is refused by the TPM's checks, or harmless.
pub(crate) fn every_byte_with_the_host_key() -> Outcome {
    let bench = Bench::new();
    let victim = bench.numbered(Kind::Plain, 2);
    let (record, file) = card_file(&bench);
    let host_key = HostKey::new(KEY);
    let share = Share::of_run();
    let (mut cases, mut tried, mut used) = (0usize, 0, 0);
    for at in 0..file.len() {
        let mut edited = file.clone();
        edited[at] ^= 1 << (at % 8);
        let Ok(decoded) = decode(&host_key, &edited) else {
            continue;
        };
        // With the HMAC that root computes.
        let edited = encode(&host_key, &decoded.record).unwrap();
        let edited = decode(&host_key, &edited).unwrap().record;
        assert_eq!(edited, decoded.record);
        // The vault is most of the file, and one entry like another.
        if edited.tpm.vault != record.tpm.vault && at % 64 != 0 {
            continue;
        }
        cases += 1;
        if !share.contains(cases) {
            continue;
        }
        tried += 1;
        if bench.service.check_card(&edited).is_err() {
            continue;
        }
        let Ok(token) = bench.service.token(&edited) else {
            continue;
        };
        let opened = Card::open(
            edited.clone(),
            Box::new(token),
            Box::new(MemoryStore::default()),
            Box::new(ManualClock::default()),
            Box::new(SeededRng::new(11)),
        );
        let Ok(mut card) = opened else {
            continue;
        };
        if edited.tpm == record.tpm && edited.keys == record.keys {
            continue;
        }
        used += 1;
        bench.stay_away_from_the_lockout();
        let mut connection = card.connect();
        works_as_it_should(&mut card, &mut connection)
            .map_err(|what| format!("byte {at}: {what}"))?;
        drop(card);
        assert!(bench.accepts(&record, PIN), "byte {at}: the tries are back");
    }
    assert!(
        tried > share.of_all(1000) && used > share.of_all(200),
        "{tried} tried, {used} used"
    );
    succeeds_if!(
        bench.failures(&victim) != 0,
        "another card's tries are spent"
    );
    bench.service.check_card(&record).unwrap();
    bench.service.check_card(&victim).unwrap();
    Ok(())
}

/// A wrong PIN is wrong, and what is signed is signed by the key that is shown, after the right PIN.
fn works_as_it_should(card: &mut Card, connection: &mut Connection) -> Outcome {
    let keys = card.keys().map_err(|error| error.to_string())?;
    let operation = || PrivateOperation::SignEcdsa { digest: &[7; 32] };
    for (reference, _) in &keys {
        let signed = card.use_key(connection, *reference, operation());
        succeeds_if!(signed.is_ok(), "a key signs without a PIN");
    }
    let wrong = card.verify_pin(connection, PinReference::Pin, &pin(WRONG_PIN));
    succeeds_if!(wrong.is_ok(), "a wrong PIN is right");
    for (reference, info) in &keys {
        let verified = card.verify_pin(connection, PinReference::Pin, &pin(PIN));
        if verified.is_err() {
            continue;
        }
        let Ok(signature) = card.use_key(connection, *reference, operation()) else {
            continue;
        };
        let PublicKey::Ec { x, y } = &info.public else {
            return Err("another kind of key".into());
        };
        let point = [&[4][..], x, y].concat();
        let shown = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point);
        let signature = p256::ecdsa::Signature::from_slice(&signature);
        let right = shown
            .ok()
            .zip(signature.ok())
            .is_some_and(|(key, signature)| key.verify_prehash(&[7; 32], &signature).is_ok());
        succeeds_if!(!right, "another key signs than the one that is shown");
        let again = card.use_key(connection, *reference, operation());
        succeeds_if!(
            info.class == KeyClass::Always && again.is_ok(),
            "a key that wants the PIN every time signs twice"
        );
    }
    Ok(())
}
