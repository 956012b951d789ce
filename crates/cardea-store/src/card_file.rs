//! One card's file and its generations.
//!
//! | name | what |
//! |---|---|
//! | `<id>.card` | the current generation |
//! | `<id>.card.old` | the previous one |
//! | `<id>.card.new` | one that is being written |
//! | `<id>.card.damaged` | what was found in place of the current one, kept for people |

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardea_card::record::{CardId, CardRecord};
use cardea_card::token::CardStore;

use crate::disk::{Disk, NEW, sync_parent, with_suffix};
use crate::error::{StoreError, failed};
use crate::format::{CardFileError, Decoded, HostKey, MAX_FILE, decode, encode};

const OLD: &str = ".old";
const DAMAGED: &str = ".damaged";
const EXTENSION: &str = ".card";

/// What a store and its card files share.
pub(crate) struct Shared {
    pub(crate) key: Arc<HostKey>,
    pub(crate) disk: Arc<dyn Disk>,
    /// Held while generations change places: a reader would find none.
    changing: Mutex<()>,
    /// What is on the disk and was refused: it goes before anything else is written.
    refused: Arc<RefusedList>,
    /// A card file in use keeps the folder locked; drives are not.
    _lock: Option<File>,
}

impl Shared {
    pub(crate) fn new(key: Arc<HostKey>, disk: Arc<dyn Disk>, lock: Option<File>) -> Self {
        Self {
            key,
            disk,
            changing: Mutex::default(),
            refused: Arc::default(),
            _lock: lock,
        }
    }

