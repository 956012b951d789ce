//! PUT KEY, a form of PUT DATA (GIDS 2.0): the admin key, and user keys that were made elsewhere.
//!
//! `70 { 84 kk, A5 { [83 type] [84 00] 87 value [88 kcv] } }`. The key check value is not looked at:
//! gids-tool sends that of the default key with every key.

use cardea_iso7816::tlv;
use cardea_terms::RsaNumbers;
use zeroize::Zeroizing;

use super::access::{self, Access};
use super::files::{ADMIN_KEY_FILE, key_file};
use super::life_cycle::{is_operational, key_erased, key_loaded, rules_apply};
use super::mechanism::{Template, key_class, parse_templates};
use super::reference::KeyReference;
use crate::engine::{Card, Connection, Failure, Material, Reply};
use crate::secret::{AdminKeyBytes, PrivateKey};
use crate::token::KeyAlgorithm;

/// What `A5` holds.
#[derive(Debug)]
enum KeyData<'a> {
    /// PKCS#1 RSAPrivateKey.
    Rsa(&'a [u8]),
    /// `SEQUENCE { 1, d, 04 ‖ X ‖ Y }`.
    Ec(&'a [u8]),
    /// Raw bytes.
    Symmetric(&'a [u8]),
    /// Empty: erase the key.
    Zeroise,
}

/// Executes the command; `value` is that of tag `70`.
pub(super) fn put_key(
    card: &mut Card,
    connection: &mut Connection,
    value: &[u8],
) -> Result<Reply, Failure> {
    let (reference, data) = parse(value)?;
    let file = key_file(card, reference)?;
    if rules_apply(card, &file) {
        access::permit(card, connection, &file.access, Access::PutKey)?;
    }
    let data = parse_key_data(data)?;
    if file.id == ADMIN_KEY_FILE {
        return put_admin_key(card, connection, &data);
    }
    let number = reference.key().ok_or(Failure::Data)?;
    let key = match data {
        KeyData::Rsa(value) => rsa_key(value)?,
        KeyData::Ec(value) => ec_key(value)?,
        KeyData::Symmetric(_) => return Err(Failure::Data),
        KeyData::Zeroise => {
            card.remove_keys(
                |key| key == number,
                |record| {
                    key_erased(&mut record.gids, reference);
                    Ok(())
                },
            )?;
            return Ok(Reply::Done);
        }
    };
    let templates = parse_templates(&file.templates)?;
    check_listed(&templates, key.algorithm())?;
    let class = key_class(&templates);
    card.make_key(number, Material::Imported(&key), class, |record| {
        key_loaded(&mut record.gids, reference);
        Ok(())
    })?;
    Ok(Reply::Done)
}

fn put_admin_key(
    card: &mut Card,
    connection: &mut Connection,
    data: &KeyData<'_>,
) -> Result<Reply, Failure> {
    let KeyData::Symmetric(bytes) = data else {
        return Err(Failure::Data);
    };
    let key: AdminKeyBytes = Zeroizing::new((*bytes).try_into().map_err(|_| Failure::Data)?);
    if is_operational(card) {
        card.change_admin_key(connection, &key)?;
    } else {
        card.initialise_admin_key(&key)?;
    }
    let mut record = card.record().clone();
    key_loaded(&mut record.gids, KeyReference::ADMINISTRATOR);
    card.commit(record)?;
    Ok(Reply::Done)
}

/// A key whose kind or size the key file does not list is refused.
fn check_listed(templates: &[Template], algorithm: KeyAlgorithm) -> Result<(), Failure> {
    let listed = templates
        .iter()
        .any(|template| template.mechanism.algorithm() == Some(algorithm));
    if listed { Ok(()) } else { Err(Failure::Data) }
}

/// Reference and value of `A5`.
fn parse(value: &[u8]) -> Result<(KeyReference, &[u8]), Failure> {
    let mut reference = None;
    let mut data = None;
    for object in tlv::Reader::new(value) {
        let object = object.map_err(|_| Failure::Data)?;
        match (object.tag, object.value) {
            (0x83 | 0x84, &[byte]) if reference.is_none() => {
                reference = Some(KeyReference::from_byte(byte));
            }
            (0xA5, value) if data.is_none() => data = Some(value),
            _ => return Err(Failure::Data),
        }
    }
    reference.zip(data).ok_or(Failure::Data)
}

fn parse_key_data(data: &[u8]) -> Result<KeyData<'_>, Failure> {
    if data.is_empty() {
        return Ok(KeyData::Zeroise);
    }
    let mut kind = None;
    let mut transport = false;
    let mut key = None;
    let mut check = false;
    for object in tlv::Reader::new(data) {
        let object = object.map_err(|_| Failure::Data)?;
        match (object.tag, object.value) {
            (0x83, &[byte]) if kind.is_none() => kind = Some(byte),
            // Transport key 0: the value is in the clear; no other transport key exists.
            (0x84, &[0]) if !transport => transport = true,
            (0x87, value) if key.is_none() => key = Some(value),
            (0x88, &[_, _, _]) if !check => check = true,
            _ => return Err(Failure::Data),
        }
    }
    let key = key.ok_or(Failure::Data)?;
    match kind {
        None | Some(0x01) => Ok(KeyData::Symmetric(key)),
        Some(0x02) => Ok(KeyData::Rsa(key)),
        Some(0x03) => Ok(KeyData::Ec(key)),
        Some(_) => Err(Failure::Data),
    }
}

/// RSAPrivateKey (RFC 8017 §A.1.2). The INTEGERs are unsigned and sloppy: OpenSC omits the leading zero,
/// Windows has it, and either may give a value a byte short.
fn rsa_key(value: &[u8]) -> Result<PrivateKey, Failure> {
    let [version, n, e, d, p, q, dp, dq, coefficient] = sequence(value)?;
    if !integer(version)?.is_empty() {
        return Err(Failure::Data);
    }
    let (modulus, p) = (integer(n)?, integer(p)?);
    let algorithm = match modulus.len() {
        256 => KeyAlgorithm::Rsa2048,
        384 => KeyAlgorithm::Rsa3072,
        _ => return Err(Failure::Unsupported),
    };
    // The TPM's keys have the default exponent.
    if integer(e)? != [0x01, 0x00, 0x01] {
        return Err(Failure::Unsupported);
    }
    // No such number is zero: an empty one is one that the client does not have.
    let given = |element| integer(element).map(|number| (!number.is_empty()).then_some(number));
    let numbers = RsaNumbers {
        modulus,
        private_exponent: given(d)?,
        prime_1: p,
        prime_2: Some(integer(q)?),
        exponent_1: given(dp)?,
        exponent_2: given(dq)?,
        coefficient: given(coefficient)?,
    };
    numbers.check().map_err(|_| Failure::Data)?;
    Ok(PrivateKey::Rsa {
        algorithm,
        modulus: modulus.to_vec(),
        prime: Zeroizing::new(p.to_vec()),
    })
}

/// The specification's form of an elliptic-curve key. Whether point and scalar fit, the TPM finds out.
fn ec_key(value: &[u8]) -> Result<PrivateKey, Failure> {
    let [version, d, point] = sequence(value)?;
    if integer(version)? != [1] {
        return Err(Failure::Data);
    }
    let (0x04, d, 0x04, [0x04, point @ ..]) = (d.tag, d.value, point.tag, point.value) else {
        return Err(Failure::Data);
    };
    let algorithm = match point.len() {
        64 => KeyAlgorithm::P256,
        96 => KeyAlgorithm::P384,
        _ => return Err(Failure::Unsupported),
    };
    let size = algorithm.size();
    let (x, y) = point.split_at(size);
    let digits = without_zeros(d);
    let missing = size.checked_sub(digits.len()).ok_or(Failure::Data)?;
    let mut scalar = Zeroizing::new(Vec::with_capacity(size));
    scalar.resize(missing, 0);
    scalar.extend_from_slice(digits);
    Ok(PrivateKey::Ec {
        algorithm,
        scalar,
        x: x.to_vec(),
        y: y.to_vec(),
    })
}

/// The first elements of a SEQUENCE; more than N are an error.
fn sequence<const N: usize>(value: &[u8]) -> Result<[tlv::Tlv<'_>; N], Failure> {
    let outer = tlv::parse_single(value).map_err(|_| Failure::Data)?;
    if outer.tag != 0x30 {
        return Err(Failure::Data);
    }
    let elements: Vec<_> = tlv::Reader::new(outer.value)
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::Data)?;
    elements.try_into().map_err(|_| Failure::Data)
}

