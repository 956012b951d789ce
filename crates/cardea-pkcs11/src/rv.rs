//! Return values: the one map from failures to `CK_RV`.

use cardea_client::message::{Failure, FailureKind};
use cryptoki_sys::*;

use crate::pool::Trouble;

/// A return value other than `CKR_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rv(pub(crate) CK_RV);

/// What every function gives.
pub(crate) type Result<T = ()> = std::result::Result<T, Rv>;

/// What a failure is about: the same refusal means another thing for a PIN than for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Data,
    NewPin,
    Object,
    Pin,
    Token,
}

impl From<Trouble> for Rv {
    /// The daemon is gone, or another one: what was verified is lost, and the program is told so.
    fn from(trouble: Trouble) -> Self {
        Self(match trouble {
            Trouble::Away | Trouble::Lost => CKR_DEVICE_REMOVED,
            Trouble::Busy => CKR_DEVICE_ERROR,
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
            // The PIN of a redirected card is typed where the card is, and never given by a program.
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

/// Where a result goes: the caller's buffer, or only its length.
pub(crate) enum Output<'a> {
    /// `NULL_PTR`: the length is asked for.
    Length(&'a mut u64),
    /// A buffer, and how long it is.
    Buffer(&'a mut [u8], &'a mut u64),
}

impl Output<'_> {
    /// Whether a result of this length fits now; if not, the operation goes on. The length is told in each case.
    pub(crate) fn room(&mut self, length: usize) -> Result<bool> {
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        match self {
            Self::Length(told) => {
                **told = wanted;
                Ok(false)
            }
            Self::Buffer(buffer, told) => {
                **told = wanted;
                if buffer.len() < length {
                    return Err(Rv(CKR_BUFFER_TOO_SMALL));
                }
                Ok(true)
            }
        }
    }

    pub(crate) fn put(&mut self, data: &[u8]) -> Result {
        if let Self::Buffer(buffer, told) = self {
            **told = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let target = buffer
                .get_mut(..data.len())
                .ok_or(Rv(CKR_BUFFER_TOO_SMALL))?;
            target.copy_from_slice(data);
        }
        Ok(())
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
