//! How fast a remote machine may send requests: ordinary use never waits, a flood does.

use std::time::{Duration, Instant};

/// Requests per second, sustained.
const RATE: u32 = 400;

/// Requests at once after a pause.
const BURST: u32 = 800;

/// Requests that may be served now.
#[derive(Debug)]
pub(crate) struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            left: f64::from(BURST),
            at: now,
        }
    }

    /// How long the next request has to wait.
    pub(crate) fn next(&mut self, now: Instant) -> Duration {
        let rested = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + rested * f64::from(RATE)).min(f64::from(BURST)) - 1.0;
        self.at = now;
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.left / f64::from(RATE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_pass_and_floods_wait() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..BURST {
            assert_eq!(pace.next(start), Duration::ZERO);
        }
        assert!(pace.next(start) > Duration::ZERO);
        // Those that wait queue up behind each other.
        let mut last = Duration::ZERO;
        for _ in 0..RATE {
            let next = pace.next(start);
            assert!(next > last);
            last = next;
        }
        assert!(last > Duration::from_secs(1));
        let rested = start + Duration::from_secs(10);
        assert_eq!(pace.next(rested), Duration::ZERO);
    }
}