    /// Like [`Shared::new`], with what was refused on the same disk before.
    pub(crate) fn after(key: Arc<HostKey>, disk: Arc<dyn Disk>, refused: Arc<RefusedList>) -> Self {
        Self {
            refused,
            ..Self::new(key, disk, None)
        }
    }

    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, Vec<Refused>> {
        let refused = self.refused.0.lock();
        refused.unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a new file that was refused and could not be removed.
    pub(crate) fn refuse_new(&self, path: &Path) {
        self.refused().push(Refused {
            path: path.to_owned(),
            new: with_suffix(path, NEW),
            back: Back::Remove,
        });
    }

    /// Takes refused generations of one file, or of all, back from the disk. The caller holds the lock.
    pub(crate) fn take_back(&self, of: Option<&Path>) -> io::Result<()> {
        let mut refused = self.refused();
        let mut outcome = Ok(());
        refused.retain(|one| {
            if of.is_some_and(|path| path != one.path) {
                return true;
            }
            match one.take_back(&*self.disk) {
                Ok(()) => false,
                Err(error) => {
                    outcome = Err(error);
                    true
                }
            }
        });
        outcome
    }

    fn generation(
        &self,
        path: &Path,
        id: Option<CardId>,
    ) -> Option<Result<Decoded, CardFileError>> {
        let bytes = match self.disk.read(path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound => None,
                    io::ErrorKind::InvalidInput => Some(Err(CardFileError::NotRegular)),
                    _ => Some(Err(CardFileError::Io(error))),
                };
            }
        };
        Some(decode(&self.key, &bytes).and_then(|decoded| match id {
            Some(id) if id != decoded.record.id => Err(CardFileError::OtherCard(decoded.record.id)),
            _ => Ok(decoded),
        }))
    }

    /// Refuses a new card under a name that some generation has, readable or not. Half of one that was being written
    /// is none.
    pub(crate) fn require_free(&self, path: &Path, id: CardId) -> Result<(), StoreError> {
        for found in [path.to_owned(), with_suffix(path, OLD)] {
            match self.generation(&found, None) {
                None => {}
                Some(Err(CardFileError::Io(error))) => {
                    return Err(failed("cannot read", &found)(error));
                }
                Some(_) => return Err(StoreError::Exists(id)),
            }
        }
        let new = with_suffix(path, NEW);
        match self.generation(&new, None) {
            Some(Err(CardFileError::Io(error))) => Err(failed("cannot read", &new)(error)),
            Some(found) if !is_half(&found) => Err(StoreError::Exists(id)),
            _ => Ok(()),
        }
    }

    /// Removes what an unfinished creation has written, told by its record, and nothing that has come from elsewhere.
    /// The caller holds the lock.
    pub(crate) fn remove_made(
        &self,
        path: &Path,
        is_made: &dyn Fn(&CardRecord) -> bool,
    ) -> Result<(), StoreError> {
        let id = id_of(path);
        let new = with_suffix(path, NEW);
        for name in [&*new, path] {
            let goes = match self.generation(name, id) {
                None => false,
                Some(Err(CardFileError::Io(error))) => {
                    return Err(failed("cannot read", name)(error));
                }
                Some(Ok(decoded)) => decoded.trusted && is_made(&decoded.record),
                Some(found) => name == new && is_half(&found),
            };
            let removed = match goes {
                true => self.disk.remove(name),
                false => Ok(()),
            };
            // Also what was removed before, and perhaps not on the disk.
            removed
                .and_then(|()| sync_parent(&*self.disk, name))
                .map_err(failed("cannot remove", name))?;
        }
        self.refused().retain(|refused| refused.path != path);
        Ok(())
    }

    /// Whether any generation of this file is there, readable or not.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        [path.to_owned(), with_suffix(path, OLD)]
            .iter()
            .any(|path| self.generation(path, None).is_some())
    }

    /// The current generation if this host wrote it, else the previous one if this host wrote that, else
    /// what there is. None for a file of which no generation is there.
    ///
    /// The previous generation can bring back a deleted key or an older certificate, never a PIN or a counter
    /// (docs/design/tpm.md section 13). It does not stand in for a file that cannot be read at this moment or that
    /// a newer version wrote: the next save would bury that one.
    pub(crate) fn stored(&self, path: PathBuf) -> Option<StoredCard> {
        let Some(id) = id_of(&path) else {
            // Also not compared with its content: who wrote it under this name is not known.
            return self.exists(&path).then(|| StoredCard {
                id: None,
                path,
                content: Err(CardFileError::StrayName),
                trusted: false,
                previous: false,
            });
        };
        let current = self.generation(&path, Some(id));
        let old = match &current {
            Some(Ok(decoded)) if decoded.trusted => None,
            Some(Err(error)) if !error.is_lasting() => None,
            _ => self.generation(&with_suffix(&path, OLD), Some(id)),
        };
        let (found, previous) = match (current, old) {
            (_, Some(Ok(old))) if old.trusted => (Ok(old), true),
            (Some(current), _) => (current, false),
            (None, Some(old)) => (old, true),
            (None, None) => return None,
        };
        let trusted = found.as_ref().is_ok_and(|decoded| decoded.trusted);
        Some(StoredCard {
            id: Some(id),
            path,
            content: found.map(|decoded| decoded.record),
            trusted,
            previous,
        })
    }

    /// Finishes a replacement that a power cut interrupted, or forgets it, on the disk: what is left of `.new`
    /// could come back with the next power cut, after it was found to be no part of the card.
    pub(crate) fn recover(&self, path: &Path) -> Result<(), StoreError> {
        let Some(id) = id_of(path) else {
            return Ok(());
        };
        let new = with_suffix(path, NEW);
        let own = |path: &Path| match self.generation(path, Some(id)) {
            None => Own::Absent,
            Some(Ok(decoded)) if decoded.trusted => Own::Yes,
            Some(Ok(_)) => Own::Foreign,
            Some(Err(error)) if !error.is_lasting() => Own::Unknown,
            Some(Err(_)) => Own::No,
        };
        if own(&new) != Own::Yes {
            // Half a file; or of another host key, and then perhaps the only one.
            return Ok(());
        }
        let disk = &*self.disk;
        if !disk.renames_whole() && self.is_same_file(path, &new) {
            // Half a rename: two names of one content. Without a journal, removing one frees both.
            return Ok(());
        }
        let done = match (own(path), own(&with_suffix(path, OLD))) {
            (Own::Unknown, _) => return Ok(()),
            // Nobody was told that a foreign file is adopted, and it is whole.
            (Own::Yes | Own::Foreign, _) | (Own::No, Own::Yes) => disk.remove(&new),
            (Own::Absent, _) => disk.rename(&new, path),
            (Own::No, _) => disk
                .rename(path, &with_suffix(path, DAMAGED))
                .and_then(|()| disk.rename(&new, path)),
        };
        done.and_then(|()| sync_parent(disk, path))
            .map_err(failed("cannot finish the replacement of", path))
    }

    fn is_same_file(&self, one: &Path, other: &Path) -> bool {
        let read = |path| self.disk.read(path, MAX_FILE).ok();
        read(one).is_some_and(|content| read(other).as_ref() == Some(&content))
    }

    /// Removes a card's file with all generations, the caller holding the lock.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        // The current generation last: without it an older one would come back after a power cut.
        for suffix in [OLD, NEW, DAMAGED] {
            self.disk.remove(&with_suffix(path, suffix))?;
        }
        sync_parent(&*self.disk, path)?;
        self.disk.remove(path)?;
        sync_parent(&*self.disk, path)?;
        self.refused().retain(|refused| refused.path != path);
        Ok(())
    }
}

