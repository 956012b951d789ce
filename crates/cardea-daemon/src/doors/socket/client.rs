//! One client from its greeting to its end.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use cardea_client::ServerEnd;
use cardea_client::frame::FrameError;
use cardea_client::message::{RedirectionRequest, Reply, Request};
use cardea_host::erase_stack;

use super::peer;
use crate::doors::redirect;
use cardea_host::Door;
use cardea_host::{Counter, Visitor};

/// A client that has connected must greet within this time.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Greets, answers each request in turn, and returns when the client has gone.
pub(crate) fn converse(
    counter: &Arc<Counter>,
    stream: Arc<UnixStream>,
    uid: u32,
) -> Result<(), FrameError> {
    let actor = peer::actor(&stream, uid);
    let own = Arc::clone(&stream);
    let mut client = ServerEnd::accept(stream, HANDSHAKE_TIME)?;
    let caller = counter.caller(uid);
    let mut visitor = Visitor::new(caller, actor, Door::Socket).with_stream(own);
    // Idle clients wait as long as they like.
    while let Some(request) = client.request(None)? {
        if let Request::Redirection(RedirectionRequest::Begin { .. }) = &request {
            // From here on it is the daemon that asks.
            return redirect::carry(counter, &mut client, &visitor, request);
        }
        let folder = client.folder();
        let sent = counter.then_idle_work(|| {
            let reply = counter.serve(&mut visitor, request, folder, &mut |step| {
                // A client that went away does not stop what it has ordered.
                let _ = client.reply(&Reply::Progress(step));
            });
            client.reply(&reply.unwrap_or_else(Reply::Failed))
        });
        // Also for a client that is gone.
        erase_stack();
        sent?;
    }
    Ok(())
}
