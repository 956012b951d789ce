//! MANAGE SECURITY ENVIRONMENT (GIDS 2.0; ISO 7816-4).

use cardea_iso7816::tlv;

use super::access::{self, Access};
use super::files::key_file;
use super::life_cycle::rules_apply;
use super::mechanism::{Mechanism, Purpose, Template, parse_templates};
use super::reference::KeyReference;
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::record::FileRecord;

/// The current control reference templates. Each stays until it is replaced: one MSE may serve several
/// operations.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(super) authentication: Option<KeyUse>,
    pub(super) confidentiality: Option<KeyUse>,
    pub(super) signature: Option<KeyUse>,
}

/// A key and what is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyUse {
    pub(super) reference: KeyReference,
    pub(super) mechanism: Mechanism,
}

/// MANAGE SECURITY ENVIRONMENT, of which only SET exists.
pub(super) fn manage(
    card: &mut Card,
    connection: &mut Connection,
    environment: &mut Environment,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    let direction = Direction::parse(command.p1)?;
    let purpose = Purpose::of_tag(command.p2.into()).ok_or(Failure::Parameters)?;
    // Verification and encipherment with a user key: every client does them itself.
    if purpose != Purpose::Authentication && !direction.compute {
        return Err(Failure::Parameters);
    }
    let request = parse(command.data)?;
    let file = key_file(card, request.reference)?;
    let mechanism = chosen(&file, purpose, direction, request.mechanism)?;
    permit_use(card, connection, &file)?;

    let chosen = Some(KeyUse {
        reference: request.reference,
        mechanism,
    });
    match purpose {
        Purpose::Authentication => environment.authentication = chosen,
        Purpose::Confidentiality => environment.confidentiality = chosen,
        Purpose::Signature => environment.signature = chosen,
    }
    Ok(Reply::Done)
}

/// What P1 says the environment is for.
#[derive(Clone, Copy)]
struct Direction {
    /// Computation, decipherment, internal authentication.
    compute: bool,
    /// Verification, encipherment, external authentication.
    verify: bool,
}

impl Direction {
    fn parse(p1: u8) -> Result<Self, Failure> {
        match p1 {
            0x41 => Ok(Self::new(true, false)),
            0x81 => Ok(Self::new(false, true)),
            0xC1 => Ok(Self::new(true, true)),
            _ => Err(Failure::Parameters),
        }
    }

    fn new(compute: bool, verify: bool) -> Self {
        Self { compute, verify }
    }

    fn served_by(self, usage: u8) -> bool {
        self.compute && usage & Template::COMPUTE != 0
            || self.verify && usage & Template::VERIFY != 0
    }
}

struct Request {
    reference: KeyReference,
    mechanism: Option<u8>,
}

/// `80` mechanism, `83` or `84` key reference, in any order.
fn parse(data: &[u8]) -> Result<Request, Failure> {
    let mut reference = None;
    let mut mechanism = None;
    for object in tlv::Reader::new(data) {
        let object = object.map_err(|_| Failure::Data)?;
        match (object.tag, object.value) {
            (0x80, &[byte]) if mechanism.is_none() => mechanism = Some(byte),
            (0x83 | 0x84, &[byte]) if reference.is_none() => {
                reference = Some(KeyReference::from_byte(byte));
            }
            _ => return Err(Failure::Data),
        }
    }
    Ok(Request {
        reference: reference.ok_or(Failure::Data)?,
        mechanism,
    })
}

/// The mechanism among the key file's templates; for the administrator's key it need not be named.
fn chosen(
    file: &FileRecord,
    purpose: Purpose,
    direction: Direction,
    wanted: Option<u8>,
) -> Result<Mechanism, Failure> {
    let wanted = match wanted {
        Some(byte) => Some(Mechanism::parse(purpose, byte).map_err(|_| Failure::Data)?),
        None if purpose == Purpose::Authentication => None,
        None => return Err(Failure::Data),
    };
    parse_templates(&file.templates)?
        .into_iter()
        .find(|template| {
            template.purpose == purpose
                && direction.served_by(template.usage)
                && wanted.is_none_or(|wanted| wanted == template.mechanism)
        })
        .map(|template| template.mechanism)
        .ok_or(Failure::Data)
}

/// The rule for the use of a key. A file that was never activated cannot be used.
pub(super) fn permit_use(
    card: &mut Card,
    connection: &Connection,
    file: &FileRecord,
) -> Result<(), Failure> {
    if !rules_apply(card, file) {
        return Err(Failure::Conditions);
    }
    access::permit(card, connection, &file.access, Access::Use)
}
