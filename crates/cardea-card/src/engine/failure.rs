//! Why a command was refused, and the one map from that to a status word.

use std::error::Error;

use cardea_iso7816::StatusWord;

use super::error::CardError;
use crate::token::{AdminError, PinError, StoreError, TokenError, TokenErrorKind};

/// Why a command was refused. Handlers return it; [`Failure::status`] is the only way to the wire.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The administrator was not accepted.
    #[error("administrator not accepted")]
    Admin(#[source] AdminError),
    /// The class byte belongs to no command of this card.
    #[error("class byte not supported")]
    Class,
    /// A command that cannot come in parts.
    #[error("command cannot be chained")]
    Chaining,
    /// A logical channel other than the basic one.
    #[error("logical channels are not supported")]
    Channel,
    /// Out of sequence, or a condition of use is not met.
    #[error("conditions of use are not met")]
    Conditions,
    /// The data field is malformed.
    #[error("malformed data field")]
    Data,
    /// The card contradicts itself: a bug, or a record that was changed behind its back.
    #[error("the card is damaged")]
    Damaged,
    /// An elementary file of this identifier exists.
    #[error("file exists")]
    FileExists,
    /// No such file or application.
    #[error("file or application not found")]
    FileNotFound,
    /// The instruction is unknown.
    #[error("instruction not supported")]
    Instruction,
    /// Wrong length of the data field.
    #[error("wrong length")]
    Length,
    /// Lc does not fit the length in the TLV structure.
    #[error("Lc does not fit the TLV structure")]
    LengthMismatch,
    /// No room for it.
    #[error("not enough memory")]
    Memory,
    /// The command needs a current elementary file, or another life cycle state.
    #[error("not allowed: no current elementary file, or the wrong life cycle state")]
    NotAllowed,
    /// No such data object, key or PIN reference.
    #[error("reference not found")]
    NotFound,
    /// Wrong P1 or P2.
    #[error("wrong P1 or P2")]
    Parameters,
    /// The PIN or PUK was not accepted.
    #[error("PIN not accepted")]
    Pin(#[source] PinError),
    /// Secure messaging, which no client uses.
    #[error("secure messaging is not supported")]
    SecureMessaging,
    /// Wrong length of the data field in SELECT, or Lc inconsistent with P1 and P2.
    #[error("Lc does not fit P1 and P2")]
    SelectLength,
    /// An access rule is not met.
    #[error("security status not satisfied")]
    SecurityStatus,
    /// The card file could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token failed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The card cannot do this.
    #[error("function not supported")]
    Unsupported,
    /// A data object command on a key file.
    #[error("wrong kind of file")]
    WrongFileKind,
}

impl From<PinError> for Failure {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Store(error) => Self::Store(error),
            PinError::Token(error) => Self::Token(error),
            error => Self::Pin(error),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Store(error) => Self::Store(error),
            AdminError::Token(error) => Self::Token(error),
            error => Self::Admin(error),
        }
    }
}

impl From<CardError> for Failure {
    fn from(error: CardError) -> Self {
        match error {
            CardError::Admin(error) => error.into(),
            CardError::Conflict(_) => Self::Conditions,
            CardError::Damaged(_) => Self::Damaged,
            CardError::Pin(error) => error.into(),
            CardError::PinForm { left, .. } => Self::Pin(PinError::Wrong { left }),
            CardError::Rule(_) => Self::Data,
            CardError::Store(error) => Self::Store(error),
            CardError::Token(error) => Self::Token(error),
        }
    }
}

impl Failure {
    /// The status word that the client sees (`GIDS` 2.0 and ISO 7816-4 §5.6).
    ///
    /// A TPM lockout is a temporary condition and never `69 83`: users would burn the PUK on it.
    #[must_use]
    pub fn status(&self) -> StatusWord {
        match self {
            Self::Admin(error) => admin_status(error),
            Self::Class => StatusWord::CLASS_NOT_SUPPORTED,
            Self::Chaining => StatusWord::CHAINING_NOT_SUPPORTED,
            Self::Channel => StatusWord::CHANNEL_NOT_SUPPORTED,
            Self::Conditions => StatusWord::CONDITIONS_NOT_SATISFIED,
            Self::Damaged => StatusWord::NO_DIAGNOSIS,
            Self::Data => StatusWord::WRONG_DATA,
            Self::FileExists => StatusWord::FILE_EXISTS,
            Self::FileNotFound => StatusWord::FILE_NOT_FOUND,
            Self::Instruction => StatusWord::INSTRUCTION_NOT_SUPPORTED,
            Self::Length => StatusWord::WRONG_LENGTH,
            Self::LengthMismatch => StatusWord::LC_TLV_MISMATCH,
            Self::Memory => StatusWord::NOT_ENOUGH_MEMORY,
            Self::NotAllowed => StatusWord::NO_CURRENT_EF,
            Self::NotFound => StatusWord::REFERENCE_NOT_FOUND,
            Self::Parameters => StatusWord::WRONG_P1_P2,
            Self::Pin(error) => pin_status(error),
            Self::SecureMessaging => StatusWord::SECURE_MESSAGING_NOT_SUPPORTED,
            Self::SelectLength => StatusWord::LC_P1_P2_MISMATCH,
            Self::SecurityStatus => StatusWord::SECURITY_STATUS_NOT_SATISFIED,
            Self::Store(_) => StatusWord::MEMORY_FAILURE,
            Self::Token(error) => token_status(error.kind()),
            Self::Unsupported => StatusWord::FUNCTION_NOT_SUPPORTED,
            Self::WrongFileKind => StatusWord::WRONG_FILE_KIND,
        }
    }

