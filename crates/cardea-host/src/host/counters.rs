//! Whether this TPM counts wrong PINs as cards need it: found out before the first card is taken into use.
//!
//! Firmware is about that sets a count back whenever a policy reads the counter. On such a TPM cards are made whose
//! counters the TPM's owner reads, and those that were made before lose what lets anybody read, and their files have the
//! counts. The trial takes an index of its own, and so the owner's authorisation where one is set; without it the cards
//! are used, and the trial stays outstanding. What it has found is kept for as long as the TPM and its firmware are the
//! same.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cardea_client::message::{CardsTaken, CounterCheck};
use cardea_terms::CounterMode;
use cardea_tpm::{Chip, CounterFinding, Examination, Hierarchy, ResponseCode, TpmError};

use crate::failure::{chain, resetting_tpm, unsafe_tpm};
use crate::host::Host;
use crate::host::audit::{Actor, Door, Kind};
use crate::host::credential::for_keeper;
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
    /// As it was examined, now or by a daemon before this one.
    Found(CounterFinding),
    /// Nobody could try, when, and why.
    Outstanding(Instant, String),
    /// They do not count, as found in a run of the TPM with this number of resets: an update of the firmware ends
    /// with one. It may be somebody on the way, so it is not kept.
    Unsafe(Option<u32>, String),
}

/// Whether cards with counters in NV may be used.
pub(crate) enum Verdict {
    /// The TPM could not say.
    Away(TpmError),
    /// Those whose counters no policy reads.
    Closed,
    /// They may, as far as is known.
    Usable,
    /// They may not, in words.
    Unsafe(String),
}

impl Counters {
    /// What was found out about the TPM, if anything was.
    pub(crate) fn examination(&self) -> Option<Examination> {
        lock(&self.examination).clone()
    }

    /// What cards the TPM takes, if it was examined.
    pub(crate) fn cards(&self) -> Option<CardsTaken> {
        let Known::Found(finding) = *lock(&self.known) else {
            return None;
        };
        // What else was found out stays when something else has shown that counts are set back.
        let found = Examination {
            counters: finding,
            ..self.examination()?
        };
        Some(CardsTaken {
            mode: found.best_mode(),
            reason: found
                .why_not_open()
                .map_or_else(String::new, |obstacle| obstacle.to_string()),
        })
    }

    /// In the words of the socket, and the reason.
    pub(crate) fn told(&self) -> (CounterCheck, String) {
        match &*lock(&self.known) {
            Known::Nothing => (CounterCheck::Unknown, String::new()),
            Known::Found(finding) => (word(*finding), reason(*finding)),
            Known::Outstanding(_, reason) => (CounterCheck::Outstanding, reason.clone()),
            Known::Unsafe(_, reason) => (CounterCheck::Unsafe, reason.clone()),
        }
    }

    /// Why cards with such counters may not be used, if that was found.
    pub(crate) fn unsafe_reason(&self, mode: CounterMode) -> Option<String> {
        match &*lock(&self.known) {
            // Wrong PINs are counted in the lockout, which every TPM has.
            Known::Unsafe(_, reason) if mode.is_in_nv() => Some(reason.clone()),
            _ => None,
        }
    }

    /// Whether the TPM sets counts back.
    pub(crate) fn are_reset(&self) -> bool {
        matches!(&*lock(&self.known), Known::Found(CounterFinding::Resets))
    }

    pub(crate) fn is_outstanding(&self) -> bool {
        matches!(&*lock(&self.known), Known::Outstanding(..))
    }

    /// What an earlier daemon has found out about this very TPM with this firmware, if nothing is known yet.
    pub(crate) fn recall(&self, host: &Host, chip: &Arc<dyn Chip>) {
        let mut known = lock(&self.known);
        if matches!(*known, Known::Nothing)
            && let Ok(Some(finding)) = self.recalled(host, chip)
        {
            *known = Known::Found(finding);
        }
    }

