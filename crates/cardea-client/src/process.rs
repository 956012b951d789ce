//! Telling a process from its forks.

use std::sync::OnceLock;

use rustix::process::{Pid, getpid};

/// Counts the forks between the process in which it was set and this one.
static GENERATION: OnceLock<fn() -> u64> = OnceLock::new();

/// Has forks told apart by more than their process id: in another PID namespace a child can have its parent's.
///
/// `generation` returns another number in each process of a line of forks. Only the first call has an effect.
pub fn tell_forks_by(generation: fn() -> u64) {
    GENERATION.get_or_init(|| generation);
}

/// A process, in a line of forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessMark {
    pid: Pid,
    generation: u64,
}

impl ProcessMark {
    /// This process.
    #[must_use]
    pub fn current() -> Self {
        Self {
            pid: getpid(),
            generation: GENERATION.get().map_or(0, |generation| generation()),
        }
    }
}
