//! In which order new connections get their threads, and how many of one user in a second.
//!
//! The kernel has one queue for all who connect, first come first served. What the listener does for each connection
//! before it knows whose it is must therefore cost next to nothing: everybody else waits for it. Threads, greetings
//! and refusals cost more, and each user waits for its own only.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Connections that one user can begin at once after a pause.
pub(crate) const BURST: u32 = 64;

/// Afterwards one more in this time.
pub(crate) const INTERVAL: Duration = Duration::from_millis(5);

/// Connections of one user that may wait for their turn.
pub(crate) const MAX_WAITING_OF_USER: usize = 64;

/// Connections of all users that may wait for their turn.
pub(crate) const MAX_WAITING: usize = 512;

/// Users that are remembered before those who owe nothing are forgotten.
const MAX_REMEMBERED: usize = 256;

/// Connections that were accepted and wait for their turn.
#[derive(Debug)]
pub(crate) struct Arrivals<C> {
    users: HashMap<u32, User<C>>,
    /// Users with waiting connections, the next one first.
    turns: VecDeque<u32>,
    waiting: usize,
}

#[derive(Debug)]
struct User<C> {
    /// When all that was begun is paid for, at one connection in each [`INTERVAL`].
    paid: Instant,
    waiting: VecDeque<C>,
}

impl<C> Default for Arrivals<C> {
    fn default() -> Self {
        Self {
            users: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
        }
    }
}

impl<C> Arrivals<C> {
    /// One more connection of this user.
    ///
    /// # Errors
    ///
    /// The connection, when too many wait already.
    pub(crate) fn add(&mut self, user: u32, connection: C, now: Instant) -> Result<(), C> {
        if self.users.len() >= MAX_REMEMBERED {
            let owes = |user: &User<C>| user.paid > now || !user.waiting.is_empty();
            self.users.retain(|_, user| owes(user));
        }
        let entry = self.users.entry(user).or_insert_with(|| User {
            paid: now,
            waiting: VecDeque::new(),
        });
        if entry.waiting.len() >= MAX_WAITING_OF_USER || self.waiting >= MAX_WAITING {
            return Err(connection);
        }
        if entry.waiting.is_empty() {
            self.turns.push_back(user);
        }
        entry.waiting.push_back(connection);
        self.waiting += 1;
        Ok(())
    }

    /// The next connection whose time has come; the users take turns.
    pub(crate) fn next(&mut self, now: Instant) -> Option<C> {
        let position = self.turns.iter().position(|user| {
            let user = self.users.get(user);
            user.is_some_and(|user| user.due() <= now)
        })?;
        let number = self.turns.remove(position)?;
        let user = self.users.get_mut(&number)?;
        let connection = user.waiting.pop_front()?;
        user.paid = user.paid.max(now) + INTERVAL;
        self.waiting -= 1;
        if !user.waiting.is_empty() {
            self.turns.push_back(number);
        }
        Some(connection)
    }

    /// How long until the time of a waiting connection comes; `None` when nobody waits.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let waiting = self.turns.iter().filter_map(|user| self.users.get(user));
        let first = waiting.map(User::due).min()?;
        Some(first.saturating_duration_since(now))
    }
}

impl<C> User<C> {
    /// When its next connection may begin.
    fn due(&self) -> Instant {
        let credit = INTERVAL * (BURST - 1);
        self.paid.checked_sub(credit).unwrap_or(self.paid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: u32 = 1000;
    const MALLORY: u32 = 1001;

    /// Later than the start of the machine by more than any credit.
    fn start() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[test]
    fn user_who_comes_after_a_storm_is_next() {
        let now = start();
        let mut arrivals = Arrivals::default();
        for _ in 0..MAX_WAITING_OF_USER {
            arrivals.add(MALLORY, "storm", now).unwrap();
        }
        assert_eq!(arrivals.next(now), Some("storm"));
        arrivals.add(ALICE, "card", now).unwrap();
        assert_eq!(arrivals.next(now), Some("storm"));
        assert_eq!(arrivals.next(now), Some("card"));
    }

    #[test]
    fn user_without_credit_keeps_nobody_waiting() {
        let now = start();
        let mut arrivals = Arrivals::default();
        for _ in 0..BURST {
            arrivals.add(MALLORY, "storm", now).unwrap();
            assert_eq!(arrivals.next(now), Some("storm"));
        }
        arrivals.add(MALLORY, "storm", now).unwrap();
        assert_eq!(arrivals.next(now), None);
        assert_eq!(arrivals.pause(now), Some(INTERVAL));
        arrivals.add(ALICE, "card", now).unwrap();
        assert_eq!(arrivals.pause(now), Some(Duration::ZERO));
        assert_eq!(arrivals.next(now), Some("card"));
        assert_eq!(arrivals.next(now), None);
        assert_eq!(arrivals.next(now + INTERVAL), Some("storm"));
        assert_eq!(arrivals.pause(now), None);
    }

    #[test]
    fn credit_comes_back_with_time_and_not_beyond_a_burst() {
        let now = start();
        let mut arrivals = Arrivals::default();
        let mut begun = |now| {
            let mut begun = 0;
            while arrivals.add(ALICE, (), now).is_ok() && arrivals.next(now).is_some() {
                begun += 1;
            }
            while arrivals.next(now + INTERVAL * 1000).is_some() {}
            begun
        };
        assert_eq!(begun(now), BURST);
        assert_eq!(begun(now + INTERVAL * 5000), BURST);
    }

    #[test]
    fn more_than_may_wait_are_given_back() {
        let now = start();
        let mut arrivals = Arrivals::default();
        for _ in 0..MAX_WAITING_OF_USER {
            arrivals.add(MALLORY, 0, now).unwrap();
        }
        assert_eq!(arrivals.add(MALLORY, 1, now), Err(1));
        for user in 2000.. {
            if arrivals.add(user, 2, now).is_err() {
                break;
            }
        }
        assert_eq!(arrivals.waiting, MAX_WAITING);
    }

    #[test]
    fn users_who_owe_nothing_are_forgotten() {
        let now = start();
        let mut arrivals = Arrivals::default();
        for user in 0..10_000 {
            let later = now + INTERVAL * user;
            arrivals.add(user, (), later).unwrap();
            assert!(arrivals.next(later).is_some());
        }
        assert!(arrivals.users.len() <= MAX_REMEMBERED);
    }
}
