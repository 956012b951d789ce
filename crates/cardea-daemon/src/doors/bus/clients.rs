//! Who calls: the bus vouches for user and process of every connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::error::{BusError, Name};
use super::link::{Dictionary, Link, Target};
use cardea_host::Actor;
use cardea_host::Caller;
use cardea_host::CallerGone;
use cardea_host::Counter;
use cardea_host::lock;

/// Calls of one user that may be at work at once, over all connections and subordinate user ids: nobody keeps the
/// others out.
const MAX_CALLS: u32 = 32;

/// Clients that are known at once; the bus has fewer connections.
const MAX_CLIENTS: usize = 4096;

/// The bus itself.
pub(crate) const BUS: Target<'static> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};

/// A connection to the bus that has called.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its unique name.
    pub(crate) name: String,
    pub(crate) caller: Caller,
    pub(crate) actor: Actor,
    /// Set when it leaves the bus.
    pub(crate) gone: Arc<CallerGone>,
    /// Calls of its user that are at work.
    calls: Arc<AtomicU32>,
}

impl Client {
    /// A place for one more call, as long as there is one.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Call, BusError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= MAX_CALLS {
            self.calls.fetch_sub(1, Ordering::Relaxed);
            return Err(BusError::new(Name::Busy, "too many calls at once"));
        }
        Ok(Call(Arc::clone(self)))
    }
}

/// One call at work.
pub(crate) struct Call(Arc<Client>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everybody who has called and is still there.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    known: Mutex<HashMap<String, Arc<Client>>>,
    calls: Mutex<HashMap<u32, Weak<AtomicU32>>>,
}

impl Clients {
    /// The client of that unique name; the bus is asked at its first call.
    pub(crate) fn of(
        &self,
        link: &Link,
        counter: &Counter,
        name: &str,
    ) -> Result<Arc<Client>, BusError> {
        if let Some(client) = lock(&self.known).get(name) {
            return Ok(Arc::clone(client));
        }
        let (uid, pid) = credentials(link, name)?;
        let accounts = counter.host().accounts();
        accounts.refresh();
        let client = Arc::new(Client {
            name: name.to_owned(),
            caller: counter.caller(uid),
            actor: Actor::of_process(uid, pid),
            gone: Arc::default(),
            calls: self.calls_of(accounts.of(uid)),
        });
        let mut clients = lock(&self.known);
        if clients.len() >= MAX_CLIENTS {
            return Err(BusError::new(Name::Busy, "too many clients"));
        }
        Ok(Arc::clone(clients.entry(name.to_owned()).or_insert(client)))
    }

    /// The counter of a user's calls.
    fn calls_of(&self, uid: u32) -> Arc<AtomicU32> {
        let mut calls = lock(&self.calls);
        calls.retain(|_, counter| counter.strong_count() > 0);
        if let Some(counter) = calls.get(&uid).and_then(Weak::upgrade) {
            return counter;
        }
        let counter = Arc::default();
        calls.insert(uid, Arc::downgrade(&counter));
        counter
    }

    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.known).values().cloned().collect()
    }

    /// A name has left the bus.
    pub(crate) fn left(&self, name: &str) {
        let client = lock(&self.known).remove(name);
        if let Some(client) = client {
            client.gone.set();
        }
    }

    /// The bus itself has gone.
    pub(crate) fn all_left(&self) {
        for (_, client) in lock(&self.known).drain() {
            client.gone.set();
        }
    }
}

/// User and process of a connection.
fn credentials(link: &Link, name: &str) -> Result<(u32, u32), BusError> {
    let unknown =
        |why: String| BusError::new(Name::NotAuthorized, format!("caller not known: {why}"));
    let target = Target {
        member: "GetConnectionCredentials",
        ..BUS
    };
    let answer = link
        .ask(target, &name)
        .map_err(|error| unknown(error.to_string()))?;
    let body = answer.body();
    let credentials: Dictionary = body
        .deserialize()
        .map_err(|error| unknown(error.to_string()))?;
    let number = |key: &str| {
        let value = credentials.get(key)?;
        u32::try_from(value).ok()
    };
    let uid = number("UnixUserID").ok_or_else(|| unknown("no user id".into()))?;
    Ok((uid, number("ProcessID").unwrap_or_default()))
}
