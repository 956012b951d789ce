//! The state folder as the daemon sees it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardea_card::record::{CardId, CardRecord};

use crate::card_file::{CardFile, Shared, StoredCard, UNKNOWN, base_name, name_of};
use crate::disk::{Disk, FileSystem, NEW, discard, replace, sync_parent};
use crate::drive::Drives;
use crate::error::{StoreError, failed};
use crate::folder;
use crate::format::{CardFileError, MAX_FILE, decode, encode};
use crate::intent::{self, Intent, MAX_INTENT};
use crate::known::{self, KnownCard, MAX_KNOWN};
use crate::registry::Registry;
use crate::validate::conflicts;

/// Largest form of what was found out about a TPM.
const MAX_EXAMINATION: usize = 4096;

/// The state folder, locked for the life of the value and of every [`CardFile`] that came from it.
pub struct Store {
    folder: PathBuf,
    shared: Arc<Shared>,
    registry: Mutex<Registry>,
}

impl Store {
    /// Opens the folder, and makes it (mode 0700) with a host key (mode 0600) if it is new.
    /// Finishes replacements that a power cut interrupted.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] when another daemon has it; [`StoreError::Unusable`] when it, the host key or the
    /// registry is not what it should be; [`StoreError::Io`].
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        folder::make(folder)?;
        let lock = folder::lock(folder)?;
        folder::check_host_key(folder)?;
        Self::with_disk(folder, Arc::new(FileSystem::default()), lock)
    }

    pub(crate) fn with_disk(
        folder: &Path,
        disk: Arc<dyn Disk>,
        lock: File,
    ) -> Result<Self, StoreError> {
        let key = folder::host_key(&*disk, folder)?;
        let registry = folder::registry(&*disk, folder)?;
        let store = Self {
            folder: folder.to_owned(),
            shared: Arc::new(Shared::new(Arc::new(key), disk, Some(lock))),
            registry: Mutex::new(registry),
        };
        for path in store.card_paths()? {
            store.shared.recover(&path)?;
        }
        for folder in [folder::intents(folder), folder::drives(folder)] {
            for path in store.list(&folder)? {
                if path.to_str().is_some_and(|path| path.ends_with(NEW)) {
                    discard(&*store.shared.disk, &path);
                }
            }
        }
        Ok(store)
    }

    /// Where a card's file is.
    #[must_use]
    pub fn path(&self, card: CardId) -> PathBuf {
        folder::cards(&self.folder).join(name_of(card))
    }

    /// The bytes of the file that this host writes for a record.
    ///
    /// # Errors
    ///
    /// A record that no file can hold.
    pub fn file_of(&self, record: &CardRecord) -> Result<Vec<u8>, StoreError> {
        Ok(encode(&self.shared.key, record)?)
    }

    /// Every card file, readable or not, in the order of their names.
    ///
    /// # Errors
    ///
    /// When the folder cannot be listed.
    pub fn cards(&self) -> Result<Vec<StoredCard>, StoreError> {
        let _changing = self.shared.change();
        self.stored_cards()
    }

    fn stored_cards(&self) -> Result<Vec<StoredCard>, StoreError> {
        let paths = self.card_paths()?.into_iter();
        Ok(paths.filter_map(|path| self.shared.stored(path)).collect())
    }

    fn card_paths(&self) -> Result<Vec<PathBuf>, StoreError> {
        let folder = folder::cards(&self.folder);
        let mut paths: Vec<PathBuf> = self
            .list(&folder)?
            .iter()
            .filter_map(|path| Some(folder.join(base_name(path.file_name()?.to_str()?)?)))
            .collect();
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// Takes back what could not be taken back when it was refused, because the disk had failed. Until then, the next
    /// start would find it. True when nothing of this kind is left.
    pub fn settle(&self) -> bool {
        let _changing = self.shared.change();
        let settled = self.shared.take_back(None);
        if let Err(error) = &settled {
            tracing::warn!(error = %error, "refused changes are still on the disk");
        }
        settled.is_ok()
    }

    fn list(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        self.shared
            .disk
            .list(folder)
            .map_err(failed("cannot list", folder))
    }

    /// Writes a new card's file. When it returns, the card survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`], and then the other card is untouched; any other one, and then there is no file.
    pub fn create(&self, record: &CardRecord) -> Result<CardFile, StoreError> {
        let _changing = self.shared.change();
        let file = self.card(record.id);
        self.shared.require_free(&self.path(record.id), record.id)?;
        file.create(record)?;
        Ok(file)
    }

    /// Refuses what [`create`](Self::create) would refuse, before anything is done.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`]; [`StoreError::Io`] when that cannot be found out.
    pub fn require_free(&self, card: CardId) -> Result<(), StoreError> {
        let _changing = self.shared.change();
        self.shared.require_free(&self.path(card), card)
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
        let _changing = self.shared.change();
        self.shared.remove_made(&self.path(card), is_made)
    }

    /// The file of a card, for writing.
    #[must_use]
    pub fn card(&self, card: CardId) -> CardFile {
        CardFile::new(self.path(card), Arc::clone(&self.shared))
    }

    /// Removes a card's file with all generations, by its path as [`cards`](Self::cards) gave it; one that is
    /// not there is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the card may still be there.
    pub fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let is_card = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| base_name(name) == Some(name));
        if !is_card || path.parent() != Some(&folder::cards(&self.folder)) {
            return Err(StoreError::Unusable {
                path: path.to_owned(),
                what: "not a card file of this folder",
            });
        }
        let _changing = self.shared.change();
        self.shared
            .remove(path)
            .map_err(failed("cannot remove", path))
    }

    /// Makes a readable file of another host, or one that was edited, this host's own: an administrator has
    /// looked at it. The file may be in the folder or elsewhere; elsewhere it stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] when the folder has another file for the card, [`StoreError::Claimed`] when the
    /// record claims an index of another card of this host, [`StoreError`] when it cannot be read or written.
    /// Then nothing has changed.
    pub fn adopt(&self, path: &Path) -> Result<CardRecord, StoreError> {
        let _changing = self.shared.change();
        let bytes = self
            .shared
            .disk
            .read(path, MAX_FILE)
            .map_err(failed("cannot read", path))?;
        let record = decode(&self.shared.key, &bytes)?.record;
        let target = self.path(record.id);
        if path != target {
            self.shared.require_free(&target, record.id)?;
        }
        for stored in self.stored_cards()? {
            if let (true, Ok(other)) = (stored.trusted, &stored.content)
                && other.id != record.id
                && let Some((owner, _, claim)) = conflicts(&[other, &record]).first()
            {
                return Err(StoreError::Claimed {
                    claim: *claim,
                    owner: *owner,
                });
            }
        }
        self.card(record.id).adopt(&record)?;
        Ok(record)
    }

    fn intent_path(&self, card: CardId) -> PathBuf {
        folder::intents(&self.folder).join(card.to_string())
    }

    /// Records what is about to happen to NV. When it returns, the record survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then nothing must be done to NV, and there is no intent.
    pub fn write_intent(&self, intent: &Intent) -> Result<(), StoreError> {
        let path = self.intent_path(intent.card);
        let _changing = self.shared.change();
        self.shared
            .take_back(Some(&path))
            .map_err(failed("cannot take back what was refused in", &path))?;
        let bytes =
            intent::encode(&self.shared.key, intent).ok_or_else(|| StoreError::Unusable {
                path: path.clone(),
                what: "an intent names at most four indices of cards",
            })?;
        replace(&*self.shared.disk, &path, &bytes).map_err(|error| {
            // Written but not synced, it would destroy at the next start what the caller keeps now.
            match self.remove_intent(intent.card) {
                Ok(()) => failed("cannot write", &path)(error),
                Err(again) => {
                    tracing::error!(card = %intent.card, error = %again, "refused intent not removed yet");
                    self.shared.refuse_new(&path);
                    failed(UNKNOWN, &path)(error)
                }
            }
        })
    }

    /// Intents of this host that nobody has finished. What this host did not write is logged and left alone.
    ///
    /// # Errors
    ///
    /// When the folder or an intent cannot be read.
    pub fn intents(&self) -> Result<Vec<Intent>, StoreError> {
        let mut intents = Vec::new();
        for path in self.list(&folder::intents(&self.folder))? {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(Ok(card)) = name.map(str::parse::<CardId>) else {
                continue;
            };
            let bytes = match self.shared.disk.read(&path, MAX_INTENT) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Vec::new(),
                Err(error) => return Err(failed("cannot read", &path)(error)),
            };
            match intent::decode(&self.shared.key, &bytes) {
                // Also in the spelling that is written: one that is not could not be removed.
                Some(intent) if intent.card == card && path == self.intent_path(card) => {
                    intents.push(intent);
                }
                _ => {
                    tracing::warn!(path = %path.display(), "not an intent of this host, left alone");
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
        let disk = &*self.shared.disk;
        disk.remove(&path)
            .and_then(|()| sync_parent(disk, &path))
            .map_err(failed("cannot remove", &path))
    }

    /// Card files on a drive.
    #[must_use]
    pub fn drives(&self) -> Drives {
        Drives::new(Arc::clone(&self.shared.key))
    }

    fn known_path(&self, card: CardId) -> PathBuf {
        folder::drives(&self.folder).join(card.to_string())
    }

    /// Records a card whose file is on a drive. When it returns, the record survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn write_known(&self, known: &KnownCard) -> Result<(), StoreError> {
        let path = self.known_path(known.card);
        let bytes = known::encode(&self.shared.key, known).ok_or_else(|| StoreError::Unusable {
            path: path.clone(),
            what: "no card has such a name or such indices",
        })?;
        replace(&*self.shared.disk, &path, &bytes).map_err(failed("cannot write", &path))
    }

    /// Whether a card is recorded as one of this host on a drive.
    #[must_use]
    pub fn has_known(&self, card: CardId) -> bool {
        matches!(self.read_known(&self.known_path(card)), Ok(Some(_)))
    }

    /// The cards of this host whose files are on drives. What this host did not write is logged and left alone.
    ///
    /// # Errors
    ///
    /// When the folder or a record cannot be read.
    pub fn known_cards(&self) -> Result<Vec<KnownCard>, StoreError> {
        let mut cards = Vec::new();
        for path in self.list(&folder::drives(&self.folder))? {
            match self.read_known(&path)? {
                Some(known) => cards.push(known),
                None => {
                    tracing::warn!(path = %path.display(), "not a record of this host, left alone");
                }
            }
        }
        cards.sort_by_key(|known| known.card);
        Ok(cards)
    }

    /// One of [`known_cards`](Self::known_cards).
    ///
    /// # Errors
    ///
    /// When its record cannot be read.
    pub fn known_card(&self, card: CardId) -> Result<Option<KnownCard>, StoreError> {
        self.read_known(&self.known_path(card))
    }

    fn read_known(&self, path: &Path) -> Result<Option<KnownCard>, StoreError> {
        let bytes = match self.shared.disk.read(path, MAX_KNOWN) {
            Ok(bytes) => bytes,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotFound => Ok(None),
                    _ => Err(failed("cannot read", path)(error)),
                };
            }
        };
        let known = known::decode(&self.shared.key, &bytes);
        Ok(known.filter(|known| path == self.known_path(known.card)))
    }

    /// The card is gone for good; one that is not there is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn remove_known(&self, card: CardId) -> Result<(), StoreError> {
        let path = self.known_path(card);
        let disk = &*self.shared.disk;
        disk.remove(&path)
            .and_then(|()| sync_parent(disk, &path))
            .map_err(failed("cannot remove", &path))
    }

    /// Keeps what was found out about the TPM. When it returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then the earlier one is still there.
    pub fn write_examination(&self, kept: &[u8]) -> Result<(), StoreError> {
        let path = folder::examination_path(&self.folder);
        replace(&*self.shared.disk, &path, kept).map_err(failed("cannot write", &path))
    }

    /// What was kept of the TPM, unless it is too long. Whoever has the folder may have written it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it cannot be read.
    pub fn examination(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let path = folder::examination_path(&self.folder);
        match self.shared.disk.read(&path, MAX_EXAMINATION) {
            Ok(kept) => Ok(Some(kept).filter(|kept| kept.len() <= MAX_EXAMINATION)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot read", &path)(error)),
        }
    }

    /// The card's instance number: the one it has, or the lowest free one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a new number cannot be recorded.
    pub fn instance(&self, card: CardId) -> Result<u32, StoreError> {
        let mut registry = self.registry();
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
        let mut registry = self.registry();
        if registry.number(card).is_none() {
            return Ok(());
        }
        let mut changed = registry.clone();
        changed.release(card);
        self.write_registry(&changed)?;
        *registry = changed;
        Ok(())
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_registry(&self, registry: &Registry) -> Result<(), StoreError> {
        let path = folder::registry_path(&self.folder);
        let bytes = registry.to_bytes().ok_or(CardFileError::TooLarge)?;
        replace(&*self.shared.disk, &path, &bytes).map_err(failed("cannot write", &path))
    }
}
