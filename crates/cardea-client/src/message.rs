//! Requests and replies, coded as CBOR (RFC 8949), one per frame.
//!
//! A frame is a length (4 bytes, big-endian, at most [`MAX_FRAME`]) and that many bytes of CBOR.
//! The first frame in each direction is [`Hello`]; a daemon of another version answers its own and closes.
//! Then every [`Request`] is answered by any number of [`Reply::Progress`] and one other reply.

mod description;
mod order;
mod reply;
mod request;

use std::fmt;
use std::time::Duration;

use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::buffer::Buffer;
use crate::error::FrameError;

pub use self::description::{
    AuditHead, CardDetails, CardOverview, CardState, CardStatus, CardSummary, Contents,
    CounterCheck, Hold, IndexSummary, KeySummary, ObjectSummary, Part, PublicKey, TpmStatus, Tries,
};
pub use self::order::{
    AdminAnswer, Authority, CreateCard, Hash, Hierarchy, NewContent, NewKey, NewObject, ObjectKind,
    Operation, PowerAction, PrivateKey, Reference, Thing, Visibility,
};
pub use self::reply::{Failure, FailureKind, Reply};
pub use self::request::Request;
pub use crate::protocol::{MAGIC, MARK, MAX_FRAME, VERSION};

/// Longest name of a machine that cards are redirected from or to, in bytes.
pub const MAX_NAME: usize = 127;

/// Programs that use the cards of one redirection at once.
pub const MAX_PROGRAMS: usize = 24;

/// Cards of one redirection.
pub const MAX_REDIRECTED: usize = 16;

/// A redirection tells its cards in this interval, also when nothing has changed.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// A message within a message: not decoded with it, so that nothing nests.
///
/// # Errors
///
/// One that is longer than a frame.
pub fn packed<T: Encode<()>>(message: &T) -> Result<SecretBytes, FrameError> {
    // Grows without leaving copies behind.
    let mut buffer = Buffer::default();
    minicbor::encode(message, &mut buffer).map_err(|_| FrameError::TooLong)?;
    Ok(SecretBytes::new(buffer.filled().to_vec()))
}

/// Greeting, sent once by each end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Always [`MAGIC`].
    #[n(0)]
    pub magic: String,
    /// [`VERSION`] of the sender.
    #[n(1)]
    pub version: u32,
}

/// Secret bytes in a message: erased on drop, never printed.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(transparent)]
pub struct SecretBytes(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes. Callers do not keep copies.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}
