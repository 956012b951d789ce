//! A descriptor that belongs to the process that made it.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::process::{Pid, getpid};

/// In a child process it is neither used nor closed: the event would be the parent's, and the number may
/// mean something else by now.
#[derive(Debug)]
pub(super) struct Private {
    descriptor: Option<OwnedFd>,
    owner: Pid,
}

impl Private {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self {
            descriptor: Some(descriptor),
            owner: getpid(),
        }
    }

    /// The descriptor; `None` in a child process.
    pub(super) fn get(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor
            .as_ref()
            .filter(|_| self.owner == getpid())
            .map(AsFd::as_fd)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if self.owner != getpid()
            && let Some(descriptor) = self.descriptor.take()
        {
            let _ = descriptor.into_raw_fd();
        }
    }
}
