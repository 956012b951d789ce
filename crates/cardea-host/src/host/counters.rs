//! Whether this TPM counts wrong PINs as cards need it: found out before the first card is taken into use.
//!
//! Firmware is about that sets a count back whenever a policy reads the counter. On such a TPM cards are made whose
//! counters the TPM's owner reads, and others are not used: their PINs could be guessed without end. The trial takes an
//! index of its own, and so the owner's authorisation where one is set; without it the cards are used, and the trial
//! stays outstanding.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cardea_client::message::CounterCheck;
use cardea_terms::CounterMode;
use cardea_tpm::{Chip, CounterFinding, Examination, Hierarchy, TpmError};

use crate::failure::{chain, resetting_tpm, unsafe_tpm};
use crate::host::Host;
use crate::host::audit::{Actor, Door, Kind};
use crate::sync::lock;

/// Between two attempts at a trial that is outstanding.
const RETRY: Duration = Duration::from_secs(30);

/// What is known of it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    known: Mutex<Known>,
    examination: Mutex<Option<Examination>>,
}

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// They count.
    Good,
    /// Nobody could try, when, and why.
    Outstanding(Instant, String),
    /// They do not count, as found in a run of the TPM with this number of resets: an update of the firmware ends
    /// with one.
    Unsafe(Fault, Option<u32>, String),
}

/// What is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A policy that reads a counter sets it back.
    Resets,
    /// Nothing can be said for any of them.
    Unfit,
}

/// Whether cards may be used.
pub(crate) enum Verdict {
    /// The TPM could not say.
    Away(TpmError),
    /// They may, as far as is known.
    Usable,
    /// Some may not: [`Counters::unsafe_reason`] says which, and why.
    Unsafe,
}

impl Counters {
    /// What was found out about the TPM, if anything was.
    pub(crate) fn examination(&self) -> Option<Examination> {
        lock(&self.examination).clone()
    }

    /// In the words of the socket, and the reason.
    pub(crate) fn told(&self) -> (CounterCheck, String) {
        match &*lock(&self.known) {
            Known::Nothing => (CounterCheck::Unknown, String::new()),
            Known::Good => (CounterCheck::Good, String::new()),
            Known::Outstanding(_, reason) => (CounterCheck::Outstanding, reason.clone()),
            Known::Unsafe(_, _, reason) => (CounterCheck::Unsafe, reason.clone()),
        }
    }

