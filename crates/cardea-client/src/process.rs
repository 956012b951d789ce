//! Telling a process from its forks, and from another one that has its id by now.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, open, openat, readlinkat};
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

/// A process, as it is in `/proc` (proc(5)). Once it is gone nothing is read of it, whoever has its id by then.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The one that has this id now.
    #[must_use]
    pub fn find(pid: u32) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(format!("/proc/{pid}"), flags, Mode::empty());
        folder.ok().map(Self)
    }

    /// What the kernel says in one of its files, of which no more than 64 KiB are read.
    #[must_use]
    pub fn read(&self, file: &str) -> Option<Vec<u8>> {
        /// Most are shorter. As they have no length, a buffer that grows would be filled in many reads, and a daemon
        /// does this for each connection.
        const USUAL: usize = 4096;
        const MOST: u64 = 64 * 1024;

        let file = openat(
            &self.0,
            file,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        let mut bytes = Vec::with_capacity(USUAL);
        File::from(file).take(MOST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// When it started, in clock ticks since the start of the computer. Another process with the same id has another
    /// one.
    #[must_use]
    pub fn start(&self) -> Option<u64> {
        let text = self.read("stat")?;
        // Field 22 (proc_pid_stat(5)); the second is a name in parentheses, which may contain any.
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        rest.split_ascii_whitespace().nth(19)?.parse().ok()
    }

    /// The path of its executable, which only its user and root can read.
    #[must_use]
    pub fn executable(&self) -> Option<String> {
        let path = readlinkat(&self.0, "exe", Vec::new()).ok()?;
        Some(path.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_known_while_it_lives() {
        let own = Process::find(std::process::id()).unwrap().start().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let id = child.id();
        let process = Process::find(id).unwrap();
        let found = (process.start(), process.executable());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.0.unwrap() >= own);
        assert!(found.1.unwrap().starts_with('/'));
        assert_eq!((process.start(), process.executable()), (None, None));
        assert!(Process::find(id).is_none());
    }
}
