//! The state folder: made, closed to others, locked.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use zeroize::Zeroizing;

use crate::disk::{self, Disk, replace};
use crate::error::{StoreError, failed};
use crate::format::HostKey;
use crate::registry::{MAX_REGISTRY, Registry};

/// Makes the folders, mode 0700, and brings their names to the disk.
pub(crate) fn make(folder: &Path) -> Result<(), StoreError> {
    let fresh: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    make_one(folder)?;
    for path in [cards(folder), drives(folder), intents(folder)] {
        make_one(&path)?;
        let found = path
            .symlink_metadata()
            .map_err(failed("cannot look at", &path))?;
        if !found.is_dir() {
            return Err(unusable(&path, "not a folder"));
        }
    }
    for path in fresh.iter().filter_map(|path| path.parent()) {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        sync(path)?;
    }
    sync(folder)
}

fn make_one(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("cannot make the folder", path))?;
    let found = path.metadata().map_err(failed("cannot look at", path))?;
    require_own(path, &found)?;
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(failed("cannot close to others", path))?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), StoreError> {
    disk::FileSystem::default()
        .sync_folder(path)
        .map_err(failed("cannot sync", path))
}

/// The lock that a daemon holds on its folder.
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let lock = disk::open(&path, OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK)
        .map_err(failed("cannot open", &path))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(folder.to_owned())),
        Err(error) => Err(failed("cannot lock", &path)(error.into())),
    }
}

/// Refuses a host key that others could have read or put there: with it they could write card files that
/// this host believes.
pub(crate) fn check_host_key(folder: &Path) -> Result<(), StoreError> {
    let path = host_key_path(folder);
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed("cannot look at", &path))?,
    };
    require_own(&path, &found)?;
    if found.is_file() && found.mode() & 0o077 != 0 {
        return Err(unusable(
            &path,
            "others may read it; remove it and adopt the cards again, or set mode 0600 if nobody has",
        ));
    }
    Ok(())
}

fn require_own(path: &Path, found: &Metadata) -> Result<(), StoreError> {
    if found.uid() == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(unusable(path, "it belongs to another user"))
    }
}

/// Reads the host key, or makes it at the first start.
pub(crate) fn host_key(disk: &dyn Disk, folder: &Path) -> Result<HostKey, StoreError> {
    let path = host_key_path(folder);
    match disk.read(&path, 32) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            <[u8; 32]>::try_from(&bytes[..])
                .map(HostKey::new)
                .map_err(|_| unusable(&path, "a host key must have 32 bytes"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *key)
                .map_err(|error| failed("no randomness for", &path)(io::Error::other(error)))?;
            replace(disk, &path, &key[..]).map_err(failed("cannot write", &path))?;
            tracing::info!(path = %path.display(), "host key made");
            Ok(HostKey::new(*key))
        }
        Err(error) => Err(failed("cannot read", &path)(error)),
    }
}

pub(crate) fn registry(disk: &dyn Disk, folder: &Path) -> Result<Registry, StoreError> {
    let path = registry_path(folder);
    match disk.read(&path, MAX_REGISTRY) {
        Ok(bytes) => Registry::from_bytes(&bytes).ok_or_else(|| {
            unusable(
                &path,
                "not a registry; remove it to have new instance numbers assigned to the cards",
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Registry::default()),
        Err(error) => Err(failed("cannot read", &path)(error)),
    }
}

pub(crate) fn cards(folder: &Path) -> PathBuf {
    folder.join("cards")
}

pub(crate) fn drives(folder: &Path) -> PathBuf {
    folder.join("drives")
}

pub(crate) fn intents(folder: &Path) -> PathBuf {
    folder.join("intents")
}

pub(crate) fn registry_path(folder: &Path) -> PathBuf {
    folder.join("registry")
}

pub(crate) fn examination_path(folder: &Path) -> PathBuf {
    folder.join("tpm-examination")
}

fn host_key_path(folder: &Path) -> PathBuf {
    folder.join("host.key")
}

fn unusable(path: &Path, what: &'static str) -> StoreError {
    StoreError::Unusable {
        path: path.to_owned(),
        what,
    }
}
