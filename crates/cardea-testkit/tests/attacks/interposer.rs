//! The interposer walk: every operation of a card, performed with an interposer between the daemon and the TPM that
//! manipulates one command or response at a time. Whatever it does, the operation fails or succeeds truly, and the
//! interposer gains nothing.
//!
//! `docs/interposer-walk.md` has the results; `CARDEA_RECORD=1` in the environment of these tests writes it anew.

#[cfg(not(feature = "weakened"))]
mod administration;
mod adversary;
mod cases;
#[cfg(not(feature = "weakened"))]
mod creation;
#[cfg(not(feature = "weakened"))]
mod destruction;
#[cfg(not(feature = "weakened"))]
mod document;
#[cfg(not(feature = "weakened"))]
mod holder;
#[cfg(not(feature = "weakened"))]
mod keys;
mod manipulation;
mod report;
pub(crate) mod rules;
mod world;

use cardea_card::CardError;
use cardea_card::record::CardRecord;

pub(crate) use self::adversary::{Adversary, Conversation, Place};
use self::cases::{Case, cases};
pub(crate) use self::manipulation::{ERRORS, Manipulation};
use self::report::Walk;
use self::world::{Ending, Entry, Report, Visit, World};
use crate::bench::Bench;
use crate::exploit;
use crate::raw::{LOADED_SESSIONS, Session, TRANSIENT};

/// What is done with the TPM while the interposer interferes.
pub(crate) trait Operation {
    /// What it works with.
    type Stage;
    /// What remains when the engine has ended.
    type Rest;

    /// Its name in the table.
    fn row(&self) -> &'static str;

    /// Every n-th manipulation is tried on commands that are not critical.
    fn stride(&self) -> usize;

    /// Every n-th case is tried.
    fn share(&self) -> usize {
        1
    }

    /// Whether a case takes seconds.
    fn is_slow(&self) -> bool {
        false
    }

    /// Whether the values that it compares were entered by a person.
    fn compares_an_entry(&self) -> bool {
        true
    }

    /// A TPM and a card to begin with.
    fn world(&self) -> World;

    /// Brings the card to the point where the operation begins.
    fn prepare(&self, world: &mut World) -> Self::Stage;

    /// The operation.
    fn run(&self, world: &World, stage: &mut Self::Stage) -> Report;

    /// Drops all that uses the service.
    fn end(&self, stage: Self::Stage) -> Self::Rest;

    /// What the interposer gains: tried when it has the TPM to itself.
    fn gains(
        &self,
        world: &World,
        rest: &Self::Rest,
        report: &Report,
        heard: &Conversation,
    ) -> Vec<String>;

    /// How the operation ended, determined by a new service on a clean connection, or what must not be. Afterwards
    /// the world is ready for the next case.
    fn settle(
        &self,
        world: &mut World,
        rest: Self::Rest,
        report: &Report,
        heard: &Conversation,
    ) -> Result<Ending, String>;
}

/// An operation on an existing card.
pub(crate) struct CardOperation {
    row: &'static str,
    stride: usize,
    share: usize,
    is_slow: bool,
    entry: Entry,
    world: fn() -> World,
    prepare: fn(&mut World) -> Visit,
    run: fn(&World, &mut Visit) -> Result<Vec<u8>, CardError>,
    /// Called after the card was found intact.
    settle: fn(&mut World, &Report, &Conversation) -> Result<Ending, String>,
}

impl Operation for CardOperation {
    type Stage = Visit;
    type Rest = CardRecord;

    fn row(&self) -> &'static str {
        self.row
    }

    fn stride(&self) -> usize {
        self.stride
    }

    fn share(&self) -> usize {
        self.share
    }

    fn is_slow(&self) -> bool {
        self.is_slow
    }

    fn world(&self) -> World {
        (self.world)()
    }

    fn prepare(&self, world: &mut World) -> Visit {
        (self.prepare)(world)
    }

    fn run(&self, world: &World, stage: &mut Visit) -> Report {
        let done = (self.run)(world, stage);
        // Idle work belongs to the operation; otherwise it would come at another moment in each run.
        world.bench.service.run_idle_work();
        Report::of(done)
    }

    fn end(&self, stage: Visit) -> CardRecord {
        stage.card.record().clone()
    }

    fn gains(
        &self,
        world: &World,
        rest: &CardRecord,
        _: &Report,
        heard: &Conversation,
    ) -> Vec<String> {
        gains(world, rest, heard)
    }

    fn settle(
        &self,
        world: &mut World,
        rest: CardRecord,
        report: &Report,
        heard: &Conversation,
    ) -> Result<Ending, String> {
        world.before = std::mem::replace(&mut world.record, rest);
        world.check(self.entry, heard)?;
        (self.settle)(world, report, heard)
    }
}

/// Rows of the table, in its order.
const ROWS: &[&str] = &[
    "probe of the TPM",
    "creation",
    "creation, PUK",
    "creation, administrator",
    "creation, initialisation state",
    "login",
    "login, always-class key",
    "login, wrong PIN",
    "signature",
    "decryption",
    "PIN change",
    "PUK change",
    "unblocking by PUK",
    "administrator, external",
    "administrator, mutual",
    "unblocking by administrator",
    "change of the admin key",
    "key generation",
    "recoverable key generation",
    "key import",
    "reading the tries",
    "destruction",
];

/// The result of a case: how the operation ended, or the rules that were broken.
type Outcome = Result<Ending, Vec<String>>;

