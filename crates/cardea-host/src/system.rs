//! The machine's clock and randomness, as the card engine wants them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_card::token::{Clock, Rng};
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: monotonic and going on during suspend (clock_gettime(2)).
#[derive(Debug)]
pub(crate) struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Duration {
        read(ClockId::Boottime)
    }

    /// `CLOCK_MONOTONIC` stands still during suspend.
    fn slept(&self) -> Duration {
        let awake = read(ClockId::Monotonic);
        read(ClockId::Boottime).saturating_sub(awake)
    }
}

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}

/// The kernel's generator.
#[derive(Debug)]
pub(crate) struct SystemRng;

impl Rng for SystemRng {
    #[expect(
        clippy::expect_used,
        reason = "getrandom(2) does not fail on a kernel that runs this program, and a card must not continue without randomness"
    )]
    fn fill(&mut self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the kernel provides random bytes");
    }
}

/// Seconds since 1970; 0 for a clock that is set before.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_does_not_go_back_and_bytes_differ() {
        let first = BootClock.now();
        assert!(first > Duration::ZERO);
        assert!(BootClock.now() >= first);
        let (mut one, mut two) = ([0; 32], [0; 32]);
        SystemRng.fill(&mut one);
        SystemRng.fill(&mut two);
        assert_ne!(one, two);
    }
}
