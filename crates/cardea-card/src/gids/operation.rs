//! PERFORM SECURITY OPERATION (GIDS 2.0; ISO 7816-8).

use zeroize::Zeroizing;

use super::environment::{Environment, KeyUse, permit_use};
use super::files::key_file;
use super::mechanism::{Mechanism, parse_templates};
use super::{access, digest_info};
use crate::engine::{Card, Command, Connection, Failure, Reply};
use crate::token::{HashAlgorithm, KeyAlgorithm, PrivateOperation};

/// Longest hash that ECDSA takes, in bytes.
const MAX_DIGEST: usize = 64;

/// Executes the command. Without Le the result waits for GET RESPONSE.
pub(super) fn perform(
    card: &mut Card,
    connection: &mut Connection,
    environment: &Environment,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    let chosen = match (command.p1, command.p2) {
        (0x9E, 0x9A) => environment.signature,
        (0x80, 0x86) => environment.confidentiality,
        _ => return Err(Failure::Parameters),
    };
    let chosen = chosen.ok_or(Failure::Conditions)?;
    check_use(card, connection, chosen)?;
    operate(card, connection, chosen, command.data).map(Reply::Held)
}

/// Everything that MSE checked, again: the PIN may have been cleared, the file deleted or replaced.
fn check_use(card: &mut Card, connection: &Connection, chosen: KeyUse) -> Result<(), Failure> {
    let file = key_file(card, chosen.reference)?;
    permit_use(card, connection, &file)?;
    access::need_pin(card, connection)?;
    let listed = parse_templates(&file.templates)?
        .iter()
        .any(|template| template.mechanism == chosen.mechanism);
    let key = chosen
        .reference
        .key()
        .and_then(|key| card.record().key(key));
    let key = key.ok_or(Failure::Conditions)?;
    if !listed || Some(card.describe(key)?.algorithm) != chosen.mechanism.algorithm() {
        return Err(Failure::Conditions);
    }
    Ok(())
}

fn operate(
    card: &mut Card,
    connection: &mut Connection,
    chosen: KeyUse,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let key = chosen.reference.key().ok_or(Failure::Conditions)?;
    let mut give = |operation: PrivateOperation<'_>| Ok(card.use_key(connection, key, operation)?);
    match chosen.mechanism {
        Mechanism::AdminTripleDes => Err(Failure::Conditions),
        Mechanism::DecipherOaep(algorithm) => give(PrivateOperation::DecryptOaep {
            hash: HashAlgorithm::Sha1,
            label: &[],
            cryptogram: block(data, algorithm)?,
        }),
        Mechanism::DecipherPkcs1(algorithm) => give(PrivateOperation::DecryptPkcs1 {
            cryptogram: block(data, algorithm)?,
        }),
        Mechanism::DecipherRaw(algorithm) | Mechanism::SignRaw(algorithm) => {
            give(PrivateOperation::RsaRaw {
                block: block(data, algorithm)?,
            })
        }
        Mechanism::SignEcdsa(algorithm) => {
            if data.is_empty() || data.len() > MAX_DIGEST {
                return Err(Failure::Data);
            }
            let plain = give(PrivateOperation::SignEcdsa { digest: data })?;
            der_signature(&plain, algorithm).map(Zeroizing::new)
        }
        Mechanism::SignPkcs1(algorithm) => match digest_info::recognise(data) {
            Some((hash, digest)) => give(PrivateOperation::SignPkcs1 { hash, digest }),
            None => {
                let block = digest_info::pad(data, algorithm.size()).ok_or(Failure::Data)?;
                give(PrivateOperation::RsaRaw { block: &block })
            }
        },
    }
}

/// Exactly as long as the modulus: there is no padding indicator before a cryptogram.
fn block(data: &[u8], algorithm: KeyAlgorithm) -> Result<&[u8], Failure> {
    if data.len() == algorithm.size() {
        Ok(data)
    } else {
        Err(Failure::Length)
    }
}

/// `SEQUENCE { INTEGER r, INTEGER s }` of r ‖ s (RFC 3279 §2.2.3).
fn der_signature(plain: &[u8], algorithm: KeyAlgorithm) -> Result<Vec<u8>, Failure> {
    let (r, s) = plain
        .split_at_checked(algorithm.size())
        .filter(|(_, s)| s.len() == algorithm.size())
        .ok_or(Failure::Damaged)?;
    let mut content = Vec::with_capacity(plain.len() + 6);
    for number in [r, s] {
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        let digits = number.get(zeros..).unwrap_or_default();
        let sign = match digits.first() {
            Some(&first) if first < 0x80 => &[][..],
            _ => &[0x00][..],
        };
        cardea_iso7816::tlv::write(&mut content, 0x02, &[sign, digits].concat());
    }
    let mut out = Vec::with_capacity(content.len() + 3);
    cardea_iso7816::tlv::write(&mut out, 0x30, &content);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_integers_are_minimal_and_positive() {
        let mut plain = [0; 64];
        plain[31] = 0x7F;
        plain[32] = 0x80;
        let der = der_signature(&plain, KeyAlgorithm::P256).unwrap();
        assert_eq!(der[..7], [0x30, 38, 0x02, 0x01, 0x7F, 0x02, 33]);
        assert_eq!(der[7..9], [0x00, 0x80]);
        assert_eq!(der.len(), 40);
        let zero = der_signature(&[0; 64], KeyAlgorithm::P256).unwrap();
        assert_eq!(zero, [0x30, 6, 0x02, 1, 0, 0x02, 1, 0]);
        assert!(der_signature(&[1; 63], KeyAlgorithm::P256).is_err());
    }
}
