//! Operations of a card's administrator.

use cardea_card::CardError;
use cardea_card::token::{AdminAnswer, AdminForm, KeyClass};
use cardea_tpm::AdminKey;

use super::holder::{new_pin, settle_unblocking, use_up_one_try};
use super::world::{Entry, Visit, World};
use super::{CardOperation, show};
use crate::bench::{ADMIN_KEY, Kind, pin};
use crate::bus::{self, NEW_ADMIN_KEY};
use crate::vault::HOST;

fn world() -> World {
    World::new(Kind::Admin, &[KeyClass::Session, KeyClass::Always])
}

/// Answers a challenge with this key.
fn answer(visit: &mut Visit, key: &[u8; 24], form: AdminForm) -> Result<Vec<u8>, CardError> {
    let key = AdminKey::new(key).unwrap();
    let challenge = visit.card.admin_challenge(form)?;
    let (external, mutual): ([u8; 8], [u8; 40]);
    let answer = match form {
        AdminForm::External => {
            let mut block = challenge.clone();
            key.encrypt(&mut block);
            external = block.try_into().unwrap();
            AdminAnswer::External(&external)
        }
        AdminForm::Mutual => {
            let mut block = [&challenge[..], &HOST, &[0x5A; 7], &[0x80]].concat();
            key.encrypt(&mut block);
            mutual = block.try_into().unwrap();
            AdminAnswer::Mutual {
                host: &HOST,
                cryptogram: &mutual,
            }
        }
    };
    let connection = &mut visit.connection;
    let reply = visit.card.admin_answer(connection, &challenge, answer)?;
    Ok(reply.map_or_else(Vec::new, |reply| reply.to_vec()))
}

/// Checks on a clean connection that this is the admin key. Afterwards the vault is full and no failure is counted.
fn check_administrator(world: &mut World, key: [u8; 24]) -> Result<(), String> {
    let mut visit = world.warm();
    let answered = answer(&mut visit, &key, AdminForm::Mutual);
    answered.map_err(|error| format!("the admin key does not work: {error}"))?;
    world.record = visit.card.record().clone();
    bus::learn_administrator(&mut world.secrets, &world.record, &key);
    Ok(())
}

fn answering(
    row: &'static str,
    share: usize,
    run: fn(&World, &mut Visit) -> Result<Vec<u8>, CardError>,
) -> CardOperation {
    CardOperation {
        row,
        stride: 4,
        share,
        is_slow: false,
        entry: Entry::Adm,
        world,
        prepare: World::warm,
        run,
        settle: |world, report, _| {
            check_administrator(world, world.admin_key)?;
            world.check_pin()?;
            Ok(report.ending())
        },
    }
}

#[test]
fn administrator_by_an_external_answer() {
    show(&answering("administrator, external", 7, |world, visit| {
        answer(visit, &world.admin_key, AdminForm::External)
    }));
}

#[test]
fn administrator_by_a_mutual_answer() {
    show(&answering("administrator, mutual", 13, |world, visit| {
        answer(visit, &world.admin_key, AdminForm::Mutual)
    }));
}

/// The card with its administrator authenticated.
fn administered(world: &mut World) -> Visit {
    let mut visit = world.warm();
    answer(&mut visit, &world.admin_key, AdminForm::External).unwrap();
    bus::learn_administrator(&mut world.secrets, visit.card.record(), &world.admin_key);
    visit
}

#[test]
fn unblocking_by_the_administrator() {
    show(&CardOperation {
        row: "unblocking by administrator",
        stride: 2,
        share: 4,
        is_slow: false,
        entry: Entry::None,
        world,
        prepare: |world| {
            use_up_one_try(world);
            administered(world)
        },
        run: |world, visit| {
            let new = pin(new_pin(world));
            visit.card.unblock_by_admin(&mut visit.connection, &new)?;
            Ok(Vec::new())
        },
        settle: |world, report, _| {
            let ending = settle_unblocking(world, report)?;
            check_administrator(world, world.admin_key)?;
            Ok(ending)
        },
    });
}

fn other(key: &[u8; 24]) -> [u8; 24] {
    if *key == ADMIN_KEY {
        NEW_ADMIN_KEY
    } else {
        ADMIN_KEY
    }
}

#[test]
fn change_of_the_admin_key() {
    show(&CardOperation {
        row: "change of the admin key",
        stride: 5,
        share: 5,
        is_slow: true,
        entry: Entry::None,
        world,
        prepare: administered,
        run: |world, visit| {
            let new = other(&world.admin_key).into();
            visit.card.change_admin_key(&mut visit.connection, &new)?;
            Ok(Vec::new())
        },
        settle: |world, report, _| {
            let (old, new) = (world.admin_key, other(&world.admin_key));
            let is_changed = check_administrator(world, old).is_err();
            if is_changed {
                check_administrator(world, new)?;
                world.admin_key = new;
            }
            world.check_pin()?;
            report.change_ending(is_changed)
        },
    });
}
