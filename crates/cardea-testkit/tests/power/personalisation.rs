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

/// The last command alone is stopped at each moment, and then either given once more or everything begun again.
fn interrupted_activation(again: impl Fn(&World, &mut Machine) -> Result<(), String>) {
    let mut interruptions = 0;
    // Between two changes of TPM and file there are more moments than that.
    for moments in (0..).step_by(3) {
        let mut attempt = World::new(CardKind::Uninitialised);
        let begin = attempt.record.clone();
        let mut machine = attempt.start();
        for command in personalisation(&attempt.pin, None, &attempt.admin_key) {
            assert_eq!(machine.send(&command), [0x90, 0x00], "{command:02X?}");
        }
        machine.stop_after(moments);
        let acknowledged = activate(&mut machine).is_ok();
        let stopped = machine.has_stopped();
        attempt.stop(machine);
        let mut machine = attempt.start();
        if !machine.card.is_operational() {
            interruptions += 1;
            assert!(!acknowledged, "an acknowledged activation is gone");
            if let Err(problem) = again(&attempt, &mut machine) {
                panic!("stopped after {moments} moments, then stuck: {problem}");
            }
        }
        finished(&attempt, &mut machine, false);
        attempt.stop(machine);
        old_copy_opens_nothing(&mut attempt, begin);
        if !stopped {
            break;
        }
    }
    assert!(interruptions > 4, "{interruptions}");
}

fn activate(machine: &mut Machine) -> Result<(), String> {
    for command in ACTIVATION {
        let response = machine.send(command);
        if response != [0x90, 0x00] {
            return Err(format!("{command:02X?}: {response:02X?}"));
        }
    }
    Ok(())
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

#[test]
fn interrupted_activation_is_finished_by_another_one() {
    interrupted_activation(|_, machine| activate(machine));
}

#[test]
fn personalisation_is_begun_again_after_an_interrupted_activation() {
    interrupted_activation(|world, machine| personalise(world, machine, false));
}