/// Performs an operation once for each case.
fn walk<O: Operation>(operation: &O) -> Walk {
    let mut world = operation.world();
    let listener = Adversary::listening(world.salt.clone());
    let (baseline, outcome) = perform(operation, &mut world, &listener);
    let broken = outcome.err().unwrap_or_default();
    if !broken.is_empty() {
        // Every case would break the same rules; only what else it breaks is of interest.
        world = operation.world();
        world.tries_tickets = false;
    }
    let mut outcomes = Vec::new();
    for case in cases(&baseline, operation) {
        let mut outcome = attempt(operation, &mut world, &case, &baseline);
        if let Err(rules) = &mut outcome {
            rules.retain(|rule| !broken.contains(rule));
            // The card may not be what it was.
            let tries_tickets = world.tries_tickets;
            world = operation.world();
            world.tries_tickets = tries_tickets;
        }
        outcomes.push((case, outcome));
    }
    Walk {
        row: operation.row(),
        broken,
        outcomes,
    }
}

/// Performs an operation with a case. When a session is saved because it was idle depends on the time, and with it
/// whether the command of the case comes at all: then once more.
fn attempt<O: Operation>(
    operation: &O,
    world: &mut World,
    case: &Case,
    baseline: &Conversation,
) -> Outcome {
    for _ in 0..ATTEMPTS {
        let salt = world.salt.clone();
        let adversary = Adversary::aiming(case.place, case.manipulation, baseline.clone(), salt);
        let (_, outcome) = perform(operation, world, &adversary);
        if adversary.has_hit() || outcome.is_err() {
            return outcome;
        }
    }
    panic!("{}: {case:?} did not come", operation.row());
}

/// How often a case may fail to come.
const ATTEMPTS: usize = 5;

/// Performs an operation once with this adversary.
fn perform<O: Operation>(
    operation: &O,
    world: &mut World,
    adversary: &Adversary,
) -> (Conversation, Outcome) {
    let mut stage = operation.prepare(world);
    begin(&world.bench, adversary);
    let report = operation.run(world, &mut stage);
    let rest = operation.end(stage);
    let heard = end(&mut world.bench, adversary);
    let mut broken = rules::broken(&heard, operation.compares_an_entry(), &world.secrets);
    broken.extend(operation.gains(world, &rest, &report, &heard));
    let outcome = match operation.settle(world, rest, &report, &heard) {
        Ok(ending) if broken.is_empty() => Ok(ending),
        Ok(_) => Err(broken),
        Err(rule) => {
            broken.push(rule);
            Err(broken)
        }
    };
    (heard, outcome)
}

/// Puts an adversary between the service and the TPM.
pub(crate) fn begin(bench: &Bench, adversary: &Adversary) {
    bench.mux.forget_exchanges();
    bench.mux.interpose(adversary.clone());
}

/// Ends the service, withdraws the adversary and leaves the TPM to it: its own sessions are loaded and nothing else.
/// Cards and tokens must have been dropped.
pub(crate) fn end(bench: &mut Bench, adversary: &Adversary) -> Conversation {
    // What the service does when it ends goes through the adversary too.
    bench.restart();
    bench.mux.withdraw();
    let heard = adversary.conclude(&bench.mux);
    clear(bench, &heard);
    heard
}

/// Flushes everything except the interposer's own sessions, which are loaded again. Sessions that the engine has
/// saved stay saved: whoever has recorded their contexts can load them.
fn clear(bench: &Bench, heard: &Conversation) {
    for first in [TRANSIENT, LOADED_SESSIONS] {
        for handle in bench.handles(first) {
            if !heard.is_own(handle) {
                bench.flush(handle);
            }
        }
    }
    for (handle, context) in heard.contexts() {
        if heard.is_own(handle) {
            bench.load_context(&context);
        }
    }
}

/// What the interposer's sessions, saved sessions of others and recorded tickets can do with a card.
fn gains(world: &World, record: &CardRecord, heard: &Conversation) -> Vec<String> {
    let bench = &world.bench;
    let mut gains = Vec::new();
    for session in &heard.sessions {
        let armed = rules::has_pin_ticket(heard, session.handle);
        let mut gained = exploit::session(bench, record, session);
        gained.retain(|gain| !(armed && gain == exploit::BY_THE_PIN_TICKET));
        gains.append(&mut gained);
        bench.flush(session.handle);
    }
    gains.extend(gains_of_contexts(bench, record, heard));
    if world.tries_tickets {
        for ticket in rules::tickets(heard) {
            gains.extend(exploit::ticket(bench, record, &ticket));
        }
    }
    gains
}

/// What can be done with the sessions that the engine has saved, by whoever has recorded their contexts.
pub(crate) fn gains_of_contexts(
    bench: &Bench,
    record: &CardRecord,
    heard: &Conversation,
) -> Vec<String> {
    let mut gains = Vec::new();
    for (handle, context) in heard.contexts() {
        if !heard.is_own(handle) && bench.load_context(&context).code == 0 {
            let session = Session::of_others(handle);
            gains.extend(exploit::session(bench, record, &session));
            bench.flush(handle);
        }
    }
    gains
}

/// Performs the walk, keeps its cases in the test's folder, and compares the result with the document.
#[cfg(not(feature = "weakened"))]
fn show<O: Operation>(operation: &O) {
    let walk = walk(operation);
    walk.keep();
    assert!(!walk.is_broken(), "{}", walk.summary());
    document::compare(&walk);
}
