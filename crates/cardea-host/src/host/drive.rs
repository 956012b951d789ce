//! A drive with cards on it: who holds it, how its folder is reached, and how a card's file on it is written.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use cardea_card::record::CardRecord;
use cardea_card::token::{self, CardStore};
use cardea_client::message::{Failure, FailureKind};
use cardea_store::{DriveFolder, Drives, StoreError};

use crate::failure::fail;
use crate::fault;
use crate::host::Host;
use crate::host::lease::Lease;
use crate::sync::lock;

/// Who holds a drive must give its folder within this time; the card waits meanwhile.
const FOLDER_TIME: Duration = Duration::from_secs(5);

/// As [`FOLDER_TIME`], for all holders together.
const LONGEST_SEARCH: Duration = Duration::from_secs(8);

/// A folder on a drive, and those who hold it.
pub(crate) struct Drive {
    folders: Drives,
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    /// Where it is, as who brought it says.
    pub(crate) place: String,
    pub(crate) leases: Mutex<Vec<Arc<Lease>>>,
    /// It could no longer be written or read.
    failed: AtomicBool,
    host: Weak<Host>,
}

impl Drive {
    /// A drive that nobody holds yet.
    pub(crate) fn new(host: &Arc<Host>, identity: (u64, u64), place: String) -> Self {
        Self {
            folders: host.store.drives(),
            identity,
            place,
            leases: Mutex::default(),
            failed: AtomicBool::new(false),
            host: Arc::downgrade(host),
        }
    }

    /// Whether it could no longer be written or read.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether somebody is there who brings the drive for a card of this owner.
    pub(crate) fn serves(&self, owner: Option<u32>) -> bool {
        !self.has_failed()
            && lock(&self.leases)
                .iter()
                .any(|lease| lease.caller.may_see(owner) && !lease.is_over())
    }

    /// The folder, for as long as the value lives.
    pub(crate) fn folder(&self, owner: u32) -> Result<DriveFolder, DriveError> {
        let leases = lock(&self.leases).clone();
        let deadline = Instant::now() + LONGEST_SEARCH;
        for lease in leases {
            if !lease.caller.may_see(Some(owner)) {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(given) = lease.folder(FOLDER_TIME.min(left)) {
                let folder = self.folders.open(given)?;
                if folder.identity() == self.identity {
                    return Ok(folder);
                }
            }
        }
        self.give_up();
        Err(DriveError::Gone)
    }

    fn save(&self, record: &CardRecord) -> Result<(), DriveError> {
        let folder = self.folder(record.owner)?;
        fault::point("drive-folder");
        let saved = folder.save(record);
        fault::point("drive-saved");
        match saved {
            Ok(()) => Ok(()),
            Err(error) => {
                if !is_transient(&error) {
                    self.give_up();
                }
                Err(error.into())
            }
        }
    }

    /// The cards on it leave soon.
    fn give_up(&self) {
        self.failed.store(true, Ordering::Relaxed);
        if let Some(host) = self.host.upgrade() {
            host.wake_keeper();
        }
    }
}

impl fmt::Debug for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Whether the drive is there all the same: full, or not to be written.
fn is_transient(error: &StoreError) -> bool {
    match error {
        StoreError::Io { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::PermissionDenied
        ),
        _ => true,
    }
}

/// A card's file on its drive could not be reached or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriveError {
    #[error("the card's drive is no longer attached; attach it again (nothing was lost)")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A card's file, for the engine.
pub(crate) struct DriveStore(pub(crate) Arc<Drive>);

impl CardStore for DriveStore {
    fn save(&mut self, record: &CardRecord) -> Result<(), token::StoreError> {
        self.0
            .save(record)
            .map_err(|error| token::StoreError(Box::new(error)))
    }
}

/// Users who have a drive read at the moment: one each, so that nobody fills the memory with files.
#[derive(Debug, Default)]
pub(crate) struct Reading(Mutex<HashSet<u32>>);

pub(crate) struct Turn<'a>(&'a Reading, u32);

impl Reading {
    pub(crate) fn begin(&self, uid: u32) -> Result<Turn<'_>, Failure> {
        match lock(&self.0).insert(uid) {
            true => Ok(Turn(self, uid)),
            false => Err(fail(
                FailureKind::Busy,
                "another drive of yours is being read; try again in a moment",
            )),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).remove(&self.1);
    }
}
