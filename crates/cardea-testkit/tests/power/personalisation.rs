//! A card in initialisation state: its personalisation is stopped and begun again.

use cardea_card::record::CardRecord;
use cardea_card::token::PinReference;
use cardea_testkit::transcript::CardKind;
use cardea_testkit::transcript::personalisation::{ACTIVATION, is_done, personalisation};

use crate::world::{Machine, World};

/// What `gids-tool --initialize` sends, or the rest of it: what is done already is refused and left.
fn personalise(world: &World, machine: &mut Machine, puk: bool) -> Result<(), String> {
    let puk = puk.then_some(&world.puk[..]);
    let commands = personalisation(&world.pin, puk, &world.admin_key);
    for command in [commands, ACTIVATION.map(<[u8]>::to_vec).into()].concat() {
        let response = machine.send(&command);
        if !is_done(&response) {
            return Err(format!("{command:02X?}: {response:02X?}"));
        }
    }
    Ok(())
}

fn interrupted(kind: CardKind, puk: bool) {
    let mut acknowledged_once = false;
    let mut moments = 0;
    // Each attempt begins with a card of its own: a finished one cannot be begun again.
    loop {
        let mut attempt = World::new(kind);
        let begin = attempt.record.clone();
        let mut machine = attempt.start();
        machine.stop_after(moments);
        let acknowledged = personalise(&attempt, &mut machine, puk).is_ok();
        let stopped = machine.has_stopped();
        attempt.stop(machine);
        let mut machine = attempt.start();
        if !machine.card.is_operational() {
            assert!(!acknowledged, "an acknowledged activation is gone");
            if let Err(problem) = personalise(&attempt, &mut machine, puk) {
                panic!("stopped after {moments} moments, then stuck: {problem}");
            }
        }
        finished(&attempt, &mut machine, puk);
        attempt.stop(machine);
        old_copy_opens_nothing(&mut attempt, begin);
        acknowledged_once |= acknowledged;
        if !stopped {
            break;
        }
        // A whole new TPM for each attempt: every thirteenth moment is enough to meet every kind of them.
        moments += 13;
    }
    assert!(acknowledged_once && moments > 28);
}

fn finished(world: &World, machine: &mut Machine, puk: bool) {
    assert!(machine.card.is_operational() && machine.card.record().provisional.is_none());
    assert!(machine.verify(PinReference::Pin, &world.pin), "the PIN");
    if puk {
        assert!(machine.verify(PinReference::Puk, &world.puk), "the PUK");
    }
    machine.administer(&world.admin_key).unwrap();
    machine.administer_mutually(&world.admin_key).unwrap();
}

/// The file from before personalisation, with its first values in the clear, is put back.
fn old_copy_opens_nothing(world: &mut World, begin: CardRecord) {
    let now = std::mem::replace(&mut world.record, begin);
    let mut machine = world.start();
    let response = machine.send(b"\x00\x24\x01\x80\x06999999");
    assert_ne!(response, [0x90, 0x00], "a copy of the file resets the PIN");
    drop(machine);
    world.record = now;
    let mut machine = world.start();
    assert!(machine.verify(PinReference::Pin, &world.pin.clone()));
}

#[test]
fn interrupted_personalisation_is_taken_up_again() {
    interrupted(CardKind::Uninitialised, false);
}

#[test]
fn interrupted_personalisation_with_a_puk_is_taken_up_again() {
    interrupted(CardKind::UninitialisedWithPuk, true);
}
