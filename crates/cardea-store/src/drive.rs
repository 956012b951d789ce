//! Card files in a folder of a drive that comes and goes, reached by an open descriptor of that folder.
//!
//! Nothing on the drive is believed: a file is read only if it is a regular one of bounded size in this very
//! folder, and what it says counts only with this host's HMAC. Owners and modes of the drive mean nothing.
//!
//! Names have one part, so they lead nowhere else: no link is followed, none leads out of the folder.
//! (`openat2` with `RESOLVE_BENEATH` would say the same once more, but a service with systemd's
//! `RestrictSUIDSGID=` does not have that call.)

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cardea_card::record::{CardId, CardRecord};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::card_file::{CardFile, RefusedList, Shared, StoredCard, base_name, name_of};
use crate::disk::{Disk, fault, not_regular, write_all};
use crate::error::{StoreError, failed};
use crate::fault::Step;
use crate::format::HostKey;

/// Names in a folder of a drive that are looked at.
const MAX_NAMES: usize = 1024;

/// Cards on one drive.
const MAX_CARDS: usize = 16;

/// Magic numbers (statfs(2)) of file systems whose answers come from the kernel and a disk, and that bring a
/// file to the disk when asked to. Others could keep the daemon waiting for as long as somebody else
/// likes (FUSE, network) or forget everything with the power (tmpfs).
const FILE_SYSTEMS: [(u64, &str); 10] = [
    (0x9660, "iso9660"),
    (0x4D44, "vfat"),
    (0xEF53, "ext4"),
    (0x482B, "hfsplus"),
    (0x1501_3346, "udf"),
    (0x2011_BAB0, "exfat"),
    (0x5846_5342, "xfs"),
    (0x7366_746E, "ntfs3"),
    (0x9123_683E, "btrfs"),
    (0xF2F5_2010, "f2fs"),
];

/// File systems of [`FILE_SYSTEMS`] that have no journal for names.
const WITHOUT_JOURNAL: [&str; 4] = ["exfat", "iso9660", "udf", "vfat"];

/// What writing to one drive takes: of the state folder the host key, and what was refused on this drive and is still
/// there. Outlives the lock on the state folder and every [`DriveFolder`].
#[derive(Debug)]
pub struct Drives {
    key: Arc<HostKey>,
    refused: Arc<RefusedList>,
}

impl Drives {
    pub(crate) fn new(key: Arc<HostKey>) -> Self {
        Self {
            key,
            refused: Arc::default(),
        }
    }

    /// Takes a folder in use, always of the same drive: what was refused in it before goes with the next save.
    ///
    /// # Errors
    ///
    /// When it is not a folder, or on a file system on which cards cannot be kept.
    pub fn open(&self, folder: OwnedFd) -> Result<DriveFolder, StoreError> {
        let kind = rustix::fs::fstatfs(&folder)
            .map_err(io::Error::from)
            .and_then(|found| file_system(u64::try_from(found.f_type).ok()));
        self.open_on(folder, kind)
    }

    pub(crate) fn open_on(
        &self,
        folder: OwnedFd,
        kind: io::Result<&str>,
    ) -> Result<DriveFolder, StoreError> {
        let disk = FolderDisk::new(folder, kind).map_err(failed("cannot use", Path::new(HERE)))?;
        Ok(DriveFolder {
            identity: disk.identity,
            read_only: disk.read_only,
            shared: self.shared(Arc::new(disk)),
        })
    }

    fn shared(&self, disk: Arc<dyn Disk>) -> Arc<Shared> {
        let (key, refused) = (Arc::clone(&self.key), Arc::clone(&self.refused));
        Arc::new(Shared::after(key, disk, refused))
    }

    #[cfg(test)]
    pub(crate) fn on_disk(&self, disk: Arc<dyn Disk>) -> DriveFolder {
        DriveFolder {
            shared: self.shared(disk),
            identity: (0, 0),
            read_only: false,
        }
    }
}

/// How the folder is called in messages: nobody here knows its path.
const HERE: &str = "the folder on the drive";

