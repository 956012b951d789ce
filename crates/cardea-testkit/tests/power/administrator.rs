//! The administrator's answers and keys: the vault is rotated by every success, and stopped in between.

use cardea_card::CardError;
use cardea_card::token::{AdminAnswer, AdminError, AdminForm, TokenErrorKind};
use cardea_testkit::transcript::CardKind;
use cardea_tpm::AdminKey;
use zeroize::Zeroizing;

use crate::world::{Machine, World};

/// Both forms work with this key.
fn works(machine: &mut Machine, key: &[u8; 24]) {
    machine.administer(key).unwrap();
    machine.administer_mutually(key).unwrap();
}

#[test]
fn interrupted_external_authentication_locks_nobody_out_and_no_used_answer_in() {
    let mut world = World::new(CardKind::Admin);
    let key = world.admin_key;
    let mut used: Vec<(Vec<u8>, [u8; 8])> = Vec::new();
    let used = std::cell::RefCell::new(&mut used);
    world.interrupt_everywhere(
        |_, _| {},
        |_, machine| {
            let challenge = machine.card.admin_challenge(AdminForm::External).unwrap();
            let mut answer: [u8; 8] = challenge.as_slice().try_into().unwrap();
            AdminKey::new(&key).unwrap().encrypt(&mut answer);
            used.borrow_mut().push((challenge.clone(), answer));
            machine
                .card
                .admin_answer(
                    &mut machine.connection,
                    &challenge,
                    AdminAnswer::External(&answer),
                )
                .is_ok()
        },
        |_, machine, acknowledged| {
            works(machine, &key);
            let mut used = used.borrow_mut();
            let (challenge, answer) = used.last().unwrap().clone();
            if acknowledged {
                let again = machine.card.admin_answer(
                    &mut machine.connection,
                    &challenge,
                    AdminAnswer::External(&answer),
                );
                assert!(
                    matches!(&again, Err(CardError::Token(error))
                        if error.kind() == TokenErrorKind::NotAuthenticated),
                    "{again:?}"
                );
            }
            used.clear();
        },
    );
}

#[test]
fn interrupted_mutual_authentication_locks_nobody_out() {
    let mut world = World::new(CardKind::Admin);
    let key = world.admin_key;
    world.interrupt_everywhere(
        |_, _| {},
        |_, machine| machine.administer_mutually(&key).is_ok(),
        |_, machine, _| works(machine, &key),
    );
}

#[test]
fn interrupted_change_of_the_admin_key_leaves_the_old_key_or_the_new_one() {
    let mut world = World::new(CardKind::Admin);
    let (old, new) = (world.admin_key, [0x42; 24]);
    world.interrupt_everywhere(
        |_, machine| machine.administer_mutually(&old).unwrap(),
        |_, machine| {
            machine
                .card
                .change_admin_key(&mut machine.connection, &Zeroizing::new(new))
                .is_ok()
        },
        |_, machine, acknowledged| {
            let is_new = match machine.administer(&new) {
                Ok(()) => true,
                Err(CardError::Admin(AdminError::Wrong)) => false,
                Err(error) => panic!("{error}"),
            };
            assert!(is_new || !acknowledged, "an acknowledged change is gone");
            if is_new {
                let wrong = machine.administer(&old);
                assert!(matches!(wrong, Err(CardError::Admin(AdminError::Wrong))));
                machine.administer_mutually(&new).unwrap();
                machine
                    .card
                    .change_admin_key(&mut machine.connection, &Zeroizing::new(old))
                    .unwrap();
            }
            works(machine, &old);
        },
    );
}
