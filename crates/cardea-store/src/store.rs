//! The state folder.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cardea_card::record::{CardId, CardRecord};
use cardea_card::token::CardStore;
use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

use crate::disk::{Disk, FileSystem, replace, sync_parent, with_suffix};
use crate::format::{CardFileError, Decoded, HostKey, MAX_FILE, decode, encode};
use crate::intent::{self, Intent, MAX_INTENT};
use crate::registry::{MAX_REGISTRY, Registry};

const NEW: &str = ".new";
const OLD: &str = ".old";

/// The state folder could not be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Encoding failed.
    #[error("the card cannot be stored")]
    Card(#[from] CardFileError),
    /// Another daemon has the folder.
    #[error("another daemon uses {}", .0.display())]
    InUse(PathBuf),
    /// An operation on a file or folder failed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file of the folder is not what it should be.
    #[error("{} is damaged: {what}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// A card file as it was found.
#[derive(Debug)]
pub struct StoredCard {
    /// The id that its name says; none if the name is no id.
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

/// The state folder, locked for the life of the value.
pub struct Store {
    folder: PathBuf,
    key: Arc<HostKey>,
    disk: Arc<dyn Disk>,
    registry: Mutex<Registry>,
    _lock: File,
}

impl Store {
    /// Opens the folder, and makes it (mode 0700) with a host key (mode 0600) if it is new.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] when another daemon has it, and others.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        for path in [folder, &folder.join("cards"), &folder.join("intents")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(failed("cannot make the folder", path))?;
            std::fs::set_permissions(path, Permissions::from_mode(0o700))
                .map_err(failed("cannot close to others", path))?;
        }
        let lock_path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed("cannot open", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::InUse(folder.to_owned()))?;
        Self::with_disk(folder, Arc::new(FileSystem), lock)
    }

    fn with_disk(folder: &Path, disk: Arc<dyn Disk>, lock: File) -> Result<Self, StoreError> {
        let key = Arc::new(host_key(&*disk, &folder.join("host.key"))?);
        let registry = read_registry(&*disk, &folder.join("registry"))?;
        Ok(Self {
            folder: folder.to_owned(),
            key,
            disk,
            registry: Mutex::new(registry),
            _lock: lock,
        })
    }

    /// Where a card's file is.
    #[must_use]
    pub fn path(&self, card: CardId) -> PathBuf {
        self.folder.join("cards").join(format!("{card}.card"))
    }

    /// Every card file, readable or not, in the order of their names.
    ///
    /// # Errors
    ///
    /// When the folder cannot be listed.
    pub fn cards(&self) -> Result<Vec<StoredCard>, StoreError> {
        let folder = self.folder.join("cards");
        let mut paths: Vec<PathBuf> = self
            .disk
            .list(&folder)
            .map_err(failed("cannot list", &folder))?
            .into_iter()
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?;
                let name = name
                    .strip_suffix(OLD)
                    .or_else(|| name.strip_suffix(NEW))
                    .unwrap_or(name);
                name.ends_with(".card").then(|| folder.join(name))
            })
            .collect();
        paths.sort();
        paths.dedup();
        Ok(paths
            .into_iter()
            .filter_map(|path| self.stored(path))
            .collect())
    }

    /// The best generation of a card file: the current one; where it is gone, one whose replacement was
    /// under way; else the previous one. One that this host wrote goes before one that it did not.
    fn stored(&self, path: PathBuf) -> Option<StoredCard> {
        let id = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse().ok());
        let current = self.generation(&path, id);
        let found = current.is_some();
        if let Some(Ok(Decoded {
            record,
            trusted: true,
        })) = current
        {
            return Some(StoredCard {
                id,
                path,
                content: Ok(record),
                trusted: true,
                previous: false,
            });
        }
        let under_way = if found {
            None
        } else {
            self.generation(&with_suffix(&path, NEW), id)
        };
        if let Some(Ok(Decoded {
            record,
            trusted: true,
        })) = under_way
        {
            return Some(StoredCard {
                id,
                path,
                content: Ok(record),
                trusted: true,
                previous: false,
            });
        }
        match (current, self.generation(&with_suffix(&path, OLD), id)) {
            (
                _,
                Some(Ok(Decoded {
                    record,
                    trusted: true,
                })),
            ) => Some(StoredCard {
                id,
                path,
                content: Ok(record),
                trusted: true,
                previous: true,
            }),
            (Some(Ok(decoded)), _) => Some(StoredCard {
                id,
                path,
                content: Ok(decoded.record),
                trusted: false,
                previous: false,
            }),
            (Some(Err(error)), _) => Some(StoredCard {
                id,
                path,
                content: Err(error),
                trusted: false,
                previous: false,
            }),
            // Half a first file that was never acknowledged is no card.
            (None, None) => None,
            (None, Some(old)) => Some(StoredCard {
                id,
                path,
                content: old.map(|decoded| decoded.record),
                trusted: false,
                previous: true,
            }),
        }
    }

    fn generation(
        &self,
        path: &Path,
        id: Option<CardId>,
    ) -> Option<Result<Decoded, CardFileError>> {
        let bytes = match self.disk.read(path, MAX_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(CardFileError::Io(error))),
            Ok(bytes) => bytes,
        };
        Some(decode(&self.key, &bytes).and_then(|decoded| match id {
            Some(id) if id != decoded.record.id => Err(CardFileError::OtherCard(decoded.record.id)),
            _ => Ok(decoded),
        }))
    }

    /// Writes a new card's file. When it returns, the card survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then there is no file.
    pub fn create(&self, record: &CardRecord) -> Result<CardFile, StoreError> {
        let file = self.card(record.id);
        file.write(record)?;
        Ok(file)
    }

    /// The file of a card, for writing.
    #[must_use]
    pub fn card(&self, card: CardId) -> CardFile {
        CardFile {
            path: self.path(card),
            key: Arc::clone(&self.key),
            disk: Arc::clone(&self.disk),
        }
    }

    /// Removes a card's file with all generations; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the card may still be there.
    pub fn remove(&self, path: &Path) -> Result<(), StoreError> {
        // The current generation last: without it an older one would come back after a power cut.
        let steps = || {
            self.disk.remove(&with_suffix(path, OLD))?;
            self.disk.remove(&with_suffix(path, NEW))?;
            sync_parent(&*self.disk, path)?;
            self.disk.remove(path)?;
            sync_parent(&*self.disk, path)
        };
        steps().map_err(failed("cannot remove", path))
    }

    /// Makes a readable file of another host, or one that was edited, this host's own: an administrator has
    /// looked at it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it cannot be read or written.
    pub fn adopt(&self, path: &Path) -> Result<CardRecord, StoreError> {
        let bytes = self
            .disk
            .read(path, MAX_FILE)
            .map_err(failed("cannot read", path))?;
        let record = decode(&self.key, &bytes)?.record;
        self.card(record.id).write(&record)?;
        Ok(record)
    }

    fn intent_path(&self, card: CardId) -> PathBuf {
        self.folder.join("intents").join(card.to_string())
    }

    /// Records what is about to happen to NV. When it returns, the record survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing must be done to NV.
    pub fn write_intent(&self, intent: &Intent) -> Result<(), StoreError> {
        let path = self.intent_path(intent.card);
        let bytes = intent::encode(&self.key, intent).ok_or(CardFileError::TooLarge)?;
        replace(&*self.disk, &path, &bytes).map_err(failed("cannot write", &path))
    }

    /// Intents of this host that nobody has finished.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn intents(&self) -> Result<Vec<Intent>, StoreError> {
        let folder = self.folder.join("intents");
        let mut intents = Vec::new();
        for path in self
            .disk
            .list(&folder)
            .map_err(failed("cannot list", &folder))?
        {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let Ok(card) = name.parse::<CardId>() else {
                continue;
            };
            let read = self.disk.read(&path, MAX_INTENT);
            let intent = read
                .ok()
                .and_then(|bytes| intent::decode(&self.key, &bytes));
            match intent.filter(|intent| intent.card == card) {
                Some(intent) => intents.push(intent),
                None => {
                    tracing::warn!(path = %path.display(), "not an intent of this host, left alone")
                }
            }
        }
        intents.sort_by_key(|intent| intent.card);
        Ok(intents)
    }

    /// The intent is done with; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn remove_intent(&self, card: CardId) -> Result<(), StoreError> {
        let path = self.intent_path(card);
        self.disk
            .remove(&path)
            .and_then(|()| sync_parent(&*self.disk, &path))
            .map_err(failed("cannot remove", &path))
    }

    /// The card's instance number: the one it has, or the lowest free one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a new number cannot be recorded.
    pub fn instance(&self, card: CardId) -> Result<u32, StoreError> {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = registry.number(card) {
            return Ok(number);
        }
        let mut changed = registry.clone();
        let number = changed.assign(card);
        self.write_registry(&changed)?;
        *registry = changed;
        Ok(number)
    }

    /// The card is gone; its number may be given again.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn release_instance(&self, card: CardId) -> Result<(), StoreError> {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if registry.number(card).is_none() {
            return Ok(());
        }
        let mut changed = registry.clone();
        changed.release(card);
        self.write_registry(&changed)?;
        *registry = changed;
        Ok(())
    }

    fn write_registry(&self, registry: &Registry) -> Result<(), StoreError> {
        let path = self.folder.join("registry");
        let bytes = minicbor::to_vec(registry).map_err(|_| CardFileError::TooLarge)?;
        replace(&*self.disk, &path, &bytes).map_err(failed("cannot write", &path))
    }
}

