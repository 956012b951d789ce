//! Failures of the TPM: each names the command, the handle and the decoded response code.

use std::{fmt, io};

use cardea_card::token::{TokenError, TokenErrorKind};
use tpm2_protocol::data::TpmRc;

use crate::hierarchy::{Hierarchy, OWNER};

/// A TPM response code (TPM 2.0 Part 2 §6.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub u32);

#[expect(missing_docs, reason = "names of TPM 2.0 Part 2 table 17")]
impl ResponseCode {
    pub const SUCCESS: Self = Self(0);
    pub const INITIALIZE: Self = Self(0x100);
    pub const FAILURE: Self = Self(0x101);
    pub const AUTH_UNAVAILABLE: Self = Self(0x12F);
    pub const COMMAND_CODE: Self = Self(0x143);
    pub const NV_AUTHORIZATION: Self = Self(0x149);
    pub const NV_SPACE: Self = Self(0x14B);
    pub const NV_DEFINED: Self = Self(0x14C);
    pub const ATTRIBUTES: Self = Self(0x082);
    pub const HASH: Self = Self(0x083);
    pub const VALUE: Self = Self(0x084);
    pub const HIERARCHY: Self = Self(0x085);
    pub const HANDLE: Self = Self(0x08B);
    pub const KEY_SIZE: Self = Self(0x087);
    pub const RANGE: Self = Self(0x08D);
    pub const AUTH_FAIL: Self = Self(0x08E);
    pub const SCHEME: Self = Self(0x092);
    pub const SIZE: Self = Self(0x095);
    pub const POLICY_FAIL: Self = Self(0x09D);
    pub const INTEGRITY: Self = Self(0x09F);
    pub const TICKET: Self = Self(0x0A0);
    pub const BAD_AUTH: Self = Self(0x0A2);
    pub const RESERVED_BITS: Self = Self(0x0A1);
    pub const EXPIRED: Self = Self(0x0A3);
    pub const BINDING: Self = Self(0x0A5);
    pub const CURVE: Self = Self(0x0A6);
    pub const ECC_POINT: Self = Self(0x0A7);
    pub const OBJECT_MEMORY: Self = Self(0x902);
    pub const SESSION_MEMORY: Self = Self(0x903);
    pub const MEMORY: Self = Self(0x904);
    pub const SESSION_HANDLES: Self = Self(0x905);
    pub const YIELDED: Self = Self(0x908);
    pub const TESTING: Self = Self(0x90A);
    pub const REFERENCE_H0: Self = Self(0x910);
    pub const REFERENCE_S0: Self = Self(0x918);
    pub const REFERENCE_S6: Self = Self(0x91E);
    pub const NV_RATE: Self = Self(0x920);
    pub const LOCKOUT: Self = Self(0x921);
    pub const RETRY: Self = Self(0x922);
    pub const NV_UNAVAILABLE: Self = Self(0x923);

    /// Without the number of the handle, session or parameter that format-one codes carry.
    ///
    /// An invalid session handle is a session that no longer exists: since a reset its number may be that of
    /// one of another kind, and nothing is said of the command's own handles.
    #[must_use]
    pub fn base(self) -> Self {
        if self.0 & 0x80 == 0 {
            self
        } else if self.0 & 0x87F == 0x800 | Self::HANDLE.0 & 0x3F {
            Self::REFERENCE_S0
        } else {
            Self(self.0 & 0xBF)
        }
    }

    /// Whether it is a warning that asks to send the same command again.
    #[must_use]
    pub fn asks_for_retry(self) -> bool {
        matches!(
            self,
            Self::RETRY | Self::YIELDED | Self::TESTING | Self::NV_RATE | Self::NV_UNAVAILABLE
        )
    }

    /// Whether the TPM is out of object or session slots.
    #[must_use]
    pub fn out_of_slots(self) -> bool {
        matches!(
            self,
            Self::OBJECT_MEMORY | Self::SESSION_MEMORY | Self::MEMORY | Self::SESSION_HANDLES
        )
    }

