//! What happened on a card, for the host's audit.

use crate::key_number::KeyNumber;

/// Something that an administrator may want to know of later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A correct response of the administrator.
    AdminAuthenticated,
    /// A wrong response of the administrator.
    AdminFailed,
    /// The card has another admin key.
    AdminKeyChanged,
    /// A key and what belongs to it was deleted.
    KeyDeleted(KeyNumber),
    /// A key was made in the token.
    KeyGenerated(KeyNumber),
    /// A key was brought from elsewhere.
    KeyImported(KeyNumber),
    /// The token was given an operation with a key, whether or not it succeeded.
    KeyUsed(KeyNumber),
    /// The card has left the initialisation state.
    Personalised,
    /// The last try was spent.
    PinBlocked,
    /// The PIN was changed with the old PIN.
    PinChanged,
    /// A wrong PIN.
    PinFailed {
        /// Tries left; none: the count is hidden.
        left: Option<u32>,
    },
    /// The PIN was set by the PUK or the administrator.
    PinUnblocked,
    /// The last try of the PUK was spent.
    PukBlocked,
    /// The PUK was changed with the old PUK.
    PukChanged,
    /// A wrong PUK.
    PukFailed {
        /// Tries left; none: the count is hidden.
        left: Option<u32>,
    },
    /// A key of a session was made in the token.
    SessionKeyGenerated,
    /// A key of a session was brought from elsewhere.
    SessionKeyImported,
    /// Like `KeyUsed`, with a key of a session.
    SessionKeyUsed,
}
