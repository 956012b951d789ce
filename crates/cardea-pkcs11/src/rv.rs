//! Return values: the one map from failures to `CK_RV`.

use cardea_client::message::{Failure, FailureKind};
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
    /// Every connection was busy until the time limit.
    Busy,
    /// The logins are gone with the daemon that knew them.
    LoginsLost,
    /// The daemon is not running, or did not answer.
    Unreachable,
}

impl From<PoolError> for Rv {
    /// A daemon that is gone, or was restarted, has forgotten the logins; the program must notice that.
    fn from(error: PoolError) -> Self {
        Self(match error {
            PoolError::LoginsLost | PoolError::Unreachable => CKR_DEVICE_REMOVED,
            PoolError::Busy => CKR_DEVICE_ERROR,
        })
    }
}

impl Rv {
    pub(crate) fn of(failure: &Failure, about: About) -> Self {
        Self(match failure.kind {
            FailureKind::AdminWrong | FailureKind::PinWrong => CKR_PIN_INCORRECT,
            FailureKind::Blocked => CKR_PIN_LOCKED,
            FailureKind::Busy
            | FailureKind::ChangeUnknown
            | FailureKind::Lockout
            | FailureKind::NoTpm
            | FailureKind::SwitchedOff
            | FailureKind::UnsafeTpm => CKR_DEVICE_ERROR,
            FailureKind::Cancelled => CKR_FUNCTION_CANCELED,
            FailureKind::Full => CKR_DEVICE_MEMORY,
            FailureKind::Lost => CKR_TOKEN_NOT_RECOGNIZED,
            FailureKind::NotFound if about == About::Object => CKR_OBJECT_HANDLE_INVALID,
            FailureKind::NotFound if about == About::Data => CKR_KEY_HANDLE_INVALID,
            // The PIN of a redirected card is entered where the card is; a program must not supply it.
            FailureKind::Denied if about == About::Pin => CKR_FUNCTION_REJECTED,
            FailureKind::Ambiguous | FailureKind::Denied | FailureKind::NotFound => {
                CKR_TOKEN_NOT_PRESENT
            }
            FailureKind::NoAgent => CKR_FUNCTION_FAILED,
            FailureKind::NotLoggedIn => CKR_USER_NOT_LOGGED_IN,
            FailureKind::Invalid | FailureKind::Rule => match about {
                About::Data => CKR_DATA_INVALID,
                About::NewPin => CKR_PIN_INVALID,
                About::Object | About::Token => CKR_ARGUMENTS_BAD,
                About::Pin => CKR_PIN_LEN_RANGE,
            },
            FailureKind::Protocol | FailureKind::Removed => CKR_DEVICE_REMOVED,
            FailureKind::Failed => match about {
                About::Data => CKR_DATA_INVALID,
                About::NewPin | About::Object | About::Pin | About::Token => CKR_FUNCTION_FAILED,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_of_the_tpm_are_the_devices_whatever_was_asked() {
        for kind in [
            FailureKind::ChangeUnknown,
            FailureKind::NoTpm,
            FailureKind::SwitchedOff,
            FailureKind::UnsafeTpm,
        ] {
            let failure = Failure {
                kind,
                message: String::new(),
                tries_left: None,
            };
            for about in [
                About::Data,
                About::NewPin,
                About::Object,
                About::Pin,
                About::Token,
            ] {
                assert_eq!(Rv::of(&failure, about), Rv(CKR_DEVICE_ERROR), "{kind:?}");
            }
        }
    }
}
