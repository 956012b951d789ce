//! The numbers of keys, in templates and in PKCS#8 structures (PKCS#11 3.1 §6.1.3, §6.3.3).

use cardea_client::message::{PrivateKey, PublicKey, SecretBytes};
use cardea_terms::RsaNumbers;
use cryptoki_sys::*;
use p256::elliptic_curve::sec1::ToSec1Point;
use zeroize::Zeroizing;

use crate::attributes::{self, P256, P384};
use crate::rv::{Result, Rv};
use crate::template::Template;
use crate::x509;

/// A number without its leading zeros.
fn number(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// 65537, with leading zeros or without.
pub(crate) fn is_f4(exponent: &[u8]) -> bool {
    number(exponent) == [1, 0, 1]
}

fn field_size(parameters: &[u8]) -> Result<usize> {
    match parameters {
        curve if curve == P256 => Ok(32),
        curve if curve == P384 => Ok(48),
        _ => Err(Rv(CKR_CURVE_NOT_SUPPORTED)),
    }
}

pub(crate) fn public_key(template: &Template) -> Result<PublicKey> {
    let invalid = Rv(CKR_ATTRIBUTE_VALUE_INVALID);
    match template
        .long(CKA_KEY_TYPE)?
        .ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))?
    {
        CKK_RSA => {
            let modulus = number(template.need(CKA_MODULUS)?);
            if !matches!(modulus.len(), 256 | 384 | 512) {
                return Err(invalid);
            }
            let exponent = number(template.need(CKA_PUBLIC_EXPONENT)?);
            if exponent.is_empty() || exponent.len() > 4 {
                return Err(invalid);
            }
            let exponent = exponent
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            Ok(PublicKey::Rsa {
                modulus: modulus.to_vec(),
                exponent,
            })
        }
        CKK_EC => {
            let size = field_size(template.need(CKA_EC_PARAMS)?)?;
            ec_point(size, template.need(CKA_EC_POINT)?).ok_or(invalid)
        }
        _ => Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID)),
    }
}

/// A public key from a point in an OCTET STRING, whose header some clients omit.
pub(crate) fn ec_point(size: usize, point: &[u8]) -> Option<PublicKey> {
    let point = match point {
        // Both begin with 4, and the next byte of a point may look like the length of what follows.
        bare if bare.len() == 2 * size + 1 => bare,
        [0x04, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        other => other,
    };
    let point = if size == 48 {
        let key = p384::PublicKey::from_sec1_bytes(point).ok()?;
        key.to_sec1_point(false).as_bytes().to_vec()
    } else {
        let key = p256::PublicKey::from_sec1_bytes(point).ok()?;
        key.to_sec1_point(false).as_bytes().to_vec()
    };
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(size)?;
    Some(PublicKey::Ec {
        x: x.to_vec(),
        y: y.to_vec(),
    })
}

pub(crate) fn private_key(template: &Template) -> Result<PrivateKey> {
    let invalid = Rv(CKR_ATTRIBUTE_VALUE_INVALID);
    match template
        .long(CKA_KEY_TYPE)?
        .ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))?
    {
        CKK_RSA => rsa(&RsaNumbers {
            modulus: template.need(CKA_MODULUS)?,
            private_exponent: template.get(CKA_PRIVATE_EXPONENT),
            prime_1: template.need(CKA_PRIME_1)?,
            prime_2: template.get(CKA_PRIME_2),
            exponent_1: template.get(CKA_EXPONENT_1),
            exponent_2: template.get(CKA_EXPONENT_2),
            coefficient: template.get(CKA_COEFFICIENT),
        })
        .ok_or(invalid),
        CKK_EC => {
            let size = field_size(template.need(CKA_EC_PARAMS)?)?;
            elliptic(size, template.need(CKA_VALUE)?).ok_or(invalid)
        }
        _ => Err(invalid),
    }
}

