//! Who calls: the bus vouches for user and process of every connection.

use std::collections::HashMap;
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
const MAX_CALLS_OF_USER: u32 = 32;

/// Bytes in the bodies of those calls.
const MAX_BODIES_OF_USER: usize = 262_144;

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
    /// What its user has at work.
    at_work: Arc<Mutex<AtWork>>,
}

/// Calls of one user, and the bytes that they have brought.
#[derive(Debug, Default)]
struct AtWork {
    calls: u32,
    bodies: usize,
}

impl Client {
    /// A place for one more call with a body of this length, as long as there is one.
    pub(crate) fn enter(self: &Arc<Self>, body: usize) -> Result<Call, BusError> {
        let mut at_work = lock(&self.at_work);
        if at_work.calls >= MAX_CALLS_OF_USER
            || at_work.bodies.saturating_add(body) > MAX_BODIES_OF_USER
        {
            return Err(too_many());
        }
        at_work.calls += 1;
        at_work.bodies += body;
        Ok(Call {
            client: Arc::clone(self),
            body,
        })
    }
}

/// The answer to a call for which there is no place.
pub(crate) fn too_many() -> BusError {
    BusError::new(Name::Busy, "too many calls at once")
}

/// One call at work.
pub(crate) struct Call {
    client: Arc<Client>,
    body: usize,
}

impl Call {
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut at_work = lock(&self.client.at_work);
        at_work.calls -= 1;
        at_work.bodies -= self.body;
    }
}

/// Everybody who has called and is still there.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    known: Mutex<HashMap<String, Arc<Client>>>,
    at_work: Mutex<HashMap<u32, Weak<Mutex<AtWork>>>>,
}

impl Clients {
    /// The client of that unique name; the bus is asked at its first call.
    pub(crate) fn of(
        &self,
        link: &Link,
        counter: &Counter,
        name: &str,
    ) -> Result<Arc<Client>, BusError> {
        if let Some(client) = self.known(name) {
            return Ok(client);
        }
        let (uid, pid) = credentials(link, name)?;
        let accounts = counter.host().accounts();
        accounts.refresh();
        let client = Arc::new(Client {
            name: name.to_owned(),
            caller: counter.caller(uid),
            actor: Actor::of_process(uid, pid),
            gone: Arc::default(),
            at_work: self.at_work_of(accounts.of(uid)),
        });
        let mut clients = lock(&self.known);
        if clients.len() >= MAX_CLIENTS {
            return Err(BusError::new(Name::Busy, "too many clients"));
        }
        Ok(Arc::clone(clients.entry(name.to_owned()).or_insert(client)))
    }

    /// The client of that unique name, if it has called before.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<Client>> {
        lock(&self.known).get(name).cloned()
    }

    /// What a user has at work.
    fn at_work_of(&self, account: u32) -> Arc<Mutex<AtWork>> {
        let mut at_work = lock(&self.at_work);
        at_work.retain(|_, user| user.strong_count() > 0);
        if let Some(user) = at_work.get(&account).and_then(Weak::upgrade) {
            return user;
        }
        let user = Arc::default();
        at_work.insert(account, Arc::downgrade(&user));
        user
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

#[cfg(test)]
mod tests {
    use super::*;
    use cardea_host::Roles;

    #[test]
    fn connections_of_one_user_share_calls_and_bytes() {
        let clients = Clients::default();
        let roles = Roles {
            admin_group: "no-such-group-here".into(),
            pcscd_uid: 0,
            pcscd_user: None,
        };
        let client = |name: &str, uid| {
            Arc::new(Client {
                name: name.to_owned(),
                caller: roles.of(uid),
                actor: Actor::of_process(uid, 0),
                gone: Arc::default(),
                at_work: clients.at_work_of(uid),
            })
        };
        let (one, two) = (client(":1.1", 1000), client(":1.2", 1000));
        let other = client(":1.3", 1001);
        let calls: Vec<_> = (0..MAX_CALLS_OF_USER)
            .map(|_| one.enter(0).unwrap())
            .collect();
        assert!(one.enter(0).is_err());
        assert!(two.enter(0).is_err(), "another connection of the user");
        assert!(other.enter(0).is_ok());
        drop(calls);
        let large = one.enter(MAX_BODIES_OF_USER - 1).unwrap();
        assert!(two.enter(2).is_err());
        assert!(two.enter(1).is_ok());
        assert!(other.enter(MAX_BODIES_OF_USER).is_ok());
        drop(large);
        assert!(two.enter(MAX_BODIES_OF_USER).is_ok());
    }
}