    /// Whether a referenced transient object or session is not there.
    #[must_use]
    pub fn missing_reference(self) -> bool {
        (Self::REFERENCE_H0.0..=Self::REFERENCE_S6.0).contains(&self.0)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TpmRc::try_from(self.0) {
            Ok(code) => write!(f, "{code} (0x{:03X})", self.0),
            Err(_) => write!(f, "response code 0x{:03X}", self.0),
        }
    }
}

impl fmt::Debug for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:03X}", self.0)
    }
}

/// A failure of the TPM or on the way to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// An authorisation was given for a hierarchy that has none; it was not tried.
    #[error("the TPM has no {0} authorisation")]
    AuthNotSet(Hierarchy),
    /// A hierarchy has an authorisation and none was given; nothing was tried.
    #[error("the TPM's {0} authorisation is set")]
    AuthMissing(Hierarchy),
    /// The TPM was asked to replace a value and did not say, in a way that can be believed, that it is done.
    #[error("it is not known whether the old or the new value holds: {0}")]
    ChangeUnknown(#[source] Box<TpmError>),
    /// Only the owner may read this count, and the owner's authorisation is set and not known here.
    #[error("the TPM shows this card's counters to its owner alone")]
    CountHidden,
    /// The TPM sets the count of wrong PINs back whenever a policy of their index is authorised: anybody can guess
    /// without end.
    #[error("this TPM's firmware sets the count of wrong PINs back whenever the counter is read")]
    CountReset,
    /// A counter is not as the card was made.
    #[error("{0}")]
    Damaged(String),
    /// The TPM has gone into failure mode (TPM 2.0 Part 1 §12.3) and does nothing until it is restarted.
    #[error("the TPM is in failure mode; restart the machine")]
    FailureMode,
    /// The random first value of a card in initialisation state was replaced already.
    #[error("the first value was replaced already")]
    FirstValueGone,
    /// The TPM was cleared or is not the one that made the card.
    #[error(
        "the storage root key is another one: not the TPM that made the card, or it was cleared"
    )]
    Foreign,
    /// An NV index of the card is not there or another one.
    #[error("{0}")]
    Lost(String),
    /// The private and public parts of a key that was to be imported do not belong together.
    #[error("the parts of the key do not fit each other")]
    Mismatch,
    /// Another failure could lock the TPM, with all its cards and for other programs; nothing was compared.
    #[error("the TPM is near its lockout; {}", match seconds {
        Some(seconds) => format!("the next PIN can be tried in at most {seconds} s"),
        None => "an administrator has to reset its failures (`cardea tpm reset-lockout`)".into(),
    })]
    NearLockout {
        /// At most so long until a comparison is allowed; none if that does not come by itself.
        seconds: Option<u32>,
    },
    /// Nobody has approved this within the last minute.
    #[error("nobody has approved this, or it was too long ago")]
    NotApproved,
    /// The TPM has no room for another index.
    #[error("the TPM has no NV room for the card's counters: {0}")]
    NvFull(#[source] Box<TpmError>),
    /// A response that is not what the command calls for, or whose HMAC is invalid.
    #[error("{command}: {what}")]
    Protocol {
        /// Command.
        command: &'static str,
        /// What is wrong with the response.
        what: &'static str,
    },
    /// The TPM refused.
    #[error("{command}{}: {code}", handle.map(|handle| format!(" of 0x{handle:08X}")).unwrap_or_default())]
    Response {
        /// Command.
        command: &'static str,
        /// First handle of the command.
        handle: Option<u32>,
        /// Response code.
        code: ResponseCode,
    },
    /// A recovery key is the storage root key itself, with which anybody who has the TPM opens copies.
    #[error(
        "a recovery key is this TPM's own storage root key: whoever has the TPM could open the copy"
    )]
    RootAsTarget,
    /// The service is stopping.
    #[error("the TPM service has stopped")]
    Stopped,
    /// The TPM cannot be reached.
    #[error("{command}: the TPM does not answer")]
    Transport {
        /// Command, or what was done to reach it.
        command: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// An RSA key whose private part anybody can compute from the public one.
    #[error(
        "the RSA key follows the pattern of faulty firmware (CVE-2017-15361): its private part can be computed"
    )]
    WeakRsaKey,
    /// This TPM cannot prove what it was asked for.
    #[error("this TPM cannot give that evidence: {0}")]
    NoEvidence(String),
    /// This TPM cannot hold cards.
    #[error("this TPM cannot hold cards: {0}")]
    Unfit(String),
}

