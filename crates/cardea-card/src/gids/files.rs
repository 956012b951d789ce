//! The file model of GIDS: kinds of elementary files, identifiers with a meaning, and what a card has room for.

use super::access::FileKind;
use super::reference::KeyReference;
use crate::engine::{Card, Failure};
use crate::key_number::KeyNumber;
use crate::record::FileRecord;

/// Elementary file of the directory table and the key map.
pub(crate) const DIRECTORY_FILE: u16 = 0xA000;
/// Elementary file of most contents: everyone reads, user or admin writes.
pub(crate) const CONTENT_FILE: u16 = 0xA010;
/// Elementary file of the card id: everyone reads, admin writes.
pub(crate) const CARD_ID_FILE: u16 = 0xA012;
/// Key file of the administrator.
pub(crate) const ADMIN_KEY_FILE: u16 = 0xB080;

/// Descriptor byte of data object files.
pub(crate) const DATA_DESCRIPTOR: u8 = 0x39;
/// Descriptor byte of key files.
pub(crate) const KEY_DESCRIPTOR: u8 = 0x18;

/// Most elementary files of a card: the profile's seven, 30 keys, and room for more data files.
pub(crate) const MAX_FILES: usize = 128;

/// Longest value of a data object, in bytes (GIDS 2.0).
pub(crate) const MAX_VALUE: usize = 16 * 1024;
/// Most data objects in a file; the specification asks for 100.
pub(crate) const MAX_OBJECTS: usize = 256;

/// An elementary file.
pub(crate) fn find(card: &Card, id: u16) -> Option<&FileRecord> {
    card.record().gids.files.iter().find(|file| file.id == id)
}

/// The key file behind a reference.
pub(super) fn key_file(card: &Card, reference: KeyReference) -> Result<FileRecord, Failure> {
    find(card, reference.file_id())
        .filter(|file| file.descriptor == KEY_DESCRIPTOR)
        .cloned()
        .ok_or(Failure::NotFound)
}

/// Whether an identifier is that of a key's file.
pub(crate) fn is_file_of(key: KeyNumber, id: u16) -> bool {
    KeyReference::of(key).is_some_and(|reference| reference.file_id() == id)
}

pub(crate) fn kind(descriptor: u8) -> FileKind {
    if descriptor == KEY_DESCRIPTOR {
        FileKind::Key
    } else {
        FileKind::Data
    }
}

/// `B080` and up belong to key files alone.
pub(crate) fn is_key_range(id: u16) -> bool {
    (0xB080..=0xB0FF).contains(&id)
}

/// Identifiers with a meaning of their own.
pub(crate) fn is_reserved(id: u16) -> bool {
    matches!(id, 0x0000 | 0x2F00 | 0x2F01 | 0x3F00 | 0x3FFF | 0xFFFF)
}
