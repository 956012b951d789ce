//! The module's connections to the daemon.
//!
//! One connection is home: the logins are its own. Programs with several threads get another one beside it, which
//! joins its logins by a ticket: one operation is in the TPM, the next on its way. More would only make the
//! machine's scheduler work. Who waits for a connection gets one in turn.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cardea_client::Client;
use cardea_client::message::{Failure, FailureKind, Reply, Request, SecretBytes};

/// Connections beside the home.
const MOST_WORKERS: usize = 1;

/// Connections of one initialised module.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Absent while in use.
    home: Option<Client>,
    /// Connections that the home had when it was last given back: with another one, its logins are gone.
    homes: u64,
    idle: Vec<Worker>,
    workers: usize,
    waiting: VecDeque<(Need, Arc<Place>)>,
    /// Joins the home's logins.
    ticket: Option<SecretBytes>,
    /// Counts the times that logins were lost.
    losses: u64,
}

#[derive(Debug)]
struct Worker {
    client: Client,
    /// Losses when it joined, and the connection on which it did.
    joined: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Any,
    Home,
}

/// Where somebody who waits is given a connection.
#[derive(Debug, Default)]
struct Place {
    given: Mutex<Option<Taken>>,
    there: Condvar,
}

#[derive(Debug)]
enum Taken {
    Home(Client),
    Worker(Worker),
}

/// Why there is no reply to act on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The daemon is not there, or did not answer.
    Away,
    /// The logins are gone with the daemon that knew them.
    Lost,
    /// Every connection was busy for the whole time.
    Busy,
}