    /// Writes the cause to the log; the wire says no more than the status word.
    pub(crate) fn log(&self, instruction: u8) {
        let status = self.status().value();
        match self {
            Self::Store(error) => tracing::error!(
                error = error as &dyn Error,
                instruction,
                status,
                "the change was not saved"
            ),
            Self::Token(error) => tracing::warn!(
                error = error as &dyn Error,
                instruction,
                status,
                "the token refused"
            ),
            other => tracing::debug!(
                error = other as &dyn Error,
                instruction,
                status,
                "command refused"
            ),
        }
    }
}

/// An answer that comes too soon was not looked at; the client may try again later.
fn admin_status(error: &AdminError) -> StatusWord {
    match error {
        AdminError::Delayed { .. } => StatusWord::CONDITIONS_NOT_SATISFIED,
        AdminError::Store(_) => StatusWord::MEMORY_FAILURE,
        AdminError::Token(error) => token_status(error.kind()),
        AdminError::Wrong => StatusWord::SECURITY_STATUS_NOT_SATISFIED,
    }
}

fn pin_status(error: &PinError) -> StatusWord {
    match error {
        PinError::Blocked => StatusWord::AUTHENTICATION_BLOCKED,
        PinError::Store(_) => StatusWord::MEMORY_FAILURE,
        PinError::Token(error) => token_status(error.kind()),
        // ISO/IEC 7816-4 §5.6: no information given.
        PinError::Wrong { left: None } => StatusWord::VERIFICATION_FAILED,
        PinError::Wrong { left: Some(left) } => StatusWord::tries_left(*left),
    }
}

