//! Return values: the one map from failures to `CK_RV`.

use cardea_client::ClientError;
use cardea_client::message::{Failure, FailureKind, Unsettled};
use cryptoki_sys::*;

/// A return value other than `CKR_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rv(pub(crate) CK_RV);

/// The result of every function.
pub(crate) type Result<T = ()> = std::result::Result<T, Rv>;

/// What a request was about: the same failure means one thing for a PIN and another for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Data,
    NewPin,
    Object,
    Pin,
    Token,
}

/// Why the daemon sent no reply that could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolError {
    /// The daemon is not running, or is out of this process's reach.
    Absent,
    /// Every connection was busy until the time limit.
    Busy,
    /// The logins are gone with the daemon that knew them.
    LoginsLost,
    /// The daemon did not answer.
    Unreachable,
}

impl From<&ClientError> for PoolError {
    fn from(error: &ClientError) -> Self {
        if error.is_absent() {
            Self::Absent
        } else {
            Self::Unreachable
        }
    }
}

impl From<PoolError> for Rv {
    /// A daemon that is gone, or was restarted, has forgotten the logins; the program must notice that.
    fn from(error: PoolError) -> Self {
        Self(match error {
            PoolError::Absent | PoolError::LoginsLost | PoolError::Unreachable => {
                CKR_DEVICE_REMOVED
            }
            PoolError::Busy => CKR_DEVICE_ERROR,
        })
    }
}

impl From<Unsettled> for Rv {
    fn from(_: Unsettled) -> Self {
        Self(CKR_DEVICE_ERROR)
    }
}

