//! GET PUBLIC KEY, a form of GET DATA (GIDS 2.0), and the template it shares with
//! GENERATE ASYMMETRIC KEY PAIR.

use cardea_iso7816::tlv;

use super::access::{self, Access};
use super::files::key_file;
use super::life_cycle::rules_apply;
use super::reference::KeyReference;
use crate::engine::{Card, Connection, Failure, Reply};
use crate::token::PublicKey;

/// Executes the command. The outer tag, `70` from clients and `A3` in the specification, is already
/// seen by the caller.
pub(super) fn get_public_key(
    card: &mut Card,
    connection: &Connection,
    data: &[u8],
) -> Result<Reply, Failure> {
    let reference = parse(data)?;
    let file = key_file(card, reference)?;
    if rules_apply(card, &file) {
        access::permit(card, connection, &file.access, Access::GetPublicKey)?;
    }
    let key = reference.key().and_then(|key| card.record().key(key));
    let key = key.ok_or(Failure::Conditions)?;
    Ok(Reply::data(template(&card.describe(key)?.public)))
}

/// `7F49`: modulus (`81`) and exponent (`82`), or the uncompressed point (`86`).
pub(super) fn template(key: &PublicKey) -> Vec<u8> {
    tlv::build(0x7F49, |out| match key {
        PublicKey::Ec { x, y } => {
            tlv::write(out, 0x86, &[&[0x04], x.as_slice(), y.as_slice()].concat());
        }
        PublicKey::Rsa { modulus, exponent } => {
            let exponent = exponent.to_be_bytes();
            let zeros = exponent.iter().take_while(|&&byte| byte == 0).count();
            tlv::write(out, 0x81, modulus);
            tlv::write(out, 0x82, exponent.get(zeros..).unwrap_or_default());
        }
    })
}

/// The key reference in `70 { 84 kk, A5 { 7F49 80 } }`.
///
/// `7F 49 80` is an entry of an extended header list (ISO 7816-4): the tag and `80` for "the
/// whole template". It is not a data object of indefinite length.
fn parse(data: &[u8]) -> Result<KeyReference, Failure> {
    let outer = tlv::parse_single(data).map_err(|_| Failure::Data)?;
    let mut reference = None;
    let mut header = false;
    for object in tlv::Reader::new(outer.value) {
        let object = object.map_err(|_| Failure::Data)?;
        match (object.tag, object.value) {
            (0x83 | 0x84, &[byte]) if reference.is_none() => {
                reference = Some(KeyReference::from_byte(byte));
            }
            (0xA5, &[0x7F, 0x49, 0x80]) if !header => header = true,
            _ => return Err(Failure::Data),
        }
    }
    match reference {
        Some(reference) if header => Ok(reference),
        _ => Err(Failure::Data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outer_tags_and_both_reference_tags_are_understood() {
        assert!(matches!(
            parse(&[0x70, 8, 0x84, 1, 0x81, 0xA5, 3, 0x7F, 0x49, 0x80]),
            Ok(reference) if reference.byte() == 0x81
        ));
        assert!(matches!(
            parse(&[0xA3, 8, 0x83, 1, 0x9E, 0xA5, 3, 0x7F, 0x49, 0x80]),
            Ok(reference) if reference.byte() == 0x9E
        ));
        assert!(parse(&[0x70, 3, 0x84, 1, 0x81]).is_err());
        assert!(parse(&[0x70, 5, 0xA5, 3, 0x7F, 0x49, 0x80]).is_err());
        assert!(parse(&[0x70, 8, 0x84, 1, 0x81, 0xA5, 3, 0x7F, 0x49, 0x00]).is_err());
    }

    #[test]
    fn exponent_has_no_leading_zeros() {
        let template = template(&PublicKey::Rsa {
            modulus: vec![0xAB; 256],
            exponent: 0x10001,
        });
        assert_eq!(template.len(), 270);
        assert_eq!(template[..9], [0x7F, 0x49, 0x82, 1, 9, 0x81, 0x82, 1, 0]);
        assert_eq!(template[265..], [0x82, 3, 1, 0, 1]);
    }

    #[test]
    fn point_is_uncompressed() {
        let template = template(&PublicKey::Ec {
            x: vec![1; 32],
            y: vec![2; 32],
        });
        assert_eq!(template[..6], [0x7F, 0x49, 0x43, 0x86, 0x41, 0x04]);
        assert_eq!(template.len(), 70);
    }
}
