//! A lock whose waiting is bounded, and that does not hang the child of a process that forked while it was held.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// This process, as far as known; asking the system costs time.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Asks which process this is. Each call from outside begins with it: it may be the first one after `fork`.
pub(crate) fn process() -> u32 {
    let process = std::process::id();
    PROCESS.store(process, Ordering::Relaxed);
    process
}

/// Attempts that only yield; most holders are gone by then.
const YIELDS: u32 = 64;

/// Between further attempts.
const PAUSE: Duration = Duration::from_millis(1);

/// A value that one thread at a time uses.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    value: Mutex<T>,
    /// Process of the holder; 0 = free, or on its way.
    holder: AtomicU32,
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            holder: AtomicU32::new(0),
        }
    }

    /// The value, if it is free.
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        let value = match self.value.try_lock() {
            Ok(value) => value,
            // A panic was caught; the values here stay valid through one.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.holder
            .store(PROCESS.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(Guard {
            value,
            holder: &self.holder,
        })
    }

    /// The value, when it is free within `limit`.
    /// `None` at once when the holder is a thread of the parent process: it will never let go.
    pub(crate) fn lock(&self, limit: Duration) -> Option<Guard<'_, T>> {
        if let Some(guard) = self.try_lock() {
            return Some(guard);
        }
        let deadline = Instant::now() + limit;
        for attempt in 0u32.. {
            if let Some(guard) = self.try_lock() {
                return Some(guard);
            }
            let holder = self.holder.load(Ordering::Relaxed);
            if (holder != 0 && holder != process()) || Instant::now() >= deadline {
                return None;
            }
            if attempt < YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        None
    }
}

/// Access to the value; lets go when dropped.
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    value: MutexGuard<'a, T>,
    holder: &'a AtomicU32,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.holder.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn waiting_for_a_lock_is_bounded() {
        let lock = Lock::new(1);
        let guard = lock.lock(SHORT).unwrap();
        assert!(lock.lock(SHORT).is_none());
        drop(guard);
        assert_eq!(*lock.lock(SHORT).unwrap(), 1);
    }

    #[test]
    fn lock_held_by_another_process_is_not_waited_for() {
        let lock = Lock::new(());
        let guard = lock.lock(SHORT).unwrap();
        lock.holder.store(u32::MAX, Ordering::Relaxed);
        let start = Instant::now();
        assert!(lock.lock(Duration::from_secs(60)).is_none());
        assert!(start.elapsed() < Duration::from_secs(30));
        drop(guard);
    }

    #[test]
    fn lock_survives_a_panic_of_its_holder() {
        let lock = Lock::new(1);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.lock(SHORT);
            panic!("on purpose");
        }));
        assert!(result.is_err());
        assert_eq!(*lock.lock(SHORT).unwrap(), 1);
    }

    #[test]
    fn contended_lock_goes_to_everybody() {
        let lock = Lock::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        *lock.lock(Duration::from_secs(60)).unwrap() += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(SHORT).unwrap(), 4000);
    }
}
