//! Telling a process from its forks, and from another one that has its id by now.

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

/// When the process with this id started, in clock ticks since the start of the computer. Another process with the same
/// id has another one.
#[must_use]
pub fn process_start(pid: u32) -> Option<u64> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // Field 22 (proc_pid_stat(5)); the second is a name in parentheses, which may contain any.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The path of the executable of a process, which only its user and root can read.
#[must_use]
pub fn process_executable(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_known_while_it_lives() {
        let own = process_start(std::process::id()).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let id = child.id();
        let found = (process_start(id), process_executable(id));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.0.unwrap() >= own);
        assert!(found.1.unwrap().starts_with('/'));
        assert_eq!((process_start(id), process_executable(id)), (None, None));
    }
}