/// A card's file, for writing.
pub struct CardFile {
    path: PathBuf,
    key: Arc<HostKey>,
    disk: Arc<dyn Disk>,
}

impl CardFile {
    /// New file, sync, the current one becomes the previous one, the new one the current one, sync of the
    /// folder. At every moment a whole generation is there.
    fn write(&self, record: &CardRecord) -> Result<(), StoreError> {
        let bytes = encode(&self.key, record)?;
        let new = with_suffix(&self.path, NEW);
        self.disk
            .write(&new, &bytes)
            .and_then(|()| self.disk.sync(&new))
            .map_err(failed("cannot write", &new))?;
        self.replace(&new)
            .map_err(failed("cannot replace", &self.path))
    }

    fn replace(&self, new: &Path) -> io::Result<()> {
        let old = with_suffix(&self.path, OLD);
        let had_current = match self.disk.rename(&self.path, &old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            other => other.map(|()| true)?,
        };
        let replaced = self
            .disk
            .rename(new, &self.path)
            .and_then(|()| sync_parent(&*self.disk, &self.path));
        if replaced.is_err() {
            // The caller goes on with the old record, so the old file must be the one found next time.
            let back = if had_current {
                self.disk.rename(&old, &self.path)
            } else {
                self.disk.remove(&self.path)
            };
            let back = back.and_then(|()| self.disk.remove(new));
            if let Err(error) = back.and_then(|()| sync_parent(&*self.disk, &self.path)) {
                tracing::error!(path = %self.path.display(), error = %error, "the old file is not back");
            }
        }
        replaced
    }
}

