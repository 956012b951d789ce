//! The module's connections to the daemon.
//!
//! The primary connection holds the logins. A program with several threads also gets a secondary one, which joins
//! these logins by a ticket: while one operation is in the TPM, the next is on its way. More connections would only
//! give the machine's scheduler more work. Threads that wait for a connection get one in the order in which they came.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{
    ConnectionRequest, Failure, FailureKind, Reply, Request, SecretBytes,
};

use crate::rv::PoolError;

/// Time limit of a request that generates no key.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Time limit of a question that can do without an answer.
pub(crate) const SHORT_LIMIT: Duration = Duration::from_secs(1);
/// Time limit of a request that generates a key.
pub(crate) const LONG_LIMIT: Duration = Duration::from_secs(180);
/// Time limit of a request that waits for a person, who gets two minutes for each of three tries.
pub(crate) const PERSON_LIMIT: Duration = Duration::from_secs(400);

/// Connections in addition to the primary one.
const MAX_SECONDARY: usize = 1;

/// Connections of one initialised module.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Absent while in use.
    primary: Option<Client>,
    /// Which of the client's connections the primary one was when it was last returned; 0 if it was closed. After a
    /// reconnection its logins are gone.
    primary_connection: u64,
    idle: Vec<Secondary>,
    /// Secondary connections, idle or in use.
    secondary: usize,
    waiting: VecDeque<(Need, Arc<Waiter>)>,
    /// Joins the logins of the primary connection.
    ticket: Option<SecretBytes>,
    /// How many times logins were lost.
    losses: u64,
}

#[derive(Debug)]
struct Secondary {
    client: Client,
    /// The count of losses when it joined the logins, and which of the client's connections joined.
    joined: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Any,
    Primary,
}

/// A thread that waits for a connection.
#[derive(Debug, Default)]
struct Waiter {
    given: Mutex<Option<Taken>>,
    notice: Condvar,
}

#[derive(Debug)]
enum Taken {
    Primary(Client),
    Secondary(Secondary),
}

