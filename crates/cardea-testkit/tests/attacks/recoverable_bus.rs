//! Recordings of the making of recoverable keys and of their way onto another card.

use cardea_card::record::KeyRecord;
use cardea_card::secret::PrivateKey;
use cardea_card::token::{KeyAlgorithm, KeyClass, PinReference};
use cardea_pki::recovery::{CopyError, KeyCopy, Recovered};
use cardea_pki::{Curve, PublicKey};
use cardea_tpm::policy::name_of;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use crate::bench::{Bench, Kind, Outcome, PIN, new_key, pin, succeeds_if};
use crate::import_bus::{Recorded, SRK, own_parent, try_rewrap};
use crate::needles::Needles;
use crate::raw::{LOADED_SESSIONS, NULL, Reader, TRANSIENT, cc};
use crate::recoverable::{ESCROW, recovery_key, with_recoverable};
use crate::wire::parts;

/// Whoever has recorded Duplicate on the card's first computer, and Import on its second, looks for the key in all that
/// went by, and has both wrapped again by the TPMs.
pub(crate) fn listening_to_copy_and_restore() -> Outcome {
    let mut first = Bench::new();
    let mut second = Bench::new();
    let mut secrets = Needles::default();
    secrets.add("the recovery key's scalar", &ESCROW);
    let record = first.record(Kind::Plain);
    first.mux.forget_exchanges();
    let record = with_recoverable(&first, &record, &[&[recovery_key(&ESCROW)]]);
    let made = first.mux.exchanges();

    // The holder of the recovery key opens the copy, and imports what is in it.
    let key = &record.keys[0];
    let restored = opened(key).unwrap();
    let PrivateKey::Ec { scalar, .. } = &restored else {
        panic!("the key is on a curve");
    };
    secrets.add("the scalar", scalar);
    let other = second.record(Kind::Plain);
    let mut card = second.open(&other);
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    second.mux.forget_exchanges();
    card.import_key(&mut connection, &restored, &new_key(KeyClass::Session))
        .unwrap();
    drop(card);
    let imported = second.mux.exchanges();

    for (when, exchanges) in [("copying", &made), ("restoring", &imported)] {
        for exchange in exchanges {
            for bytes in [Some(&exchange.command), exchange.response.as_ref()]
                .into_iter()
                .flatten()
            {
                let found = secrets.found_in(bytes);
                succeeds_if!(!found.is_empty(), "{found:?} is on the bus when {when}");
            }
        }
    }
    let name = name_of(&key.object.public);
    let copies: Vec<_> = made
        .iter()
        .filter(|exchange| exchange.code() == cc::DUPLICATE)
        .map(|exchange| {
            // The inner key, which there is none of.
            let mut reader = Reader(&exchange.response.as_ref().unwrap()[14..]);
            reader.sized();
            Recorded {
                name,
                duplicate: reader.sized().to_vec(),
                seed: reader.sized().to_vec(),
            }
        })
        .collect();
    assert_eq!(copies.len(), 1);
    assert_eq!(
        copies[0].duplicate,
        key.recovery.as_ref().unwrap()[0].private
    );
    let imports: Vec<_> = imported
        .iter()
        .filter(|exchange| exchange.code() == cc::IMPORT)
        .map(|exchange| Recorded::import(&exchange.command))
        .collect();
    assert_eq!(imports.len(), 1);
    assert!(parts(&imported[0].command).is_some());
    for bench in [&mut first, &mut second] {
        bench.restart();
        for first in [TRANSIENT, LOADED_SESSIONS] {
            for handle in bench.handles(first) {
                bench.flush(handle);
            }
        }
        for recorded in copies.iter().chain(&imports) {
            rewrapped(bench, recorded, &secrets)?;
        }
    }
    Ok(())
}

/// Wrapped again for nobody, and by way of a parent whose authorisation the attacker has.
fn rewrapped(bench: &Bench, recorded: &Recorded, secrets: &Needles) -> Outcome {
    let own = own_parent(bench);
    let mut results = Vec::new();
    results.extend(try_rewrap(bench, SRK, NULL, recorded));
    results.extend(try_rewrap(bench, own.handle, NULL, recorded));
    if let Ok(to_own) = try_rewrap(bench, SRK, own.handle, recorded) {
        results.extend(try_rewrap(bench, own.handle, NULL, &to_own));
    }
    bench.flush(own.handle);
    for clear in results {
        let found = secrets.found_in(&clear.duplicate);
        succeeds_if!(!found.is_empty(), "Rewrap yields {found:?}");
    }
    Ok(())
}

/// A key on P-256, from its copy.
pub(crate) fn opened(key: &KeyRecord) -> Result<PrivateKey, CopyError> {
    let target = &key.recovery.as_ref().unwrap()[0];
    let public = &key.object.public;
    let point = &public[public.len() - 66..];
    let (x, y) = (point[..32].to_vec(), point[34..].to_vec());
    let public = PublicKey::from_ec(Curve::P256, &x, &y).unwrap();
    let copy = KeyCopy {
        name: &name_of(&key.object.public),
        public: &public,
        private: &target.private,
        seed: &target.seed,
    };
    let escrow = p256::SecretKey::from_slice(&ESCROW).unwrap();
    let own = escrow.public_key().to_sec1_point(false);
    let own: [u8; 32] = own.x().unwrap().as_slice().try_into().unwrap();
    let peer = copy.peer()?;
    let peer = [&[4][..], &peer.x, &peer.y].concat();
    let peer = p256::PublicKey::from_sec1_bytes(&peer).unwrap();
    let agreed = p256::ecdh::diffie_hellman(escrow.to_nonzero_scalar(), peer.as_affine());
    let agreed: [u8; 32] = agreed.raw_secret_bytes().as_slice().try_into().unwrap();
    match copy.open(&own, &agreed)? {
        Recovered::Ec(scalar) => Ok(PrivateKey::Ec {
            algorithm: KeyAlgorithm::P256,
            scalar: scalar.to_vec().into(),
            x,
            y,
        }),
        Recovered::Rsa(_) => panic!("the key is on a curve"),
    }
}
