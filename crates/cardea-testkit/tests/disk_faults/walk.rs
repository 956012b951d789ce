//! One operation through one door, with each of its file operations failing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::disk::{Area, ERRORS, Errno, Fault, Length};
use crate::document;
use crate::doors;
use crate::world::World;

/// What the door has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    /// In the door's words.
    Failed(String),
}

/// What is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// As before the operation, or as after it, and neither.
    Broken,
    New,
    Old,
}

impl Truth {
    /// Where what was new becomes old.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Broken => Self::Broken,
            Self::New => Self::Old,
            Self::Old => Self::New,
        }
    }

    pub(crate) fn of(old: bool, new: bool) -> Self {
        match (old, new) {
            (true, false) => Self::Old,
            (false, true) => Self::New,
            _ => Self::Broken,
        }
    }
}

/// An operation that changes TPM and files.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Brings what it needs about, on a disk that works.
    pub(crate) prepare: fn(&mut World),
    /// Looks whether it has happened, on a disk that works. It may be asked more than once.
    pub(crate) truth: fn(&mut World) -> Truth,
    /// What the people know afterwards if it has happened.
    pub(crate) happened: fn(&mut World),
    /// Each door that has it.
    pub(crate) doors: &'static [Door],
    /// Where an operation takes long, fewer places are tried.
    pub(crate) stride: usize,
}

/// A door, and the operation through it.
pub(crate) type Door = (&'static str, fn(&mut World) -> Told);

/// End of the words for a file operation that has failed.
const FAILED: &str = " failed";

/// What a walk has found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) places: usize,
    pub(crate) cases: usize,
    pub(crate) restarts: usize,
    pub(crate) done: usize,
    pub(crate) failed: usize,
    pub(crate) unsettled: usize,
    pub(crate) errors: BTreeSet<Errno>,
}

/// Walks operations through all doors of theirs that a world has.
pub(crate) fn walk(world: &mut World, operations: &[&Operation], doors: &[&str]) {
    let mut false_answers = Vec::new();
    for operation in operations {
        for (door, perform) in operation.doors {
            if !doors.contains(door) {
                continue;
            }
            let found = one(world, operation, (*door, *perform), &mut false_answers);
            assert!(found.cases > 0 && found.done > 0, "{}", operation.name);
            document::compare(operation.name, door, &found);
        }
    }
    assert!(
        false_answers.is_empty(),
        "{} false answers\n{}",
        false_answers.len(),
        false_answers.join("\n")
    );
}

fn one(
    world: &mut World,
    operation: &Operation,
    (door, perform): Door,
    false_answers: &mut Vec<String>,
) -> Found {
    let mut found = Found::default();
    let mut operations = Vec::new();
    // The first run may be of another kind than those after it. What counts is the second one.
    for _ in 0..2 {
        (operation.prepare)(world);
        world.disk.watch();
        let told = perform(world);
        operations = world.disk.operations();
        let truth = (operation.truth)(world);
        assert_eq!(
            (&told, truth),
            (&Told::Done, Truth::New),
            "{} through {door} on a disk that works",
            operation.name
        );
        (operation.happened)(world);
    }
    found.places = operations.len();
    for (at, fault) in faults(&operations, operation, door).into_iter().enumerate() {
        (operation.prepare)(world);
        world.fail(fault);
        let told = perform(world);
        // Where the audit alone or the store alone fails, an operation may not touch its files. An error has a cause.
        let must_fail = fault.area == Area::Both || told != Told::Done;
        let is_missed = must_fail && !has_failed(world);
        let seen = world.disk.operations();
        // Whoever looks first at the daemon that has seen the failure gives it time to mend what it can.
        // Both kinds of daemon come after both lengths of a fault.
        let restarts = (at + at / 2) % 2 == 1;
        if restarts {
            world.restart();
            found.restarts += 1;
        } else {
            world.disk.watch();
        }
        let truth = (operation.truth)(world);
        found.cases += 1;
        found.errors.insert(fault.error);
        let expected = match told {
            Told::Done => {
                found.done += 1;
                Truth::New
            }
            Told::Failed(_) => {
                found.failed += 1;
                Truth::Old
            }
        };
        let mut report = |what: &str| {
            false_answers.push(format!(
                "{} through {door}, {fault:?} {}: {what}{told:?}, and {truth:?}\n    {}",
                operation.name,
                if restarts { "restarted" } else { "live" },
                seen.join(", ")
            ));
        };
        if is_missed {
            report("no file operation has failed, ");
        }
        if truth == expected {
            // Told truly.
        } else if restarts && truth == Truth::New && is_unsettled(door, &told, &seen) {
            found.unsettled += 1;
        } else {
            report("");
        }
        match truth {
            Truth::New => (operation.happened)(world),
            Truth::Old => {}
            // What comes next needs a card that works.
            Truth::Broken => world.renew(),
        }
    }
    eprintln!("{} through {door}: {found:?}", operation.name);
    found
}