    /// Finds out, if it is not known. `chip` has the owner's authorisation, if there is one.
    pub(crate) fn examine(&self, host: &Host, chip: &Arc<dyn Chip>) -> Verdict {
        let mut known = lock(&self.known);
        match &*known {
            Known::Found(finding) => return verdict(*finding),
            Known::Outstanding(tried, _) if tried.elapsed() < RETRY => return Verdict::Usable,
            Known::Unsafe(run, reason) => match chip.time() {
                Ok(time) if Some(time.resets) == *run => return Verdict::Unsafe(reason.clone()),
                Ok(_) => {}
                Err(error) => return Verdict::Away(error),
            },
            Known::Nothing => match self.recalled(host, chip) {
                Ok(Some(finding)) => {
                    *known = Known::Found(finding);
                    return verdict(finding);
                }
                Ok(None) => {}
                Err(error) => return Verdict::Away(error),
            },
            Known::Outstanding(..) => {}
        }
        let error = match chip.examine(&host.claimed_handles()) {
            Ok(found) => {
                let finding = found.counters;
                *known = Known::Found(finding);
                drop(known);
                self.keep(host, chip, found);
                return verdict(finding);
            }
            Err(error) => error,
        };
        match outcome(&error) {
            Outcome::Unsafe(reason) => {
                let was = matches!(*known, Known::Unsafe(..));
                let run = chip.time().ok().map(|time| time.resets);
                *known = Known::Unsafe(run, reason.clone());
                drop(known);
                if !was {
                    announce(host, &reason);
                }
                Verdict::Unsafe(reason)
            }
            Outcome::Outstanding(reason) => {
                if !matches!(&*known, Known::Outstanding(_, told) if *told == reason) {
                    tracing::warn!(reason, "it is unknown whether this TPM counts wrong PINs");
                }
                *known = Known::Outstanding(Instant::now(), reason);
                Verdict::Usable
            }
            Outcome::Away => Verdict::Away(error),
        }
    }