impl TpmError {
    /// The TPM's own code, if it answered with one.
    #[must_use]
    pub fn code(&self) -> Option<ResponseCode> {
        match self {
            Self::Response { code, .. } => Some(code.base()),
            _ => None,
        }
    }

    /// Whether the owner's authorisation is missing or wrong. The owner hierarchy is
    /// outside the lockout, so nothing counts such failures.
    #[must_use]
    pub fn refuses_owner(&self) -> bool {
        match self {
            Self::AuthMissing(Hierarchy::Owner) => true,
            Self::Response {
                handle: Some(OWNER),
                code,
                ..
            } => matches!(
                code.base(),
                ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL
            ),
            _ => false,
        }
    }

    /// Whether the connection can no longer be used: what the TPM did is not known, so its sessions'
    /// nonces are not either, and going on would look like wrong PINs. A code that no TPM gives is such a
    /// case, as an error response has no HMAC.
    #[must_use]
    pub fn breaks_connection(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Protocol { .. } => true,
            Self::Response { code, .. } => TpmRc::try_from(code.0).is_err(),
            Self::ChangeUnknown(cause) => cause.breaks_connection(),
            _ => false,
        }
    }

    /// Whether the TPM was reset under us: it waits for Startup, or no longer has our objects and
    /// sessions.
    pub(crate) fn tells_of_reset(&self) -> bool {
        match self {
            Self::ChangeUnknown(cause) => cause.tells_of_reset(),
            _ => self
                .code()
                .is_some_and(|code| code == ResponseCode::INITIALIZE || code.missing_reference()),
        }
    }
}

/// The one map from the TPM's answers to what the card's side acts on.
pub(crate) fn token_error(error: TpmError) -> TokenError {
    TokenError::new(token_error_kind(&error), error)
}

