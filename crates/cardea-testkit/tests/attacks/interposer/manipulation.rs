//! What an interposer does to one command or its response.

use std::fmt;

use crate::raw::cc;
use crate::wire::{WITH_SESSIONS, code_of, policy_session, with_length};

/// One way to interfere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manipulation {
    /// One bit of the response is changed, at one of four places.
    Altered { spot: u8 },
    /// One bit of the command is changed, at one of four places.
    CommandAltered { spot: u8 },
    /// The response loses its second half.
    Cut,
    /// Executed and answered with a warning; the next command gets the response and is not executed.
    Delayed,
    /// Executed and answered with an error.
    ErrorAfter(u32),
    /// Answered with the previous response; the next command is executed and gets this response.
    Exchanged,
    /// Answered with an error, and executed after the operation. Until then nothing is flushed.
    HeldBack(u32),
    /// Executed; the connection is dropped instead of a response.
    Lost,
    /// The last HMAC of the response is replaced by zeros.
    NoHmac,
    /// Not executed, and answered as in a run without interference.
    NotExecuted,
    /// The response to StartAuthSession has the handle, the nonce or both of the interposer's own session.
    OtherSession {
        handle: bool,
        nonce: bool,
        salted: bool,
    },
    /// Answered with an earlier response to the same command.
    Repeated { executed: bool },
    /// Before the command, the session that it names is flushed and the interposer's own started with its handle.
    ReplacedSession { salted: bool },
    /// The response code of an error is set to 0.
    Success,
    /// Executed twice and answered with the first response or the second.
    Twice { second: bool },
}

/// Columns of the table.
pub(crate) const COLUMNS: [&str; 17] = [
    "session: other handle",
    "other nonce",
    "both",
    "same handle, other session",
    "repeated",
    "exchanged",
    "delayed",
    "cut",
    "lost",
    "altered",
    "command altered",
    "no HMAC",
    "code 0",
    "not executed",
    "executed, then an error",
    "executed twice",
    "held back",
];

/// Codes after which a command or an operation could be repeated, then those that mean something to a card: wrong
/// value, in both forms, blocked, lockout (TPM 2.0 Part 2 §6.6.3).
pub(crate) const ERRORS: [u32; 23] = [
    0x902, 0x903, 0x904, 0x905, 0x908, 0x90A, 0x910, 0x911, 0x912, 0x913, 0x914, 0x915, 0x916,
    0x917, 0x918, 0x920, 0x922, 0x923, 0x100, 0x9A2, 0x98E, 0x12F, 0x921,
];

/// Errors with which a command is held back: try again, no slot, wrong value.
const HELD_BACK: [u32; 3] = [0x922, 0x903, 0x9A2];

const HEADER: usize = 10;

/// Places in a message, evenly spaced from the first byte after the header to the last.
const SPOTS: [u8; 4] = [0, 1, 2, 3];

impl Manipulation {
    /// Its column.
    pub(crate) fn column(self) -> usize {
        match self {
            Self::OtherSession { nonce: false, .. } => 0,
            Self::OtherSession { handle: false, .. } => 1,
            Self::OtherSession { .. } => 2,
            Self::ReplacedSession { .. } => 3,
            Self::Repeated { .. } => 4,
            Self::Exchanged => 5,
            Self::Delayed => 6,
            Self::Cut => 7,
            Self::Lost => 8,
            Self::Altered { .. } => 9,
            Self::CommandAltered { .. } => 10,
            Self::NoHmac => 11,
            Self::Success => 12,
            Self::NotExecuted => 13,
            Self::ErrorAfter(_) => 14,
            Self::Twice { .. } => 15,
            Self::HeldBack(_) => 16,
        }
    }

    /// All that can be done to a command, given its response without interference, in a fixed order.
    pub(crate) fn of(command: &[u8], answer: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        for salted in [false, true] {
            if code_of(command) == cc::START_AUTH_SESSION {
                for (handle, nonce) in [(true, true), (true, false), (false, true)] {
                    all.push(Self::OtherSession {
                        handle,
                        nonce,
                        salted,
                    });
                }
            }
            if policy_session(command).is_some() {
                all.push(Self::ReplacedSession { salted });
            }
        }
        all.push(Self::Twice { second: false });
        all.push(Self::Twice { second: true });
        all.push(Self::Repeated { executed: true });
        all.push(Self::Repeated { executed: false });
        all.extend([Self::Exchanged, Self::Delayed, Self::Lost]);
        if answer.len() > HEADER {
            all.push(Self::Cut);
            all.extend(SPOTS.map(|spot| Self::Altered { spot }));
        }
        if command.len() > HEADER {
            all.extend(SPOTS.map(|spot| Self::CommandAltered { spot }));
        }
        if no_hmac(answer).is_some() {
            all.push(Self::NoHmac);
        }
        all.push(if code_of(answer) == 0 {
            Self::NotExecuted
        } else {
            Self::Success
        });
        all.extend(HELD_BACK.map(Self::HeldBack));
        let other = |code: &u32| *code != code_of(answer);
        all.extend(ERRORS.into_iter().filter(other).map(Self::ErrorAfter));
        all
    }

    /// Whether it is one of the many errors.
    pub(crate) fn is_error(self) -> bool {
        matches!(self, Self::ErrorAfter(_))
    }

    /// Whether it is tried on all commands, also on those that are not critical.
    pub(crate) fn is_for_every_command(self) -> bool {
        matches!(
            self,
            Self::NoHmac | Self::ReplacedSession { salted: false } | Self::Success
        )
    }

    /// Whether it is tried even where a case takes long.
    pub(crate) fn is_for_every_operation(self) -> bool {
        matches!(
            self,
            Self::OtherSession {
                handle: true,
                nonce: true,
                salted: false
            }
        )
    }
}

impl fmt::Display for Manipulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ErrorAfter(code) => write!(f, "executed, then {code:#x}"),
            Self::HeldBack(code) => write!(f, "held back with {code:#x}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A message with one bit changed at one of [`SPOTS`].
pub(crate) fn altered(message: &[u8], spot: u8) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(last) = message.len().checked_sub(HEADER + 1) {
        let position = HEADER + last * usize::from(spot) / (SPOTS.len() - 1);
        message[position] ^= 1 << (position % 8);
    }
    message
}

/// The first half of what follows the header.
pub(crate) fn cut(mut answer: Vec<u8>) -> Vec<u8> {
    answer.truncate(HEADER + (answer.len() - HEADER) / 2);
    with_length(answer)
}

/// The response with zeros for its last HMAC; none if it has none.
pub(crate) fn no_hmac(answer: &[u8]) -> Option<Vec<u8>> {
    const HMAC: usize = 32;
    if answer.get(..2)? != WITH_SESSIONS {
        return None;
    }
    let at = answer.len().checked_sub(HMAC)?;
    // Its size precedes it.
    (answer.get(at - 2..at)? == [0, 32]).then(|| [&answer[..at], &[0; HMAC]].concat())
}