/// Whether a file is what a write that was interrupted leaves.
fn is_half(found: &Result<Decoded, CardFileError>) -> bool {
    matches!(
        found,
        Err(CardFileError::Damaged(_)
            | CardFileError::Fault(_)
            | CardFileError::NotACardFile
            | CardFileError::Truncated)
    )
}

/// A card file as it was found.
#[derive(Debug)]
pub struct StoredCard {
    /// The id in its name; `None` if the name is not an id, and then there is no content either.
    pub id: Option<CardId>,
    /// Where it is.
    pub path: PathBuf,
    /// Its record, or why there is none.
    pub content: Result<CardRecord, CardFileError>,
    /// Whether this host wrote it.
    pub trusted: bool,
    /// Whether the current generation was missing or damaged and the previous one is given.
    pub previous: bool,
}

/// A card's file, for writing. Keeps the state folder locked.
pub struct CardFile {
    path: PathBuf,
    shared: Arc<Shared>,
}

impl CardFile {
    pub(crate) fn new(path: PathBuf, shared: Arc<Shared>) -> Self {
        Self { path, shared }
    }

    /// Writes the first generation. The caller holds the lock and knows that there is none.
    pub(crate) fn create(&self, record: &CardRecord) -> Result<(), StoreError> {
        self.take_back()?;
        self.write(record, Aside::Nothing)
    }

    /// Puts a record in place of whatever is there: what is there is the same record.
    pub(crate) fn adopt(&self, record: &CardRecord) -> Result<(), StoreError> {
        self.take_back()?;
        let before = match self.shared.disk.read(&self.path, MAX_FILE) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("cannot read", &self.path)(error)),
        };
        self.write(
            record,
            before.as_deref().map_or(Aside::Nothing, Aside::Overwrite),
        )?;
        // Of the time before adoption. The record is on the disk, so nothing is refused any more; the next save
        // replaces what is left.
        let old = with_suffix(&self.path, OLD);
        if let Err(error) = self.shared.disk.remove(&old) {
            tracing::warn!(path = %old.display(), error = %error, "the generation from before the adoption is still there");
        }
        Ok(())
    }

    pub(crate) fn write_next(&self, record: &CardRecord) -> Result<(), StoreError> {
        let _changing = self.shared.change();
        self.take_back()?;
        self.write_after(record)
    }

    /// Like [`CardFile::write_next`], when what was refused has been taken back.
    pub(crate) fn write_after(&self, record: &CardRecord) -> Result<(), StoreError> {
        let id = id_of(&self.path);
        let aside = match self.shared.generation(&self.path, id) {
            None => Aside::Nothing,
            Some(Ok(decoded)) if decoded.trusted => Aside::Previous,
            Some(Err(error)) if !error.is_lasting() => return Err(error.into()),
            // Damaged since it was read, or already then: the previous generation is the good one.
            Some(_) => Aside::Damaged,
        };
        self.write(record, aside)
    }

    /// Nothing is built on what was refused.
    pub(crate) fn take_back(&self) -> Result<(), StoreError> {
        self.shared
            .take_back(Some(&self.path))
            .map_err(failed("cannot take back what was refused in", &self.path))
    }

    /// New file, sync, the current one goes aside, the new one becomes the current one, sync of the folder.
    /// At every moment a whole generation is there.
    fn write(&self, record: &CardRecord, aside: Aside<'_>) -> Result<(), StoreError> {
        let disk = &*self.shared.disk;
        let bytes = encode(&self.shared.key, record)?;
        let new = with_suffix(&self.path, NEW);
        if let Err(error) = disk.write(&new, &bytes) {
            // A full disk gets its room back.
            self.forget(&new);
            return Err(failed("cannot write", &new)(error));
        }
        if !disk.renames_whole()
            && let Err(error) = sync_parent(disk, &new)
        {
            self.forget(&new);
            return Err(failed("cannot write", &new)(error));
        }
        self.replace(&new, aside).map_err(|error| {
            if matches!(aside, Aside::Nothing) && error.kind() == io::ErrorKind::AlreadyExists {
                return StoreError::Exists(record.id);
            }
            let what = match self
                .shared
                .refused()
                .iter()
                .any(|one| one.path == self.path)
            {
                true => UNKNOWN,
                false => "cannot replace",
            };
            failed(what, &self.path)(error)
        })
    }

    fn replace(&self, new: &Path, aside: Aside<'_>) -> io::Result<()> {
        let disk = &*self.shared.disk;
        let kept = match aside {
            Aside::Damaged => Some(with_suffix(&self.path, DAMAGED)),
            Aside::Nothing | Aside::Overwrite(_) => None,
            Aside::Previous => Some(with_suffix(&self.path, OLD)),
        };
        if let Some(kept) = &kept
            && let Err(error) = disk.rename(&self.path, kept)
        {
            self.forget(new);
            return Err(error);
        }
        let apart = match (&kept, disk.renames_whole()) {
            (Some(_), false) => sync_parent(disk, &self.path),
            _ => Ok(()),
        };
        let renamed = apart.and_then(|()| match aside {
            Aside::Nothing => disk.rename_new(new, &self.path),
            Aside::Damaged | Aside::Overwrite(_) | Aside::Previous => disk.rename(new, &self.path),
        });
        if let (Aside::Nothing, Err(error)) = (aside, &renamed)
            && error.kind() == io::ErrorKind::AlreadyExists
        {
            // What somebody else has made meanwhile stays.
            self.forget(new);
            return renamed;
        }
        let replaced = renamed.and_then(|()| sync_parent(disk, &self.path));
        if replaced.is_err() {
            // The caller goes on with the old record, so the old file must be the one found next time.
            let refused = Refused {
                path: self.path.clone(),
                new: new.to_owned(),
                back: match (kept, aside) {
                    (Some(kept), _) => Back::Rename(kept),
                    (None, Aside::Overwrite(before)) => Back::Write(before.to_owned()),
                    (None, _) => Back::Remove,
                },
            };
            if let Err(error) = refused.take_back(disk) {
                tracing::error!(path = %self.path.display(), error = %error, "the old file is not back yet");
                self.shared.refused().push(refused);
            }
        }
        replaced
    }

    /// Removes what was not acknowledged, on the disk: it must not come back with a later power cut.
    fn forget(&self, new: &Path) {
        let disk = &*self.shared.disk;
        if let Err(error) = disk.remove(new).and_then(|()| sync_parent(disk, new)) {
            tracing::error!(path = %new.display(), error = %error, "unfinished file not removed");
        }
    }
}

