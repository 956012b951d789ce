//! One table from every failure to an exit code.
//!
//! `docs/cli.md` shows the same table to people.

use std::io;
use std::process::ExitCode;

use cardea_client::message::{FailureKind, Unsettled};
use cardea_terms::tpmvsc::Hresult;

/// Exit codes, as documented. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Away = 3,
    PinWrong = 4,
    Blocked = 5,
    Denied = 6,
    NotFound = 7,
    Ambiguous = 8,
    Lost = 9,
    Full = 10,
    Lockout = 11,
    Busy = 12,
    Cancelled = 13,
    NoAgent = 14,
    BrokenTpm = 15,
    Pending = 16,
    Refused = 17,
    NoAuthority = 18,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<FailureKind> for Exit {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Ambiguous => Self::Ambiguous,
            FailureKind::Blocked => Self::Blocked,
            FailureKind::Broken => Self::BrokenTpm,
            FailureKind::AdminDelayed | FailureKind::Busy => Self::Busy,
            FailureKind::Cancelled => Self::Cancelled,
            FailureKind::Denied => Self::Denied,
            FailureKind::BadData
            | FailureKind::ChangeUnknown
            | FailureKind::Failed
            | FailureKind::KeyUse
            | FailureKind::NotLoggedIn
            | FailureKind::NotSupported
            | FailureKind::UnsafeTpm => Self::Failed,
            FailureKind::Full => Self::Full,
            FailureKind::Invalid | FailureKind::Rule => Self::Usage,
            FailureKind::Lockout => Self::Lockout,
            FailureKind::Lost => Self::Lost,
            FailureKind::NoAgent => Self::NoAgent,
            FailureKind::NoTpm | FailureKind::Protocol | FailureKind::SwitchedOff => Self::Away,
            FailureKind::NotFound | FailureKind::Removed => Self::NotFound,
            FailureKind::AdminWrong | FailureKind::PinWrong => Self::PinWrong,
        }
    }
}

/// What another machine answers: the way back from `FailureKind::hresult`.
impl From<Hresult> for Exit {
    fn from(result: Hresult) -> Self {
        match result {
            Hresult::ABORT => Self::Cancelled,
            Hresult::ACCESS_DENIED => Self::Denied,
            Hresult::BUSY => Self::Busy,
            Hresult::FULL => Self::Full,
            Hresult::INVALID_ARGUMENT | Hresult::PIN_POLICY => Self::Usage,
            Hresult::NOT_FOUND => Self::NotFound,
            Hresult::NO_PERSON => Self::NoAgent,
            Hresult::PIN_BLOCKED => Self::Blocked,
            Hresult::TPM_LOCKOUT => Self::Lockout,
            Hresult::TPM_NOT_FOUND | Hresult::TPM_SWITCHED_OFF | Hresult::UNREACHABLE => Self::Away,
            Hresult::WRONG_PIN => Self::PinWrong,
            _ => Self::Failed,
        }
    }
}

/// Why the command failed, as text, and its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    is_interruption: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            is_interruption: false,
        }
    }

    /// Somebody has pressed control-C at a prompt.
    pub(crate) fn interrupted() -> Self {
        Self {
            is_interruption: true,
            ..Self::new(Exit::Failed, "interrupted")
        }
    }

    /// Whether somebody wanted to stop, and must not be asked anything else.
    pub(crate) fn is_interruption(&self) -> bool {
        self.is_interruption
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds a part to the message.
    pub(crate) fn and(self, more: &str) -> Self {
        Self::new(self.exit, format!("{}; {more}", self.message))
    }

    /// An error with the whole chain of causes, and what to do about it.
    pub(crate) fn caused(exit: Exit, error: &dyn std::error::Error, hint: &str) -> Self {
        let mut message = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            message = format!("{message}: {source}");
            next = source.source();
        }
        Self::new(exit, message + hint)
    }
}

impl From<Unsettled> for Failure {
    fn from(error: Unsettled) -> Self {
        Self::new(Exit::Busy, error.to_string())
    }
}

/// Our own output could not be written; a closed pipe is not reported.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Exit::Failed, "")
        } else {
            Self::new(
                Exit::Failed,
                format!("the output cannot be written: {error}"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_documented_code() {
        let table = [
            (FailureKind::AdminDelayed, 12),
            (FailureKind::NotSupported, 1),
            (FailureKind::AdminWrong, 4),
            (FailureKind::Ambiguous, 8),
            (FailureKind::BadData, 1),
            (FailureKind::Blocked, 5),
            (FailureKind::Broken, 15),
            (FailureKind::Busy, 12),
            (FailureKind::Cancelled, 13),
            (FailureKind::ChangeUnknown, 1),
            (FailureKind::Denied, 6),
            (FailureKind::Failed, 1),
            (FailureKind::Full, 10),
            (FailureKind::Invalid, 2),
            (FailureKind::KeyUse, 1),
            (FailureKind::Lockout, 11),
            (FailureKind::Lost, 9),
            (FailureKind::NoAgent, 14),
            (FailureKind::NoTpm, 3),
            (FailureKind::NotFound, 7),
            (FailureKind::NotLoggedIn, 1),
            (FailureKind::PinWrong, 4),
            (FailureKind::Protocol, 3),
            (FailureKind::Removed, 7),
            (FailureKind::Rule, 2),
            (FailureKind::SwitchedOff, 3),
            (FailureKind::UnsafeTpm, 1),
        ];
        for (kind, code) in table {
            assert_eq!(Exit::from(kind) as u8, code, "{kind:?}");
        }
    }
}