    /// From the state folder. What cannot be read there, or was not written for this TPM, is as if it were not there.
    fn recalled(
        &self,
        host: &Host,
        chip: &Arc<dyn Chip>,
    ) -> Result<Option<CounterFinding>, TpmError> {
        let kept = match host.store.examination() {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "what was found out about the TPM cannot be read"
                );
                return Ok(None);
            }
        };
        let recalled = chip.recall_examination(&kept)?;
        if recalled.is_none() {
            tracing::info!("the TPM or its firmware is another one; it is tested again");
        }
        let finding = recalled.as_ref().map(|found| found.counters);
        *lock(&self.examination) = recalled;
        Ok(finding)
    }

    /// The TPM was examined. What has changed is recorded, and all of it kept for the next start; where that fails, the
    /// TPM is examined again then.
    fn keep(&self, host: &Host, chip: &Arc<dyn Chip>, found: Examination) {
        let before = lock(&self.examination).replace(found.clone());
        if before.as_ref() == Some(&found) {
            return;
        }
        tracing::info!(examination = ?found, "the TPM was examined");
        let kept = chip.keep_examination(&found).map_err(|error| chain(&error));
        let kept = kept.and_then(|kept| {
            let written = host.store.write_examination(&kept);
            written.map_err(|error| chain(&error))
        });
        if let Err(error) = kept {
            tracing::warn!(
                error,
                "what was found out about the TPM is not kept; it is tested again at the next start"
            );
        }
        let event = Kind::TpmExamined {
            counters: word(found.counters),
            firmware: found.model.firmware,
            cards: found.best_mode(),
        };
        host.audit
            .event(None, &Actor::daemon(), Door::Daemon, event);
        if found.counters == CounterFinding::Resets {
            announce(host, &reason(found.counters));
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

    /// A card was prepared, for which the TPM was tried: what that has shown is known and kept from now on, whatever was
    /// known before.
    pub(crate) fn tried(&self, host: &Host, chip: &Arc<dyn Chip>) {
        if matches!(&*lock(&self.known), Known::Found(CounterFinding::Sound)) {
            return;
        }
        // The trial itself is not repeated.
        if let Ok(found) = chip.examine(&host.claimed_handles()) {
            *lock(&self.known) = Known::Found(found.counters);
            self.keep(host, chip, found);
        }
    }

    /// Something else has found that they do not count.
    pub(crate) fn found(&self, host: &Host, error: &TpmError) {
        if matches!(error, TpmError::CountReset) {
            let chip = host.tpm.chip().ok();
            self.found_resets(host, chip.as_ref().map(for_keeper).as_ref());
        }
    }

    /// The TPM sets counts back, as something else has found. `chip` has the owner's authorisation, if there is one.
    pub(crate) fn found_resets(&self, host: &Host, chip: Option<&Arc<dyn Chip>>) {
        if self.are_reset() {
            return;
        }
        let finding = CounterFinding::Resets;
        *lock(&self.known) = Known::Found(finding);
        let examined = chip.map(|chip| (chip, chip.examine(&host.claimed_handles())));
        match examined {
            Some((chip, Ok(found))) if found.counters == finding => self.keep(host, chip, found),
            // It holds for this run of the daemon.
            _ => announce(host, &reason(finding)),
        }
    }
}

fn verdict(finding: CounterFinding) -> Verdict {
    match finding {
        CounterFinding::Resets => Verdict::Closed,
        CounterFinding::Absent(_) | CounterFinding::Sound => Verdict::Usable,
    }
}

/// In the words of the socket.
fn word(finding: CounterFinding) -> CounterCheck {
    match finding {
        CounterFinding::Absent(_) => CounterCheck::Absent,
        CounterFinding::Resets => CounterCheck::Resets,
        CounterFinding::Sound => CounterCheck::Good,
    }
}

/// For people; empty where there is nothing to say.
fn reason(finding: CounterFinding) -> String {
    match finding {
        CounterFinding::Absent(_) => {
            "this TPM has no counters for PINs: cards need `--counter-mode object`".to_owned()
        }
        CounterFinding::Resets => resetting_tpm(&TpmError::CountReset.to_string()),
        CounterFinding::Sound => String::new(),
    }
}

enum Outcome {
    Away,
    Outstanding(String),
    Unsafe(String),
}

fn outcome(error: &TpmError) -> Outcome {
    match error {
        TpmError::CountReset | TpmError::Unfit(_) => Outcome::Unsafe(unsafe_tpm(&chain(error))),
        // It passes, and nothing was found out.
        error
            if error
                .code()
                .is_some_and(|code| code == ResponseCode::LOCKOUT) =>
        {
            Outcome::Outstanding(LOCKED_OUT.to_owned())
        }
        TpmError::NvFull(_) => Outcome::Outstanding(format!(
            "the test of the TPM's counters needs room for one index, and there is none ({}): `cardea tpm indices` lists what was left behind",
            chain(error)
        )),
        error if error.refuses_owner() => Outcome::Outstanding(OWNER_NEEDED.to_owned()),
        TpmError::AuthMissing(Hierarchy::Owner) => Outcome::Outstanding(OWNER_NEEDED.to_owned()),
        _ => Outcome::Away,
    }
}

const LOCKED_OUT: &str = "the TPM is in lockout, and its counters are tested when that is over: `cardea tpm status` shows the time, and `cardea tpm reset-lockout` ends it";

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
            (TpmError::CountReset, "unsafe"),
            (TpmError::Unfit("wrong PINs do not block".into()), "unsafe"),
            (TpmError::AuthMissing(Hierarchy::Owner), "outstanding"),
            (response(0x4000_0001, 0x9A2), "outstanding"),
            (
                TpmError::NvFull(Box::new(response(0x4000_0001, 0x14B))),
                "outstanding",
            ),
            (response(0x4000_0001, 0x921), "outstanding"),
            (TpmError::Stopped, "away"),
            (response(0x4000_0001, 0x922), "away"),
        ] {
            let found = match outcome(&error) {
                Outcome::Away => "away",
                Outcome::Outstanding(_) => "outstanding",
                Outcome::Unsafe(_) => "unsafe",
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
