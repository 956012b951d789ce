//! Ending a wait from another thread.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{EventfdFlags, eventfd};

use super::private::Private;

/// Makes [`Watch::wait`](super::Watch::wait) return; remembered when nobody waits.
/// Of no effect in a child process: the wait is the parent's.
#[derive(Debug)]
pub struct Wake(Private);

impl Wake {
    /// Not called yet.
    ///
    /// # Errors
    ///
    /// The process or the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Private::new(eventfd(0, flags)?)?))
    }

    /// Calls: the present or the next wait returns.
    pub fn wake(&self) {
        if let Some(descriptor) = self.0.get() {
            // It fails only when it was called 2^64 - 2 times before.
            let _ = rustix::io::write(descriptor, &1u64.to_ne_bytes());
        }
    }

    /// Whether it was called since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.0
            .get()
            .is_some_and(|descriptor| rustix::io::read(descriptor, &mut [0; 8]).is_ok())
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.get()
    }
}
