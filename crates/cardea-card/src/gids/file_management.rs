//! CREATE FILE, ACTIVATE FILE, DELETE FILE (GIDS 2.0; ISO 7816-9).

use cardea_iso7816::tlv;

use super::access::{self, Access, FileKind};
use super::files::{
    self, ADMIN_KEY_FILE, DATA_DESCRIPTOR, KEY_DESCRIPTOR, MAX_FILES, is_file_of, is_key_range,
    is_reserved, kind,
};
use super::life_cycle::{
    ACTIVATED, INITIALISATION, OPERATIONAL, OPERATIONAL_EARLY, OPERATIONAL_LATE, is_operational,
};
use super::mechanism::{Purpose, Template, parse_templates};
use super::reference::KeyReference;
use super::templates::DF_RULES;
use super::{Selection, State};
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::record::FileRecord;

/// CREATE FILE. The new file becomes current.
pub(super) fn create(
    card: &mut Card,
    connection: &mut Connection,
    state: &mut State,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    if (command.p1, command.p2) != (0, 0) {
        return Err(Failure::Parameters);
    }
    let file = parse(command.data)?;
    if is_operational(card) {
        access::permit(card, connection, &DF_RULES, Access::CreateFile)?;
    }
    if file.descriptor == KEY_DESCRIPTOR {
        check_key_file(card, connection, &file)?;
    }
    if files::find(card, file.id).is_some() {
        return Err(Failure::FileExists);
    }
    if card.record().gids.files.len() >= MAX_FILES {
        return Err(Failure::Memory);
    }
    let id = file.id;
    let mut record = card.record().clone();
    record.gids.files.push(file);
    card.commit(record)?;
    state.selection = Selection::File(id);
    Ok(Reply::Done)
}

/// ACTIVATE FILE: always allowed, and once more does no harm. Clients activate right after creation and
/// load the key later, so a key file without key becomes *deactivated*, with its rules in force.
pub(super) fn activate(
    card: &mut Card,
    connection: &mut Connection,
    state: &mut State,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    check_empty(command)?;
    match state.selection {
        Selection::None => Err(Failure::FileNotFound),
        Selection::Df => {
            card.activate(|record| record.gids.life_cycle = OPERATIONAL)?;
            card.deauthenticate(connection);
            Ok(Reply::Done)
        }
        Selection::File(id) => {
            let has_key = match id {
                ADMIN_KEY_FILE => card.has_administrator(),
                id => {
                    let mut keys = card.record().keys.iter();
                    keys.any(|key| is_file_of(key.number(), id))
                }
            };
            let state = if is_operational(card) {
                OPERATIONAL_LATE
            } else {
                OPERATIONAL_EARLY
            };
            let mut record = card.record().clone();
            let file = record
                .gids
                .files
                .iter_mut()
                .find(|file| file.id == id)
                .ok_or(Failure::FileNotFound)?;
            if file.life_cycle == INITIALISATION {
                let active = file.descriptor == DATA_DESCRIPTOR || has_key;
                file.life_cycle = state | if active { ACTIVATED } else { 0 };
                card.commit(record)?;
            }
            Ok(Reply::Done)
        }
    }
}

/// DELETE FILE of the current elementary file, and of the key behind it.
pub(super) fn delete(
    card: &mut Card,
    connection: &mut Connection,
    state: &mut State,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    check_empty(command)?;
    let Selection::File(id) = state.selection else {
        return Err(Failure::NotAllowed);
    };
    let file = files::find(card, id).ok_or(Failure::NotAllowed)?.clone();
    if is_operational(card) {
        access::permit(card, connection, &DF_RULES, Access::DeleteFile)?;
    }
    // What only an administrator may create, only an administrator may delete.
    if file.descriptor == KEY_DESCRIPTOR
        && authenticates_administrator(&parse_templates(&file.templates)?)
        && is_operational(card)
        && !access::roles(card, connection).admin
    {
        return Err(Failure::SecurityStatus);
    }
    card.remove_keys(
        |key| is_file_of(key, id),
        |record| {
            record.gids.files.retain(|file| file.id != id);
            Ok(())
        },
    )?;
    state.selection = Selection::None;
    Ok(Reply::Done)
}

