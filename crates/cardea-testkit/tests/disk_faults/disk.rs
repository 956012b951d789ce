//! The disk of a daemon: what is to fail, and what it was asked for. `cardea_store::fault` is the other end.

use std::path::PathBuf;

/// Whose files fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    Audit,
    Both,
    Store,
}

/// How long it goes on failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Length {
    /// The first operation that can end so.
    Once,
    /// All operations that can end so, until the disk is repaired.
    On,
}

/// An error of the disk, with its number in Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Errno {
    Io = 5,
    TooManyFiles = 24,
    Full = 28,
    ReadOnly = 30,
}

pub(crate) const ERRORS: [Errno; 4] =
    [Errno::Full, Errno::ReadOnly, Errno::Io, Errno::TooManyFiles];

/// What fails from a place on, which counts the file operations of the area from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) area: Area,
    pub(crate) place: usize,
    pub(crate) error: Errno,
    pub(crate) length: Length,
}

/// What a test and its daemon share.
pub(crate) struct Disk {
    plan: PathBuf,
    runs: u64,
}

impl Disk {
    pub(crate) fn new(plan: PathBuf) -> Self {
        let mut disk = Self { plan, runs: 0 };
        disk.watch();
        disk
    }

    /// For the daemon's environment.
    pub(crate) fn variable(&self) -> String {
        format!("CARDEA_FAULT_DISK={}", self.plan.display())
    }

    /// From now on operations are counted, and they fail so.
    pub(crate) fn fail(&mut self, fault: Fault) {
        let area = match fault.area {
            Area::Audit => "audit",
            Area::Both => "both",
            Area::Store => "store",
        };
        let count = match fault.length {
            Length::Once => 1,
            Length::On => usize::MAX,
        };
        let error = fault.error as i32;
        self.write(&format!("{area} {} {count} {error}", fault.place));
    }

    /// From now on operations are counted, and none fails.
    pub(crate) fn watch(&mut self) {
        self.write("both 0 0 0");
    }

    fn write(&mut self, plan: &str) {
        self.runs += 1;
        let new = self.plan.with_extension("new");
        std::fs::write(&new, format!("{} {plan}", self.runs)).unwrap();
        // Renamed, because the daemon may read at this moment.
        std::fs::rename(new, &self.plan).unwrap();
    }

    /// The operations since the last of [`Disk::fail`] and [`Disk::watch`], in words, with ` failed` at the end of
    /// those that have.
    pub(crate) fn operations(&self) -> Vec<String> {
        let mut trace = self.plan.clone().into_os_string();
        trace.push(".trace");
        let trace = std::fs::read_to_string(trace).unwrap_or_default();
        let run = format!("{} ", self.runs);
        let lines = trace.lines().filter_map(|line| line.strip_prefix(&run));
        lines.map(str::to_owned).collect()
    }
}
