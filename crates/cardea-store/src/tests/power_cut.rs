//! The power goes, or the disk fails, at every step of every write.

use std::io::ErrorKind;
use std::sync::Arc;

use cardea_card::record::{CardId, CardRecord};
use cardea_card::token::CardStore as _;

use super::model::{Failure, Model, State, open, reopen};
use super::{id, only_card, record};
use crate::{Intent, IntentKind, Store, StoreError};

/// A disk after this was done to it, all of it synced.
fn disk_with(what: impl FnOnce(&Store)) -> State {
    let disk = Model::new(State::default());
    what(&open(&disk));
    let states = disk.state().after_power_cut();
    states.into_iter().next().unwrap()
}

/// One card with two generations, “older” and “first”.
fn two_generations() -> State {
    disk_with(|store| {
        let mut file = store.create(&record("older")).unwrap();
        file.save(&record("first")).unwrap();
    })
}

/// Two generations, of which the current one is damaged.
fn damaged() -> State {
    let disk = Model::new(two_generations());
    let path = open(&disk).path(id());
    let mut state = disk.state();
    state.tamper(&path, |content| content.truncate(40));
    state
}

/// Does something with the power going at each of its steps, and looks at all that can be left.
/// `look` gets whether it was acknowledged. Returns the number of steps.
fn cut_everywhere(
    before: &State,
    act: impl Fn(&Store) -> Result<(), StoreError>,
    look: impl Fn(bool, &Store),
) -> usize {
    cut_with_leftovers(before, act, look, 0)
}

/// Like [`cut_everywhere`], and when it is acknowledged, this many steps may be left.
fn cut_with_leftovers(
    before: &State,
    act: impl Fn(&Store) -> Result<(), StoreError>,
    look: impl Fn(bool, &Store),
    leftovers: usize,
) -> usize {
    for steps in 0.. {
        let disk = Model::new(before.clone());
        let store = open(&disk);
        disk.fail(Failure::PowerCut(steps));
        let done = act(&store).is_ok();
        for state in disk.state().after_power_cut() {
            look(done, &reopen(state));
        }
        if done {
            let left = disk.steps() - steps;
            assert!(left <= leftovers, "acknowledged after the last step");
            if left == 0 {
                return steps;
            }
        }
    }
    unreachable!()
}

fn save(store: &Store, record: &CardRecord) -> Result<(), StoreError> {
    store.card(id()).write_next(record)
}

#[test]
fn power_cut_at_any_step_of_a_save_leaves_the_old_or_the_new_record() {
    for before in [
        two_generations(),
        disk_with(|s| drop(s.create(&record("first")))),
    ] {
        let steps = cut_everywhere(
            &before,
            |store| save(store, &record("second")),
            |done, store| {
                let found = only_card(store).name;
                assert!(found == "second" || !done && found == "first", "{found}");
            },
        );
        assert!(
            steps >= 6,
            "removal, file, data, its sync, two names, their sync"
        );
    }
}

#[test]
fn power_cut_at_any_step_of_a_creation_leaves_the_card_or_nothing() {
    cut_everywhere(
        &disk_with(|_| {}),
        |store| store.create(&record("first")).map(drop),
        |done, store| match store.cards().unwrap().as_slice() {
            [] => assert!(!done),
            _ => assert_eq!(only_card(store).name, "first"),
        },
    );
}

#[test]
fn what_was_found_after_a_power_cut_survives_another_one() {
    for first in 0..8 {
        let disk = Model::new(two_generations());
        let store = open(&disk);
        disk.fail(Failure::PowerCut(first));
        let _ = save(&store, &record("second"));
        for state in disk.state().after_power_cut() {
            let seen = only_card(&reopen(state.clone())).name;
            cut_everywhere(
                &state,
                |store| save(store, &record("third")),
                |done, store| {
                    let found = only_card(store).name;
                    assert!(found == "third" || !done && found == seen, "{seen} {found}");
                },
            );
        }
    }
}

#[test]
fn save_that_failed_does_not_come_back_when_the_power_goes_in_the_next_one() {
    for step in 0..8 {
        let disk = Model::new(two_generations());
        let store = open(&disk);
        disk.fail(Failure::Once(step, ErrorKind::StorageFull));
        if save(&store, &record("refused")).is_ok() {
            continue;
        }
        for cut in 0..10 {
            let disk = Model::new(disk.state());
            let store = open(&disk);
            disk.fail(Failure::PowerCut(cut));
            let done = save(&store, &record("third")).is_ok();
            for state in disk.state().after_power_cut() {
                let found = only_card(&reopen(state)).name;
                assert!(
                    found == "third" || !done && found == "first",
                    "{step} {cut} {found}"
                );
            }
        }
    }
}