/// Refuses a template whose public attributes are those of another key than the private one.
pub(crate) fn require_same_public(template: &Template, material: &PrivateKey) -> Result {
    let public = match material {
        PrivateKey::Ec { x, y, .. } => PublicKey::Ec {
            x: x.clone(),
            y: y.clone(),
        },
        PrivateKey::Rsa { modulus, .. } => PublicKey::Rsa {
            modulus: modulus.clone(),
            exponent: 65537,
        },
    };
    let fits = |kind, value: &[u8]| match (kind, &public) {
        (CKA_KEY_TYPE, PublicKey::Ec { .. }) => value == CKK_EC.to_ne_bytes(),
        (CKA_KEY_TYPE, PublicKey::Rsa { .. }) => value == CKK_RSA.to_ne_bytes(),
        (CKA_EC_PARAMS, PublicKey::Ec { x, .. }) => field_size(value) == Ok(x.len()),
        (CKA_EC_POINT, PublicKey::Ec { x, .. }) => {
            ec_point(x.len(), value).as_ref() == Some(&public)
        }
        (CKA_MODULUS, PublicKey::Rsa { modulus, .. }) => number(value) == modulus,
        (CKA_PUBLIC_EXPONENT, PublicKey::Rsa { .. }) => is_f4(value),
        // Empty where the program does not have it (PKCS#11 3.1 §4.9).
        (CKA_PUBLIC_KEY_INFO, public) => value.is_empty() || value == attributes::spki(public),
        _ => true,
    };
    let mut attributes = template.attributes().iter();
    if attributes.all(|(kind, value)| fits(*kind, value)) {
        Ok(())
    } else {
        Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID))
    }
}

fn rsa(numbers: &RsaNumbers<'_>) -> Option<PrivateKey> {
    numbers.check().ok()?;
    Some(PrivateKey::Rsa {
        modulus: number(numbers.modulus).to_vec(),
        prime: SecretBytes::new(number(numbers.prime_1).to_vec()),
    })
}

/// An elliptic-curve key from its scalar. The point is computed.
fn elliptic(size: usize, scalar: &[u8]) -> Option<PrivateKey> {
    let scalar = number(scalar);
    let zeros = size.checked_sub(scalar.len())?;
    let mut full = Zeroizing::new(Vec::with_capacity(size));
    full.resize(zeros, 0);
    full.extend_from_slice(scalar);
    let point = if size == 48 {
        let key = p384::SecretKey::from_slice(&full).ok()?;
        key.public_key().to_sec1_point(false).as_bytes().to_vec()
    } else {
        let key = p256::SecretKey::from_slice(&full).ok()?;
        key.public_key().to_sec1_point(false).as_bytes().to_vec()
    };
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(size)?;
    Some(PrivateKey::Ec {
        scalar: SecretBytes::new(full.to_vec()),
        x: x.to_vec(),
        y: y.to_vec(),
    })
}

/// PrivateKeyInfo (RFC 5208 §5) of an RSA (RFC 8017 §A.1.2) or elliptic-curve key (RFC 5915 §3).
pub(crate) fn pkcs8(der: &[u8]) -> Option<PrivateKey> {
    let (0x30, info, _) = x509::element(der)? else {
        return None;
    };
    let (0x02, _, rest) = x509::element(info)? else {
        return None;
    };
    let (0x30, algorithm, rest) = x509::element(rest)? else {
        return None;
    };
    let (0x04, key, _) = x509::element(rest)? else {
        return None;
    };
    let (oid, parameters) = x509::whole(algorithm)?;
    let (0x30, key, _) = x509::element(key)? else {
        return None;
    };
    let (0x02, _, rest) = x509::element(key)? else {
        return None;
    };
    if oid == attributes::RSA_ENCRYPTION {
        let mut numbers = [&[][..]; 8];
        let mut rest = rest;
        for number in &mut numbers {
            let (0x02, value, after) = x509::element(rest)? else {
                return None;
            };
            (*number, rest) = (value, after);
        }
        let [
            modulus,
            exponent,
            private_exponent,
            prime_1,
            prime_2,
            exponent_1,
            exponent_2,
            coefficient,
        ] = numbers;
        let key = rsa(&RsaNumbers {
            modulus,
            private_exponent: Some(private_exponent),
            prime_1,
            prime_2: Some(prime_2),
            exponent_1: Some(exponent_1),
            exponent_2: Some(exponent_2),
            coefficient: Some(coefficient),
        });
        return is_f4(exponent).then_some(key)?;
    }
    if oid == attributes::EC_PUBLIC_KEY {
        let (0x04, scalar, rest) = x509::element(rest)? else {
            return None;
        };
        let size = field_size(parameters).ok()?;
        let key = elliptic(size, scalar)?;
        return has_point_of(rest, size, &key).then_some(key);
    }
    None
}

