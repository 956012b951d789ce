//! Are the files of a record ones that the commands of GIDS can have written? A card file is not believed.

use std::collections::BTreeSet;

use cardea_iso7816::tlv;

use super::files::{self, ADMIN_KEY_FILE, DATA_DESCRIPTOR, KEY_DESCRIPTOR};
use super::life_cycle::{INITIALISATION, OPERATIONAL};
use super::reference::KeyReference;
use super::{access, mechanism};
use crate::engine::CardError;
use crate::record::{CardRecord, FileRecord};

/// Checks everything that the commands rely on.
pub(super) fn record(record: &CardRecord) -> Result<(), CardError> {
    let operational = record.provisional.is_none();
    if record.gids.life_cycle
        != if operational {
            OPERATIONAL
        } else {
            INITIALISATION
        }
    {
        return Err(damaged(
            "the life cycle of the application is not one that it can have",
        ));
    }
    if record.gids.files.len() > files::MAX_FILES {
        return Err(damaged("too many files"));
    }
    let mut ids = BTreeSet::new();
    for entry in &record.gids.files {
        if !ids.insert(entry.id) {
            return Err(CardError::Damaged(format!(
                "file {:04X} is there twice",
                entry.id
            )));
        }
        file(record, entry)
            .map_err(|what| CardError::Damaged(format!("file {:04X}: {what}", entry.id)))?;
    }
    keys(record)
}

fn file(record: &CardRecord, file: &FileRecord) -> Result<(), &'static str> {
    if files::is_reserved(file.id) {
        return Err("reserved identifier");
    }
    if !matches!(file.descriptor, DATA_DESCRIPTOR | KEY_DESCRIPTOR) {
        return Err("unknown descriptor");
    }
    let is_key = file.descriptor == KEY_DESCRIPTOR;
    if is_key != files::is_key_range(file.id) {
        return Err("the identifier does not fit the descriptor");
    }
    if !access::well_formed(&file.access, files::kind(file.descriptor)) {
        return Err("malformed access rules");
    }
    if is_key {
        if !file.objects.is_empty() || mechanism::parse_templates(&file.templates).is_err() {
            return Err("malformed key file");
        }
        // Of the administrator's key only the token knows whether it is there.
        let has_key = (file.id != ADMIN_KEY_FILE).then(|| {
            let mut keys = record.keys.iter();
            keys.any(|key| files::is_file_of(key.number(), file.id))
        });
        match (file.life_cycle, has_key) {
            (INITIALISATION | 0x04..=0x07, None)
            | (INITIALISATION, Some(_))
            | (0x05 | 0x07, Some(true))
            | (0x04 | 0x06, Some(false)) => Ok(()),
            _ => Err("the life cycle does not fit the key"),
        }
    } else {
        if !file.templates.is_empty() {
            return Err("templates in a data file");
        }
        if !matches!(file.life_cycle, INITIALISATION | 0x05 | 0x07) {
            return Err("unknown life cycle");
        }
        objects(file)
    }
}

fn objects(file: &FileRecord) -> Result<(), &'static str> {
    if file.objects.len() > files::MAX_OBJECTS {
        return Err("too many data objects");
    }
    let mut tags = BTreeSet::new();
    for object in &file.objects {
        if !tags.insert(object.tag) {
            return Err("a data object is there twice");
        }
        if !tlv::is_tag(object.tag) {
            return Err("a data object has an impossible tag");
        }
        if object.value.len() > files::MAX_VALUE {
            return Err("a data object is too long");
        }
    }
    Ok(())
}

fn keys(record: &CardRecord) -> Result<(), CardError> {
    for key in &record.keys {
        let file = KeyReference::of(key.number()).map(KeyReference::file_id);
        let has_file = record.gids.files.iter().any(|known| Some(known.id) == file);
        if !has_file {
            return Err(CardError::Damaged(format!(
                "key {} has no place on the card",
                key.number()
            )));
        }
    }
    Ok(())
}

fn damaged(what: &str) -> CardError {
    CardError::Damaged(what.to_owned())
}