impl CardStore for CardFile {
    fn save(&mut self, record: &CardRecord) -> Result<(), cardea_card::token::StoreError> {
        self.write_next(record)
            .map_err(|error| cardea_card::token::StoreError(Box::new(error)))
    }
}

/// A generation that may be on the disk and must not stay there, because it was reported as failed.
struct Refused {
    path: PathBuf,
    new: PathBuf,
    back: Back,
}

/// What is on a disk and was refused.
#[derive(Default)]
pub(crate) struct RefusedList(Mutex<Vec<Refused>>);

impl fmt::Debug for RefusedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedList").finish_non_exhaustive()
    }
}

/// How the generation before comes back.
enum Back {
    Remove,
    Rename(PathBuf),
    Write(Vec<u8>),
}

impl Refused {
    /// May be repeated.
    fn take_back(&self, disk: &dyn Disk) -> io::Result<()> {
        match &self.back {
            Back::Remove => disk.remove(&self.path)?,
            Back::Rename(kept) => match disk.rename(kept, &self.path) {
                // It was back already, and its name not on the disk for certain.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            },
            Back::Write(before) => {
                if !disk.renames_whole() {
                    sync_parent(disk, &self.path)?;
                }
                disk.write(&self.new, before)?;
                if !disk.renames_whole() {
                    sync_parent(disk, &self.new)?;
                }
                disk.rename(&self.new, &self.path)?;
            }
        }
        disk.remove(&self.new)?;
        sync_parent(disk, &self.path)
    }
}

/// What a failure says that leaves both possible until the disk works again.
pub(crate) const UNKNOWN: &str =
    "it is not known whether the disk has the change or not: it failed at the replacement of";

/// Whether a file is a whole one of this host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Absent,
    /// A whole one that this host has not written.
    Foreign,
    No,
    /// It is not for this version to say, or not now.
    Unknown,
    Yes,
}

/// Where the file goes that has the name of the current generation.
#[derive(Clone, Copy)]
enum Aside<'a> {
    /// It is invalid and must not replace the previous generation.
    Damaged,
    /// There is none.
    Nothing,
    /// Nowhere: this is its content, which comes back if the new file is refused.
    Overwrite(&'a [u8]),
    /// It becomes the previous generation.
    Previous,
}

/// Name of the card file that a name in the folder is a generation of.
pub(crate) fn base_name(name: &str) -> Option<&str> {
    let name = [OLD, NEW]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    name.ends_with(EXTENSION).then_some(name)
}

pub(crate) fn name_of(card: CardId) -> String {
    format!("{card}{EXTENSION}")
}

/// The id in the one spelling that is written: two files must not stand for one card.
fn id_of(path: &Path) -> Option<CardId> {
    let name = path.file_name()?.to_str()?;
    let id = name.strip_suffix(EXTENSION)?.parse().ok()?;
    (name == name_of(id)).then_some(id)
}
