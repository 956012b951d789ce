//! One client from its greeting to its end.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use cardea_client::ServerEnd;
use cardea_client::frame::FrameError;
use cardea_client::message::{
    CardsRequest, FailureKind, ReaderRequest, RedirectionRequest, Reply, Request,
};
use cardea_host::erase_stack;

use super::limits::Seat;
use super::peer;
use crate::doors::redirect;
use crate::process::panics::{INTERNAL_ERROR, caught};
use cardea_host::Door;
use cardea_host::fail;
use cardea_host::{Counter, Visitor};

/// A client that has connected must greet within this time.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Greets, answers each request in turn, and returns when the client has gone.
pub(crate) fn converse(
    counter: &Arc<Counter>,
    stream: Arc<UnixStream>,
    uid: u32,
    seat: &Seat,
) -> Result<(), FrameError> {
    let own = Arc::clone(&stream);
    let mut client = ServerEnd::accept(stream, HANDSHAKE_TIME)?;
    // Looked up while the client, which has its greeting, makes its first request.
    let actor = peer::actor(&own, uid);
    let caller = counter.caller(uid);
    let mut visitor = Visitor::new(caller, actor, Door::Socket).with_stream(own);
    // Idle clients wait as long as they like.
    while let Some(request) = client.request(None)? {
        // One that only waits can do so on another connection.
        if !waits(&request) && !seat.work() {
            break;
        }
        if let Request::Redirection(RedirectionRequest::Begin { .. }) = &request {
            // From here on it is the daemon that asks.
            let carried = caught(|| redirect::carry(counter, &mut client, &visitor, uid, request));
            return carried.unwrap_or_else(|| client.reply(&broken()));
        }
        let folder = client.folder();
        let served = caught(|| {
            counter.then_idle_work(|| {
                let reply = counter.serve(&mut visitor, request, folder, &mut |step| {
                    // A client that went away does not stop what it has ordered.
                    let _ = client.reply(&Reply::Progress(step));
                });
                client.reply(&reply.unwrap_or_else(Reply::Failed))
            })
        });
        // Also for a client that is gone.
        erase_stack();
        match served {
            Some(sent) => sent?,
            // Nobody knows what state the visitor is in. Everything else goes on.
            None => return client.reply(&broken()),
        }
        seat.rest(visitor.has_begun());
    }
    Ok(())
}

/// The answer to a request that panicked. What it was doing may have been done or not.
fn broken() -> Reply {
    Reply::Failed(fail(FailureKind::Failed, INTERNAL_ERROR))
}

/// Whether a request does nothing but wait for a change.
fn waits(request: &Request) -> bool {
    matches!(
        request,
        Request::Cards(CardsRequest::WaitStates { .. })
            | Request::Reader(ReaderRequest::WaitStates { .. })
    )
}