/// TERMINATE DF: the profile grants it to nobody.
pub(super) fn terminate(
    card: &mut Card,
    connection: &Connection,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    check_empty(command)?;
    access::permit(card, connection, &DF_RULES, Access::Terminate)?;
    Err(Failure::Unsupported)
}

/// Neither parameters nor data; a superfluous Le is accepted everywhere.
fn check_empty(command: &Command<'_>) -> Result<(), Failure> {
    if (command.p1, command.p2) != (0, 0) {
        return Err(Failure::Parameters);
    }
    if !command.data.is_empty() {
        return Err(Failure::Length);
    }
    Ok(())
}

/// `62 { 82 descriptor, 83 identifier, 8C rules, A5 templates }`.
fn parse(data: &[u8]) -> Result<FileRecord, Failure> {
    let outer = tlv::parse_single(data).map_err(|_| Failure::Data)?;
    if outer.tag != 0x62 {
        return Err(Failure::Data);
    }
    let mut id = None;
    let mut descriptor = None;
    let mut rules = None;
    let mut templates = None;
    for object in tlv::Reader::new(outer.value) {
        let object = object.map_err(|_| Failure::Data)?;
        match (object.tag, object.value) {
            (0x82, &[byte @ (DATA_DESCRIPTOR | KEY_DESCRIPTOR)]) if descriptor.is_none() => {
                descriptor = Some(byte);
            }
            (0x83, &[high, low]) if id.is_none() => id = Some(u16::from_be_bytes([high, low])),
            (0x8C, value) if rules.is_none() => rules = Some(value),
            (0xA5, value) if templates.is_none() => templates = Some(value),
            // The life cycle status (8A) is the card's to set.
            _ => return Err(Failure::Data),
        }
    }
    let (Some(id), Some(descriptor)) = (id, descriptor) else {
        return Err(Failure::Data);
    };
    let kind = kind(descriptor);
    let rules = rules.unwrap_or_default();
    if is_reserved(id)
        || !access::well_formed(rules, kind)
        || templates.is_some() != (kind == FileKind::Key)
        || is_key_range(id) != (kind == FileKind::Key)
    {
        return Err(Failure::Data);
    }
    Ok(FileRecord {
        id,
        descriptor,
        life_cycle: INITIALISATION,
        access: rules.to_vec(),
        templates: templates.unwrap_or_default().to_vec(),
        objects: Vec::new(),
    })
}

/// A key file must be one that the card can fill: fail here, not at first use.
fn check_key_file(card: &Card, connection: &Connection, file: &FileRecord) -> Result<(), Failure> {
    let templates = parse_templates(&file.templates)?;
    if authenticates_administrator(&templates)
        && is_operational(card)
        && !access::roles(card, connection).admin
    {
        return Err(Failure::SecurityStatus);
    }
    let reference = KeyReference::of_file(file.id);
    let administrator = file.id == ADMIN_KEY_FILE;
    let fits = templates
        .iter()
        .all(|t| (t.purpose == Purpose::Authentication) == administrator);
    if !fits {
        return Err(Failure::Data);
    }
    if !administrator && reference.key().is_none() {
        return Err(Failure::Memory);
    }
    let supported = templates
        .iter()
        .filter_map(|template| template.mechanism.algorithm())
        .all(|algorithm| card.supports(algorithm));
    if supported {
        Ok(())
    } else {
        Err(Failure::Unsupported)
    }
}

fn authenticates_administrator(templates: &[Template]) -> bool {
    templates
        .iter()
        .any(|t| t.purpose == Purpose::Authentication && t.usage & Template::VERIFY != 0)
}
