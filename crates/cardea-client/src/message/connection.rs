//! Requests about the connection itself.

use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::{MAX_NAME, Reply};

use super::SecretBytes;

/// Longest name of somebody who was authenticated on the network, in bytes.
pub const MAX_PRINCIPAL: usize = 512;

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
    /// Whom the further requests of this connection are for, as a service whose user administers cards has
    /// authenticated them on the network: in the audit, as that service's word.
    #[n(3)]
    OnBehalfOfCaller {
        /// Account or principal, at most [`MAX_PRINCIPAL`] bytes.
        #[n(0)]
        principal: String,
        /// IP address that they call from.
        #[n(1)]
        address: String,
    },
    /// A ticket by which other connections of the same program share the logins of this one: [`Reply::Result`].
    #[n(2)]
    ShareLogins,
}
