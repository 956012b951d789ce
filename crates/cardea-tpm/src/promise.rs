//! A result that another thread waits for, and the moment at which that thread is woken.
//!
//! While jobs wait for the TPM, its time is the measure: the thread that has a result wakes who waits for it when
//! the next command that takes time is on its way, not before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

enum State<R> {
    Open,
    Kept(R),
    /// Nobody will keep it.
    Broken,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    waiter: Thread,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the one who makes the result; dropped without one, it wakes who waits.
pub(crate) struct Promise<R>(Arc<Shared<R>>);

/// For the one who waits, in the thread that made the pair.
pub(crate) struct Expectation<R>(Arc<Shared<R>>);

/// Both ends.
pub(crate) fn promise<R>() -> (Promise<R>, Expectation<R>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State::Open),
        waiter: thread::current(),
    });
    (Promise(Arc::clone(&shared)), Expectation(shared))
}

impl<R> Promise<R> {
    /// The result is there; gives whom to wake.
    pub(crate) fn keep(&self, result: R) -> Thread {
        *self.0.lock() = State::Kept(result);
        self.0.waiter.clone()
    }
}

impl<R> Drop for Promise<R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if matches!(*state, State::Open) {
            *state = State::Broken;
            drop(state);
            self.0.waiter.unpark();
        }
    }
}

impl<R> Expectation<R> {
    /// Sleeps until the result is there; none when there will never be one.
    pub(crate) fn wait(self) -> Option<R> {
        loop {
            let mut state = self.0.lock();
            match std::mem::replace(&mut *state, State::Broken) {
                State::Open => *state = State::Open,
                State::Kept(result) => return Some(result),
                State::Broken => return None,
            }
            drop(state);
            thread::park();
        }
    }
}

/// A thread that is woken when the next command, other than a ticket, is on its way to the TPM.
#[derive(Clone, Default)]
pub(crate) struct Wake(Arc<Mutex<Option<Thread>>>);

impl Wake {
    /// The next one; the one before, if any is left, is woken now.
    pub(crate) fn set(&self, thread: Thread) {
        let before = self.lock().replace(thread);
        if let Some(thread) = before {
            thread.unpark();
        }
    }

    /// Now.
    pub(crate) fn wake(&self) {
        let thread = self.lock().take();
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Thread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_comes_when_its_waiter_is_woken() {
        let (promise, expectation) = promise();
        let maker = thread::spawn(move || {
            let wake = Wake::default();
            wake.set(promise.keep(7));
            wake.wake();
        });
        assert_eq!(expectation.wait(), Some(7));
        maker.join().unwrap();
    }

    #[test]
    fn dropped_promise_is_an_answer_too() {
        let (promise, expectation) = promise::<u8>();
        let maker = thread::spawn(move || drop(promise));
        assert_eq!(expectation.wait(), None);
        maker.join().unwrap();
    }

    #[test]
    fn second_waiter_does_not_make_the_first_one_late() {
        let (first, second) = (promise(), promise());
        let wake = Wake::default();
        wake.set(first.0.keep(1));
        wake.set(second.0.keep(2));
        // Both wait in this thread.
        assert_eq!(first.1.wait(), Some(1));
        assert_eq!(second.1.wait(), Some(2));
    }
}