#[test]
fn power_cut_at_any_step_of_the_start_after_a_power_cut_changes_nothing() {
    for first in 0..8 {
        let disk = Model::new(two_generations());
        let store = open(&disk);
        disk.fail(Failure::PowerCut(first));
        let _ = save(&store, &record("second"));
        for state in disk.state().after_power_cut() {
            let seen = only_card(&reopen(state.clone())).name;
            for second in 0..4 {
                let disk = Model::new(state.clone());
                disk.fail(Failure::PowerCut(second));
                let lock = tempfile::tempfile().unwrap();
                let started = Store::with_disk("/state".as_ref(), Arc::<Model>::clone(&disk), lock);
                for state in disk.state().after_power_cut() {
                    let found = only_card(&reopen(state)).name;
                    assert!(started.is_err() || found == seen, "{seen} {found}");
                    assert!(["first", "second"].contains(&&*found), "{found}");
                }
            }
        }
    }
}

#[test]
fn power_cut_at_any_step_of_a_save_over_a_damaged_file_keeps_the_previous_generation() {
    cut_everywhere(
        &damaged(),
        |store| save(store, &record("second")),
        |done, store| {
            let found = only_card(store).name;
            assert!(found == "second" || !done && found == "older", "{found}");
        },
    );
}

#[test]
fn power_cut_at_any_step_of_a_removal_brings_no_older_generation_back() {
    cut_everywhere(
        &two_generations(),
        |store| store.remove(&store.path(id())),
        |done, store| match store.cards().unwrap().as_slice() {
            [] => {}
            _ => {
                assert!(!done);
                assert_eq!(only_card(store).name, "first");
            }
        },
    );
}

#[test]
fn power_cut_at_any_step_of_an_adoption_loses_no_record() {
    let mut before = two_generations();
    let path = reopen(before.clone()).path(id());
    // Last byte of the HMAC: what is left is as foreign as any other file.
    before.tamper(&path, |content| *content.last_mut().unwrap() ^= 1);
    // The generation before it may stay.
    cut_with_leftovers(
        &before,
        |store| store.adopt(&store.path(id())).map(drop),
        |done, store| {
            let found = only_card(store).name;
            assert!(found == "first" || !done && found == "older", "{found}");
        },
        1,
    );
}

#[test]
fn power_cut_at_any_step_of_an_intent_leaves_it_or_none() {
    let intent = Intent {
        card: id(),
        kind: IntentKind::Create,
        indices: vec![(0x01C2_0000, [3; 32])],
    };
    cut_everywhere(
        &disk_with(|_| {}),
        |store| store.write_intent(&intent),
        |done, store| match store.intents().unwrap().as_slice() {
            [] => assert!(!done),
            found => assert_eq!(found, std::slice::from_ref(&intent)),
        },
    );
    cut_everywhere(
        &disk_with(|store| store.write_intent(&intent).unwrap()),
        |store| store.remove_intent(intent.card),
        |done, store| match store.intents().unwrap().as_slice() {
            [] => {}
            found => {
                assert!(!done);
                assert_eq!(found, std::slice::from_ref(&intent));
            }
        },
    );
}

#[test]
fn power_cut_at_any_step_keeps_the_numbers_of_the_other_cards() {
    let (one, two) = (CardId::new([1; 16]), CardId::new([2; 16]));
    let before = disk_with(|store| assert_eq!(store.instance(one).unwrap(), 0));
    cut_everywhere(
        &before,
        |store| store.instance(two).map(drop),
        |_, store| {
            assert_eq!(store.instance(one).unwrap(), 0);
            assert_eq!(store.instance(two).unwrap(), 1);
        },
    );
    cut_everywhere(
        &before,
        |store| store.release_instance(one),
        |done, store| {
            let next = store.instance(two).unwrap();
            assert!(next == 0 || !done && next == 1);
        },
    );
}

#[test]
fn power_cut_at_any_step_of_the_first_start_leaves_a_folder_that_opens() {
    for steps in 0..8 {
        let disk = Model::new(State::default());
        disk.fail(Failure::PowerCut(steps));
        let lock = tempfile::tempfile().unwrap();
        let opened = Store::with_disk("/state".as_ref(), Arc::<Model>::clone(&disk), lock);
        for state in disk.state().after_power_cut() {
            let key = state.content("/state/host.key".as_ref());
            if opened.is_ok() {
                assert_eq!(key.unwrap().len(), 32, "what it signed stays believable");
            }
            reopen(state);
        }
    }
}

/// The errors of a disk, with their words.
const ERRORS: [(ErrorKind, &str); 2] = [
    (ErrorKind::StorageFull, "no storage space"),
    (ErrorKind::Other, "other error"),
];

