//! The few file operations that persistence is made of, so that tests can stop between any two of them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// File operations, each of which a power cut may come before or after.
pub(crate) trait Disk: Send + Sync {
    /// Contents of a regular file of at most `limit` bytes (one more tells that it is larger); no link is
    /// followed.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Makes or empties a file of mode 0600 and writes it; not yet on the disk.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Brings a file's contents to the disk.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing the target; not yet on the disk.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Brings a folder's names to the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The file system.
pub(crate) struct FileSystem;

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened: OwnedFd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    let file = File::from(opened);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

impl Disk for FileSystem {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let file = open(path, OFlags::RDONLY)?;
        let mut contents = Vec::new();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut contents)?;
        Ok(contents)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        open(path, OFlags::WRONLY)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }
}

/// Writes a small file so that after a power cut it has its old or its new contents.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    disk.write(&new, bytes)?;
    disk.sync(&new)?;
    disk.rename(&new, path)?;
    sync_parent(disk, path)
}

pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| disk.sync_folder(folder))
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
