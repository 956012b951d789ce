//! The daemon at the other end: one request, its progress, one answer.

use std::path::Path;
use std::time::Duration;

use cardea_client::message::{CardDetails, Reply, Request};
use cardea_client::{Client, ClientError};

use crate::exit::{Exit, Failure};
use crate::progress::Progress;

/// Creation takes a minute and a half on slow TPMs, and may wait for another one.
const ANSWER_TIME: Duration = Duration::from_secs(600);

/// Connects at the first request, so that wrong arguments are told without a daemon.
#[derive(Debug)]
pub(crate) struct Connection(Client);

impl Connection {
    pub(crate) fn new(socket: &Path) -> Self {
        Self(Client::new(socket))
    }

    /// Sends the request and waits for its answer. `what` is the first step shown.
    pub(crate) fn call(&mut self, request: &Request, what: &str) -> Result<Reply, Failure> {
        let progress = Progress::start(what);
        let reply = self
            .0
            .call_with_progress(request, ANSWER_TIME, &mut |step| progress.step(step));
        drop(progress);
        match reply {
            Ok(Reply::Failed(failure)) => Err(Failure::new(failure.kind.into(), failure.message)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.away(&error)),
        }
    }

    fn away(&self, error: &ClientError) -> Failure {
        let hint = match error {
            ClientError::Unreachable { .. } => "; is cardea-daemon running?",
            ClientError::Disconnected(_) | ClientError::TimedOut => {
                "; it may have been done or not, `cardea card list` tells"
            }
            _ => "",
        };
        Failure::caused(Exit::Away, error, hint)
    }

    /// The card that a selector means.
    pub(crate) fn show(&mut self, card: &str) -> Result<CardDetails, Failure> {
        let request = Request::ShowCard {
            card: card.to_owned(),
        };
        match self.call(&request, "reading the card")? {
            Reply::Card(details) => Ok(*details),
            _ => Err(Self::unexpected()),
        }
    }

    /// An answer to something else.
    pub(crate) fn unexpected() -> Failure {
        Failure::new(Exit::Failed, "the daemon gave an answer to something else")
    }
}
