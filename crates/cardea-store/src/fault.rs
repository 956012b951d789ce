//! File operations at which a test may have the disk fail.
//!
//! In builds with debug assertions the environment variable `CARDEA_FAULT_DISK` names a file of the test with five
//! words: a number of the run, whose files fail (`audit`, `store` or `both`), from which of their operations of the
//! run on, how many of those that can end so, and with which error number.
//! All operations are written to the file of that name with `.trace` at its end.
//! Release builds contain none of this.

use std::io;

/// Whose files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The audit's.
    Audit,
    /// The cards' and what belongs to them.
    Store,
}

/// A file operation that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new file is opened.
    Create,
    /// A file is opened.
    Open,
    /// A folder is opened.
    OpenFolder,
    /// A name is removed.
    Remove,
    /// A name is changed.
    Rename,
    /// A file's content is brought to the disk.
    Sync,
    /// A folder's names are brought to the disk.
    SyncFolder,
    /// A file is written, lengthened or cut.
    Write,
}

/// Fails when a test wants the disk to fail here.
///
/// # Errors
///
/// The error that the test wants.
#[cfg(debug_assertions)]
pub fn step(area: Area, step: Step) -> io::Result<()> {
    testing::step(area, step)
}

/// Nothing.
///
/// # Errors
///
/// None.
#[cfg(not(debug_assertions))]
#[inline]
pub fn step(_area: Area, _step: Step) -> io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
mod testing {
    use std::fs::OpenOptions;
    use std::io::{self, Write};
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, PoisonError};

    use super::{Area, Step};

    /// A run: its number, how many operations it has had, and how many of them have failed.
    #[derive(Default)]
    struct Run {
        number: u64,
        operations: u64,
        failed: u64,
    }

    /// Where the test says what is to fail, and the present run.
    type Progress = Option<(PathBuf, Mutex<Run>)>;

    pub(super) fn step(area: Area, step: Step) -> io::Result<()> {
        static PROGRESS: OnceLock<Progress> = OnceLock::new();
        let progress = PROGRESS.get_or_init(|| {
            let path = std::env::var_os("CARDEA_FAULT_DISK")?;
            Some((path.into(), Mutex::default()))
        });
        let Some((path, progress)) = progress else {
            return Ok(());
        };
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = next(path, &mut progress, area, step).map_or(Ok(()), Err);
        let mark = if outcome.is_err() { " failed" } else { "" };
        let mut trace = path.clone().into_os_string();
        trace.push(".trace");
        let trace = OpenOptions::new().append(true).create(true).open(trace);
        drop(
            trace.and_then(|mut trace| {
                writeln!(trace, "{} {area:?} {step:?}{mark}", progress.number)
            }),
        );
        outcome
    }

    /// The error of the next operation, if it is to fail.
    fn next(path: &Path, progress: &mut Run, area: Area, step: Step) -> Option<io::Error> {
        let plan = std::fs::read_to_string(path).ok()?;
        let mut words = plan.split_ascii_whitespace();
        let run = words.next()?.parse().ok()?;
        let areas = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (from, count, error) = (number()?, number()?, number()?);
        if progress.number != run {
            *progress = Run {
                number: run,
                ..Run::default()
            };
        }
        let is_meant = match area {
            Area::Audit => areas != "store",
            Area::Store => areas != "audit",
        };
        if !is_meant {
            return None;
        }
        progress.operations += 1;
        let error = i32::try_from(error).ok()?;
        if progress.operations < from || progress.failed >= count || !may_fail(step, error) {
            return None;
        }
        progress.failed += 1;
        Some(io::Error::from_raw_os_error(error))
    }

    /// Whether an operation fails so on a real system.
    fn may_fail(step: Step, error: i32) -> bool {
        let error = rustix::io::Errno::from_raw_os_error(error);
        match error {
            rustix::io::Errno::MFILE => {
                matches!(step, Step::Create | Step::Open | Step::OpenFolder)
            }
            // Removing a file and opening what exists takes no room.
            rustix::io::Errno::NOSPC => {
                !matches!(step, Step::Open | Step::OpenFolder | Step::Remove)
            }
            // Reading goes on.
            rustix::io::Errno::ROFS => !matches!(step, Step::Open | Step::OpenFolder),
            _ => true,
        }
    }
}
