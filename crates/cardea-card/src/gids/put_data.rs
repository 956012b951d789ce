//! PUT DATA with odd instruction (GIDS 2.0; ISO 7816-4).

use cardea_iso7816::tlv;

use super::access::{self, Access};
use super::content::is_certificate;
use super::files::{self, CONTENT_FILE, DATA_DESCRIPTOR, MAX_OBJECTS, MAX_VALUE};
use super::life_cycle::rules_apply;
use super::{Selection, State, put_key};
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::record::{CardRecord, DataObject, FileRecord};

/// Most bytes in all data objects of a card: far above what 30 certificates need, and small enough
/// that the card file is rewritten quickly.
const MAX_TOTAL: usize = 1024 * 1024;

/// Executes the command.
pub(super) fn put_data(
    card: &mut Card,
    connection: &mut Connection,
    state: &mut State,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    let object = single_object(command.data)?;
    let id = match u16::from_be_bytes([command.p1, command.p2]) {
        0x3FFF if object.tag == 0x70 => return put_key::put_key(card, connection, object.value),
        0x3FFF => find_unique(card, object.tag)?,
        0x0000 => match state.selection {
            Selection::File(id) => id,
            Selection::Df | Selection::None => return Err(Failure::NotAllowed),
        },
        id => id,
    };
    let file = files::find(card, id).ok_or(Failure::FileNotFound)?.clone();
    if file.descriptor != DATA_DESCRIPTOR {
        return Err(Failure::WrongFileKind);
    }
    if rules_apply(card, &file) {
        access::permit(card, connection, &file.access, Access::PutData)?;
    }
    if object.value.len() > MAX_VALUE {
        return Err(Failure::Memory);
    }

    let mut record = card.record().clone();
    let target = record
        .gids
        .files
        .iter_mut()
        .find(|file| file.id == id)
        .ok_or(Failure::FileNotFound)?;
    store(target, object.tag, object.value)?;
    if total(&record) > MAX_TOTAL {
        return Err(Failure::Memory);
    }
    if id == CONTENT_FILE && is_certificate(object.value) {
        record.certificates_written = record.certificates_written.saturating_add(1);
    }
    card.commit(record)?;
    state.selection = Selection::File(id);
    Ok(Reply::Done)
}

/// Exactly one data object; `6A 85` when its length does not fit the data field.
fn single_object(data: &[u8]) -> Result<tlv::Tlv<'_>, Failure> {
    tlv::parse_single(data).map_err(|error| match error {
        tlv::TlvError::Truncated | tlv::TlvError::TrailingData => Failure::LengthMismatch,
        _ => Failure::Data,
    })
}

/// Creates or replaces. An empty value creates an absent object, empties one with content, and removes
/// an empty one: so GidsApplet, whose behaviour the clients know.
fn store(file: &mut FileRecord, tag: u32, value: &[u8]) -> Result<(), Failure> {
    match file.objects.iter().position(|object| object.tag == tag) {
        Some(position) => {
            let Some(object) = file.objects.get_mut(position) else {
                return Err(Failure::NotFound);
            };
            if object.value.is_empty() && value.is_empty() {
                file.objects.remove(position);
            } else {
                object.value = value.to_vec();
            }
        }
        None if file.objects.len() >= MAX_OBJECTS => return Err(Failure::Memory),
        None => file.objects.push(DataObject {
            tag,
            value: value.to_vec(),
        }),
    }
    Ok(())
}

/// The file of the only object with this tag. The same tag in two files is two objects.
fn find_unique(card: &Card, tag: u32) -> Result<u16, Failure> {
    let mut holders = card
        .record()
        .gids
        .files
        .iter()
        .filter(|file| file.objects.iter().any(|object| object.tag == tag));
    match (holders.next(), holders.next()) {
        (None, _) => Err(Failure::NotFound),
        (Some(file), None) => Ok(file.id),
        (Some(_), Some(_)) => Err(Failure::Conditions),
    }
}

fn total(record: &CardRecord) -> usize {
    record
        .gids
        .files
        .iter()
        .flat_map(|file| &file.objects)
        .map(|object| object.value.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> FileRecord {
        FileRecord {
            id: CONTENT_FILE,
            descriptor: DATA_DESCRIPTOR,
            life_cycle: 5,
            access: Vec::new(),
            templates: Vec::new(),
            objects: Vec::new(),
        }
    }

    #[test]
    fn empty_values_create_empty_and_remove() {
        let mut file = file();
        store(&mut file, 0xDF24, &[]).unwrap();
        assert_eq!(file.objects[0].value, []);
        store(&mut file, 0xDF24, &[0xAB, 0xCD]).unwrap();
        assert_eq!(file.objects[0].value, [0xAB, 0xCD]);
        store(&mut file, 0xDF24, &[]).unwrap();
        assert_eq!(file.objects[0].value, []);
        store(&mut file, 0xDF24, &[]).unwrap();
        assert!(file.objects.is_empty());
    }

    #[test]
    fn a_full_file_still_takes_replacements() {
        let mut file = file();
        for tag in 0..MAX_OBJECTS as u32 {
            store(&mut file, 0xDF_8100 + tag, &[1]).unwrap();
        }
        assert!(matches!(store(&mut file, 1, &[1]), Err(Failure::Memory)));
        store(&mut file, 0xDF_8100, &[2]).unwrap();
    }
}
