//! GET DATA with odd instruction (GIDS 2.0; ISO 7816-4).

use cardea_iso7816::tlv;

use super::access::{self, Access};
use super::files::{self, DATA_DESCRIPTOR};
use super::life_cycle::rules_apply;
use super::{Selection, State, public_key, templates};
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::record::FileRecord;
use crate::token::PinReference;

/// Executes the command. Data is returned with and without Le.
pub(super) fn get_data(
    card: &mut Card,
    connection: &mut Connection,
    state: &mut State,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    let scope = u16::from_be_bytes([command.p1, command.p2]);
    if scope == 0x3FFF && matches!(command.data.first(), Some(0x70 | 0xA3)) {
        return public_key::get_public_key(card, connection, command.data);
    }
    let request = Request::parse(command.data)?;
    match scope {
        0x2F00 => request.answer(own(templates::ef_dir())),
        0x2F01 => request.answer(own(templates::ef_atr())),
        0x3FFF => application(card, connection, &request),
        0x0000 => match state.selection {
            Selection::File(id) => file(card, connection, id, &request),
            Selection::Df | Selection::None => Err(Failure::NotAllowed),
        },
        id => {
            let reply = file(card, connection, id, &request)?;
            state.selection = Selection::File(id);
            Ok(reply)
        }
    }
}

/// What the data field, one object of tag `5C`, asks for.
enum Request {
    /// Every readable object.
    All,
    /// The object of this tag.
    Object(u32),
    /// The tags of every readable object.
    TagList,
}

/// A data object as found, and whether it may be read.
struct Candidate {
    tag: u32,
    value: Vec<u8>,
    readable: bool,
}

impl Request {
    fn parse(data: &[u8]) -> Result<Self, Failure> {
        let list = tlv::parse_single(data).map_err(|_| Failure::Data)?;
        if list.tag != 0x5C {
            return Err(Failure::Data);
        }
        match list.value {
            [] => Ok(Self::All),
            [0x5C] => Ok(Self::TagList),
            tag => tlv::parse_tag(tag)
                .map(Self::Object)
                .map_err(|_| Failure::Data),
        }
    }

    /// `6A 88` when nothing was found, `69 82` when something was but may not be read.
    fn answer(&self, candidates: Vec<Candidate>) -> Result<Reply, Failure> {
        let mut out = Vec::new();
        let mut refused = false;
        let mut found = false;
        for candidate in candidates {
            if matches!(self, Self::Object(tag) if *tag != candidate.tag) {
                continue;
            }
            if !candidate.readable {
                refused = true;
                continue;
            }
            found = true;
            match self {
                Self::TagList => tlv::write_tag(&mut out, candidate.tag),
                Self::All | Self::Object(_) => {
                    tlv::write(&mut out, candidate.tag, &candidate.value);
                }
            }
        }
        match self {
            Self::Object(_) if !found && refused => Err(Failure::SecurityStatus),
            Self::Object(_) if !found => Err(Failure::NotFound),
            Self::TagList => {
                let mut list = Vec::new();
                tlv::write(&mut list, 0x5C, &out);
                Ok(Reply::data(list))
            }
            _ => Ok(Reply::data(out)),
        }
    }
}

/// Scope of one elementary file.
fn file(
    card: &mut Card,
    connection: &Connection,
    id: u16,
    request: &Request,
) -> Result<Reply, Failure> {
    let file = files::find(card, id).ok_or(Failure::FileNotFound)?;
    if file.descriptor != DATA_DESCRIPTOR {
        return Err(Failure::WrongFileKind);
    }
    let reply = request.answer(objects(card, connection, file))?;
    if rules_apply(card, file) {
        let rules = file.access.clone();
        access::note_use(card, connection, &rules, Access::GetData);
    }
    Ok(reply)
}

/// Scope of the whole application: the objects of all files and the PIN status objects.
fn application(
    card: &mut Card,
    connection: &Connection,
    request: &Request,
) -> Result<Reply, Failure> {
    let mut candidates = Vec::new();
    for file in &card.record().gids.files {
        if file.descriptor == DATA_DESCRIPTOR {
            candidates.append(&mut objects(card, connection, file));
        }
    }
    // The application PIN answers for 7F71 as well, which is where OpenSC looks for it; 7F73 only
    // exists with a PUK. The TPM is asked only for what was asked for.
    for (tag, reference) in [
        (0x7F71, PinReference::Pin),
        (0x7F72, PinReference::Pin),
        (0x7F73, PinReference::Puk),
    ] {
        let exists = reference == PinReference::Pin || card.has_puk();
        let value = match request {
            Request::Object(wanted) if *wanted != tag => continue,
            _ if !exists => continue,
            Request::TagList => Vec::new(),
            Request::All | Request::Object(_) => pin_status(card, reference)?,
        };
        candidates.push(Candidate {
            tag,
            value,
            readable: true,
        });
    }
    request.answer(candidates)
}

/// Tries left (`97`), unless the count is hidden, and limit (`93`). Clients take what they find: OpenSC shows no number
/// of tries without the first.
fn pin_status(card: &mut Card, reference: PinReference) -> Result<Vec<u8>, Failure> {
    let (left, limit) = match card.recent_pin_status(reference) {
        Ok(status) => (Some(status.left), Some(status.limit)),
        Err(error) if error.is_hidden_count() => (None, card.pin_limit(reference)),
        Err(error) => return Err(error.into()),
    };
    let mut value = Vec::new();
    for (tag, count) in [(0x97, left), (0x93, limit)] {
        if let Some(count) = count {
            tlv::write(&mut value, tag, &[u8::try_from(count).unwrap_or(u8::MAX)]);
        }
    }
    Ok(value)
}

/// The objects of a file with the verdict of its rules, which count only in operational state.
/// This does not count as a use of the PIN: clients poll the whole application.
fn objects(card: &Card, connection: &Connection, file: &FileRecord) -> Vec<Candidate> {
    let readable = !rules_apply(card, file)
        || access::allows(
            &file.access,
            Access::GetData,
            access::roles(card, connection),
        );
    file.objects
        .iter()
        .map(|object| Candidate {
            tag: object.tag,
            value: object.value.clone(),
            readable,
        })
        .collect()
}

fn own(objects: Vec<(u32, Vec<u8>)>) -> Vec<Candidate> {
    objects
        .into_iter()
        .map(|(tag, value)| Candidate {
            tag,
            value,
            readable: true,
        })
        .collect()
}
