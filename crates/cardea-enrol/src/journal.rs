//! Jobs in a folder: one file each, replaced as a whole, and one program at a time for each card.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;
use crate::job::Job;

/// Where a job is written before each step that somebody else can see.
pub trait Journal {
    /// Returns when the job would survive a power cut.
    ///
    /// # Errors
    /// [`Error::Job`].
    fn save(&mut self, job: &Job) -> Result<(), Error>;
}

/// A folder of jobs, with the lock of one card's.
#[derive(Debug)]
pub struct FolderJournal {
    folder: PathBuf,
    _lock: File,
}

impl FolderJournal {
    /// Opens the folder for the jobs of one card, and makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::Job`] if it cannot be made, or if another program is at work for this card.
    pub fn open(folder: &Path, card: &str) -> Result<Self, Error> {
        let failed = |error: std::io::Error| job_error(folder, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        let name = format!("{}.lock", file_name(card)?);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join(name))
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Busy);
            }
            Err(error) => return Err(job_error(folder, &error.into())),
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// Removes a job's file.
    ///
    /// # Errors
    /// [`Error::Job`].
    pub fn remove(&self, job: &Job) -> Result<(), Error> {
        let path = self.folder.join(format!("{}.json", file_name(&job.id)?));
        fs::remove_file(&path)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|error| job_error(&path, &error))
    }

    /// All jobs of a folder, the oldest first, and what is wrong with files that cannot be read.
    #[must_use]
    pub fn list(folder: &Path) -> (Vec<Job>, Vec<Error>) {
        let (mut jobs, mut errors) = (Vec::new(), Vec::new());
        let Ok(entries) = fs::read_dir(folder) else {
            return (jobs, errors);
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // A file that a power cut has left half written has another ending.
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            match read(&path) {
                Ok(job) => jobs.push(job),
                Err(error) => errors.push(error),
            }
        }
        jobs.sort_by(|one, other| (one.begun, &one.id).cmp(&(other.begun, &other.id)));
        (jobs, errors)
    }
}

impl Journal for FolderJournal {
    fn save(&mut self, job: &Job) -> Result<(), Error> {
        let name = file_name(&job.id)?;
        let new = self.folder.join(format!("{name}.new"));
        let path = self.folder.join(format!("{name}.json"));
        let text = serde_json::to_vec_pretty(job)
            .map_err(|error| Error::Job(format!("the job cannot be written: {error}")))?;
        let write = || -> std::io::Result<()> {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| job_error(&path, &error))
    }
}

fn read(path: &Path) -> Result<Job, Error> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut text))
        .map_err(|error| job_error(path, &error))?;
    let job: Job = serde_json::from_slice(&text).map_err(|error| {
        Error::Job(format!(
            "{} is not a job of this version: {error}",
            path.display()
        ))
    })?;
    let is_named = path.file_stem().is_some_and(|stem| stem == job.id.as_str());
    if job.version != 1 || !is_named {
        return Err(Error::Job(format!(
            "{} is not a job of this version",
            path.display()
        )));
    }
    Ok(job)
}

/// A request, a certificate and its chain have a hundredth of it.
const MAX_FILE: u64 = 4 << 20;

/// A name that stays in its folder.
fn file_name(text: &str) -> Result<&str, Error> {
    let is_plain = !text.is_empty()
        && text.len() <= 128
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match is_plain {
        true => Ok(text),
        false => Err(Error::Job("this cannot be the name of a job".to_owned())),
    }
}

fn job_error(path: &Path, error: &std::io::Error) -> Error {
    Error::Job(format!("{}: {error}", path.display()))
}
