//! Recordings of imports, from which the TPM itself could extract the keys.

use cardea_card::secret::PrivateKey;
use cardea_card::token::{KeyAlgorithm, KeyClass, PinReference};
use cardea_testkit::software::SeededRng;
use cardea_tpm::policy::name_of;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};

use crate::bench::{Bench, Kind, Outcome, PIN, new_key, pin, succeeds_if};
use crate::bus::SCALAR;
use crate::needles::Needles;
use crate::raw::{EMPTY, Entity, LOADED_SESSIONS, NULL, Reader, TRANSIENT, cc, sized};
use crate::wire::parts;

pub(crate) const SRK: u32 = 0x8100_0001;

/// Whoever has recorded TPM2_Import and reaches the TPM, then or later, has the key wrapped again: for the null handle,
/// which yields the sensitive area in the clear, or for another parent. The storage root key's authorisation is empty.
pub(crate) fn rewrapping_a_recorded_import() -> Outcome {
    let mut bench = Bench::new();
    let mut secrets = Needles::default();
    bench.mux.forget_exchanges();
    imports(&bench, &mut secrets);
    let recorded: Vec<_> = bench
        .mux
        .exchanges()
        .into_iter()
        .filter(|exchange| exchange.code() == cc::IMPORT)
        .map(|exchange| Recorded::import(&exchange.command))
        .collect();
    assert_eq!(recorded.len(), 2);
    bench.restart();
    for first in [TRANSIENT, LOADED_SESSIONS] {
        for handle in bench.handles(first) {
            bench.flush(handle);
        }
    }
    for import in &recorded {
        let clear = rewrap(&bench, SRK, NULL, import);
        let found = secrets.found_in(&clear.duplicate);
        succeeds_if!(!found.is_empty(), "Rewrap yields {found:?}");
        // Through a parent whose authorisation the attacker has.
        let own = own_parent(&bench);
        let to_own = rewrap(&bench, SRK, own.handle, import);
        let clear = rewrap(&bench, own.handle, NULL, &to_own);
        bench.flush(own.handle);
        let found = secrets.found_in(&clear.duplicate);
        succeeds_if!(!found.is_empty(), "another parent yields {found:?}");
    }
    Ok(())
}

/// A key on its way into a TPM.
pub(crate) struct Recorded {
    pub(crate) name: [u8; 34],
    /// TPM2B_PRIVATE's contents.
    pub(crate) duplicate: Vec<u8>,
    /// The seed, encrypted to the parent.
    pub(crate) seed: Vec<u8>,
}

impl Recorded {
    pub(crate) fn import(command: &[u8]) -> Self {
        let mut reader = Reader(parts(command).unwrap().parameters);
        // The inner key, encrypted or empty.
        reader.sized();
        Self {
            name: name_of(reader.sized()),
            duplicate: reader.sized().to_vec(),
            seed: reader.sized().to_vec(),
        }
    }
}

/// Imports an elliptic curve key and an RSA key into a card.
fn imports(bench: &Bench, secrets: &mut Needles) {
    let record = bench.record(Kind::Plain);
    let mut card = bench.open(&record);
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    let scalar = p256::SecretKey::from_slice(&SCALAR).unwrap();
    let point = scalar.public_key().to_sec1_point(false);
    secrets.add("the scalar", &SCALAR);
    let curve = PrivateKey::Ec {
        algorithm: KeyAlgorithm::P256,
        scalar: SCALAR.to_vec().into(),
        x: point.x().unwrap().to_vec(),
        y: point.y().unwrap().to_vec(),
    };
    let outside = rsa::PrivateKey::new(&mut SeededRng::new(5), 2048).unwrap();
    let prime = outside.primes()[0].to_be_bytes_trimmed_vartime().into_vec();
    secrets.add("the prime", &prime);
    let rsa = PrivateKey::Rsa {
        algorithm: KeyAlgorithm::Rsa2048,
        modulus: outside.n_bytes().into_vec(),
        prime: prime.into(),
    };
    for material in [curve, rsa] {
        card.import_key(&mut connection, &material, &new_key(KeyClass::Session))
            .unwrap();
    }
}

/// TPM2_Rewrap (TPM 2.0 Part 3 §13.2), with an empty password.
fn rewrap(bench: &Bench, from: u32, to: u32, object: &Recorded) -> Recorded {
    try_rewrap(bench, from, to, object).expect("the TPM asks for no authorisation")
}

/// The same, or the TPM's refusal.
pub(crate) fn try_rewrap(
    bench: &Bench,
    from: u32,
    to: u32,
    object: &Recorded,
) -> Result<Recorded, u32> {
    let parameters = [
        sized(&object.duplicate),
        sized(&object.name),
        sized(&object.seed),
    ]
    .concat();
    // A password covers no Names, so those of the handles need not be known.
    let entities = [from, to].map(Entity::plain);
    let answer = bench.send(cc::REWRAP, &entities, &[EMPTY], &parameters);
    if answer.code != 0 {
        return Err(answer.code);
    }
    let mut reader = Reader(&answer.body[4..]);
    Ok(Recorded {
        name: object.name,
        duplicate: reader.sized().to_vec(),
        seed: reader.sized().to_vec(),
    })
}

/// A storage key of the attacker's in the null hierarchy.
pub(crate) fn own_parent(bench: &Bench) -> Entity {
    // P-256, AES-128-CFB: sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
    let mut template = vec![0, 0x23, 0, 0x0B, 0, 3, 4, 0x60, 0, 0];
    template.extend([0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]);
    let parameters = [&[0, 4, 0, 0, 0, 0][..], &sized(&template), &[0; 6]].concat();
    let answer = bench.send(
        cc::CREATE_PRIMARY,
        &[Entity::plain(NULL)],
        &[EMPTY],
        &parameters,
    );
    let mut reader = Reader(&answer.body[8..]);
    Entity::named(answer.handle(), &name_of(reader.sized()))
}