impl Pool {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            state: Mutex::new(State {
                home: Some(Client::new(&path)),
                homes: 0,
                idle: Vec::new(),
                workers: 0,
                waiting: VecDeque::new(),
                ticket: None,
                losses: 0,
            }),
            path,
        }
    }

    /// A connection of its own, for what must not share.
    pub(crate) fn separate(&self) -> Client {
        Client::new(&self.path)
    }

    /// Asks on a connection of its own that shares the logins of the home.
    pub(crate) fn ask_apart(
        &self,
        request: &Request,
        limit: Duration,
        longest: Duration,
    ) -> Result<Reply, Trouble> {
        self.share(limit)?;
        let Some(ticket) = self.lock().ticket.clone() else {
            return Err(Trouble::Busy);
        };
        let mut client = self.separate();
        match client.call(&Request::JoinLogins { ticket }, limit) {
            Ok(Reply::Done) => client.call(request, longest).map_err(|_| Trouble::Away),
            _ => Err(Trouble::Lost),
        }
    }

    /// How often logins were lost: what was verified before the last time is no longer.
    pub(crate) fn losses(&self) -> u64 {
        self.lock().losses
    }

    /// Asks what needs no login.
    pub(crate) fn ask(&self, request: &Request, limit: Duration) -> Result<Reply, Trouble> {
        let mut lease = self.take(Need::Any, limit)?;
        lease.call(request, limit)
    }

    /// Asks what changes the logins, on the connection that has them.
    pub(crate) fn ask_home(&self, request: &Request, limit: Duration) -> Result<Reply, Trouble> {
        let mut lease = self.take(Need::Home, limit)?;
        lease.call(request, limit)
    }

    /// Asks what needs a login.
    pub(crate) fn ask_verified(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<Reply, Trouble> {
        // Without a ticket only the home has the logins.
        let shared = self.lock().ticket.is_some();
        let need = if shared { Need::Any } else { Need::Home };
        let mut lease = self.take(need, limit)?;
        lease.join()?;
        let reply = lease.call(request, limit)?;
        if !is_refusal(&reply, FailureKind::NotLoggedIn) || !lease.has_moved() {
            return Ok(reply);
        }
        // Nothing was done: a new connection has no logins until it joins them.
        if lease.is_home() {
            return Err(Trouble::Lost);
        }
        lease.join()?;
        lease.call(request, limit)
    }

    /// The home's logins are to be shared from now on.
    pub(crate) fn share(&self, limit: Duration) -> Result<(), Trouble> {
        if self.lock().ticket.is_some() {
            return Ok(());
        }
        if let Reply::Result(ticket) = self.ask_home(&Request::ShareLogins, limit)? {
            self.lock().ticket = Some(ticket);
        }
        Ok(())
    }

    fn take(&self, need: Need, limit: Duration) -> Result<Lease<'_>, Trouble> {
        let mut state = self.lock();
        let losses = state.losses;
        if let Some(taken) = state.give(need, &self.path) {
            return Ok(Lease::new(self, taken, losses));
        }
        let place = Arc::new(Place::default());
        state.waiting.push_back((need, Arc::clone(&place)));
        drop(state);
        let deadline = Instant::now() + limit;
        let mut given = place.given.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(taken) = given.take() {
                return Ok(Lease::new(self, taken, self.losses()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            given = place
                .there
                .wait_timeout(given, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(given);
        let mut state = self.lock();
        state
            .waiting
            .retain(|(_, other)| !Arc::ptr_eq(other, &place));
        drop(state);
        // It may have come in the last moment.
        let given = place
            .given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match given {
            Some(taken) => Ok(Lease::new(self, taken, self.losses())),
            None => Err(Trouble::Busy),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A free connection. Whatever is free, nobody waits for: it would have been given to them.
    fn give(&mut self, need: Need, path: &Path) -> Option<Taken> {
        if let Some(home) = self.home.take() {
            return Some(Taken::Home(home));
        }
        if need == Need::Home {
            return None;
        }
        if let Some(worker) = self.idle.pop() {
            return Some(Taken::Worker(worker));
        }
        if self.workers >= MOST_WORKERS {
            return None;
        }
        self.workers += 1;
        Some(Taken::Worker(Worker {
            client: Client::new(path),
            joined: None,
        }))
    }

    /// Gives back, to the first who can use it.
    fn back(&mut self, taken: Taken) {
        let fits = |need: Need| matches!(taken, Taken::Home(_)) || need == Need::Any;
        let first = self.waiting.iter().position(|(need, _)| fits(*need));
        if let Some((_, place)) = first.and_then(|first| self.waiting.remove(first)) {
            *place.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
            place.there.notify_one();
            return;
        }
        match taken {
            Taken::Home(home) => self.home = Some(home),
            Taken::Worker(worker) => self.idle.push(worker),
        }
    }

    fn lose(&mut self) {
        self.losses += 1;
        self.ticket = None;
    }
}

/// A connection in use; goes back when dropped.
struct Lease<'a> {
    pool: &'a Pool,
    taken: Option<Taken>,
    /// As they were when it was taken.
    losses: u64,
    connections: u64,
}

impl<'a> Lease<'a> {
    fn new(pool: &'a Pool, taken: Taken, losses: u64) -> Self {
        let connections = match &taken {
            Taken::Home(client) => client.connections(),
            Taken::Worker(worker) => worker.client.connections(),
        };
        Self {
            pool,
            taken: Some(taken),
            losses,
            connections,
        }
    }

    fn client(&mut self) -> Option<&mut Client> {
        match self.taken.as_mut()? {
            Taken::Home(client) => Some(client),
            Taken::Worker(worker) => Some(&mut worker.client),
        }
    }

    fn call(&mut self, request: &Request, limit: Duration) -> Result<Reply, Trouble> {
        let client = self.client().ok_or(Trouble::Busy)?;
        client
            .call_with_progress(request, limit, &mut |_| {})
            .map_err(|_| Trouble::Away)
    }

    /// Whether the connection is another one than when it was taken.
    fn has_moved(&mut self) -> bool {
        let before = self.connections;
        before != 0
            && self
                .client()
                .is_some_and(|client| client.connections() != before)
    }

    fn is_home(&self) -> bool {
        matches!(self.taken, Some(Taken::Home(_)))
    }

    /// Makes a worker share the home's logins.
    fn join(&mut self) -> Result<(), Trouble> {
        let Some(Taken::Worker(worker)) = &self.taken else {
            return Ok(());
        };
        let joined = (self.losses, worker.client.connections());
        if worker.joined == Some(joined) && worker.client.is_connected() {
            return Ok(());
        }
        let Some(ticket) = self.pool.lock().ticket.clone() else {
            return Ok(());
        };
        let reply = self.call(&Request::JoinLogins { ticket }, crate::module::LIMIT)?;
        match reply {
            Reply::Done => {
                if let Some(Taken::Worker(worker)) = &mut self.taken {
                    self.connections = worker.client.connections();
                    worker.joined = Some((self.losses, self.connections));
                }
                Ok(())
            }
            Reply::Failed(Failure {
                kind: FailureKind::NotFound,
                ..
            }) => {
                self.lose();
                Err(Trouble::Lost)
            }
            // Too many connections, or none of this version: without the logins nothing can be done here.
            _ => Err(Trouble::Busy),
        }
    }

    /// The daemon knows nothing of the logins, unless somebody has noticed before.
    fn lose(&mut self) {
        let mut state = self.pool.lock();
        if state.losses == self.losses {
            state.lose();
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
        if let Taken::Home(client) = &taken {
            let connections = client.connections();
            let gone = connections != state.homes || !client.is_connected();
            if gone && state.homes != 0 {
                state.lose();
            }
            state.homes = if client.is_connected() {
                connections
            } else {
                0
            };
        }
        state.back(taken);
    }
}

fn is_refusal(reply: &Reply, kind: FailureKind) -> bool {
    matches!(reply, Reply::Failed(failure) if failure.kind == kind)
}