#[test]
fn failed_save_leaves_the_old_record_says_why_and_the_next_one_works() {
    for (kind, words) in ERRORS {
        for (before, old) in [(two_generations(), "first"), (damaged(), "older")] {
            let mut failed = 0;
            for step in 0..20 {
                let disk = Model::new(before.clone());
                let store = open(&disk);
                disk.fail(Failure::Once(step, kind));
                if let Err(error) = save(&store, &record("second")) {
                    failed += 1;
                    let cause = std::error::Error::source(&error).unwrap().to_string();
                    assert!(cause.contains(words), "{cause}");
                    disk.fail(Failure::Never);
                    assert_eq!(only_card(&store).name, old, "{step}");
                    for state in disk.state().after_power_cut() {
                        assert_eq!(only_card(&reopen(state)).name, old, "{step}");
                    }
                } else {
                    assert_eq!(only_card(&store).name, "second");
                }
                disk.fail(Failure::Never);
                save(&store, &record("third")).unwrap();
                assert_eq!(only_card(&store).name, "third");
            }
            assert!(failed >= 6, "{failed}");
        }
    }
}

#[test]
fn failed_creation_leaves_no_file_and_full_disk_gets_its_room_back() {
    for (kind, _) in ERRORS {
        let mut failed = 0;
        for step in 0..6 {
            let disk = Model::new(disk_with(|_| {}));
            let store = open(&disk);
            disk.fail(Failure::Once(step, kind));
            if store.create(&record("first")).is_err() {
                failed += 1;
                let new = store.path(id()).with_extension("card.new");
                assert!(disk.state().content(&new).is_none(), "{step}");
                assert!(store.cards().unwrap().is_empty());
                for state in disk.state().after_power_cut() {
                    assert!(reopen(state).cards().unwrap().is_empty(), "{step}");
                }
            } else {
                assert_eq!(only_card(&store).name, "first");
            }
        }
        assert_eq!(
            failed, 6,
            "removal, file, data, its sync, the name, its sync"
        );
    }
}

#[test]
fn start_that_cannot_finish_a_replacement_says_so_and_loses_nothing() {
    let disk = Model::new(two_generations());
    let store = open(&disk);
    // All but the renames.
    disk.fail(Failure::PowerCut(4));
    save(&store, &record("second")).unwrap_err();
    let interrupted = disk.state();
    for step in 0..2 {
        let disk = Model::new(interrupted.clone());
        disk.fail(Failure::Once(step, ErrorKind::Other));
        let lock = tempfile::tempfile().unwrap();
        let started = Store::with_disk("/state".as_ref(), Arc::<Model>::clone(&disk), lock);
        let error = started.err().unwrap().to_string();
        assert!(error.contains("cannot finish the replacement"), "{error}");
        assert_eq!(only_card(&reopen(disk.state())).name, "first");
    }
}

#[test]
fn refused_intent_is_not_carried_out_later() {
    let intent = Intent {
        card: id(),
        kind: IntentKind::Destroy,
        indices: vec![(0x01C2_0000, [3; 32])],
    };
    let mut failed = 0;
    for step in 0..8 {
        let disk = Model::new(two_generations());
        let store = open(&disk);
        disk.fail(Failure::Once(step, ErrorKind::StorageFull));
        if store.write_intent(&intent).is_err() {
            failed += 1;
            for state in disk.state().after_power_cut() {
                assert!(reopen(state).intents().unwrap().is_empty(), "{step}");
            }
        }
    }
    assert!(failed >= 5, "{failed}");
}

/// The disk fails from some step on, the rollback's included, and works again later.
#[test]
fn refused_save_that_could_not_be_taken_back_is_taken_back_later() {
    let is_first = |disk: &Arc<Model>, steps: usize| {
        for state in disk.state().after_power_cut() {
            assert_eq!(
                only_card(&reopen(state)).name,
                "first",
                "from step {steps} on"
            );
        }
    };
    for steps in 0.. {
        let disk = Model::new(two_generations());
        let store = open(&disk);
        disk.fail(Failure::PowerCut(steps));
        let done = save(&store, &record("second")).is_ok();
        disk.fail(Failure::Never);
        if done {
            assert!(steps >= 6);
            return;
        }
        let mut again = store.card(id());
        // One that is refused itself does not keep what was refused before.
        disk.fail(Failure::Once(9, ErrorKind::StorageFull));
        if again.save(&record("third")).is_ok() {
            disk.fail(Failure::Never);
            again.save(&record("first")).unwrap();
        }
        disk.fail(Failure::Never);
        assert!(store.settle());
        is_first(&disk, steps);
    }
}

#[test]
fn refused_intent_that_could_not_be_removed_is_removed_later() {
    let intent = Intent {
        card: id(),
        kind: IntentKind::Destroy,
        indices: vec![(0x01C2_0000, [1; 32])],
    };
    for steps in 0.. {
        let disk = Model::new(two_generations());
        let store = open(&disk);
        disk.fail(Failure::PowerCut(steps));
        let done = store.write_intent(&intent).is_ok();
        disk.fail(Failure::Never);
        if done {
            assert!(steps >= 4);
            return;
        }
        assert!(store.settle());
        for state in disk.state().after_power_cut() {
            assert_eq!(reopen(state).intents().unwrap(), [], "from step {steps} on");
        }
    }
}
