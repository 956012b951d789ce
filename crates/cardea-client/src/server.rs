//! The daemon's end of a connection.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::frame::{Channel, FRAME_TIME, FrameError};
use crate::message::{CardRequest, Failure, FailureKind, Reply, Request, SlotRequest};

/// A connection whose client has greeted: requests in, replies out.
///
/// `S` is the accepted socket in blocking mode: an `OwnedFd`, a `UnixStream` or an `Arc` of one.
#[derive(Debug)]
pub struct ServerEnd<S> {
    channel: Channel<S>,
}

impl<S: AsFd> ServerEnd<S> {
    /// Exchanges [`Hello`](crate::message::Hello); the client must have greeted within `patience`.
    /// A client of another version is greeted too, so that it can tell its user why.
    ///
    /// # Errors
    ///
    /// [`FrameError::Stranger`] for another version or something else than Cardea, or what the socket says.
    pub fn accept(socket: S, patience: Duration) -> Result<Self, FrameError> {
        let mut channel = Channel::new(socket);
        channel.greet_back(patience)?;
        channel.take_descriptors();
        Ok(Self { channel })
    }

    /// The next request; `None` when the client closed between two requests.
    /// It must begin within `patience` (`None`: no limit) and then be there within [`FRAME_TIME`].
    ///
    /// # Errors
    ///
    /// The connection is of no use after an error; a client that sent an invalid request has been sent a failure.
    pub fn request(&mut self, patience: Option<Duration>) -> Result<Option<Request>, FrameError> {
        let error = match self.channel.receive(patience, FRAME_TIME) {
            Ok(request) => {
                // The next one follows soon.
                let soon = is_followed_soon(&request);
                self.channel.stay_awake(soon);
                return Ok(Some(request));
            }
            Err(FrameError::Closed) => return Ok(None),
            Err(error) => error,
        };
        if matches!(error, FrameError::Malformed(_) | FrameError::TooLong) {
            // The cause matters more than that the client may be gone already.
            let _ = self.reply(&refusal(FailureKind::Protocol, &error));
        }
        Err(error)
    }

    /// The open folder that came with the last request.
    pub fn folder(&mut self) -> Option<OwnedFd> {
        self.channel.descriptor()
    }

    /// Answers the request, or tells of its progress.
    /// An answer longer than a frame becomes [`Reply::Failed`].
    ///
    /// # Errors
    ///
    /// The client is gone or does not take the answer within [`FRAME_TIME`].
    pub fn reply(&mut self, reply: &Reply) -> Result<(), FrameError> {
        match self.channel.send(reply) {
            Err(error @ FrameError::TooLong) => {
                self.channel.send(&refusal(FailureKind::Failed, &error))
            }
            other => other,
        }
    }

    /// Another end of the same connection, for a thread that sends while this one receives. What comes in is
    /// this one's.
    #[must_use]
    pub fn sender(&self) -> Self
    where
        S: Clone,
    {
        Self {
            channel: Channel::new(self.channel.socket().clone()),
        }
    }

    /// The socket, for asking who is at the other end.
    pub fn socket(&self) -> &S {
        self.channel.socket()
    }
}

/// Whether requests of this kind come in close succession.
fn is_followed_soon(request: &Request) -> bool {
    matches!(
        request,
        Request::Card {
            request: CardRequest::UseKey { .. } | CardRequest::UseSessionKey { .. },
            ..
        } | Request::Slot {
            request: SlotRequest::Transmit { .. },
            ..
        }
    )
}

fn refusal(kind: FailureKind, error: &FrameError) -> Reply {
    Reply::Failed(Failure {
        kind,
        message: error.to_string(),
        tries_left: None,
    })
}
