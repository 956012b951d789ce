//! Why a card cannot be opened or used.

use crate::token::{AdminError, PinError, StoreError, TokenError, TokenErrorKind};
use cardea_terms::PinRuleError;

/// Why a card cannot be opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The record contradicts itself; the text names the part.
    #[error("the card's record is damaged: {0}")]
    Damaged(String),
    /// A wrong response of the administrator, or one that comes too soon after wrong ones.
    #[error(transparent)]
    Admin(AdminError),
    /// The card already has what was to be made, or not what it was to be made from.
    #[error("{0}")]
    Conflict(String),
    /// PIN or PUK wrong or blocked.
    #[error(transparent)]
    Pin(PinError),
    /// A PIN or PUK that the card cannot have. The TPM was not asked, and no try was spent.
    #[error("{rule}; it was not tried")]
    PinForm {
        /// The rule that it breaks.
        rule: PinRuleError,
        /// Tries left; none: the count is hidden.
        left: Option<u32>,
    },
    /// The new PIN is not one that the card's policy allows.
    #[error(transparent)]
    Rule(#[from] PinRuleError),
    /// The card file could not be written; nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token failed.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl CardError {
    /// Whether it is only that the count of wrong tries cannot be read here.
    #[must_use]
    pub fn is_hidden_count(&self) -> bool {
        matches!(self, Self::Token(error) if error.kind() == TokenErrorKind::CountHidden)
    }
}

impl From<PinError> for CardError {
    fn from(error: PinError) -> Self {
        match error {
            PinError::Store(error) => Self::Store(error),
            PinError::Token(error) => Self::Token(error),
            error => Self::Pin(error),
        }
    }
}

impl From<AdminError> for CardError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Store(error) => Self::Store(error),
            AdminError::Token(error) => Self::Token(error),
            error => Self::Admin(error),
        }
    }
}

impl From<TokenErrorKind> for CardError {
    fn from(kind: TokenErrorKind) -> Self {
        Self::Token(kind.into())
    }
}
