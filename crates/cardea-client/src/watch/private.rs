//! A descriptor that belongs to the process that made it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::origin::Origin;

/// In a child process it is not used: the event would be the parent's.
#[derive(Debug)]
pub(super) struct Private {
    descriptor: Option<OwnedFd>,
    origin: Origin,
}

impl Private {
    /// # Errors
    ///
    /// Those of fstat(2).
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            origin: Origin::of(&descriptor)?,
            descriptor: Some(descriptor),
        })
    }

    /// The descriptor; `None` in a child process, and where its number means something else by now.
    pub(super) fn get(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor
            .as_ref()
            .filter(|descriptor| self.origin.is_this_process() && self.origin.is_at(descriptor))
            .map(AsFd::as_fd)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            self.origin.close(descriptor);
        }
    }
}
