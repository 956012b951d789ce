//! GENERATE ASYMMETRIC KEY PAIR (GIDS 2.0; ISO 7816-8).

use cardea_iso7816::tlv;
use zeroize::Zeroizing;

use super::access::Access;
use super::environment::key_file;
use super::get_data::is_operational;
use super::mechanism::{algorithm, parse_templates};
use super::{KEY_REFERENCES, file_management, public_key};
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::token::KeyClass;

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
    if is_operational(card, &file) {
        card.permit(connection, &file.access, Access::Generate)?;
    }
    if !KEY_REFERENCES.contains(&reference) {
        return Err(Failure::Data);
    }
    let algorithm = algorithm(size)?;
    let listed = parse_templates(&file.templates)?
        .iter()
        .any(|template| template.mechanism.algorithm() == Some(algorithm));
    if !listed {
        return Err(Failure::Data);
    }
    if !card.supports(algorithm) {
        return Err(Failure::Unsupported);
    }

    let key = card
        .token()
        .generate(reference, algorithm, KeyClass::Session)?;
    let public = match card.describe(&key) {
        Ok(info) => info.public,
        Err(failure) => {
            card.token().forget(&key);
            return Err(failure);
        }
    };
    let replaced = card.key(reference).cloned();
    let mut record = card.record().clone();
    record.keys.retain(|old| old.reference != reference);
    record.keys.push(key.clone());
    if let Some(file) = record.gids.files.iter_mut().find(|f| f.id == file.id) {
        file_management::key_loaded(file);
    }
    // The old key works until the new one is saved.
    if let Err(error) = card.commit(record) {
        card.token().forget(&key);
        return Err(error.into());
    }
    if let Some(old) = replaced {
        card.token().forget(&old);
    }
    Ok(Reply::OnRequest(Zeroizing::new(public_key::template(
        &public,
    ))))
}

/// `AC { 80 algorithm, 83 reference }`.
fn parse(data: &[u8]) -> Result<(u8, u8), Failure> {
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
            (0x83 | 0x84, &[byte]) if reference.is_none() => reference = Some(byte),
            _ => return Err(Failure::Data),
        }
    }
    reference.zip(size).ok_or(Failure::Data)
}
