//! Mechanisms and control reference templates of key files (GIDS 2.0; ISO 7816-4 §10.3).

use cardea_iso7816::tlv;

use crate::engine::Failure;
use crate::token::{KeyAlgorithm, KeyClass};

/// What a control reference template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// AT, tag `A4`.
    Authentication,
    /// CT, tag `B8`.
    Confidentiality,
    /// DST, tag `B6`.
    Signature,
}

impl Purpose {
    pub(crate) fn of_tag(tag: u32) -> Option<Self> {
        match tag {
            0xA4 => Some(Self::Authentication),
            0xB6 => Some(Self::Signature),
            0xB8 => Some(Self::Confidentiality),
            _ => None,
        }
    }
}

/// A mechanism byte that this card understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// `02` in AT: 3-key 3DES of the administrator.
    AdminTripleDes,
    /// `8x` in CT: RSAES-OAEP with SHA-1 and an empty label.
    DecipherOaep(KeyAlgorithm),
    /// `4x` in CT: RSAES-PKCS1-v1_5.
    DecipherPkcs1(KeyAlgorithm),
    /// `0x` in CT: the bare RSA operation.
    DecipherRaw(KeyAlgorithm),
    /// `1x` in DST, elliptic curves: ECDSA over a hash.
    SignEcdsa(KeyAlgorithm),
    /// `5x` in DST: RSASSA-PKCS1-v1_5 padding around the data as given.
    SignPkcs1(KeyAlgorithm),
    /// `1x` in DST, RSA: the bare operation on a padded block.
    SignRaw(KeyAlgorithm),
}

impl Mechanism {
    /// Reads a mechanism byte in the context of its template.
    ///
    /// `Data` for a byte that means nothing there, `Unsupported` for a known algorithm that no key of
    /// this card can have.
    pub(crate) fn parse(purpose: Purpose, byte: u8) -> Result<Self, Failure> {
        let (high, size) = (byte & 0xF0, byte & 0x0F);
        match (purpose, high) {
            (Purpose::Authentication, _) => match byte {
                0x02 => Ok(Self::AdminTripleDes),
                0x01 | 0x03..=0x05 | 0x0A..=0x0E => Err(Failure::Unsupported),
                _ => Err(Failure::Data),
            },
            (Purpose::Signature, 0x10) => Ok(match algorithm(size)? {
                curve @ (KeyAlgorithm::P256 | KeyAlgorithm::P384) => Self::SignEcdsa(curve),
                rsa @ (KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072) => Self::SignRaw(rsa),
            }),
            (Purpose::Signature, 0x50) => rsa(size).map(Self::SignPkcs1),
            (Purpose::Confidentiality, 0x00) => rsa(size).map(Self::DecipherRaw),
            (Purpose::Confidentiality, 0x40) => rsa(size).map(Self::DecipherPkcs1),
            (Purpose::Confidentiality, 0x80) => rsa(size).map(Self::DecipherOaep),
            (Purpose::Signature | Purpose::Confidentiality, _) => Err(Failure::Data),
        }
    }

    /// The algorithm that a key must have for it; none for the administrator's.
    pub(crate) fn algorithm(self) -> Option<KeyAlgorithm> {
        match self {
            Self::AdminTripleDes => None,
            Self::DecipherOaep(algorithm)
            | Self::DecipherPkcs1(algorithm)
            | Self::DecipherRaw(algorithm)
            | Self::SignEcdsa(algorithm)
            | Self::SignPkcs1(algorithm)
            | Self::SignRaw(algorithm) => Some(algorithm),
        }
    }
}

/// The algorithm of a size digit (GIDS 2.0).
///
/// `Unsupported` for sizes that no key of this card can have, `Data` for digits without meaning.
pub(crate) fn algorithm(size: u8) -> Result<KeyAlgorithm, Failure> {
    match size {
        0x07 => Ok(KeyAlgorithm::Rsa2048),
        0x08 => Ok(KeyAlgorithm::Rsa3072),
        0x0C => Ok(KeyAlgorithm::P256),
        0x0D => Ok(KeyAlgorithm::P384),
        // RSA 1024 and 4096; P-192, P-224, P-521.
        0x06 | 0x09 | 0x0A | 0x0B | 0x0E => Err(Failure::Unsupported),
        _ => Err(Failure::Data),
    }
}

fn rsa(size: u8) -> Result<KeyAlgorithm, Failure> {
    match algorithm(size)? {
        algorithm @ (KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072) => Ok(algorithm),
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => Err(Failure::Data),
    }
}

/// One control reference template of a key file.
///
/// The key reference inside is not kept: OpenSC writes `83` into the signature-only template of every
/// key, so it must not be compared with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) purpose: Purpose,
    pub(crate) mechanism: Mechanism,
    /// Usage qualifier, tag `95`.
    pub(crate) usage: u8,
    /// Key usage counter 1: the PIN before every use.
    pub(crate) every_time: bool,
}

impl Template {
    /// Usage qualifier: verify, encipher, external authentication.
    pub(crate) const VERIFY: u8 = 0x80;
    /// Usage qualifier: compute, decipher, internal authentication.
    pub(crate) const COMPUTE: u8 = 0x40;
}

