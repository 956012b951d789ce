//! The blocking client: one request at a time, bounded in time.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::frame::{FRAME_TIME, FrameError};
use crate::link::Link;
use crate::message::{
    CardOverview, CardSummary, CardsRequest, ConnectionRequest, Failure, Reply, Request, Step,
    Unsettled, collect,
};
use crate::transmit;

/// Connecting and greeting takes at most this.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The request went out and the connection ended: it may have been done or not.
    #[error("the daemon closed the connection before answering")]
    Disconnected(#[source] FrameError),
    /// The two ends do not understand each other.
    #[error("invalid reply from the daemon")]
    Protocol(#[source] FrameError),
    /// The daemon refused, where there is no [`Reply`] to say so.
    #[error("the daemon refused: {}", .0.message)]
    Refused(Failure),
    /// The request went out and no answer came in time: it may have been done or not.
    #[error("the daemon did not answer in time")]
    TimedOut,
    /// A list changed again and again while it was read.
    #[error(transparent)]
    Unsettled(#[from] Unsettled),
    /// The request was not sent, for it is longer than a frame.
    #[error("the request is too long")]
    TooLong,
    /// There is no connection; the request was not sent.
    #[error("no connection to the daemon at {}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ClientError {
    /// Whether the daemon is not running, or is out of this process's reach: then there are no cards. All else says
    /// nothing of them.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        use io::ErrorKind;
        let Self::Unreachable { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::NotADirectory
                | ErrorKind::NotFound
                | ErrorKind::PermissionDenied
        )
    }
}

/// A client of the daemon.
///
/// It keeps its connection from call to call and makes a new one when the daemon was restarted or this
/// process is a fork of the one that made it; the parent's connection is left alone.
/// A request is sent a second time only when the first cannot have been done: when it was not sent whole,
/// or only asks.
/// What was bound to a connection (the power of a card) does not come back with a new one.
pub struct Client {
    path: PathBuf,
    link: Option<Link>,
    connections: u64,
    /// What each connection begins with.
    introduction: Option<Request>,
}

impl Client {
    /// For the socket at `path`; connects at the first call.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            link: None,
            connections: 0,
            introduction: None,
        }
    }

    /// For what somebody asks whom this program has authenticated on the network: every connection begins by saying
    /// so, and nothing is asked on one where the daemon has not taken it.
    #[must_use]
    pub fn on_behalf_of_caller(mut self, principal: &str, address: IpAddr) -> Self {
        let request = ConnectionRequest::OnBehalfOfCaller {
            principal: principal.to_owned(),
            address: address.to_string(),
        };
        self.introduction = Some(Request::Connection(request));
        self
    }

    /// Connects and greets at once.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unreachable`], or [`ClientError::Protocol`] with a daemon of another version.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let mut client = Self::new(path);
        client.link(CONNECT_TIME)?;
        Ok(client)
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a request and waits for its answer; progress is passed over.
    /// An answer that has begun within `timeout` gets [`FRAME_TIME`] to arrive.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. A refusal by the daemon is [`Reply::Failed`], not an error.
    pub fn call(&mut self, request: &Request, timeout: Duration) -> Result<Reply, ClientError> {
        self.call_with_progress(request, timeout, &mut |_| {})
    }

    /// As [`Client::call`], telling each step of long work; `timeout` is for all of it.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn call_with_progress(
        &mut self,
        request: &Request,
        timeout: Duration,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Reply, ClientError> {
        self.exchange(request, None, timeout, progress)
    }

    /// As [`Client::call_with_progress`], with an open folder for the daemon to use.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn call_with_folder(
        &mut self,
        request: &Request,
        folder: BorrowedFd<'_>,
        timeout: Duration,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Reply, ClientError> {
        self.exchange(request, Some(folder), timeout, progress)
    }

    fn exchange(
        &mut self,
        request: &Request,
        folder: Option<BorrowedFd<'_>>,
        timeout: Duration,
        progress: &mut dyn FnMut(Step),
    ) -> Result<Reply, ClientError> {
        self.repeat(timeout, request.only_asks(), |link, timeout| {
            link.channel
                .send_with_descriptor(request, folder)
                .map_err(Lost::Unsent)?;
            let deadline = Instant::now() + timeout;
            let mut patience = timeout;
            loop {
                match link.channel.receive(Some(patience), FRAME_TIME) {
                    Ok(Reply::Progress(step)) => progress(step),
                    other => return other.map_err(Lost::Unanswered),
                }
                patience = deadline.saturating_duration_since(Instant::now());
                if patience.is_zero() {
                    return Err(Lost::Unanswered(FrameError::TimedOut));
                }
            }
        })
    }

    /// All cards that the caller may see.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; a daemon that refuses is [`ClientError::Refused`].
    pub fn cards(&mut self, timeout: Duration) -> Result<Vec<CardSummary>, ClientError> {
        let (_, cards) = collect(|from| {
            let request = Request::Cards(CardsRequest::List { from });
            match self.call(&request, timeout)? {
                Reply::Cards(page) => Ok(page),
                other => Err(not_a_page(other)),
            }
        })?;
        Ok(cards)
    }

    /// The generation and the states of the cards that the caller may use.
    ///
    /// # Errors
    ///
    /// Like [`Client::cards`].
    pub fn card_states(
        &mut self,
        timeout: Duration,
    ) -> Result<(u64, Vec<CardOverview>), ClientError> {
        collect(|from| {
            let request = Request::Cards(CardsRequest::States { from });
            match self.call(&request, timeout)? {
                Reply::Overview(page) => Ok(page),
                other => Err(not_a_page(other)),
            }
        })
    }

    /// Sends a command APDU to the card in a slot and passes its response to `take`:
    /// [`SlotRequest::Transmit`](crate::message::SlotRequest::Transmit) at the least cost, without copies of secrets on the way.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; a refusal by the daemon is [`ClientError::Refused`].
    pub fn transmit<T>(
        &mut self,
        slot: u8,
        apdu: &[u8],
        timeout: Duration,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, ClientError> {
        let mut take = Some(take);
        let answer = self.repeat(timeout, false, |link, timeout| {
            let channel = &mut link.channel;
            channel
                .send_with(FRAME_TIME, |buffer| transmit::encode(slot, apdu, buffer))
                .map_err(Lost::Unsent)?;
            channel
                .receive_frame(Some(timeout), FRAME_TIME)
                .map_err(Lost::Unanswered)?;
            let answer = transmit::decode(channel.content(), &mut take);
            channel.release();
            answer.map_err(Lost::Unanswered)
        })?;
        answer.map_err(ClientError::Refused)
    }

    /// Whether there is a connection, as far as known without asking.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_ours)
    }

    /// How many connections there were so far: what was bound to an earlier one is gone when this changes.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Ends the connection, and with it what the daemon has bound to it. The next call makes a new one.
    pub fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            link.close();
        }
    }

    /// One exchange, and a second one where [`Client`] allows it.
    fn repeat<T>(
        &mut self,
        timeout: Duration,
        asks: bool,
        mut exchange: impl FnMut(&mut Link, Duration) -> Result<T, Lost>,
    ) -> Result<T, ClientError> {
        let start = Instant::now();
        self.leave_to_parent();
        let mut fresh = self.link.is_none();
        let mut left = timeout;
        loop {
            let lost = match exchange(self.link(left)?, left) {
                Ok(answer) => return Ok(answer),
                Err(Lost::Unsent(FrameError::TooLong)) => return Err(ClientError::TooLong),
                Err(lost) => lost,
            };
            self.disconnect();
            left = timeout.saturating_sub(start.elapsed());
            if fresh || left.is_zero() || !lost.may_repeat(asks) {
                return Err(lost.into());
            }
            fresh = true;
        }
    }

    /// After `fork` the connection is the parent's.
    fn leave_to_parent(&mut self) {
        if self.link.as_ref().is_some_and(|link| !link.is_ours()) {
            self.disconnect();
        }
    }

    fn link(&mut self, timeout: Duration) -> Result<&mut Link, ClientError> {
        match &mut self.link {
            Some(link) => Ok(link),
            none => {
                let patience = timeout.min(CONNECT_TIME);
                let mut link = open(&self.path, patience)?;
                if let Some(introduction) = &self.introduction {
                    introduce(&mut link, introduction, &self.path, patience)?;
                }
                self.connections += 1;
                Ok(none.insert(link))
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// Says something before the first request, which is not sent where this fails.
fn introduce(
    link: &mut Link,
    introduction: &Request,
    path: &Path,
    patience: Duration,
) -> Result<(), ClientError> {
    let sent = link.channel.send_with_descriptor(introduction, None);
    match sent.and_then(|()| link.channel.receive(Some(patience), FRAME_TIME)) {
        Ok(Reply::Failed(failure)) => Err(ClientError::Refused(failure)),
        Ok(_) => Ok(()),
        Err(error) => Err(ClientError::Unreachable {
            path: path.to_owned(),
            source: io::Error::other(error),
        }),
    }
}

pub(crate) fn open(path: &Path, patience: Duration) -> Result<Link, ClientError> {
    let unreachable = |source| ClientError::Unreachable {
        path: path.to_owned(),
        source,
    };
    let mut link = Link::dial(path, Some(patience)).map_err(unreachable)?;
    match link.channel.greet(patience) {
        Ok(()) => Ok(link),
        Err(error @ FrameError::Stranger { .. }) => Err(ClientError::Protocol(error)),
        Err(FrameError::Io(error)) => Err(unreachable(error)),
        Err(error) => Err(unreachable(io::Error::other(error))),
    }
}

fn not_a_page(reply: Reply) -> ClientError {
    match reply {
        Reply::Failed(failure) => ClientError::Refused(failure),
        _ => {
            let error = minicbor::decode::Error::message("not the answer to this request");
            ClientError::Protocol(FrameError::Malformed(error))
        }
    }
}

/// How an exchange failed.
enum Lost {
    /// The other end has no whole request.
    Unsent(FrameError),
    /// The other end may have the request.
    Unanswered(FrameError),
}

impl Lost {
    fn may_repeat(&self, asks: bool) -> bool {
        match self {
            Self::Unsent(error) => matches!(error, FrameError::Closed | FrameError::Io(_)),
            Self::Unanswered(error) => {
                asks && matches!(
                    error,
                    FrameError::Closed | FrameError::Io(_) | FrameError::Truncated
                )
            }
        }
    }
}

impl From<Lost> for ClientError {
    fn from(lost: Lost) -> Self {
        let (Lost::Unsent(error) | Lost::Unanswered(error)) = lost;
        match error {
            FrameError::TimedOut => Self::TimedOut,
            FrameError::Malformed(_) | FrameError::Stranger { .. } | FrameError::TooLong => {
                Self::Protocol(error)
            }
            FrameError::Closed | FrameError::Io(_) | FrameError::Truncated => {
                Self::Disconnected(error)
            }
        }
    }
}
