//! Life cycle states of the application and of its files (GIDS 2.0, life cycle; ISO 7816-4 §7.4.10).

use super::reference::KeyReference;
use crate::engine::Card;
use crate::record::{FileRecord, GidsRecord};

/// Life cycle status of the DF and of files made before it became operational.
pub(crate) const OPERATIONAL: u8 = 0x05;

/// Life cycle status of a file that was just created.
pub(crate) const INITIALISATION: u8 = 0x03;

/// Life cycle bit: activated (`05`, `07`), else deactivated (`04`, `06`).
pub(super) const ACTIVATED: u8 = 0x01;

/// Life cycle status of an operational file made before the DF became operational.
pub(super) const OPERATIONAL_EARLY: u8 = 0x04;
/// Life cycle status of an operational file made after it.
pub(super) const OPERATIONAL_LATE: u8 = 0x06;

/// Whether the application is in use, that is, whether its rules are in force.
pub(super) fn is_operational(card: &Card) -> bool {
    card.record().gids.life_cycle == OPERATIONAL
}

/// Whether the rules of a file are enforced: DF and file are operational (GIDS 2.0, life cycle).
pub(super) fn rules_apply(card: &Card, file: &FileRecord) -> bool {
    is_operational(card) && matches!(file.life_cycle, 0x04..=0x07)
}

/// A key was loaded into its file: deactivated becomes activated.
pub(crate) fn key_loaded(record: &mut GidsRecord, reference: KeyReference) {
    if let Some(file) = operational_file(record, reference) {
        file.life_cycle |= ACTIVATED;
    }
}

/// The key of a file is gone: activated becomes deactivated.
pub(crate) fn key_erased(record: &mut GidsRecord, reference: KeyReference) {
    if let Some(file) = operational_file(record, reference) {
        file.life_cycle &= !ACTIVATED;
    }
}

fn operational_file(record: &mut GidsRecord, reference: KeyReference) -> Option<&mut FileRecord> {
    record
        .files
        .iter_mut()
        .find(|file| file.id == reference.file_id() && file.life_cycle != INITIALISATION)
}