/// Reads the value of tag `A5` of a key file.
pub(crate) fn parse_templates(value: &[u8]) -> Result<Vec<Template>, Failure> {
    let mut templates = Vec::new();
    for object in tlv::Reader::new(value) {
        let object = object.map_err(|_| Failure::Data)?;
        let purpose = Purpose::of_tag(object.tag).ok_or(Failure::Data)?;
        templates.push(parse_template(purpose, object.value)?);
    }
    if templates.is_empty() {
        return Err(Failure::Data);
    }
    Ok(templates)
}

fn parse_template(purpose: Purpose, value: &[u8]) -> Result<Template, Failure> {
    let mut mechanism = None;
    let mut usage = None;
    let mut every_time = None;
    for object in tlv::Reader::new(value) {
        let object = object.map_err(|_| Failure::Data)?;
        match (object.tag, object.value) {
            (0x80, &[byte]) if mechanism.is_none() => {
                mechanism = Some(Mechanism::parse(purpose, byte)?);
            }
            (0x83 | 0x84, &[_]) => {}
            (0x95, &[byte]) if usage.is_none() && byte & 0x3F == 0 && byte != 0 => {
                usage = Some(byte);
            }
            // Key usage counter: 0 means no limit, 1 the PIN every time. Another one would be a promise
            // (PIN every nth time) that is not kept.
            (0xA3, &[0x90, 0x02, 0, count @ (0 | 1)]) if every_time.is_none() => {
                every_time = Some(count == 1);
            }
            _ => return Err(Failure::Data),
        }
    }
    Ok(Template {
        purpose,
        mechanism: mechanism.ok_or(Failure::Data)?,
        usage: usage.unwrap_or(Template::COMPUTE),
        every_time: every_time.unwrap_or(false),
    })
}

/// The class of a key in a file with these templates: the strictest that any of them asks for.
pub(crate) fn key_class(templates: &[Template]) -> KeyClass {
    if templates.iter().any(|template| template.every_time) {
        KeyClass::Always
    } else {
        KeyClass::Session
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(size: u8, key: u8) -> Vec<u8> {
        let mut value = Vec::new();
        for (tag, high) in [
            (0xB8, 0x00),
            (0xB8, 0x80),
            (0xB8, 0x40),
            (0xB6, 0x10),
            (0xB6, 0x50),
        ] {
            value.extend_from_slice(&[tag, 9, 0x80, 1, high | size, 0x83, 1, key, 0x95, 1, 0x40]);
        }
        value
    }

    #[test]
    fn exchange_key_of_the_clients_is_understood() {
        let templates = parse_templates(&exchange(7, 0x81)).unwrap();
        let rsa = KeyAlgorithm::Rsa2048;
        assert_eq!(
            templates.iter().map(|t| t.mechanism).collect::<Vec<_>>(),
            [
                Mechanism::DecipherRaw(rsa),
                Mechanism::DecipherOaep(rsa),
                Mechanism::DecipherPkcs1(rsa),
                Mechanism::SignRaw(rsa),
                Mechanism::SignPkcs1(rsa),
            ]
        );
        assert!(templates.iter().all(|t| t.usage == Template::COMPUTE));
    }

    #[test]
    fn sizes_without_keys_are_unsupported_and_unknown_digits_malformed() {
        for size in [6, 9] {
            assert!(matches!(
                parse_templates(&exchange(size, 0x81)),
                Err(Failure::Unsupported)
            ));
        }
        for size in [0, 5, 0xF] {
            assert!(matches!(
                parse_templates(&exchange(size, 0x81)),
                Err(Failure::Data)
            ));
        }
        // No ECDH in GIDS, and no PKCS#1 on curves.
        assert!(matches!(
            Mechanism::parse(Purpose::Confidentiality, 0x0C),
            Err(Failure::Data)
        ));
        assert!(matches!(
            Mechanism::parse(Purpose::Signature, 0x5C),
            Err(Failure::Data)
        ));
    }

    #[test]
    fn curves_sign_with_mechanism_1x() {
        assert_eq!(
            Mechanism::parse(Purpose::Signature, 0x1D).unwrap(),
            Mechanism::SignEcdsa(KeyAlgorithm::P384)
        );
    }

    #[test]
    fn a_key_usage_counter_of_one_means_the_pin_every_time_and_more_is_refused() {
        let class = |low| {
            parse_templates(&[0xB6, 9, 0x80, 1, 0x57, 0xA3, 4, 0x90, 2, 0, low])
                .map(|templates| key_class(&templates))
        };
        assert!(matches!(class(0), Ok(KeyClass::Session)));
        assert!(matches!(class(1), Ok(KeyClass::Always)));
        assert!(matches!(class(2), Err(Failure::Data)));
    }

    #[test]
    fn malformed_templates_are_refused() {
        for value in [
            &[][..],
            &[0xB6, 0],
            &[0xB6, 3, 0x80, 1],
            &[0xB6, 3, 0x83, 1, 0x81],
            &[0xB7, 3, 0x80, 1, 0x57],
            &[0xB6, 6, 0x80, 1, 0x57, 0x80, 1, 0x57],
            &[0xB6, 4, 0x80, 2, 0x57, 0x00],
            &[0xB6, 6, 0x80, 1, 0x57, 0x95, 1, 0x20],
        ] {
            assert!(parse_templates(value).is_err(), "{value:02x?}");
        }
    }
}
