//! Every command of the TPM, tried against every object of a live card, by what the attacker has.
//!
//! The TPM is asked for its commands: one without a row, and an object that a command takes without one, fail.
//! Each row says what is tried and what the TPM must answer; a row that is not tried says why. After each attempt
//! the card must be whole, with all its tries, and no key may sign without the PIN.
//!
//! `docs/tpm-matrix.md` is written from the same rows: `CARDEA_RECORD=1` makes it anew.

mod armed;
mod audit;
mod captured;
mod commands;
mod document;
mod forged;
mod health;
mod hierarchies;
mod indices;
mod live;
mod machine;
mod objects;
mod row;
mod salts;
mod untried;
mod uses;
mod ways;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::live::Live;
use self::row::{After, How, Object, Row, Seen, compare};
use crate::bench::Outcome;

/// Groups of rows: what a group shows, how it is tried, and where its rows are. Each is one test, so that nothing is
/// in the document that no test tries.
macro_rules! groups {
    ($($fact:ident: $group:ident, $way:ident;)+) => {
        $(
            pub(crate) fn $group() -> Outcome {
                $way(&self::$group::rows())
            }
        )+

        /// All rows, tried or not.
        fn rows() -> Vec<Row> {
            let mut rows = self::untried::rows();
            $(rows.extend(self::$group::rows());)+
            rows
        }

        #[cfg(not(feature = "weakened"))]
        mod tests {
            $(
                #[test]
                fn $fact() {
                    crate::withstood::withstood(super::$group());
                }
            )+
        }
    };
}

groups! {
    keys_are_used_after_the_pin_only: uses, on_one_card;
    empty_values_give_statements_and_no_use: objects, on_one_card;
    counters_obey_their_policies_only: indices, on_one_card;
    salts_that_are_incorrect_get_one_answer: salts, on_one_card;
    commands_without_an_object_change_no_card: machine, on_one_card;
    sessions_of_the_daemon_sign_for_nobody_else: armed, on_a_used_card;
    hierarchies_destroy_cards_and_take_none: hierarchies, on_own_cards;
    audit_and_exhaustion_reveal_nothing: audit, on_own_cards;
}

/// What a PIN gives that was captured once, until when.
pub(crate) fn captured_pin() -> Outcome {
    captured::tried()
}

/// Nothing that the TPM can be told is left out.
pub(crate) fn complete() -> Outcome {
    commands::complete(&rows())
}

/// Tries rows on one card that nobody uses.
fn on_one_card(rows: &[Row]) -> Outcome {
    let mut live = Live::locked();
    tried(rows, |row, object, expected| {
        let seen = attempted(row, &mut live, object);
        live.clean();
        let judged = live.judge(row.after);
        (seen.and_then(|seen| compare(expected, &seen)), judged)
    })
}

/// Tries rows while the card's holder has verified the PIN: whatever happens, it works again after the PIN.
fn on_a_used_card(rows: &[Row]) -> Outcome {
    let mut live = Live::small(Object::Nothing);
    live.serves()?;
    let outcome = tried(rows, |row, object, expected| {
        let seen = attempted(row, &mut live, object);
        let works = live.serves();
        (seen.and_then(|seen| compare(expected, &seen)), works)
    });
    live.restart();
    outcome.and(live.unharmed(0))
}

/// Tries each row on a card and a TPM of its own, which what is tried may ruin.
fn on_own_cards(rows: &[Row]) -> Outcome {
    tried(rows, |row, object, expected| {
        let mut live = Live::small(object);
        let seen = attempted(row, &mut live, object);
        live.clean();
        let mut judged = live.judge(row.after);
        if matches!(row.after, After::Whole | After::Tried) {
            // By a daemon that knows nothing of before.
            live.restart();
            judged = judged
                .and_then(|()| live.unharmed(0))
                .and_then(|()| live.serves());
        }
        (seen.and_then(|seen| compare(expected, &seen)), judged)
    })
}

/// Goes through what is tried, and tells all that is not as it should be: of the answers and of the card.
fn tried(
    rows: &[Row],
    mut attempt: impl FnMut(&Row, Object, &Seen) -> (Outcome, Outcome),
) -> Outcome {
    let mut failed = Vec::new();
    for row in rows {
        if !matches!(row.how, How::Tried(_)) {
            continue;
        }
        for (object, expected) in row.cases_of_run() {
            let (answers, card) = attempt(row, object, &expected);
            for what in [answers.err(), card.err()].into_iter().flatten() {
                failed.push(format!("{}: {what}", row.title(object)));
            }
        }
    }
    match failed[..] {
        [] => Ok(()),
        _ => Err(failed.join("\n")),
    }
}

/// One attempt; a step that could not even be begun fails it.
fn attempted(row: &Row, live: &mut Live, object: Object) -> Result<Seen, String> {
    let How::Tried(attempt) = &row.how else {
        return Err("it is not tried".to_owned());
    };
    live.begin();
    let attempt = AssertUnwindSafe(|| attempt(live, object));
    catch_unwind(attempt).map_err(|_| "the attempt broke off".to_owned())
}
