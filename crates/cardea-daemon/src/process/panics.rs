//! What remains when something panics: a mistake of ours ends one request, and nothing else stops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

/// What the client of a request that panicked is answered.
pub(crate) const INTERNAL_ERROR: &str = "internal error, which is in the log of cardea-daemon; it is not known what was done and what was not";

/// Before work that has panicked is begun again: it may panic at once.
const PAUSE: Duration = Duration::from_secs(1);

/// Does the work of a thread that must not end, again after each panic, until it returns.
pub(crate) fn keep_running(work: impl Fn()) {
    while !survives(&work) {
        thread::sleep(PAUSE);
    }
}

/// False: it has panicked, which is in the log ([`log::start`](crate::log::start)).
pub(crate) fn survives(work: impl FnOnce()) -> bool {
    caught(work).is_some()
}

/// What the work returns; `None`: it has panicked, which is in the log. What it had in its hands may be half done:
/// whoever calls this ends what that belongs to, or answers that its state is not known.
pub(crate) fn caught<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn work_that_panics_is_begun_again() {
        let tries = Cell::new(0);
        keep_running(|| {
            tries.set(tries.get() + 1);
            assert!(tries.get() > 1, "on purpose");
        });
        assert_eq!(tries.get(), 2);
    }
}
