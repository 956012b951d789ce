//! Why frames fail.

use std::io;

use rustix::io::Errno;

use crate::buffer::Overflow;
use crate::protocol::VERSION;

/// Why a frame did not come or go. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other end closed between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The frame is not exactly one message of this version.
    #[error("not a valid message of this protocol version")]
    Malformed(#[source] minicbor::decode::Error),
    /// The other end's [`Hello`](crate::message::Hello) is of another version, which it tells, or of something else.
    #[error("{}", stranger(*version))]
    Stranger {
        /// Version of the other end, if it is Cardea.
        version: Option<u32>,
    },
    /// Nothing came, or nothing was taken, within the time.
    #[error("the other end did not answer in time")]
    TimedOut,
    /// A frame above [`MAX_FRAME`](crate::message::MAX_FRAME); nothing after it can be understood.
    #[error("the message is too long")]
    TooLong,
    /// The other end closed in the middle of a frame.
    #[error("the connection was closed in the middle of a message")]
    Truncated,
}

fn stranger(version: Option<u32>) -> String {
    match version {
        Some(theirs) => format!(
            "the other end speaks version {theirs} of the protocol, and this program version {VERSION}: update both"
        ),
        None => format!("the other end does not speak Cardea's protocol, version {VERSION}"),
    }
}

impl From<Errno> for FrameError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::TimedOut,
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

impl From<Overflow> for FrameError {
    fn from(_: Overflow) -> Self {
        Self::TooLong
    }
}