fn token_error_kind(error: &TpmError) -> TokenErrorKind {
    use ResponseCode as Rc;
    let code = match error {
        TpmError::Foreign | TpmError::Lost(_) => return TokenErrorKind::Lost,
        TpmError::AuthMissing(_) | TpmError::AuthNotSet(_) => return TokenErrorKind::Internal,
        TpmError::ChangeUnknown(_) => return TokenErrorKind::ChangeUnknown,
        TpmError::CountHidden => return TokenErrorKind::CountHidden,
        TpmError::CountReset => return TokenErrorKind::Unsafe,
        TpmError::Damaged(_) => return TokenErrorKind::Damaged,
        TpmError::FirstValueGone | TpmError::NotApproved => {
            return TokenErrorKind::NotAuthenticated;
        }
        TpmError::Mismatch | TpmError::RootAsTarget => return TokenErrorKind::BadData,
        TpmError::NearLockout { .. } => return TokenErrorKind::Lockout,
        TpmError::NvFull(_) => return TokenErrorKind::Full,
        TpmError::FailureMode | TpmError::Protocol { .. } => return TokenErrorKind::Internal,
        TpmError::Stopped | TpmError::Transport { .. } => return TokenErrorKind::Unavailable,
        TpmError::NoEvidence(_) | TpmError::Unfit(_) => return TokenErrorKind::Unsupported,
        TpmError::WeakRsaKey => return TokenErrorKind::WeakKey,
        // A cryptogram that the key makes nothing of; anything else that fails so is the TPM's own failure.
        TpmError::Response {
            command: "RSA_Decrypt",
            code: Rc::FAILURE,
            ..
        } => return TokenErrorKind::BadData,
        TpmError::Response { code, .. } => code.base(),
    };
    match code {
        Rc::ATTRIBUTES => TokenErrorKind::KeyUse,
        Rc::TICKET | Rc::EXPIRED | Rc::POLICY_FAIL | Rc::AUTH_FAIL => {
            TokenErrorKind::NotAuthenticated
        }
        Rc::SIZE | Rc::SCHEME | Rc::HASH | Rc::VALUE | Rc::ECC_POINT | Rc::CURVE => {
            TokenErrorKind::BadData
        }
        Rc::INTEGRITY | Rc::HANDLE | Rc::BINDING => TokenErrorKind::Lost,
        Rc::LOCKOUT => TokenErrorKind::Lockout,
        Rc::NV_SPACE => TokenErrorKind::Full,
        code if code.out_of_slots() || code.asks_for_retry() => TokenErrorKind::Busy,
        _ => TokenErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: u32) -> TokenErrorKind {
        kind_of("Sign", code)
    }

    fn kind_of(command: &'static str, code: u32) -> TokenErrorKind {
        token_error_kind(&TpmError::Response {
            command,
            handle: Some(0x8000_0000),
            code: ResponseCode(code),
        })
    }

    #[test]
    fn codes_map_as_the_card_edge_wants_them() {
        for (code, expected) in [
            (0x182, TokenErrorKind::KeyUse),
            (0x1D5, TokenErrorKind::BadData),
            (0x2D2, TokenErrorKind::BadData),
            (0x101, TokenErrorKind::Internal),
            (0x1DF, TokenErrorKind::Lost),
            (0x18B, TokenErrorKind::Lost),
            (0x5E0, TokenErrorKind::NotAuthenticated),
            (0x9A3, TokenErrorKind::NotAuthenticated),
            (0x99D, TokenErrorKind::NotAuthenticated),
            (0x14B, TokenErrorKind::Full),
            (0x902, TokenErrorKind::Busy),
            (0x922, TokenErrorKind::Busy),
            (0x921, TokenErrorKind::Lockout),
            (0x12F, TokenErrorKind::Internal),
            (0x143, TokenErrorKind::Internal),
        ] {
            assert_eq!(kind(code), expected, "0x{code:03X}");
        }
        assert_eq!(kind_of("RSA_Decrypt", 0x101), TokenErrorKind::BadData);
    }

    #[test]
    fn handle_that_is_wrong_as_a_sessions_tells_of_a_reset_and_not_of_a_lost_object() {
        let error = |code| TpmError::Response {
            command: "PolicySecret",
            handle: None,
            code: ResponseCode(code),
        };
        for session in [0x98B, 0xA8B, 0xF8B] {
            assert!(error(session).tells_of_reset(), "0x{session:03X}");
            assert_ne!(error(session).code(), Some(ResponseCode::HANDLE));
        }
        // Of the command's own handles, and of its parameters.
        for handle in [0x08B, 0x18B, 0x28B, 0x1CB, 0x9CB] {
            assert!(!error(handle).tells_of_reset(), "0x{handle:03X}");
            assert_eq!(error(handle).code(), Some(ResponseCode::HANDLE));
        }
    }

    #[test]
    fn every_code_has_a_kind_and_a_text() {
        for code in 0..=0xFFFF {
            let _ = kind(code);
            assert!(!ResponseCode(code).to_string().is_empty());
            assert!(ResponseCode(ResponseCode(code).base().0).base() == ResponseCode(code).base());
        }
    }

    #[test]
    fn message_names_command_handle_and_code() {
        let error = TpmError::Response {
            command: "PolicySecret",
            handle: Some(0x01C2_0000),
            code: ResponseCode(0x9A2),
        };
        let text = error.to_string();
        assert!(text.contains("PolicySecret of 0x01C20000"), "{text}");
        assert!(text.contains("0x9A2"), "{text}");
    }
}