/// Whether a file operation has failed. What follows the answer may take a moment.
fn has_failed(world: &World) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let operations = world.disk.operations();
        if operations
            .iter()
            .any(|operation| operation.ends_with(FAILED))
        {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the disk has taken a change, or a whole new file under another name, then said that it has failed, and taken
/// nothing any more: what it has is not known until it works, and the door says so where it has words.
fn is_unsettled(door: &str, told: &Told, operations: &[String]) -> bool {
    let Told::Failed(text) = told else {
        return false;
    };
    let mut failed = operations
        .iter()
        .filter(|operation| operation.ends_with(FAILED));
    let has_words = ![doors::READER, doors::PKCS11].contains(&door);
    let is_late = |first: &String| {
        first == "Store SyncFolder failed" || has_words && first == "Store Rename failed"
    };
    failed.next().is_some_and(is_late)
        && failed.next().is_some()
        && (!has_words || text.contains("not known"))
}

/// Every place, or one in so many, fails once, and from it on; the errors that it can have take turns.
fn faults(operations: &[String], operation: &Operation, door: &str) -> Vec<Fault> {
    // Behind the socket and every other door is the same engine.
    let is_another = matches!(operation.doors, [(doors::SOCKET, _), ..] if door != doors::SOCKET);
    let stride = if is_another { 5 } else { 2 } * operation.stride;
    let mut faults = Vec::new();
    let mut add = |area, place: usize, error, length| {
        faults.push(Fault {
            area,
            place,
            error,
            length,
        });
    };
    for (at, operation) in operations.iter().enumerate() {
        let place = at + 1;
        let possible: Vec<_> = ERRORS
            .into_iter()
            .filter(|error| fits(*error, operation))
            .collect();
        if at % stride == 0 {
            let error = |turn: usize| possible[(at / stride + turn) % possible.len()];
            add(Area::Both, place, error(0), Length::On);
            add(Area::Both, place, error(1), Length::Once);
        }
    }
    for (turn, error) in ERRORS.into_iter().enumerate() {
        if is_recording() || turn == operations.len() % ERRORS.len() {
            add(Area::Audit, 1, error, Length::On);
            add(Area::Store, 1, error, Length::On);
        }
    }
    faults
}

/// Whether a file operation ends so on a real system: `cardea_store::fault` has the same rule.
fn fits(error: Errno, operation: &str) -> bool {
    let step = operation.split(' ').nth(1).unwrap_or_default();
    let opens = ["Open", "OpenFolder"].contains(&step);
    match error {
        Errno::Full => !opens && step != "Remove",
        Errno::Io => true,
        Errno::ReadOnly => !opens,
        Errno::TooManyFiles => opens || step == "Create",
    }
}

pub(crate) fn is_recording() -> bool {
    std::env::var_os("CARDEA_RECORD").is_some()
}
