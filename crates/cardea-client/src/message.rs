//! Requests and replies, coded as CBOR (RFC 8949), one per frame.
//!
//! A frame is a length (4 bytes, big-endian, at most [`MAX_FRAME`]) and that many bytes of CBOR.
//! The first frame in each direction is [`Hello`]; a daemon of another version answers its own and closes.
//! Then every [`Request`] is answered by any number of [`Reply::Progress`] and one other reply.

mod card;
mod cards;
mod connection;
mod drive;
mod key;
mod object;
mod page;
mod reader;
mod redirection;
mod reply;
mod request;
mod slot;
mod tpm;

use std::fmt;

use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::buffer::Buffer;
use crate::error::FrameError;

pub use self::card::{
    AdminAnswer, Attestation, Authority, CardDetails, CardOverview, CardRequest, CardState,
    CardStatus, CardSummary, LockoutRoom, Part, Reference, Tries,
};
pub use self::cards::{AuditHead, CardsRequest, CreateCard, NewContent};
pub use self::connection::{ConnectionRequest, MAX_PRINCIPAL};
pub use self::drive::{DriveRequest, Hold};
pub use self::key::{
    KeySummary, NewKey, Operation, PrivateKey, RecoverySummary, SessionKeyMaterial,
};
pub use self::object::{Contents, NewObject, ObjectKind, ObjectSummary, Thing};
pub use self::page::{Cursor, Page, Unsettled, collect};
pub use self::reader::ReaderRequest;
pub use self::redirection::{
    MAX_NAME, MAX_PROGRAMS, MAX_REDIRECTED, RedirectionRequest, SIGN_OF_LIFE,
};
pub use self::reply::{Failure, FailureKind, Reply};
pub use self::request::{CardName, Request};
pub use self::slot::{PowerAction, SlotRequest};
pub use self::tpm::{
    CardsTaken, CounterCheck, EndorsementKey, Hierarchy, IndexSummary, TpmRequest, TpmStatus,
};
pub use crate::protocol::{MAGIC, MARK, MAX_FRAME, VERSION};
pub use cardea_terms::{
    CounterMode, Hash, IndexRole, KeyAlgorithm, KeyClass, Origin, PublicKey, Step, Visibility,
};
pub use minicbor::bytes::ByteVec;

/// A message within a message: not decoded with it, so that messages do not nest.
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
