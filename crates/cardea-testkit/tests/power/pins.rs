//! PIN and PUK: change and unblocking.

use cardea_card::token::PinReference;
use cardea_testkit::transcript::CardKind;

use crate::world::{Machine, World, secret};

const NEW_PIN: &[u8] = b"another PIN";
const NEW_PUK: &[u8] = b"another PUK 42";

/// The PIN is the old one or the new one, and CHANGE REFERENCE DATA, which has to guess where one ends and the
/// other begins, puts the old one back.
fn old_or_new(
    world: &mut World,
    machine: &mut Machine,
    acknowledged: bool,
    reference: PinReference,
    [old, new]: [&[u8]; 2],
) {
    let is_new = machine.verify(reference, new);
    assert!(is_new || !acknowledged, "an acknowledged change is gone");
    assert!(is_new || machine.verify(reference, old), "neither");
    let p2 = match reference {
        PinReference::Pin => 0x80,
        PinReference::Puk => 0x81,
    };
    let now = if is_new { new } else { old };
    let joined = [now, old].concat();
    let length = u8::try_from(joined.len()).unwrap();
    let changed = machine.send(&[&[0, 0x24, 0, p2, length], &joined[..]].concat());
    assert_eq!(changed, [0x90, 0x00], "the lengths are wrong");
    world.record = machine.card.record().clone();
}

#[test]
fn interrupted_pin_change_leaves_the_old_pin_or_the_new_one() {
    let mut world = World::new(CardKind::Created);
    let old = world.pin.clone();
    world.interrupt_everywhere(
        |_, _| {},
        |world, machine| {
            machine
                .card
                .change_pin(
                    &mut machine.connection,
                    PinReference::Pin,
                    &secret(&world.pin),
                    &secret(NEW_PIN),
                )
                .is_ok()
        },
        |world, machine, acknowledged| {
            let values = [&old[..], NEW_PIN];
            old_or_new(world, machine, acknowledged, PinReference::Pin, values);
        },
    );
}

#[test]
fn interrupted_puk_change_leaves_the_old_puk_or_the_new_one() {
    let mut world = World::new(CardKind::WithPuk);
    let old = world.puk.clone();
    world.interrupt_everywhere(
        |_, _| {},
        |world, machine| {
            machine
                .card
                .change_pin(
                    &mut machine.connection,
                    PinReference::Puk,
                    &secret(&world.puk),
                    &secret(NEW_PUK),
                )
                .is_ok()
        },
        |world, machine, acknowledged| {
            let values = [&old[..], NEW_PUK];
            old_or_new(world, machine, acknowledged, PinReference::Puk, values);
        },
    );
}

/// Never open with the old PIN: blocked with either, or open with the new one.
fn blocked_or_new(
    machine: &mut Machine,
    acknowledged: bool,
    old: &[u8],
    unblock: impl FnOnce(&mut Machine),
) {
    if machine.tries(PinReference::Pin) > 0 {
        assert!(!machine.verify(PinReference::Pin, old), "open with the old");
        assert!(machine.verify(PinReference::Pin, NEW_PIN));
    } else {
        assert!(!acknowledged, "an acknowledged unblocking is gone");
    }
    unblock(machine);
    assert!(machine.verify(PinReference::Pin, old));
    machine.block();
}

#[test]
fn interrupted_unblocking_by_puk_never_opens_the_card_with_the_old_pin() {
    let mut world = World::new(CardKind::WithPuk);
    let old = world.pin.clone();
    world.interrupt_everywhere(
        |_, machine| machine.block(),
        |world, machine| {
            machine
                .card
                .unblock_by_puk(
                    &mut machine.connection,
                    &secret(&world.puk),
                    &secret(NEW_PIN),
                )
                .is_ok()
        },
        |world, machine, acknowledged| {
            blocked_or_new(machine, acknowledged, &old, |machine| {
                machine
                    .card
                    .unblock_by_puk(&mut machine.connection, &secret(&world.puk), &secret(&old))
                    .unwrap();
            });
        },
    );
}

#[test]
fn interrupted_unblocking_by_the_administrator_never_opens_the_card_with_the_old_pin() {
    let mut world = World::new(CardKind::Admin);
    let old = world.pin.clone();
    world.interrupt_everywhere(
        |world, machine| {
            machine.block();
            machine.administer_mutually(&world.admin_key).unwrap();
        },
        |_, machine| {
            machine
                .card
                .unblock_by_admin(&mut machine.connection, &secret(NEW_PIN))
                .is_ok()
        },
        |world, machine, acknowledged| {
            blocked_or_new(machine, acknowledged, &old, |machine| {
                machine.administer_mutually(&world.admin_key).unwrap();
                machine
                    .card
                    .unblock_by_admin(&mut machine.connection, &secret(&old))
                    .unwrap();
            });
        },
    );
}
