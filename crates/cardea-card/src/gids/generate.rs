//! GENERATE ASYMMETRIC KEY PAIR (GIDS 2.0; ISO 7816-8).

use cardea_iso7816::tlv;
use zeroize::Zeroizing;

use super::access::{self, Access};
use super::files::key_file;
use super::life_cycle::{key_loaded, rules_apply};
use super::mechanism::{algorithm, key_class, parse_templates};
use super::public_key;
use super::reference::KeyReference;
use crate::engine::{Card, Command, Connection, Failure, Material, Reply};

/// Executes the command. Windows and pkcs15-init send no Le and read the public key afterwards; they
/// must not be given data.
pub(super) fn generate(
    card: &mut Card,
    connection: &mut Connection,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    if (command.p1, command.p2) != (0, 0) {
        return Err(Failure::Parameters);
    }
    let (reference, size) = parse(command.data)?;
    let file = key_file(card, reference)?;
    if rules_apply(card, &file) {
        access::permit(card, connection, &file.access, Access::Generate)?;
    }
    let number = reference.key().ok_or(Failure::Data)?;
    let algorithm = algorithm(size)?;
    let templates = parse_templates(&file.templates)?;
    let listed = templates
        .iter()
        .any(|template| template.mechanism.algorithm() == Some(algorithm));
    if !listed {
        return Err(Failure::Data);
    }
    let class = key_class(&templates);
    let info = card.make_key(number, Material::Generated(algorithm), class, |record| {
        key_loaded(&mut record.gids, reference);
        Ok(())
    })?;
    Ok(Reply::OnRequest(Zeroizing::new(public_key::template(
        &info.public,
    ))))
}

/// `AC { 80 algorithm, 83 reference }`.
fn parse(data: &[u8]) -> Result<(KeyReference, u8), Failure> {
    let outer = tlv::parse_single(data).map_err(|_| Failure::Data)?;
    if outer.tag != 0xAC {
        return Err(Failure::Data);
    }
    let mut size = None;
    let mut reference = None;
    for object in tlv::Reader::new(outer.value) {
        let object = object.map_err(|_| Failure::Data)?;
        match (object.tag, object.value) {
            (0x80, &[byte]) if size.is_none() => size = Some(byte),
            (0x83 | 0x84, &[byte]) if reference.is_none() => {
                reference = Some(KeyReference::from_byte(byte));
            }
            _ => return Err(Failure::Data),
        }
    }
    reference.zip(size).ok_or(Failure::Data)
}
