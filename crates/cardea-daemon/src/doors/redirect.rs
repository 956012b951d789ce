//! A connection that brings cards of another machine along: its offers and answers, until it ends.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use cardea_client::ServerEnd;
use cardea_client::frame::{FrameError, exactly};
use cardea_client::message::{FailureKind, RedirectionRequest, Reply, Request, SIGN_OF_LIFE};

use cardea_host::fail;
use cardea_host::{Counter, Visitor};

/// A redirection that says nothing for so long has ended.
const SILENCE: Duration = SIGN_OF_LIFE.saturating_mul(3);

/// A redirection from its request to the end of the connection.
pub(crate) fn carry(
    counter: &Counter,
    client: &mut ServerEnd<Arc<UnixStream>>,
    visitor: &Visitor,
    uid: u32,
    request: Request,
) -> Result<(), FrameError> {
    let redirection = match counter.redirect(visitor, client, request) {
        Ok(redirection) => redirection,
        Err(failure) => return client.reply(&Reply::Failed(failure)),
    };
    client.reply(&Reply::Redirected {
        reader: redirection.is_in_reader(),
    })?;
    while let Some(request) = client.request(Some(SILENCE))? {
        let done = match request {
            Request::Redirection(RedirectionRequest::Offer { cards }) => redirection.offer(&cards),
            Request::Redirection(RedirectionRequest::Answered { program, reply }) => {
                match exactly(reply.expose()) {
                    Ok(reply) => {
                        redirection.answered(program, reply);
                        Ok(())
                    }
                    Err(error) => Err(fail(FailureKind::Protocol, error.to_string())),
                }
            }
            _ => Err(fail(
                FailureKind::Protocol,
                "a redirection may only offer cards and send replies",
            )),
        };
        if let Err(failure) = done {
            tracing::info!(
                uid,
                from = redirection.from(),
                error = failure.message,
                "redirection refused"
            );
            return redirection.refuse(failure);
        }
    }
    Ok(())
}
