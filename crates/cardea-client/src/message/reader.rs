//! Requests about the reader as a whole.

use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::Reply;

/// What a client may ask about the reader.
#[derive(Debug, Encode, Decode)]
pub enum ReaderRequest {
    /// Number of slots: [`Reply::Reader`].
    #[n(0)]
    Info,
    /// Which slots hold a card, and the generation of that answer: [`Reply::Slots`].
    #[n(1)]
    States,
    /// Like `States`, but waits until the generation differs from the given one, or the time is over.
    #[n(2)]
    WaitStates {
        /// Generation known to the caller; 0 is never current.
        #[n(0)]
        generation: u64,
        /// Longest wait in milliseconds; the daemon may answer earlier.
        #[n(1)]
        timeout_ms: u32,
    },
}
