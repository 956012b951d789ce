//! How many clients at once: in all, and of one user.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use cardea_host::lock;

/// Connections in all.
pub(crate) const MAX_CLIENTS: usize = 256;

/// Connections of one user.
pub(crate) const MAX_CLIENTS_OF_USER: usize = 64;

/// Counts clients.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    clients: Mutex<HashMap<u32, usize>>,
    left: Condvar,
}

/// A place among the clients, given back on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    limits: Arc<Limits>,
    uid: u32,
}

impl Limits {
    /// A place for this user; `None` when there is none at the moment.
    pub(crate) fn enter(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut clients = lock(&self.clients);
        let all: usize = clients.values().sum();
        let own = clients.get(&uid).copied().unwrap_or(0);
        if all >= MAX_CLIENTS || own >= MAX_CLIENTS_OF_USER {
            return None;
        }
        clients.insert(uid, own + 1);
        Some(Seat {
            limits: Arc::clone(self),
            uid,
        })
    }

    /// Waits until nobody is left; false when the time is over first.
    pub(crate) fn await_nobody(&self, limit: Duration) -> bool {
        let clients = lock(&self.clients);
        let (clients, _) = self
            .left
            .wait_timeout_while(clients, limit, |clients| !clients.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        clients.is_empty()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut clients = lock(&self.limits.clients);
        if let Some(own) = clients.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                clients.remove(&self.uid);
            }
        }
        drop(clients);
        self.limits.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_places() {
        let limits = Arc::new(Limits::default());
        let mut seats: Vec<Seat> = (0..MAX_CLIENTS_OF_USER)
            .map(|_| limits.enter(1).unwrap())
            .collect();
        assert!(limits.enter(1).is_none());
        assert!(limits.enter(2).is_some());
        seats.pop();
        assert!(limits.enter(1).is_some());
    }

    #[test]
    fn all_users_together_have_a_limit() {
        let limits = Arc::new(Limits::default());
        let seats: Vec<Seat> = (0..MAX_CLIENTS)
            .map(|number| limits.enter(u32::try_from(number / 8).unwrap()).unwrap())
            .collect();
        assert!(limits.enter(9999).is_none());
        drop(seats);
        assert!(limits.enter(9999).is_some());
    }

    #[test]
    fn leaving_is_noticed() {
        let limits = Arc::new(Limits::default());
        assert!(limits.await_nobody(Duration::ZERO));
        let seat = limits.enter(1).unwrap();
        assert!(!limits.await_nobody(Duration::from_millis(1)));
        let other = Arc::clone(&limits);
        let waiter = std::thread::spawn(move || other.await_nobody(Duration::from_secs(60)));
        drop(seat);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn refused_user_does_not_count_as_a_client() {
        let limits = Arc::new(Limits::default());
        let seats: Vec<Seat> = (0..MAX_CLIENTS)
            .map(|number| limits.enter(u32::try_from(number / 8).unwrap()).unwrap())
            .collect();
        assert!(limits.enter(9999).is_none());
        drop(seats);
        assert!(limits.await_nobody(Duration::ZERO));
    }
}
