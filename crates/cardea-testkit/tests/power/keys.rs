//! Keys made, imported and deleted.

use cardea_card::secret::PrivateKey;
use cardea_card::token::{KeyAlgorithm, KeyClass, PinReference, PrivateOperation};
use cardea_card::{KeyUsage, NewKey};
use cardea_testkit::transcript::CardKind;
use p256::elliptic_curve::sec1::ToSec1Point;
use zeroize::Zeroizing;

use crate::world::{Machine, World};

const SIGN: PrivateOperation<'_> = PrivateOperation::SignEcdsa { digest: &[1; 32] };

fn new_key() -> NewKey {
    NewKey {
        label: Some("key".into()),
        usage: KeyUsage::Signature,
        class: KeyClass::Session,
        id: None,
    }
}

/// Every key that is there signs; then they are deleted. An acknowledged one is there.
fn usable(world: &World, machine: &mut Machine, expected: bool) {
    assert!(machine.verify(PinReference::Pin, &world.pin));
    let keys = machine.card.keys().unwrap();
    assert!(keys.len() <= 1 && (!expected || keys.len() == 1));
    for (reference, _) in keys {
        machine
            .card
            .use_key(&mut machine.connection, reference, SIGN)
            .unwrap();
        machine
            .card
            .delete_key(&mut machine.connection, reference)
            .unwrap();
    }
}

#[test]
fn interrupted_generation_leaves_no_key_or_one_that_signs() {
    let mut world = World::new(CardKind::Created);
    world.interrupt_everywhere(
        |world, machine| assert!(machine.verify(PinReference::Pin, &world.pin)),
        |_, machine| {
            machine
                .card
                .generate_key(&mut machine.connection, KeyAlgorithm::P256, &new_key())
                .is_ok()
        },
        |world, machine, acknowledged| usable(world, machine, acknowledged),
    );
}

#[test]
fn interrupted_import_leaves_no_key_or_one_that_signs() {
    let scalar = p256::SecretKey::from_slice(&[0x33; 32]).unwrap();
    let point = scalar.public_key().to_sec1_point(false);
    let (x, y) = point.as_bytes()[1..].split_at(32);
    let key = PrivateKey::Ec {
        algorithm: KeyAlgorithm::P256,
        scalar: Zeroizing::new(vec![0x33; 32]),
        x: x.to_vec(),
        y: y.to_vec(),
    };
    let mut world = World::new(CardKind::Created);
    world.interrupt_everywhere(
        |world, machine| assert!(machine.verify(PinReference::Pin, &world.pin)),
        |_, machine| {
            machine
                .card
                .import_key(&mut machine.connection, &key, &new_key())
                .is_ok()
        },
        |world, machine, acknowledged| usable(world, machine, acknowledged),
    );
}

#[test]
fn interrupted_deletion_leaves_the_key_or_nothing_of_it() {
    let mut world = World::new(CardKind::Created);
    world.interrupt_everywhere(
        |world, machine| {
            assert!(machine.verify(PinReference::Pin, &world.pin));
            if machine.card.keys().unwrap().is_empty() {
                machine
                    .card
                    .generate_key(&mut machine.connection, KeyAlgorithm::P256, &new_key())
                    .unwrap();
            }
        },
        |_, machine| {
            let (reference, _) = machine.card.keys().unwrap()[0].clone();
            // Used first, so that the TPM has it loaded.
            let used = machine
                .card
                .use_key(&mut machine.connection, reference, SIGN);
            used.is_ok()
                && machine
                    .card
                    .delete_key(&mut machine.connection, reference)
                    .is_ok()
        },
        |world, machine, acknowledged| {
            if acknowledged {
                assert!(machine.card.keys().unwrap().is_empty());
            }
            usable(world, machine, false);
        },
    );
}
