//! Keys that are generated or imported.

use cardea_card::secret::PrivateKey;
use cardea_card::token::{KeyAlgorithm, KeyClass, RecoveryKey};
use cardea_card::{CardError, KeyNumber};
use cardea_tpm::policy::recovery_target;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::world::{Ending, Entry, Report, Visit, World, is_signature};
use super::{CardOperation, show};
use crate::bench::{Kind, new_key};
use crate::bus::SCALAR;
use crate::recoverable::{ESCROW, recovery_key};
use crate::recoverable_bus::opened;

/// A new key has its number for output.
fn adding(
    row: &'static str,
    run: fn(&World, &mut Visit) -> Result<Vec<u8>, CardError>,
) -> CardOperation {
    CardOperation {
        row,
        stride: 2,
        share: 1,
        is_slow: false,
        entry: Entry::None,
        world: || World::new(Kind::Plain, &[KeyClass::Session, KeyClass::Always]),
        prepare: World::verified,
        run,
        settle: |world, report, _| {
            let ending = settle(world, report)?;
            // The next case begins without the key.
            world.record = world.before.clone();
            Ok(ending)
        },
    }
}

/// A key that was reported signs; no other is in the card file.
fn settle(world: &mut World, report: &Report) -> Result<Ending, String> {
    let Report::Done(number) = report else {
        world.check_pin()?;
        return if world.record.keys.len() == world.before.keys.len() {
            Ok(Ending::Refused)
        } else {
            Err("the card file has a key that was reported as failed".into())
        };
    };
    let key = KeyNumber::new(number[0]);
    let mut visit = world.warm();
    let signed = visit.verify(world.pin).and_then(|()| visit.sign(key));
    let signed = signed.map_err(|error| format!("the new key does not sign: {error}"))?;
    if is_signature(&visit.card, key, &signed) {
        Ok(Ending::Harmless)
    } else {
        Err("the new key does not fit its public part".into())
    }
}

#[test]
fn key_generation() {
    show(&adding("key generation", |_, visit| {
        let key = visit.generate(KeyAlgorithm::P256)?;
        Ok(vec![key.get()])
    }));
}

/// The copy that is kept is one of the key, for the recovery key that was named and no other.
#[test]
fn recoverable_key_generation() {
    let operation = adding("recoverable key generation", |_, visit| {
        let new = new_key(KeyClass::Session);
        let key = visit.card.generate_recoverable_key(
            &mut visit.connection,
            KeyAlgorithm::P256,
            &new,
            &[recovery_key(&ESCROW)],
        )?;
        Ok(vec![key.get()])
    });
    show(&CardOperation {
        settle: |world, report, _| {
            let ending = settle(world, report)?;
            let made = world.record.keys.get(world.before.keys.len()..);
            for key in made.unwrap_or_default() {
                let targets = key.recovery.as_deref().unwrap_or_default();
                let RecoveryKey { x, y, .. } = recovery_key(&ESCROW);
                let named = recovery_target(&x, &y);
                if targets.len() != 1 || targets[0].public != named {
                    return Err("the key is recoverable by others".into());
                }
                opened(key).map_err(|error| format!("the key cannot be brought back: {error}"))?;
            }
            world.record = world.before.clone();
            Ok(ending)
        },
        ..operation
    });
}

#[test]
fn key_import() {
    show(&adding("key import", |_, visit| {
        let scalar = p256::SecretKey::from_slice(&SCALAR).unwrap();
        let point = scalar.public_key().to_sec1_point(false);
        let material = PrivateKey::Ec {
            algorithm: KeyAlgorithm::P256,
            scalar: SCALAR.to_vec().into(),
            x: point.x().unwrap().to_vec(),
            y: point.y().unwrap().to_vec(),
        };
        let (connection, new) = (&mut visit.connection, new_key(KeyClass::Session));
        let key = visit.card.import_key(connection, &material, &new)?;
        Ok(vec![key.get()])
    }));
}