/// A folder with card files on a drive, open as long as this value lives: the drive is busy until then.
pub struct DriveFolder {
    shared: Arc<Shared>,
    identity: (u64, u64),
    read_only: bool,
}

impl DriveFolder {
    /// Device and inode: the same as long as the drive is there.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether nothing can be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The names of its card files, in order; of generations as of the files themselves.
    ///
    /// # Errors
    ///
    /// When it cannot be listed, or has more in it than a folder of cards.
    pub fn names(&self) -> Result<Vec<PathBuf>, StoreError> {
        let listed = self.shared.disk.list(Path::new(""));
        let listed = listed.map_err(failed("cannot list", Path::new(HERE)))?;
        let mut names: Vec<PathBuf> = listed
            .iter()
            .filter_map(|name| Some(PathBuf::from(base_name(name.to_str()?)?)))
            .collect();
        names.sort();
        names.dedup();
        if names.len() > MAX_CARDS {
            return Err(StoreError::Unusable {
                path: HERE.into(),
                what: "it has more card files than a drive may have",
            });
        }
        Ok(names)
    }

    /// The card file of a name of [`names`](Self::names), after what was refused has been taken back and a replacement
    /// that was interrupted has been finished; none when it has gone meanwhile.
    ///
    /// # Errors
    ///
    /// When one of these cannot be done.
    pub fn card(&self, name: &Path) -> Result<Option<StoredCard>, StoreError> {
        CardFile::new(name.to_owned(), Arc::clone(&self.shared)).take_back()?;
        self.shared.recover(name)?;
        Ok(self.shared.stored(name.to_owned()))
    }

    /// Writes a new card's file. When it returns, the card survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`], and then the other file is untouched; any other one, and then there is no file.
    pub fn create(&self, record: &CardRecord) -> Result<(), StoreError> {
        self.require_free(record.id)?;
        self.file(record.id).create(record)
    }

    /// Refuses what [`create`](Self::create) would refuse, before anything is done.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`]; [`StoreError::Io`] when that cannot be found out.
    pub fn require_free(&self, card: CardId) -> Result<(), StoreError> {
        self.shared.require_free(Path::new(&name_of(card)), card)
    }

    /// Removes what an unfinished creation has written of a card's file, told by its record. What it has not written
    /// stays, whatever name it has.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; some of it may still be there.
    pub fn remove_made(
        &self,
        card: CardId,
        is_made: &dyn Fn(&CardRecord) -> bool,
    ) -> Result<(), StoreError> {
        let name = PathBuf::from(name_of(card));
        self.shared.remove_made(&name, is_made)
    }

    /// Writes the next generation of a card's file.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then the generation before counts.
    pub fn save(&self, record: &CardRecord) -> Result<(), StoreError> {
        let file = self.file(record.id);
        // First: it would be finished as an interrupted replacement.
        file.take_back()?;
        self.shared.recover(Path::new(&name_of(record.id)))?;
        file.write_after(record)
    }

    /// Puts a record in place of the file of another host, or one that was edited: an administrator has looked
    /// at what it says. When it returns, this survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then it is as it was, or is so again as soon as the disk works.
    pub fn adopt(&self, record: &CardRecord) -> Result<(), StoreError> {
        self.file(record.id).adopt(record)
    }

    /// Removes a card's file with all generations; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the card may still be there.
    pub fn remove(&self, card: CardId) -> Result<(), StoreError> {
        let name = PathBuf::from(name_of(card));
        let removed = self.shared.remove(&name);
        removed.map_err(failed("cannot remove", &name))
    }

    fn file(&self, card: CardId) -> CardFile {
        CardFile::new(name_of(card).into(), Arc::clone(&self.shared))
    }
}

/// File operations on names in a folder.
pub(crate) struct FolderDisk {
    folder: OwnedFd,
    identity: (u64, u64),
    journal: bool,
    read_only: bool,
}

