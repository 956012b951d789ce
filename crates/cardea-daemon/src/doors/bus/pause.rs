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
    /// A bus answers and refuses: by which error, and its text. That may name our connection, which is another one at
    /// each attempt.
    Refused { error: String, text: String },
    /// No bus answers.
    Unreached,
}

impl Missing {
    /// Whether both are of one kind, whatever their texts.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused { error, .. }, Self::Refused { error: other, .. }) => error == other,
            _ => self == other,
        }
    }
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
            Missing::Lost | Missing::Refused { .. } => LAST_REFUSED,
        };
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(LAST_REFUSED);
        pause
    }

    /// Whether a failure is of another kind than the last one, and so worth a line.
    pub(super) fn is_news(&mut self, missing: &Missing) -> bool {
        let is_news = self.told.as_ref().is_none_or(|told| !told.is_like(missing));
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
    use std::fs;
    use std::sync::Arc;
    use std::sync::mpsc::{TryRecvError, channel};
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn refused(error: &str, text: &str) -> Missing {
        Missing::Refused {
            error: error.into(),
            text: text.into(),
        }
    }

    #[test]
    fn pauses_grow_until_a_connection_lasts() {
        let mut pauses = Pauses::default();
        let mut after = |missing: &Missing, count| {
            let pauses: Vec<u64> = (0..count)
                .map(|_| pauses.after(missing).as_secs())
                .collect();
            pauses
        };
        assert_eq!(after(&Missing::Unreached, 4), [1, 2, 4, 4]);
        assert_eq!(after(&refused("policy", ""), 5), [8, 16, 32, 60, 60]);
        assert_eq!(after(&Missing::Unreached, 1), [4]);
        pauses.connected(Duration::from_secs(1));
        assert_eq!(pauses.after(&Missing::Lost).as_secs(), 8);
        pauses.connected(LASTING);
        assert_eq!(pauses.after(&Missing::Lost), FIRST);
    }

    #[test]
    fn failure_is_logged_once_until_it_changes() {
        let mut pauses = Pauses::default();
        assert!(pauses.is_news(&Missing::Unreached));
        assert!(!pauses.is_news(&Missing::Unreached));
        assert!(pauses.is_news(&refused("a", "")));
        assert!(!pauses.is_news(&refused("a", "")));
        assert!(pauses.is_news(&refused("b", "")));
        pauses.connected(LASTING);
        assert!(pauses.is_news(&refused("b", "")));
    }

    #[test]
    fn refusal_that_names_our_connection_is_logged_once() {
        let mut pauses = Pauses::default();
        // As dbus-daemon says it.
        let denied = |connection: u32| {
            let text = format!(
                "Connection \":1.{connection}\" is not allowed to own the service \"org.cardea.VirtualSmartCard1\" due to security policies in the configuration file"
            );
            refused("org.freedesktop.DBus.Error.AccessDenied", &text)
        };
        assert!(pauses.is_news(&denied(7)));
        assert!(!pauses.is_news(&denied(8)));
        assert!(pauses.is_news(&Missing::Unreached));
        assert!(pauses.is_news(&denied(9)));
    }

    #[test]
    fn pause_is_not_ended_by_what_wakes_the_thread_otherwise() {
        let stop = Arc::new(Stop::default());
        let theirs = Arc::clone(&stop);
        let (begun, began) = channel();
        let (ended, end) = channel();
        let waiter = thread::spawn(move || {
            // The next `park` would return at once.
            thread::current().unpark();
            begun.send(rustix::thread::gettid()).unwrap();
            theirs.pause(Duration::from_secs(600));
            ended.send(theirs.is_set()).unwrap();
        });
        let thread = began.recv().unwrap().as_raw_nonzero();
        let state = format!("/proc/self/task/{thread}/stat");
        let limit = Instant::now() + Duration::from_secs(60);
        let asleep = || {
            let state = fs::read_to_string(&state).unwrap_or_default();
            // After the name, which has brackets (proc_pid_stat(5)).
            state.rsplit(')').next().unwrap().starts_with(" S")
        };
        for _ in 0..100 {
            waiter.thread().unpark();
            stop.notice.notify_all();
            while !asleep() && end.try_recv() == Err(TryRecvError::Empty) {
                assert!(Instant::now() < limit, "neither at its end nor waiting");
                thread::yield_now();
            }
        }
        assert_eq!(end.try_recv(), Err(TryRecvError::Empty), "it ended early");
        stop.set();
        assert_eq!(end.recv(), Ok(true));
        waiter.join().unwrap();
    }
}
