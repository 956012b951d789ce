//! Requests about the drive that a connection keeps attached.

use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::Reply;

/// What the connection that keeps a drive attached may ask.
#[derive(Debug, Encode, Decode)]
pub enum DriveRequest {
    /// Inserts the cards in a folder of a drive for as long as this connection lives: [`Reply::Drive`].
    /// With the open folder as a descriptor, which the daemon closes before it answers: one that stayed open
    /// would keep the drive from being unmounted.
    #[n(0)]
    Attach {
        /// Where the folder is, for people.
        #[n(0)]
        place: String,
    },
    /// Waits until the daemon needs the folder of `Attach` again, or the time is over: [`Reply::Hold`].
    /// With the open folder as a descriptor if the last answer has asked for it.
    #[n(1)]
    Hold {
        /// Longest wait in milliseconds; the daemon may answer earlier.
        #[n(0)]
        timeout_ms: u32,
    },
}

/// What becomes of an attached drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Hold {
    /// Nothing yet.
    #[n(0)]
    Wait,
    /// The daemon needs the open folder, with the next `Hold`.
    #[n(1)]
    Folder,
    /// The drive was detached; the connection no longer holds it.
    #[n(2)]
    Detached,
}
