//! Cards of another machine, brought along by a connection of their user.

use std::time::Duration;

use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::{Reply, packed};

use super::{CardOverview, SecretBytes};

/// Longest name of a machine that cards are redirected from or to, in bytes.
pub const MAX_NAME: usize = 127;

/// Programs that use the cards of one redirection at the same time.
pub const MAX_PROGRAMS: usize = 24;

/// Cards of one redirection.
pub const MAX_REDIRECTED: usize = 16;

/// A redirection repeats its offer at this interval, also when nothing has changed.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// What a connection that redirects cards to this machine sends.
#[derive(Debug, Encode, Decode)]
pub enum RedirectionRequest {
    /// Makes the cards of another machine available here, for the caller: [`Reply::Redirected`]. From then on the
    /// daemon asks on this connection ([`Reply::Wanted`], [`Reply::Released`]), and the caller sends nothing but
    /// `Offer` and `Answered`.
    #[n(0)]
    Begin {
        /// Where the cards are, for people.
        #[n(0)]
        from: String,
        /// Whether they may be in the reader, which all users of this machine reach.
        #[n(1)]
        reader: bool,
    },
    /// All cards that are redirected now. Sent again every [`SIGN_OF_LIFE`].
    #[n(1)]
    Offer {
        /// As last known where they are.
        #[n(0)]
        cards: Vec<CardOverview>,
    },
    /// Answers a [`Reply::Wanted`].
    #[n(2)]
    Answered {
        /// The same number.
        #[n(0)]
        program: u32,
        /// A [`Reply`], as [`packed`] makes it.
        #[n(1)]
        reply: SecretBytes,
    },
}
