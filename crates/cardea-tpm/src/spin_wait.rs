//! Looking for an answer for a moment before sleeping until it comes.
//!
//! Waking a sleeper on an idle processor takes longer than a software TPM takes for a short command, on virtual
//! machines twice as long. Where processors are busy the sleeper comes first, and looking would only delay it.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long is looked.
const AWAKE: Duration = Duration::from_micros(50);

/// A yield that takes longer gave the processor to somebody else for a slice of time.
const LONGEST_YIELD: Duration = Duration::from_micros(200);

/// Then nobody looks for so long. Doubled each time until it goes well again.
const FIRST_SLEEP: Duration = Duration::from_millis(50);

/// The longest that this becomes.
const LAST_SLEEP: Duration = Duration::from_secs(5);

/// Who waits for answers.
#[derive(Debug)]
pub(crate) struct SpinWait {
    asleep_until: Option<Instant>,
    sleep: Duration,
}

impl SpinWait {
    pub(crate) fn new() -> Self {
        Self {
            asleep_until: None,
            sleep: FIRST_SLEEP,
        }
    }

    /// Looks for a moment; whether the answer is there.
    pub(crate) fn look(&mut self, mut there: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
        let start = Instant::now();
        if self.asleep_until.is_some_and(|end| start < end) {
            return Ok(false);
        }
        let mut before = start;
        loop {
            thread::yield_now();
            let now = Instant::now();
            if there()? {
                // Also after a long yield: then it may have gone to who has answered.
                self.sleep = FIRST_SLEEP;
                return Ok(true);
            }
            if now - before > LONGEST_YIELD {
                self.asleep_until = Some(now + self.sleep);
                self.sleep = self.sleep.saturating_mul(2).min(LAST_SLEEP);
                return Ok(false);
            }
            if now - start > AWAKE {
                return Ok(false);
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn answer_that_is_there_is_found_and_an_error_is_given_on() {
        let mut awake = SpinWait::new();
        assert!(awake.look(|| Ok(true)).unwrap());
        assert!(
            awake
                .look(|| Err(io::ErrorKind::BrokenPipe.into()))
                .is_err()
        );
    }

    #[test]
    fn nobody_looks_for_long_nor_where_processors_are_busy() {
        let mut awake = SpinWait::new();
        let looks = Cell::new(0_u32);
        let late = || {
            looks.set(looks.get() + 1);
            thread::sleep(2 * LONGEST_YIELD);
            Ok(false)
        };
        assert!(!awake.look(late).unwrap());
        let until_now = looks.get();
        assert!((1..=2).contains(&until_now), "{until_now}");
        awake.asleep_until = Some(Instant::now() + Duration::from_secs(600));
        assert!(!awake.look(late).unwrap());
        assert_eq!(looks.get(), until_now);
    }
}
