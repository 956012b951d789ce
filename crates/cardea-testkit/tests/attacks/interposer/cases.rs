//! Which manipulations are tried on which commands.

use std::fmt;

use cardea_testkit::played::Share;

use super::Operation;
use super::adversary::{Conversation, Place};
use super::manipulation::{ERRORS, Manipulation};
use crate::raw::{cc, command_name};

/// One manipulation of one command.
pub(crate) struct Case {
    pub(crate) place: Place,
    pub(crate) manipulation: Manipulation,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { code, occurrence } = self.place;
        let name = command_name(code);
        write!(f, "{name} {}, {}", occurrence + 1, self.manipulation)
    }
}

/// The cases of an operation, from its commands when nobody interferes.
///
/// Critical commands get all manipulations and six of the errors, others every n-th manipulation and three errors.
/// Which ones they are rotates from command to command, so that all of them are tried. Of the result every n-th case
/// is taken, and always the exchange of a whole session and, where that does not take too long, all that concerns a
/// change of a value or counter. A run over several parts takes other cases on each of them.
pub(crate) fn cases<O: Operation>(baseline: &Conversation, operation: &O) -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, line) in baseline.lines.iter().enumerate() {
        // Some commands the interposer always keeps from the TPM.
        let Some(answer) = &line.answered else {
            continue;
        };
        let is_critical = CRITICAL.contains(&line.place.code);
        let (errors, others): (Vec<_>, Vec<_>) = Manipulation::of(&line.command, answer)
            .into_iter()
            .partition(|manipulation| manipulation.is_error());
        let every = |step: usize| {
            move |(position, _): &(usize, Manipulation)| (position + number).is_multiple_of(step)
        };
        let every_other = every(operation.stride());
        let others = others
            .into_iter()
            .enumerate()
            .filter(|other| is_critical || other.1.is_for_every_command() || every_other(other));
        let wanted = if is_critical { 6 } else { 3 };
        let errors = errors.into_iter().enumerate();
        let errors = errors.filter(every(ERRORS.len() / wanted));
        cases.extend(others.chain(errors).map(|(_, manipulation)| Case {
            place: line.place,
            manipulation,
        }));
    }
    let mut number = 0usize;
    cases.retain(|case| {
        number += 1;
        let is_change = CHANGES.contains(&case.place.code) && !operation.is_slow();
        is_change
            || case.manipulation.is_for_every_operation()
            || number.is_multiple_of(operation.share())
    });
    let (share, mut number) = (Share::of_run(), 0usize);
    cases.retain(|_| {
        number += 1;
        share.contains(number)
    });
    cases
}

/// Commands that start a session, compare a value, use the birth key, set a value or write a counter.
const CRITICAL: [u32; 5] = [
    cc::START_AUTH_SESSION,
    cc::POLICY_SECRET,
    cc::POLICY_SIGNED,
    cc::NV_CHANGE_AUTH,
    cc::NV_WRITE,
];

/// Commands that set a value or write a counter.
const CHANGES: [u32; 2] = [cc::NV_CHANGE_AUTH, cc::NV_WRITE];