fn token_status(kind: TokenErrorKind) -> StatusWord {
    match kind {
        TokenErrorKind::BadData => StatusWord::WRONG_DATA,
        TokenErrorKind::Busy | TokenErrorKind::Unavailable => StatusWord::EXECUTION_ERROR_UNCHANGED,
        TokenErrorKind::Full => StatusWord::NOT_ENOUGH_MEMORY,
        TokenErrorKind::ChangeUnknown
        | TokenErrorKind::CountHidden
        | TokenErrorKind::Damaged
        | TokenErrorKind::Internal
        | TokenErrorKind::Lost
        | TokenErrorKind::Unsafe
        | TokenErrorKind::WeakKey => StatusWord::NO_DIAGNOSIS,
        TokenErrorKind::KeyUse | TokenErrorKind::Lockout => StatusWord::CONDITIONS_NOT_SATISFIED,
        TokenErrorKind::NotAuthenticated => StatusWord::SECURITY_STATUS_NOT_SATISFIED,
        TokenErrorKind::Gone | TokenErrorKind::NotConfigured => StatusWord::REFERENCE_NOT_FOUND,
        TokenErrorKind::Unsupported => StatusWord::FUNCTION_NOT_SUPPORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cardea_terms::{CharacterClass, PinRuleError};

    const KINDS: [TokenErrorKind; 17] = [
        TokenErrorKind::BadData,
        TokenErrorKind::Busy,
        TokenErrorKind::ChangeUnknown,
        TokenErrorKind::CountHidden,
        TokenErrorKind::Damaged,
        TokenErrorKind::Full,
        TokenErrorKind::Gone,
        TokenErrorKind::Internal,
        TokenErrorKind::KeyUse,
        TokenErrorKind::Lockout,
        TokenErrorKind::Lost,
        TokenErrorKind::NotAuthenticated,
        TokenErrorKind::NotConfigured,
        TokenErrorKind::Unavailable,
        TokenErrorKind::Unsafe,
        TokenErrorKind::Unsupported,
        TokenErrorKind::WeakKey,
    ];

    /// What each failure is to the client. The match fails to compile when a kind is added.
    fn expected(kind: TokenErrorKind) -> u16 {
        match kind {
            TokenErrorKind::BadData => 0x6A80,
            TokenErrorKind::Busy => 0x6400,
            TokenErrorKind::ChangeUnknown => 0x6F00,
            TokenErrorKind::CountHidden => 0x6F00,
            TokenErrorKind::Damaged => 0x6F00,
            TokenErrorKind::Full => 0x6A84,
            TokenErrorKind::Gone => 0x6A88,
            TokenErrorKind::Internal => 0x6F00,
            TokenErrorKind::KeyUse => 0x6985,
            TokenErrorKind::Lockout => 0x6985,
            TokenErrorKind::Lost => 0x6F00,
            TokenErrorKind::NotAuthenticated => 0x6982,
            TokenErrorKind::NotConfigured => 0x6A88,
            TokenErrorKind::Unavailable => 0x6400,
            TokenErrorKind::Unsafe => 0x6F00,
            TokenErrorKind::Unsupported => 0x6A81,
            TokenErrorKind::WeakKey => 0x6F00,
        }
    }

    #[test]
    fn every_token_error_has_its_status_word_by_every_way() {
        for kind in KINDS {
            let status = StatusWord::new(expected(kind));
            assert_eq!(Failure::Token(kind.into()).status(), status, "{kind:?}");
            assert_eq!(
                Failure::from(PinError::Token(kind.into())).status(),
                status,
                "{kind:?}"
            );
            assert_eq!(
                Failure::Pin(PinError::Token(kind.into())).status(),
                status,
                "{kind:?}"
            );
            assert_eq!(
                Failure::from(CardError::Token(kind.into())).status(),
                status,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_lockout_of_the_tpm_is_never_shown_as_a_blocked_pin() {
        let blocked = Failure::Pin(PinError::Blocked).status();
        for kind in KINDS {
            assert_ne!(Failure::Token(kind.into()).status(), blocked);
        }
    }

    #[test]
    fn pin_errors_tell_the_tries_that_are_left() {
        for (left, status) in [
            (0, 0x63C0),
            (1, 0x63C1),
            (14, 0x63CE),
            (15, 0x63CF),
            (16, 0x63CF),
            (u32::MAX, 0x63CF),
        ] {
            let left = Some(left);
            let failure = Failure::from(CardError::from(PinError::Wrong { left }));
            assert_eq!(failure.status(), StatusWord::new(status));
        }
        let hidden = Failure::from(CardError::from(PinError::Wrong { left: None }));
        assert_eq!(hidden.status(), StatusWord::new(0x6300));
        let blocked = Failure::from(CardError::from(PinError::Blocked));
        assert_eq!(blocked.status(), StatusWord::new(0x6983));
    }

    #[test]
    fn every_refusal_has_its_status_word() {
        let store = || StoreError("full".into());
        for (failure, status) in [
            (AdminError::Wrong.into(), 0x6982),
            (AdminError::Delayed { seconds: 1 }.into(), 0x6985),
            (AdminError::Store(store()).into(), 0x6581),
            (Failure::Class, 0x6E00),
            (Failure::Chaining, 0x6884),
            (Failure::Channel, 0x6881),
            (Failure::Conditions, 0x6985),
            (Failure::Damaged, 0x6F00),
            (Failure::Data, 0x6A80),
            (Failure::FileExists, 0x6A89),
            (Failure::FileNotFound, 0x6A82),
            (Failure::Instruction, 0x6D00),
            (Failure::Length, 0x6700),
            (Failure::LengthMismatch, 0x6A85),
            (Failure::Memory, 0x6A84),
            (Failure::NotAllowed, 0x6986),
            (Failure::NotFound, 0x6A88),
            (Failure::Parameters, 0x6A86),
            (Failure::SecureMessaging, 0x6882),
            (Failure::SecurityStatus, 0x6982),
            (Failure::SelectLength, 0x6A87),
            (Failure::Store(store()), 0x6581),
            (Failure::Unsupported, 0x6A81),
            (Failure::WrongFileKind, 0x6981),
            (CardError::Damaged(String::new()).into(), 0x6F00),
            (
                CardError::PinForm {
                    rule: PinRuleError::Missing(CharacterClass::Digits),
                    left: Some(3),
                }
                .into(),
                0x63C3,
            ),
            (CardError::Store(store()).into(), 0x6581),
            (
                CardError::Rule(PinRuleError::Disallowed(CharacterClass::Other)).into(),
                0x6A80,
            ),
        ] {
            assert_eq!(failure.status(), StatusWord::new(status), "{failure:?}");
        }
    }
}