fn integer(element: tlv::Tlv<'_>) -> Result<&[u8], Failure> {
    if element.tag != 0x02 {
        return Err(Failure::Data);
    }
    Ok(without_zeros(element.value))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_key_command_of_every_client_is_understood() {
        let mut command = vec![0x84, 1, 0x80, 0xA5, 0x1F, 0x87, 0x18];
        command.extend([7; 24]);
        command.extend([0x88, 3, 0xB0, 0x73, 0xDC]);
        let (reference, data) = parse(&command).unwrap();
        assert_eq!(reference, KeyReference::ADMINISTRATOR);
        assert!(matches!(
            parse_key_data(data).unwrap(),
            KeyData::Symmetric(key) if key == [7; 24]
        ));
    }

    #[test]
    fn malformed_keys_are_refused() {
        assert!(matches!(parse_key_data(&[]), Ok(KeyData::Zeroise)));
        for wrong in [
            &[0x83, 1, 4, 0x87, 1, 0][..],
            &[0x83, 1, 2],
            &[0x84, 1, 1, 0x87, 1, 0],
            &[0x87, 1, 0, 0x87, 1, 0],
            &[0x87, 2, 0],
            &[0x99, 0],
        ] {
            assert!(parse_key_data(wrong).is_err(), "{wrong:02x?}");
        }
        for wrong in [
            &[][..],
            &[0x30, 0],
            &[0x30, 3, 2, 1, 0],
            &[0x31, 3, 2, 1, 0],
            &[0x30, 0x81],
        ] {
            assert!(rsa_key(wrong).is_err() && ec_key(wrong).is_err());
        }
    }

    #[test]
    fn each_number_of_an_rsa_key_must_fit_the_others() {
        let file = include_bytes!("../../../cardea-pki/tests/data/rsa2048.pkcs1.der");
        assert!(rsa_key(file).is_ok());
        let elements = sequence::<9>(file).unwrap();
        for number in &elements[1..] {
            let end = number.value.as_ptr_range().end as usize - file.as_ptr() as usize;
            let mut file = file.to_vec();
            file[end - 1] ^= 2;
            assert!(rsa_key(&file).is_err(), "{number:?}");
        }
        // What a client does not have is empty.
        let mut content = Vec::new();
        for (position, number) in elements.iter().enumerate() {
            let is_given = [0, 1, 2, 4, 5].contains(&position);
            tlv::write(
                &mut content,
                0x02,
                if is_given { number.value } else { &[] },
            );
        }
        let mut short = Vec::new();
        tlv::write(&mut short, 0x30, &content);
        assert!(rsa_key(&short).is_ok());
    }

    #[test]
    fn a_point_of_another_curve_is_unsupported_and_a_long_scalar_malformed() {
        let key = |size: usize, scalar: usize| {
            let mut content = vec![2, 1, 1];
            tlv::write(&mut content, 0x04, &vec![1; scalar]);
            tlv::write(&mut content, 0x04, &[&[4][..], &vec![2; 2 * size]].concat());
            let mut out = Vec::new();
            tlv::write(&mut out, 0x30, &content);
            out
        };
        assert!(matches!(
            ec_key(&key(32, 31)),
            Ok(PrivateKey::Ec { algorithm: KeyAlgorithm::P256, scalar, .. })
                if scalar.len() == 32 && scalar[0] == 0
        ));
        assert!(matches!(ec_key(&key(66, 66)), Err(Failure::Unsupported)));
        assert!(matches!(ec_key(&key(32, 33)), Err(Failure::Data)));
    }
}