/// Whether the fields behind a scalar (RFC 5915 §3) are whole, and the public point among them, if there is one, is that
/// of the key.
fn has_point_of(mut rest: &[u8], size: usize, key: &PrivateKey) -> bool {
    let is_own = |point: &[u8]| {
        matches!(
            (ec_point(size, point), key),
            (Some(PublicKey::Ec { x, y }), PrivateKey::Ec { x: own_x, y: own_y, .. })
                if x == *own_x && y == *own_y
        )
    };
    while !rest.is_empty() {
        let Some((tag, value, after)) = x509::element(rest) else {
            return false;
        };
        let fits = match (tag, x509::element(value)) {
            (0xA1, Some((0x03, [0, point @ ..], []))) => is_own(point),
            (0xA1, _) => false,
            _ => true,
        };
        if !fits {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pkcs8_keys_are_read_and_truncated_ones_refused() {
        let curve = CURVE;
        assert!(
            matches!(pkcs8(RSA), Some(PrivateKey::Rsa { modulus, .. }) if modulus.len() == 256)
        );
        assert!(matches!(pkcs8(curve), Some(PrivateKey::Ec { x, .. }) if x.len() == 32));
        for length in 0..60 {
            assert!(pkcs8(&curve[..length]).is_none(), "{length}");
        }
        assert!(pkcs8(&[0x30, 0x80]).is_none());
    }

    const RSA: &[u8] = include_bytes!("../../cardea-pki/tests/data/rsa2048.pkcs8.der");
    const CURVE: &[u8] = include_bytes!("../../cardea-pki/tests/data/p256.pkcs8.der");

    /// Where the numbers of an RSAPrivateKey lie in its file, without the version.
    fn numbers(file: &[u8]) -> Vec<std::ops::Range<usize>> {
        let offset = |part: &[u8]| part.as_ptr() as usize - file.as_ptr() as usize;
        let (_, info, _) = x509::element(file).unwrap();
        let (_, rest) = x509::whole(info).unwrap();
        let (_, rest) = x509::whole(rest).unwrap();
        let (_, key, _) = x509::element(rest).unwrap();
        let (_, key, _) = x509::element(key).unwrap();
        let (_, mut rest) = x509::whole(key).unwrap();
        let mut found = Vec::new();
        while let Some((_, value, after)) = x509::element(rest) {
            found.push(offset(value)..offset(value) + value.len());
            rest = after;
        }
        found
    }

    #[test]
    fn each_number_of_an_rsa_key_must_fit_the_others() {
        assert!(pkcs8(RSA).is_some());
        let ranges = numbers(RSA);
        assert_eq!(ranges.len(), 8);
        let kinds = [
            CKA_MODULUS,
            CKA_PUBLIC_EXPONENT,
            CKA_PRIVATE_EXPONENT,
            CKA_PRIME_1,
            CKA_PRIME_2,
            CKA_EXPONENT_1,
            CKA_EXPONENT_2,
            CKA_COEFFICIENT,
        ];
        let read = |file: &[u8], given: &[CK_ATTRIBUTE_TYPE]| {
            let rsa = CKK_RSA.to_ne_bytes();
            let mut attributes = vec![(CKA_KEY_TYPE, &rsa[..])];
            let numbers = kinds.iter().zip(&ranges);
            attributes.extend(
                numbers
                    .filter(|(kind, _)| given.contains(kind))
                    .map(|(kind, range)| (*kind, &file[range.clone()])),
            );
            let template = Template::of(&attributes).unwrap();
            let key = private_key(&template)?;
            require_same_public(&template, &key)
        };
        assert_eq!(read(RSA, &kinds), Ok(()));
        assert_eq!(read(RSA, &[CKA_MODULUS, CKA_PRIME_1]), Ok(()));
        for (kind, range) in kinds.iter().zip(&ranges) {
            let mut file = RSA.to_vec();
            file[range.end - 1] ^= 2;
            assert!(pkcs8(&file).is_none(), "{kind:#x}");
            let invalid = Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
            assert_eq!(read(&file, &kinds), invalid, "{kind:#x}");
            assert_eq!(
                read(&file, &[CKA_MODULUS, CKA_PRIME_1, *kind]),
                invalid,
                "{kind:#x}"
            );
        }
    }

    #[test]
    fn public_attributes_of_a_private_key_must_be_its_own() {
        let key = pkcs8(CURVE).unwrap();
        let PrivateKey::Ec { x, y, .. } = &key else {
            panic!("a curve");
        };
        let mut point = [&[4, 65, 4][..], x, y].concat();
        let spki = attributes::spki(&PublicKey::Ec {
            x: x.clone(),
            y: y.clone(),
        });
        let checked = |kind, value: &[u8]| {
            require_same_public(&Template::of(&[(kind, value)]).unwrap(), &key)
        };
        assert_eq!(checked(CKA_EC_POINT, &point), Ok(()));
        assert_eq!(checked(CKA_EC_POINT, &point[2..]), Ok(()));
        assert_eq!(checked(CKA_EC_PARAMS, P256), Ok(()));
        assert_eq!(checked(CKA_PUBLIC_KEY_INFO, &spki), Ok(()));
        assert_eq!(checked(CKA_PUBLIC_KEY_INFO, &[]), Ok(()));

        let invalid = Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
        let Some(PrivateKey::Ec { x, y, .. }) = elliptic(32, &[2]) else {
            panic!("two is a scalar");
        };
        let foreign = [&[4, 65, 4][..], &x, &y].concat();
        assert_eq!(checked(CKA_EC_POINT, &foreign), invalid);
        point[66] ^= 1;
        assert_eq!(checked(CKA_EC_POINT, &point), invalid);
        assert_eq!(checked(CKA_EC_PARAMS, P384), invalid);
        assert_eq!(checked(CKA_PUBLIC_KEY_INFO, &spki[1..]), invalid);
        assert_eq!(checked(CKA_KEY_TYPE, &CKK_RSA.to_ne_bytes()), invalid);

        // The point inside a wrapped key.
        let mut file = CURVE.to_vec();
        *file.last_mut().unwrap() ^= 1;
        assert!(pkcs8(&file).is_none());

        // Its field is cut off, or has something behind the point.
        let of_point = |field: &[u8]| has_point_of(field, 32, &key);
        let point = [&[0, 4][..], x_and_y(&key).as_slice()].concat();
        let field = [&[0xA1, 68, 3, 66][..], &point].concat();
        assert!(of_point(&field) && of_point(&[]));
        for length in 1..field.len() {
            assert!(!of_point(&field[..length]), "{length}");
        }
        let longer = [&[0xA1, 70, 3, 66][..], &point, &[5, 0]].concat();
        assert!(!of_point(&longer));
        assert!(!of_point(&[&field[..], &[0xA1, 3, 3, 1, 0]].concat()));
    }

    fn x_and_y(key: &PrivateKey) -> Vec<u8> {
        match key {
            PrivateKey::Ec { x, y, .. } => [&x[..], y].concat(),
            PrivateKey::Rsa { .. } => panic!("a curve"),
        }
    }

    /// The byte before the rest of such a point is its length, as in an OCTET STRING.
    #[test]
    fn bare_points_are_read_whatever_their_second_byte() {
        for (size, scalar, second) in [(32, 111, 0x3F), (48, 94, 0x5F)] {
            let Some(PrivateKey::Ec { x, y, .. }) = elliptic(size, &[scalar]) else {
                panic!("{scalar} is a scalar");
            };
            assert_eq!(x[0], second);
            let bare = [&[4][..], &x, &y].concat();
            let wrapped = [&[4, u8::try_from(bare.len()).unwrap()][..], &bare].concat();
            let compressed = [&[2 | y[size - 1] & 1][..], &x].concat();
            let key = Some(PublicKey::Ec { x, y });
            for point in [&bare, &wrapped, &compressed] {
                assert_eq!(ec_point(size, point), key, "{point:X?}");
            }
            if size == 32 {
                // Inside a private key, where points are always bare (RFC 5915 §3).
                let Some(PrivateKey::Ec { scalar: own, x, y }) = pkcs8(CURVE) else {
                    panic!("a curve");
                };
                let mut file = CURVE.to_vec();
                let mut full = [0; 32];
                full[31] = scalar;
                for (old, new) in [
                    (own.expose(), &full[..]),
                    (&[&x[..], &y].concat(), &bare[1..]),
                ] {
                    let place = file
                        .windows(old.len())
                        .position(|part| part == old)
                        .unwrap();
                    file[place..place + old.len()].copy_from_slice(new);
                }
                assert!(pkcs8(&file).is_some());
            }
            for length in 0..bare.len() {
                if length != compressed.len() {
                    assert_eq!(ec_point(size, &bare[..length]), None, "{length}");
                }
            }
        }
    }

    #[test]
    fn scalars_are_padded_and_must_be_in_range() {
        let Some(PrivateKey::Ec { scalar, x, .. }) = elliptic(32, &[0, 0, 1]) else {
            panic!("one is a scalar");
        };
        assert_eq!(scalar.expose().len(), 32);
        assert_eq!(x[..4], [0x6B, 0x17, 0xD1, 0xF2]);
        assert!(elliptic(32, &[0; 32]).is_none());
        assert!(elliptic(32, &[0xFF; 32]).is_none());
        assert!(elliptic(32, &[1; 33]).is_none());
    }
}
