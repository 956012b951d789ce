//! Requests about the connection itself.

use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::{MAX_NAME, Reply};

use super::SecretBytes;

/// What a client may ask about its own connection.
#[derive(Debug, Encode, Decode)]
pub enum ConnectionRequest {
    /// This connection takes part in the logins of the one that got the ticket, instead of its own.
    #[n(0)]
    JoinLogins {
        /// As returned to `ShareLogins` on another connection of the same user.
        #[n(0)]
        ticket: SecretBytes,
    },
    /// Whom the further requests of this connection are for, in the words of its user: shown to whoever is asked,
    /// and in the audit.
    #[n(1)]
    OnBehalf {
        /// Printable, at most [`MAX_NAME`] bytes.
        #[n(0)]
        whom: String,
    },
    /// A ticket by which other connections of the same program share the logins of this one: [`Reply::Result`].
    #[n(2)]
    ShareLogins,
}