    /// Why cards with such counters may not be used, if that was found.
    pub(crate) fn unsafe_reason(&self, mode: CounterMode) -> Option<String> {
        match (&*lock(&self.known), mode) {
            // Wrong PINs are counted in the lockout, which every TPM has.
            (_, CounterMode::Object)
            // No policy reads them.
            | (Known::Unsafe(Fault::Resets, ..), CounterMode::NvOwner) => None,
            (Known::Unsafe(_, _, reason), _) => Some(reason.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_outstanding(&self) -> bool {
        matches!(&*lock(&self.known), Known::Outstanding(..))
    }

    /// Finds out, if it is not known. `service` has the owner's authorisation, if there is one.
    pub(crate) fn examine(&self, host: &Host, chip: &Arc<dyn Chip>) -> Verdict {
        let mut known = lock(&self.known);
        match &*known {
            Known::Good => return Verdict::Usable,
            Known::Outstanding(tried, _) if tried.elapsed() < RETRY => return Verdict::Usable,
            Known::Unsafe(_, run, _) => match chip.time() {
                Ok(time) if Some(time.resets) == *run => return Verdict::Unsafe,
                Ok(_) => {}
                Err(error) => return Verdict::Away(error),
            },
            Known::Nothing | Known::Outstanding(..) => {}
        }
        let examined = chip.examine(&host.claimed_handles());
        if let Ok(found) = &examined {
            *lock(&self.examination) = Some(found.clone());
        }
        let examined = examined.and_then(|found| match found.counters {
            CounterFinding::Resets => Err(TpmError::CountReset),
            CounterFinding::Absent(_) | CounterFinding::Sound => Ok(()),
        });
        match examined {
            Ok(()) => {
                if !matches!(*known, Known::Nothing) {
                    tracing::info!("the TPM counts wrong PINs");
                }
                *known = Known::Good;
                Verdict::Usable
            }
            Err(error) => match outcome(&error) {
                Outcome::Unsafe(fault, reason) => {
                    let was = matches!(*known, Known::Unsafe(..));
                    let run = chip.time().ok().map(|time| time.resets);
                    *known = Known::Unsafe(fault, run, reason.clone());
                    drop(known);
                    if !was {
                        announce(host, &reason);
                    }
                    Verdict::Unsafe
                }
                Outcome::Outstanding(reason) => {
                    if !matches!(&*known, Known::Outstanding(_, told) if *told == reason) {
                        tracing::warn!(reason, "it is unknown whether this TPM counts wrong PINs");
                    }
                    *known = Known::Outstanding(Instant::now(), reason);
                    Verdict::Usable
                }
                Outcome::Away => Verdict::Away(error),
            },
        }
    }

    /// Tries at once what was outstanding: somebody has given the authorisation that it takes.
    pub(crate) fn catch_up(&self, host: &Host, owner: &Arc<dyn Chip>) {
        {
            let mut known = lock(&self.known);
            if !matches!(*known, Known::Outstanding(..)) {
                return;
            }
            *known = Known::Nothing;
        }
        self.examine(host, owner);
    }

    /// A card was prepared, which takes the same trial.
    pub(crate) fn found_good(&self) {
        *lock(&self.known) = Known::Good;
    }

    /// Something else has found that they do not count.
    pub(crate) fn found(&self, host: &Host, error: &TpmError) {
        if !matches!(error, TpmError::CountReset) {
            return;
        }
        let reason = resetting_tpm(&chain(error));
        let chip = host.tpm.chip().ok();
        let run = chip.and_then(|chip| chip.time().ok());
        let before = std::mem::replace(
            &mut *lock(&self.known),
            Known::Unsafe(Fault::Resets, run.map(|time| time.resets), reason.clone()),
        );
        if !matches!(before, Known::Unsafe(..)) {
            announce(host, &reason);
        }
    }
}

enum Outcome {
    Away,
    Outstanding(String),
    Unsafe(Fault, String),
}

fn outcome(error: &TpmError) -> Outcome {
    match error {
        TpmError::CountReset => Outcome::Unsafe(Fault::Resets, resetting_tpm(&chain(error))),
        TpmError::Unfit(_) => Outcome::Unsafe(Fault::Unfit, unsafe_tpm(&chain(error))),
        TpmError::NvFull(_) => Outcome::Outstanding(format!(
            "the test of the TPM's counters needs room for one index, and there is none ({}): `cardea tpm indices` lists what was left behind",
            chain(error)
        )),
        error if error.refuses_owner() => Outcome::Outstanding(OWNER_NEEDED.to_owned()),
        TpmError::AuthMissing(Hierarchy::Owner) => Outcome::Outstanding(OWNER_NEEDED.to_owned()),
        _ => Outcome::Away,
    }
}

/// What lets the trial be done.
const OWNER_NEEDED: &str = "the test of the TPM's counters needs the owner authorisation: keep it as the daemon's service credential `owner-auth`, or pass it with --owner-auth-file to the next `cardea card create` or `card destroy`";

/// Once, when it is found. Cards in use are taken out of it by the keeper.
fn announce(host: &Host, reason: &str) {
    tracing::error!(
        reason,
        "this TPM does not count wrong PINs as cards need it"
    );
    host.audit
        .event(None, &Actor::daemon(), Door::Daemon, Kind::TpmUnsafe);
    for card in host.cards() {
        card.doubt();
    }
    host.wake_keeper();
}

#[cfg(test)]
mod tests {
    use cardea_tpm::ResponseCode;

    use super::*;

    fn response(handle: u32, code: u32) -> TpmError {
        TpmError::Response {
            command: "NV_DefineSpace",
            handle: Some(handle),
            code: ResponseCode(code),
        }
    }

    #[test]
    fn only_a_tpm_that_was_seen_not_to_count_is_unsafe() {
        for (error, expected) in [
            (TpmError::CountReset, "resets"),
            (TpmError::Unfit("wrong PINs do not block".into()), "unfit"),
            (TpmError::AuthMissing(Hierarchy::Owner), "outstanding"),
            (response(0x4000_0001, 0x9A2), "outstanding"),
            (
                TpmError::NvFull(Box::new(response(0x4000_0001, 0x14B))),
                "outstanding",
            ),
            (TpmError::Stopped, "away"),
            (response(0x4000_0001, 0x922), "away"),
        ] {
            let found = match outcome(&error) {
                Outcome::Away => "away",
                Outcome::Outstanding(_) => "outstanding",
                Outcome::Unsafe(Fault::Resets, _) => "resets",
                Outcome::Unsafe(Fault::Unfit, _) => "unfit",
            };
            assert_eq!(found, expected, "{error}");
        }
    }

    #[test]
    fn what_is_outstanding_says_what_is_missing() {
        let Outcome::Outstanding(text) = outcome(&TpmError::AuthMissing(Hierarchy::Owner)) else {
            panic!("not outstanding")
        };
        assert!(text.contains("owner-auth") && text.contains("--owner-auth-file"));
    }
}
