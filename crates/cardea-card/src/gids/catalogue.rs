//! Names and certificates of keys in the Windows file system of the card, as Windows and OpenSC show them.
//!
//! RSA keys get a container, so that every client sees them. Elliptic-curve keys, which no client can use through
//! GIDS, are taken from the upper end of the references and stay out of the tables.

use super::content::{Freshness, bump_freshness, card_id, formatted_card, set_card_id};
use super::filesystem::{self, FileSystemError};
use super::reference::KeyReference;
use super::{Gids, key_file};
use crate::engine::{CardError, Catalogue, KeyUsage, NewKey};
use crate::key_number::KeyNumber;
use crate::record::{CardId, CardRecord};
use crate::token::{KeyAlgorithm, TokenErrorKind};

impl From<FileSystemError> for CardError {
    fn from(error: FileSystemError) -> Self {
        match error {
            FileSystemError::Absent | FileSystemError::TooLong { .. } => {
                Self::Conflict(error.to_string())
            }
            FileSystemError::Full => TokenErrorKind::Full.into(),
        }
    }
}

impl Catalogue for Gids {
    fn card_id(&self, record: &CardRecord) -> Option<CardId> {
        card_id(&record.gids)
    }

    fn set_card_id(&self, record: &mut CardRecord, id: CardId) -> bool {
        set_card_id(&mut record.gids, id)
    }

    fn format(&self, record: &mut CardRecord, id: CardId) {
        record.gids = formatted_card(&record.gids, id);
    }

    fn free_number(
        &self,
        record: &CardRecord,
        algorithm: KeyAlgorithm,
        id: Option<&[u8]>,
    ) -> Option<KeyNumber> {
        let free = |reference: &KeyReference| is_free(record, *reference);
        let wanted = match id {
            Some(&[index]) => KeyReference::of_container(index).filter(free),
            _ => None,
        };
        wanted
            .or_else(|| {
                if is_curve(algorithm) {
                    KeyReference::all().rev().find(free)
                } else {
                    KeyReference::all().find(free)
                }
            })?
            .key()
    }

    fn add(
        &self,
        record: &mut CardRecord,
        key: KeyNumber,
        algorithm: KeyAlgorithm,
        new: &NewKey,
        name: &str,
    ) -> Result<bool, CardError> {
        let (reference, index) = place(key)?;
        let file = key_file::new_key_file(reference, algorithm, new.usage, new.class);
        record.gids.files.push(file);
        if is_curve(algorithm) {
            return Ok(false);
        }
        filesystem::set_container(&mut record.gids, index, name, algorithm, new.usage)?;
        Ok(filesystem::fits_container(name))
    }

    fn remove(&self, record: &mut CardRecord, key: KeyNumber) -> Result<(), CardError> {
        let (reference, index) = place(key)?;
        let id = reference.file_id();
        record.gids.files.retain(|file| file.id != id);
        filesystem::remove_certificate(&mut record.gids, index);
        Ok(filesystem::clear_container(&mut record.gids, index)?)
    }

    fn rename(
        &self,
        record: &mut CardRecord,
        key: KeyNumber,
        name: &str,
    ) -> Result<bool, CardError> {
        let (_, index) = place(key)?;
        if filesystem::container(&record.gids, index).is_none() {
            return Ok(false);
        }
        filesystem::rename_container(&mut record.gids, index, name)?;
        Ok(filesystem::fits_container(name))
    }

    fn name(&self, record: &CardRecord, key: KeyNumber) -> Option<String> {
        Some(filesystem::container(&record.gids, container(key)?)?.name)
    }

    /// The index of its container, which OpenSC shows.
    fn id(&self, key: KeyNumber) -> Option<Vec<u8>> {
        Some(vec![container(key)?])
    }

    fn usage(&self, record: &CardRecord, key: KeyNumber) -> Option<KeyUsage> {
        filesystem::usage(&record.gids, container(key)?)
    }

    fn certificate(&self, record: &CardRecord, key: KeyNumber) -> Option<Vec<u8>> {
        filesystem::certificate(&record.gids, container(key)?)
    }

    fn store_certificate(
        &self,
        record: &mut CardRecord,
        key: KeyNumber,
        der: &[u8],
    ) -> Result<(), CardError> {
        let (_, index) = place(key)?;
        Ok(filesystem::store_certificate(&mut record.gids, index, der)?)
    }

    fn remove_certificate(&self, record: &mut CardRecord, key: KeyNumber) -> bool {
        container(key).is_some_and(|index| filesystem::remove_certificate(&mut record.gids, index))
    }

    fn note_pin_change(&self, record: &mut CardRecord) {
        bump_freshness(&mut record.gids, Freshness::Pins);
    }
}

/// The reference of a key and the index of its container.
fn place(key: KeyNumber) -> Result<(KeyReference, u8), CardError> {
    let place =
        KeyReference::of(key).and_then(|reference| Some((reference, reference.container()?)));
    place.ok_or_else(|| TokenErrorKind::NotConfigured.into())
}

fn container(key: KeyNumber) -> Option<u8> {
    KeyReference::of(key)?.container()
}

/// Neither a key nor a file nor a container has it.
fn is_free(record: &CardRecord, reference: KeyReference) -> bool {
    let (Some(key), Some(index)) = (reference.key(), reference.container()) else {
        return false;
    };
    let mut files = record.gids.files.iter();
    record.key(key).is_none()
        && files.all(|file| file.id != reference.file_id())
        && filesystem::container(&record.gids, index).is_none()
}

fn is_curve(algorithm: KeyAlgorithm) -> bool {
    matches!(algorithm, KeyAlgorithm::P256 | KeyAlgorithm::P384)
}
