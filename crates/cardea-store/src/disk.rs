//! The few file operations that persistence is made of, so that tests can stop between any two of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::fault::{self, Area, Step};

/// File operations, each of which a power cut may come before, within or after.
pub(crate) trait Disk: Send + Sync {
    /// Contents of a regular file of at most `limit` bytes (one more tells that it is larger).
    /// No link is followed: `InvalidInput` for anything but a regular file.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Makes a new file of mode 0600 in place of whatever has the name, writes it and brings its contents to
    /// the disk; its name may not be there yet.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames, replacing the target; not yet on the disk.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames to a name that nothing has, else fails with `AlreadyExists` and changes nothing; not yet on the disk.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, one that is not there is fine; not yet on the disk.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Brings a folder's names to the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Whether a power cut leaves a rename done or not done. Without a journal it can leave both names, or
    /// neither; then no two changes of names may be under way together.
    fn renames_whole(&self) -> bool {
        true
    }
}

/// The file system.
#[derive(Default)]
pub(crate) struct FileSystem {
    /// Folders that names have been changed in stay open: a descriptor that is missing when a name has been changed
    /// comes too late.
    folders: Mutex<BTreeMap<PathBuf, Arc<File>>>,
}

impl FileSystem {
    fn folder(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = folders.get(path) {
            return Ok(Arc::clone(folder));
        }
        fault(Step::OpenFolder)?;
        let folder = Arc::new(File::open(path)?);
        folders.insert(path.to_owned(), Arc::clone(&folder));
        Ok(folder)
    }
}

impl Disk for FileSystem {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        fault(Step::Open)?;
        // Without NONBLOCK a pipe of that name would hold the daemon for ever.
        let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        if !file.metadata()?.is_file() {
            return Err(not_regular());
        }
        let limit = limit.saturating_add(1);
        // Room for a small file at once: growing would leave copies of a key behind.
        let mut contents = Vec::with_capacity(limit.min(64 * 1024));
        file.take(u64::try_from(limit).unwrap_or(u64::MAX))
            .read_to_end(&mut contents)?;
        Ok(contents)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            self.folder(folder)?;
        }
        self.remove(path)?;
        fault(Step::Create)?;
        let mut file = open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        write_all(&mut file, bytes)?;
        fault(Step::Sync)?;
        // Through the descriptor that wrote: a later one may not be told of an error in between.
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fault(Step::Rename)?;
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        // Nobody else writes in this folder, which may be on a file system that cannot do it in one step.
        match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.rename(from, to),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fault(Step::Remove)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = self.folder(path)?;
        fault(Step::SyncFolder)?;
        folder.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fault(Step::OpenFolder)?;
        std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }
}

/// Writes to the file; what a test has fail here fails half-way.
pub(crate) fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = fault(Step::Write) {
        let (half, _) = bytes.split_at(bytes.len() / 2);
        drop(file.write_all(half));
        return Err(error);
    }
    file.write_all(bytes)
}

/// A place where a test may have the disk fail.
pub(crate) fn fault(step: Step) -> io::Result<()> {
    fault::step(Area::Store, step)
}

/// Opens a file itself, never what a link of that name points to.
pub(crate) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened: Result<OwnedFd, _> = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    match opened {
        Ok(descriptor) => Ok(File::from(descriptor)),
        // A link, or a socket.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Err(not_regular()),
        Err(error) => Err(error.into()),
    }
}

/// Writes a small file so that after a power cut it has its old or its new contents.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, NEW);
    let replaced = disk
        .write(&new, bytes)
        .and_then(|()| disk.rename(&new, path))
        .and_then(|()| sync_parent(disk, path));
    if replaced.is_err() {
        discard(disk, &new);
    }
    replaced
}

/// Removes a file that nobody reads, to give its room back.
pub(crate) fn discard(disk: &dyn Disk, path: &Path) {
    if let Err(error) = disk.remove(path) {
        tracing::warn!(path = %path.display(), error = %error, "unfinished file not removed");
    }
}

pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| disk.sync_folder(folder))
}

/// Suffix of a file that is being written.
pub(crate) const NEW: &str = ".new";

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}