impl Pool {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            state: Mutex::new(State {
                primary: Some(Client::new(&path)),
                primary_connection: 0,
                idle: Vec::new(),
                secondary: 0,
                waiting: VecDeque::new(),
                ticket: None,
                losses: 0,
            }),
            path,
        }
    }

    /// A new connection outside the pool.
    pub(crate) fn separate(&self) -> Client {
        Client::new(&self.path)
    }

    /// Sends a request on a new connection that joins the logins of the primary one.
    pub(crate) fn ask_separately(
        &self,
        request: &Request,
        limit: Duration,
        longest: Duration,
    ) -> Result<Reply, PoolError> {
        self.share(limit)?;
        let Some(ticket) = self.lock().ticket.clone() else {
            return Err(PoolError::Busy);
        };
        let mut client = self.separate();
        match client.call(
            &Request::Connection(ConnectionRequest::JoinLogins { ticket }),
            limit,
        ) {
            Ok(Reply::Done) => client
                .call(request, longest)
                .map_err(|error| PoolError::from(&error)),
            _ => Err(PoolError::LoginsLost),
        }
    }

    /// How many times logins were lost. A login that is older than the last loss is no longer valid.
    pub(crate) fn losses(&self) -> u64 {
        self.lock().losses
    }

    /// Sends a request that requires no login.
    pub(crate) fn ask(&self, request: &Request, limit: Duration) -> Result<Reply, PoolError> {
        let mut lease = self.take(Need::Any, limit)?;
        lease.call(request, limit)
    }

    /// Sends a request that changes the logins, on the connection that has them.
    pub(crate) fn ask_primary(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<Reply, PoolError> {
        let mut lease = self.take(Need::Primary, limit)?;
        lease.call(request, limit)
    }

    /// Sends a request that requires a login.
    pub(crate) fn ask_verified(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<Reply, PoolError> {
        // Without a ticket only the primary connection has the logins.
        let shared = self.lock().ticket.is_some();
        let need = if shared { Need::Any } else { Need::Primary };
        let mut lease = self.take(need, limit)?;
        lease.join(LIMIT)?;
        let reply = lease.call(request, limit)?;
        if !is_refusal(&reply, FailureKind::NotLoggedIn) || !lease.has_reconnected() {
            return Ok(reply);
        }
        // Nothing was done: a new connection has no logins before it joins them.
        if lease.is_primary() {
            return Err(PoolError::LoginsLost);
        }
        lease.join(LIMIT)?;
        lease.call(request, limit)
    }

    /// Asks about a login, and never on the connection that has the logins: an answer that does not come in time ends
    /// the connection. `Busy` if there is no other one.
    pub(crate) fn ask_beside(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<Reply, PoolError> {
        let mut state = self.lock();
        let losses = state.losses;
        if state.ticket.is_none() {
            return Err(PoolError::Busy);
        }
        let secondary = state.give_secondary(&self.path).ok_or(PoolError::Busy)?;
        drop(state);
        let mut lease = Lease::new(self, Taken::Secondary(secondary), losses);
        lease.join(limit)?;
        let reply = lease.call(request, limit)?;
        if !lease.has_reconnected() {
            return Ok(reply);
        }
        lease.join(limit)?;
        lease.call(request, limit)
    }

    /// Lets other connections join the logins of the primary one from now on.
    pub(crate) fn share(&self, limit: Duration) -> Result<(), PoolError> {
        if self.lock().ticket.is_some() {
            return Ok(());
        }
        if let Reply::Result(ticket) =
            self.ask_primary(&Request::Connection(ConnectionRequest::ShareLogins), limit)?
        {
            self.lock().ticket = Some(ticket);
        }
        Ok(())
    }

    fn take(&self, need: Need, limit: Duration) -> Result<Lease<'_>, PoolError> {
        let mut state = self.lock();
        let losses = state.losses;
        if let Some(taken) = state.give(need, &self.path) {
            return Ok(Lease::new(self, taken, losses));
        }
        let waiter = Arc::new(Waiter::default());
        state.waiting.push_back((need, Arc::clone(&waiter)));
        drop(state);
        let deadline = Instant::now() + limit;
        let mut given = waiter.given.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(taken) = given.take() {
                return Ok(Lease::new(self, taken, self.losses()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            given = waiter
                .notice
                .wait_timeout(given, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(given);
        let mut state = self.lock();
        state
            .waiting
            .retain(|(_, other)| !Arc::ptr_eq(other, &waiter));
        drop(state);
        // A connection may have been given at the last moment.
        let given = waiter
            .given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match given {
            Some(taken) => Ok(Lease::new(self, taken, self.losses())),
            None => Err(PoolError::Busy),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A free connection. No thread is waiting for it: it would have been given to that thread.
    fn give(&mut self, need: Need, path: &Path) -> Option<Taken> {
        if let Some(primary) = self.primary.take() {
            return Some(Taken::Primary(primary));
        }
        match need {
            Need::Any => self.give_secondary(path).map(Taken::Secondary),
            Need::Primary => None,
        }
    }

    fn give_secondary(&mut self, path: &Path) -> Option<Secondary> {
        if let Some(secondary) = self.idle.pop() {
            return Some(secondary);
        }
        if self.secondary >= MAX_SECONDARY {
            return None;
        }
        self.secondary += 1;
        Some(Secondary {
            client: Client::new(path),
            joined: None,
        })
    }

    /// Returns a connection: to the first waiting thread that can use it, or to the free ones.
    fn give_back(&mut self, taken: Taken) {
        let fits = |need: Need| matches!(taken, Taken::Primary(_)) || need == Need::Any;
        let first = self.waiting.iter().position(|(need, _)| fits(*need));
        if let Some((_, waiter)) = first.and_then(|first| self.waiting.remove(first)) {
            *waiter.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
            waiter.notice.notify_one();
            return;
        }
        match taken {
            Taken::Primary(client) => self.primary = Some(client),
            Taken::Secondary(secondary) => self.idle.push(secondary),
        }
    }

    fn lose_logins(&mut self) {
        self.losses += 1;
        self.ticket = None;
    }
}

/// A connection in use; returned when dropped.
struct Lease<'a> {
    pool: &'a Pool,
    taken: Option<Taken>,
    /// The count of losses when it was taken.
    losses: u64,
    /// Which of the client's connections it was when it was taken.
    connection: u64,
}

impl<'a> Lease<'a> {
    fn new(pool: &'a Pool, taken: Taken, losses: u64) -> Self {
        let connection = match &taken {
            Taken::Primary(client) => client.connections(),
            Taken::Secondary(secondary) => secondary.client.connections(),
        };
        Self {
            pool,
            taken: Some(taken),
            losses,
            connection,
        }
    }

    fn client(&mut self) -> Option<&mut Client> {
        match self.taken.as_mut()? {
            Taken::Primary(client) => Some(client),
            Taken::Secondary(secondary) => Some(&mut secondary.client),
        }
    }

    fn call(&mut self, request: &Request, limit: Duration) -> Result<Reply, PoolError> {
        let client = self.client().ok_or(PoolError::Busy)?;
        client
            .call_with_progress(request, limit, &mut |_| {})
            .map_err(|error| PoolError::from(&error))
    }

    /// Whether the client has reconnected since it was taken.
    fn has_reconnected(&mut self) -> bool {
        let before = self.connection;
        before != 0
            && self
                .client()
                .is_some_and(|client| client.connections() != before)
    }

    fn is_primary(&self) -> bool {
        matches!(self.taken, Some(Taken::Primary(_)))
    }

    /// Makes a secondary connection join the logins of the primary one.
    fn join(&mut self, limit: Duration) -> Result<(), PoolError> {
        let Some(Taken::Secondary(secondary)) = &self.taken else {
            return Ok(());
        };
        let joined = (self.losses, secondary.client.connections());
        if secondary.joined == Some(joined) && secondary.client.is_connected() {
            return Ok(());
        }
        let Some(ticket) = self.pool.lock().ticket.clone() else {
            return Ok(());
        };
        let reply = self.call(
            &Request::Connection(ConnectionRequest::JoinLogins { ticket }),
            limit,
        )?;
        match reply {
            Reply::Done => {
                if let Some(Taken::Secondary(secondary)) = &mut self.taken {
                    self.connection = secondary.client.connections();
                    secondary.joined = Some((self.losses, self.connection));
                }
                Ok(())
            }
            Reply::Failed(Failure {
                kind: FailureKind::NotFound,
                ..
            }) => {
                self.lose_logins();
                Err(PoolError::LoginsLost)
            }
            // Too many connections, or a daemon of another version: without the logins the request must not be sent.
            _ => Err(PoolError::Busy),
        }
    }

    /// The daemon has forgotten the logins. Counted once, however many threads notice it.
    fn lose_logins(&mut self) {
        let mut state = self.pool.lock();
        if state.losses == self.losses {
            state.lose_logins();
        }
        drop(state);
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        let mut state = self.pool.lock();
        if let Taken::Primary(client) = &taken {
            let connection = client.connections();
            let gone = connection != state.primary_connection || !client.is_connected();
            if gone && state.primary_connection != 0 {
                state.lose_logins();
            }
            state.primary_connection = if client.is_connected() { connection } else { 0 };
        }
        state.give_back(taken);
    }
}

fn is_refusal(reply: &Reply, kind: FailureKind) -> bool {
    matches!(reply, Reply::Failed(failure) if failure.kind == kind)
}
