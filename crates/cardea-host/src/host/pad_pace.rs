//! How often programs at the reader may raise the PIN pad's dialog.
//!
//! Anybody who reaches pcscd can, and pcscd does not tell who it was. A person who has refused a few times in a row is
//! left alone for a while, longer each time; whoever types something is there and wants it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sync::lock;

/// Consecutive questions without an answer, after which there is a pause.
const REFUSALS: u32 = 3;
/// The first pause; each further refusal doubles it.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Of one card.
#[derive(Debug, Default)]
pub(crate) struct PadPace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Consecutive.
    refusals: u32,
    until: Option<Instant>,
}

impl PadPace {
    /// The pause that is left, in which nobody is asked.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let until = lock(&self.0).until?;
        until
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    /// The person has typed something.
    pub(crate) fn answered(&self) {
        *lock(&self.0) = State::default();
    }

    /// The person has refused, or has not answered in time. Returns the pause that begins.
    pub(crate) fn refused(&self, now: Instant) -> Option<Duration> {
        let mut state = lock(&self.0);
        state.refusals = state.refusals.saturating_add(1);
        let further = state.refusals.checked_sub(REFUSALS)?;
        let pause = PAUSE
            .saturating_mul(1_u32.checked_shl(further).unwrap_or(u32::MAX))
            .min(LONGEST_PAUSE);
        state.until = now.checked_add(pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_in_a_row_make_longer_and_longer_pauses_and_an_answer_ends_them() {
        let pace = PadPace::default();
        let mut now = Instant::now();
        assert_eq!(pace.refused(now), None);
        assert_eq!(pace.refused(now), None);
        assert_eq!(pace.pause(now), None, "two can be a slip");
        assert_eq!(pace.refused(now), Some(PAUSE));
        assert_eq!(pace.pause(now), Some(PAUSE));
        now += PAUSE;
        assert_eq!(pace.pause(now), None);
        assert_eq!(pace.refused(now), Some(2 * PAUSE));
        now += 2 * PAUSE;
        for _ in 0..40 {
            let pause = pace.refused(now).unwrap();
            assert!(pause <= LONGEST_PAUSE);
            now += pause;
        }
        assert_eq!(pace.refused(now), Some(LONGEST_PAUSE));
        pace.answered();
        assert_eq!(pace.pause(now), None);
        assert_eq!(pace.refused(now), None);
    }
}