impl FolderDisk {
    pub(crate) fn new(given: OwnedFd, kind: io::Result<&str>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&given)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
        }
        let kind = kind?;
        // The position of the one given is shared with whoever gave it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&given, ".", flags, Mode::empty()).map_err(told)?;
        let flags = rustix::fs::fstatvfs(&folder)?.f_flag;
        Ok(Self {
            folder,
            identity: (stat.st_dev, stat.st_ino),
            journal: !WITHOUT_JOURNAL.contains(&kind),
            read_only: flags.contains(StatVfsMountFlags::RDONLY),
        })
    }

    fn rename_with(&self, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
        let (old, new) = (single(from)?, single(to)?);
        fault(Step::Rename)?;
        rustix::fs::renameat_with(&self.folder, old, &self.folder, new, flags).map_err(told)?;
        if !self.journal {
            // vfat writes the new name with no content at first; where the content is follows with the file.
            self.open(new)?.sync_all()?;
        }
        Ok(())
    }

    /// A regular file of this folder, for reading.
    fn open(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(&self.folder, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&found)?;
        // Another device: something is mounted over the name.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || stat.st_dev != self.identity.0
        {
            return Err(not_regular());
        }
        // The one that was looked at, whatever has its name by now: opening a pipe or a device can do harm.
        let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(itself, flags, Mode::empty()).map_err(told)?;
        Ok(File::from(opened))
    }
}

fn file_system(magic: Option<u64>) -> io::Result<&'static str> {
    let known = FILE_SYSTEMS.iter().find(|(known, _)| Some(*known) == magic);
    known.map(|(_, name)| *name).ok_or_else(|| {
        let names: Vec<_> = FILE_SYSTEMS.iter().map(|(_, name)| *name).collect();
        let text = format!(
            "cards cannot be kept on file systems of this kind; supported are {}",
            names.join(", ")
        );
        io::Error::new(io::ErrorKind::Unsupported, text)
    })
}

/// An error that the drive's modes have caused, with what to do.
fn told(error: Errno) -> io::Error {
    match error {
        Errno::ACCESS => {
            let uid = rustix::process::geteuid().as_raw();
            let text = format!(
                "only the owner of the drive has access to it, not the daemon (user id {uid}); give that user access to \
                 the folder, or allow the daemon to use such drives"
            );
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        error => error.into(),
    }
}

/// The one part of a name.
fn single(path: &Path) -> io::Result<&OsStr> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(name)), None) if name == path.as_os_str() => Ok(name),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl Disk for FolderDisk {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        fault(Step::Open)?;
        let file = self.open(single(path)?)?;
        let limit = limit.saturating_add(1);
        let mut contents = Vec::new();
        file.take(u64::try_from(limit).unwrap_or(u64::MAX))
            .read_to_end(&mut contents)?;
        Ok(contents)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.remove(path)?;
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        // Readable for the daemon of another installation, which has another user id; nothing in it is a secret.
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        fault(Step::Create)?;
        let made = rustix::fs::openat(&self.folder, single(path)?, flags, mode).map_err(told)?;
        // The umask took some away. File systems without modes may refuse.
        let _ = rustix::fs::fchmod(&made, mode);
        let mut file = File::from(made);
        write_all(&mut file, bytes)?;
        fault(Step::Sync)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        // In one step: others write on a drive, too. All of `FILE_SYSTEMS` can do it.
        self.rename_with(from, to, RenameFlags::NOREPLACE)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fault(Step::Remove)?;
        match rustix::fs::unlinkat(&self.folder, single(path)?, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => other.map_err(told),
        }
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        fault(Step::SyncFolder)?;
        match rustix::fs::fsync(&self.folder) {
            // Some file systems sync files only.
            Err(Errno::INVAL) => Ok(rustix::fs::syncfs(&self.folder)?),
            other => Ok(other?),
        }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        use std::os::unix::ffi::OsStrExt;
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let name = entry?;
            let name = name.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == MAX_NAMES {
                return Err(io::Error::other("it has too many files in it"));
            }
            names.push(PathBuf::from(OsStr::from_bytes(name)));
        }
        Ok(names)
    }

    fn renames_whole(&self) -> bool {
        self.journal
    }
}
