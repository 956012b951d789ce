//! Pauses between attempts to reach the bus, and their end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use cardea_host::lock;

/// First pause before the next attempt.
pub(super) const FIRST: Duration = Duration::from_secs(1);

/// Longest pause where no bus answers: it may be about to start.
pub(super) const LAST_WITHOUT_BUS: Duration = Duration::from_secs(4);

/// Longest pause where a bus answers and does not let us in, or loses us again and again.
pub(super) const LAST_REFUSED: Duration = Duration::from_secs(60);

/// A connection that lasted for so long was a good one.
pub(super) const LASTING: Duration = Duration::from_secs(60);

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It ended.
    Lost,
    /// A bus answers and refuses.
    Refused(String),
    /// No bus answers.
    Unreached,
}

/// How long the next pause is, and what was last logged.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
    told: Option<Missing>,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            next: FIRST,
            told: None,
        }
    }
}

impl Pauses {
    /// There was a connection for this time.
    pub(super) fn connected(&mut self, lasted: Duration) {
        if lasted >= LASTING {
            *self = Self::default();
        }
    }

    /// The pause after a failure: twice as long each time.
    pub(super) fn after(&mut self, missing: &Missing) -> Duration {
        let longest = match missing {
            Missing::Unreached => LAST_WITHOUT_BUS,
            Missing::Lost | Missing::Refused(_) => LAST_REFUSED,
        };
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(LAST_REFUSED);
        pause
    }

    /// Whether a failure is other than the last one, and so worth a line.
    pub(super) fn is_news(&mut self, missing: &Missing) -> bool {
        let is_news = self.told.as_ref() != Some(missing);
        self.told = Some(missing.clone());
        is_news
    }
}

/// Set once. Waiting for it is a pause that nothing else ends: `park` would also return for what a thread was woken
/// for before, as by the runtime of the bus.
#[derive(Debug, Default)]
pub(super) struct Stop {
    set: Mutex<bool>,
    notice: Condvar,
}

impl Stop {
    pub(super) fn set(&self) {
        *lock(&self.set) = true;
        self.notice.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *lock(&self.set)
    }

    /// Waits for so long, or until it is set.
    pub(super) fn pause(&self, limit: Duration) {
        let set = lock(&self.set);
        let waited = self
            .notice
            .wait_timeout_while(set, limit, |set| !*set)
            .unwrap_or_else(PoisonError::into_inner);
        drop(waited);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn pauses_grow_until_a_connection_lasts() {
        let mut pauses = Pauses::default();
        let mut after = |missing: &Missing, count| {
            let pauses: Vec<u64> = (0..count)
                .map(|_| pauses.after(missing).as_secs())
                .collect();
            pauses
        };
        let refused = Missing::Refused("policy".into());
        assert_eq!(after(&Missing::Unreached, 4), [1, 2, 4, 4]);
        assert_eq!(after(&refused, 5), [8, 16, 32, 60, 60]);
        assert_eq!(after(&Missing::Unreached, 1), [4]);
        pauses.connected(Duration::from_secs(1));
        assert_eq!(pauses.after(&Missing::Lost).as_secs(), 8);
        pauses.connected(LASTING);
        assert_eq!(pauses.after(&Missing::Lost), FIRST);
    }

    #[test]
    fn failure_is_logged_once_until_it_changes() {
        let mut pauses = Pauses::default();
        let refused = |text: &str| Missing::Refused(text.into());
        assert!(pauses.is_news(&Missing::Unreached));
        assert!(!pauses.is_news(&Missing::Unreached));
        assert!(pauses.is_news(&refused("a")));
        assert!(!pauses.is_news(&refused("a")));
        assert!(pauses.is_news(&refused("b")));
        pauses.connected(LASTING);
        assert!(pauses.is_news(&refused("b")));
    }

    #[test]
    fn pause_is_not_ended_by_what_wakes_the_thread_otherwise() {
        let stop = Arc::new(Stop::default());
        let pauses = Arc::new(AtomicU32::new(0));
        let (theirs, count) = (Arc::clone(&stop), Arc::clone(&pauses));
        let waiter = thread::spawn(move || {
            while !theirs.is_set() {
                theirs.pause(Duration::from_secs(600));
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..1000 {
            waiter.thread().unpark();
            thread::yield_now();
        }
        assert_eq!(pauses.load(Ordering::Relaxed), 0);
        stop.set();
        waiter.join().unwrap();
    }
}
