//! Why a packet is not accepted or cannot be made.

use thiserror::Error;

use crate::bytes::Truncated;

/// Why a packet is not accepted or cannot be made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PduError {
    /// The security trailer does not fit into the packet, or is not aligned.
    #[error("the security trailer does not fit into the packet")]
    BadTrailer,
    /// Numbers are not little endian, or text is not ASCII.
    #[error("the packet is not in little-endian byte order with ASCII text")]
    ByteOrder,
    /// Fragments that are not of one call, or a packet in fragments that may not be.
    #[error("the fragment does not continue the call")]
    Fragments,
    /// Whole packet longer than a fragment may be, or than the bytes that were received.
    #[error("the length of the fragment is not acceptable")]
    FragmentLength,
    /// A peer takes only fragments shorter than every implementation must take.
    #[error("the peer's largest fragment is too short")]
    FragmentSize,
    /// The fragments of a call together are longer than accepted.
    #[error("the call has more data than accepted")]
    StubTooLong,
    /// More presentation contexts, transfer syntaxes or versions than accepted.
    #[error("the packet offers more alternatives than accepted")]
    TooMany,
    /// A field lies beyond the end.
    #[error("the packet ends too early")]
    Truncated,
    /// A packet type that is not spoken here.
    #[error("packets of type {0} are not spoken here")]
    Type(u8),
    /// The verification trailer of a request contradicts the request, or is damaged.
    #[error("the verification trailer does not match the call")]
    Verification,
    /// Another version of the protocol.
    #[error("version {major}.{minor} of the protocol is not spoken here")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
}

impl From<Truncated> for PduError {
    fn from(Truncated: Truncated) -> Self {
        Self::Truncated
    }
}