impl CardStore for CardFile {
    fn save(&mut self, record: &CardRecord) -> Result<(), cardea_card::token::StoreError> {
        self.write(record)
            .map_err(|error| cardea_card::token::StoreError(Box::new(error)))
    }
}

fn host_key(disk: &dyn Disk, path: &Path) -> Result<HostKey, StoreError> {
    match disk.read(path, 32) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            let key = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| StoreError::Unusable {
                path: path.to_owned(),
                what: "a host key has 32 bytes",
            })?;
            Ok(Zeroizing::new(key))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *key)
                .map_err(|error| failed("no randomness for", path)(io::Error::other(error)))?;
            replace(disk, path, &key[..]).map_err(failed("cannot write", path))?;
            Ok(key)
        }
        Err(error) => Err(failed("cannot read", path)(error)),
    }
}

fn read_registry(disk: &dyn Disk, path: &Path) -> Result<Registry, StoreError> {
    match disk.read(path, MAX_REGISTRY) {
        Ok(bytes) => minicbor::decode(&bytes).map_err(|_| StoreError::Unusable {
            path: path.to_owned(),
            what: "not a registry; remove it, and the cards get new instance numbers",
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Registry::default()),
        Err(error) => Err(failed("cannot read", path)(error)),
    }
}

#[cfg(test)]
mod tests;
