//! Files of an authority: read with their name in every error, and written whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cardea_pki::{Certificate, PathCertificate};

use crate::exit::{Exit, Failure};
use crate::file;

/// A text file; one that is not there is empty.
pub(super) fn lines_of(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(failed(path, "cannot be read", &error)),
    }
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<PathCertificate>, Failure> {
    let content = file::read(path)?;
    let found = Certificate::parse_all(&content).map_err(|error| invalid(path, &error))?;
    let parsed = found.iter().map(|one| PathCertificate::parse(one.der()));
    let parsed = parsed.collect::<Result<_, _>>();
    parsed.map_err(|error| invalid(path, &error))
}

/// A new file that only its owner can read, with its content and its name on the disk.
pub(super) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    sync_folder(path)
}

/// Names in the folder of a file are on the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A file that has its whole content before it gets its name; it may take another one's place.
#[must_use]
pub(super) struct WholeFile {
    path: PathBuf,
    written: PathBuf,
}

impl WholeFile {
    /// Writes the content under another name.
    pub(super) fn begin(path: &Path, content: &[u8]) -> Result<Self, Failure> {
        let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(format!(".new-{}", std::process::id()));
        let written = path.with_file_name(name);
        let not_written = |error| failed(path, "cannot be written", &error);
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o644);
        let mut file = made.open(&written).map_err(not_written)?;
        let whole = Self {
            path: path.to_owned(),
            written,
        };
        let wrote = file.write_all(content).and_then(|()| file.sync_all());
        wrote.map_err(not_written)?;
        Ok(whole)
    }

    /// Gives it its name.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let done = fs::rename(&self.written, &self.path).and_then(|()| sync_folder(&self.path));
        done.map_err(|error| failed(&self.path, "cannot be written", &error))
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // Gone already if it has got its name.
        drop(fs::remove_file(&self.written));
    }
}

pub(super) fn failed(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{} {what}: {error}", path.display()))
}

pub(super) fn invalid(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}
