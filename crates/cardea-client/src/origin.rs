//! Whether a descriptor is still what this process has opened.

use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};

use rustix::fs::fstat;

use crate::process::ProcessMark;

/// Where a descriptor comes from.
///
/// A program that this library is loaded into may close descriptors that it does not know, as daemons do at their
/// start, and open others, which get the same numbers: what is written there would reach a stranger.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    process: ProcessMark,
    /// Device and inode. All descriptors without a file or socket, such as those of eventfd(2), share one.
    file: (u64, u64),
}

impl Origin {
    /// Of a descriptor that was just opened.
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    pub fn of(descriptor: impl AsFd) -> io::Result<Self> {
        let stat = fstat(descriptor)?;
        Ok(Self {
            process: ProcessMark::current(),
            file: (stat.st_dev, stat.st_ino),
        })
    }

    /// Whether this process has opened it, and not one that this one is a fork of.
    #[must_use]
    pub fn is_this_process(&self) -> bool {
        self.process == ProcessMark::current()
    }

    /// Whether the number still means what was opened.
    #[must_use]
    pub fn is_at(&self, descriptor: impl AsFd) -> bool {
        fstat(descriptor).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.file)
    }

    /// Closes the descriptor, unless its number means something else by now: then it is forgotten.
    pub fn close(&self, descriptor: OwnedFd) {
        if !self.is_at(&descriptor) {
            let _ = descriptor.into_raw_fd();
        }
    }
}