impl Rv {
    pub(crate) fn of(failure: &Failure, about: About) -> Self {
        Self(match failure.kind {
            FailureKind::AdminWrong | FailureKind::PinWrong => CKR_PIN_INCORRECT,
            FailureKind::BadData => match about {
                About::Data => CKR_DATA_INVALID,
                About::NewPin | About::Object | About::Pin | About::Token => CKR_ARGUMENTS_BAD,
            },
            FailureKind::Blocked => CKR_PIN_LOCKED,
            FailureKind::Broken
            | FailureKind::Busy
            | FailureKind::ChangeUnknown
            | FailureKind::Lockout
            | FailureKind::NoTpm
            | FailureKind::SwitchedOff
            | FailureKind::UnsafeTpm => CKR_DEVICE_ERROR,
            FailureKind::Cancelled => CKR_FUNCTION_CANCELED,
            FailureKind::Full => CKR_DEVICE_MEMORY,
            FailureKind::KeyUse => CKR_KEY_FUNCTION_NOT_PERMITTED,
            FailureKind::Lost => CKR_TOKEN_NOT_RECOGNIZED,
            FailureKind::NotFound if about == About::Object => CKR_OBJECT_HANDLE_INVALID,
            FailureKind::NotFound if about == About::Data => CKR_KEY_HANDLE_INVALID,
            // The PIN of a redirected card is entered where the card is; a program must not supply it.
            FailureKind::Denied if about == About::Pin => CKR_FUNCTION_REJECTED,
            FailureKind::Ambiguous | FailureKind::Denied | FailureKind::NotFound => {
                CKR_TOKEN_NOT_PRESENT
            }
            FailureKind::AdminDelayed
            | FailureKind::Failed
            | FailureKind::NoAgent
            | FailureKind::NotSupported => CKR_FUNCTION_FAILED,
            FailureKind::NotLoggedIn => CKR_USER_NOT_LOGGED_IN,
            FailureKind::Invalid | FailureKind::Rule => match about {
                About::Data | About::Object | About::Token => CKR_ARGUMENTS_BAD,
                About::NewPin => CKR_PIN_INVALID,
                About::Pin => CKR_PIN_LEN_RANGE,
            },
            FailureKind::Protocol | FailureKind::Removed => CKR_DEVICE_REMOVED,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: [About; 5] = [
        About::Data,
        About::NewPin,
        About::Object,
        About::Pin,
        About::Token,
    ];

    /// Every kind, with its value for data, a new PIN, an object, a PIN and the token.
    const TABLE: [(FailureKind, [CK_RV; 5]); 27] = [
        (FailureKind::NotSupported, [CKR_FUNCTION_FAILED; 5]),
        (FailureKind::AdminDelayed, [CKR_FUNCTION_FAILED; 5]),
        (FailureKind::AdminWrong, [CKR_PIN_INCORRECT; 5]),
        (FailureKind::Ambiguous, [CKR_TOKEN_NOT_PRESENT; 5]),
        (
            FailureKind::BadData,
            [
                CKR_DATA_INVALID,
                CKR_ARGUMENTS_BAD,
                CKR_ARGUMENTS_BAD,
                CKR_ARGUMENTS_BAD,
                CKR_ARGUMENTS_BAD,
            ],
        ),
        (FailureKind::Blocked, [CKR_PIN_LOCKED; 5]),
        (FailureKind::Broken, [CKR_DEVICE_ERROR; 5]),
        (FailureKind::Busy, [CKR_DEVICE_ERROR; 5]),
        (FailureKind::Cancelled, [CKR_FUNCTION_CANCELED; 5]),
        (FailureKind::ChangeUnknown, [CKR_DEVICE_ERROR; 5]),
        (
            FailureKind::Denied,
            [
                CKR_TOKEN_NOT_PRESENT,
                CKR_TOKEN_NOT_PRESENT,
                CKR_TOKEN_NOT_PRESENT,
                CKR_FUNCTION_REJECTED,
                CKR_TOKEN_NOT_PRESENT,
            ],
        ),
        (FailureKind::Failed, [CKR_FUNCTION_FAILED; 5]),
        (FailureKind::Full, [CKR_DEVICE_MEMORY; 5]),
        (
            FailureKind::Invalid,
            [
                CKR_ARGUMENTS_BAD,
                CKR_PIN_INVALID,
                CKR_ARGUMENTS_BAD,
                CKR_PIN_LEN_RANGE,
                CKR_ARGUMENTS_BAD,
            ],
        ),
        (FailureKind::KeyUse, [CKR_KEY_FUNCTION_NOT_PERMITTED; 5]),
        (FailureKind::Lockout, [CKR_DEVICE_ERROR; 5]),
        (FailureKind::Lost, [CKR_TOKEN_NOT_RECOGNIZED; 5]),
        (FailureKind::NoAgent, [CKR_FUNCTION_FAILED; 5]),
        (FailureKind::NoTpm, [CKR_DEVICE_ERROR; 5]),
        (
            FailureKind::NotFound,
            [
                CKR_KEY_HANDLE_INVALID,
                CKR_TOKEN_NOT_PRESENT,
                CKR_OBJECT_HANDLE_INVALID,
                CKR_TOKEN_NOT_PRESENT,
                CKR_TOKEN_NOT_PRESENT,
            ],
        ),
        (FailureKind::NotLoggedIn, [CKR_USER_NOT_LOGGED_IN; 5]),
        (FailureKind::PinWrong, [CKR_PIN_INCORRECT; 5]),
        (FailureKind::Protocol, [CKR_DEVICE_REMOVED; 5]),
        (FailureKind::Removed, [CKR_DEVICE_REMOVED; 5]),
        (
            FailureKind::Rule,
            [
                CKR_ARGUMENTS_BAD,
                CKR_PIN_INVALID,
                CKR_ARGUMENTS_BAD,
                CKR_PIN_LEN_RANGE,
                CKR_ARGUMENTS_BAD,
            ],
        ),
        (FailureKind::SwitchedOff, [CKR_DEVICE_ERROR; 5]),
        (FailureKind::UnsafeTpm, [CKR_DEVICE_ERROR; 5]),
    ];

    #[test]
    fn every_kind_of_failure_has_its_value() {
        for (kind, values) in TABLE {
            let failure = Failure {
                kind,
                message: String::new(),
                tries_left: None,
            };
            for (about, value) in ABOUT.into_iter().zip(values) {
                assert_eq!(Rv::of(&failure, about), Rv(value), "{kind:?}, {about:?}");
            }
        }
    }

    /// A TPM that fails must not look like invalid data: programs would give up a good cryptogram.
    #[test]
    fn only_bad_data_is_invalid_data() {
        for (kind, values) in TABLE {
            let is_data = values.contains(&CKR_DATA_INVALID);
            assert_eq!(is_data, kind == FailureKind::BadData, "{kind:?}");
        }
    }
}
