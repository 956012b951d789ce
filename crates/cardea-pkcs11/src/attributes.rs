//! Attributes of objects (PKCS#11 2.40 §4.4).

use cardea_client::message::PublicKey;
use cryptoki_sys::*;

use crate::objects::{Key, Object};

/// What an object says of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The object has no such attribute.
    Absent,
    Known(Vec<u8>),
    /// It has, and does not tell.
    Sensitive,
}

/// OIDs of the named curves, DER.
pub(crate) const P256: &[u8] = &[0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
pub(crate) const P384: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x22];

pub(crate) fn get(object: &Object, kind: CK_ATTRIBUTE_TYPE) -> Value {
    let found = match object {
        Object::Certificate { key, der } => certificate(key, der, kind),
        Object::PrivateKey(key) => private_key(key, kind),
        Object::PublicKey(key) => public_key(key, kind),
        Object::Secret { value, .. } => match kind {
            CKA_CLASS => long(CKO_SECRET_KEY),
            CKA_KEY_TYPE => long(CKK_GENERIC_SECRET),
            CKA_TOKEN | CKA_PRIVATE | CKA_SENSITIVE | CKA_LOCAL => flag(false),
            CKA_EXTRACTABLE => flag(true),
            CKA_VALUE => Some(value.to_vec()),
            CKA_VALUE_LEN => long(value.len() as CK_ULONG),
            _ => None,
        },
    };
    match found {
        Some(value) => Value::Known(value),
        None if matches!(object, Object::PrivateKey(_)) && is_secret(kind) => Value::Sensitive,
        None => Value::Absent,
    }
}

fn is_secret(kind: CK_ATTRIBUTE_TYPE) -> bool {
    matches!(
        kind,
        CKA_VALUE
            | CKA_PRIVATE_EXPONENT
            | CKA_PRIME_1
            | CKA_PRIME_2
            | CKA_EXPONENT_1
            | CKA_EXPONENT_2
            | CKA_COEFFICIENT
    )
}

fn long(value: CK_ULONG) -> Option<Vec<u8>> {
    Some(value.to_ne_bytes().to_vec())
}

fn flag(value: bool) -> Option<Vec<u8>> {
    Some(vec![if value { CK_TRUE } else { CK_FALSE }])
}

fn storage(key: &Key, private: bool, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    match kind {
        CKA_TOKEN | CKA_DESTROYABLE => flag(true),
        CKA_PRIVATE => flag(private),
        CKA_MODIFIABLE | CKA_COPYABLE => flag(false),
        CKA_LABEL => Some(key.label.clone().into_bytes()),
        CKA_ID => Some(vec![key.id()]),
        CKA_SUBJECT => Some(key.subject.clone()),
        _ => None,
    }
}

/// What both halves of a key have.
fn key_attribute(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    match (kind, &key.public) {
        (CKA_KEY_TYPE, PublicKey::Rsa { .. }) => long(CKK_RSA),
        (CKA_KEY_TYPE, PublicKey::Ec { .. }) => long(CKK_EC),
        (CKA_LOCAL, _) => flag(key.generated),
        (CKA_KEY_GEN_MECHANISM, public) => long(match (key.generated, public) {
            (false, _) => CK_UNAVAILABLE_INFORMATION,
            (true, PublicKey::Rsa { .. }) => CKM_RSA_PKCS_KEY_PAIR_GEN,
            (true, PublicKey::Ec { .. }) => CKM_EC_KEY_PAIR_GEN,
        }),
        (CKA_START_DATE | CKA_END_DATE, _) => Some(Vec::new()),
        (CKA_MODULUS, PublicKey::Rsa { modulus, .. }) => Some(modulus.clone()),
        (CKA_PUBLIC_EXPONENT, PublicKey::Rsa { exponent, .. }) => Some(minimal(*exponent)),
        (CKA_EC_PARAMS, PublicKey::Ec { x, .. }) => Some(curve(x.len()).to_vec()),
        (CKA_EC_POINT, PublicKey::Ec { x, y }) => Some(tlv(0x04, &[&[0x04][..], x, y].concat())),
        (CKA_PUBLIC_KEY_INFO, public) => Some(spki(public)),
        _ => None,
    }
}

fn private_key(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let rsa = key.is_rsa();
    match kind {
        CKA_CLASS => long(CKO_PRIVATE_KEY),
        CKA_SENSITIVE | CKA_SIGN => flag(true),
        CKA_ALWAYS_SENSITIVE | CKA_NEVER_EXTRACTABLE => flag(key.generated),
        CKA_DECRYPT | CKA_UNWRAP => flag(rsa),
        CKA_DERIVE => flag(!rsa),
        CKA_EXTRACTABLE | CKA_SIGN_RECOVER | CKA_WRAP_WITH_TRUSTED => flag(false),
        CKA_ALWAYS_AUTHENTICATE => flag(key.always),
        _ => storage(key, true, kind).or_else(|| key_attribute(key, kind)),
    }
}

fn public_key(key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let rsa = key.is_rsa();
    match kind {
        CKA_CLASS => long(CKO_PUBLIC_KEY),
        CKA_VERIFY => flag(true),
        CKA_ENCRYPT | CKA_WRAP => flag(rsa),
        CKA_DERIVE => flag(!rsa),
        CKA_VERIFY_RECOVER | CKA_TRUSTED => flag(false),
        CKA_MODULUS_BITS if rsa => long(8 * key.size() as CK_ULONG),
        _ => storage(key, false, kind).or_else(|| key_attribute(key, kind)),
    }
}

fn certificate(key: &Key, der: &[u8], kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let fields = crate::x509::fields(der).unwrap_or_default();
    match kind {
        CKA_CLASS => long(CKO_CERTIFICATE),
        CKA_CERTIFICATE_TYPE => long(CKC_X_509),
        CKA_CERTIFICATE_CATEGORY => long(CK_CERTIFICATE_CATEGORY_TOKEN_USER),
        CKA_TRUSTED => flag(false),
        CKA_VALUE => Some(der.to_vec()),
        CKA_SERIAL_NUMBER => Some(fields.serial.to_vec()),
        CKA_ISSUER => Some(fields.issuer.to_vec()),
        CKA_SUBJECT => Some(fields.subject.to_vec()),
        CKA_START_DATE => Some(
            fields
                .not_before
                .map(|date| date.to_vec())
                .unwrap_or_default(),
        ),
        CKA_END_DATE => Some(
            fields
                .not_after
                .map(|date| date.to_vec())
                .unwrap_or_default(),
        ),
        CKA_PUBLIC_KEY_INFO => Some(fields.key.to_vec()),
        CKA_CHECK_VALUE => {
            use sha1::Digest;
            sha1::Sha1::digest(der).get(..3).map(<[u8]>::to_vec)
        }
        _ => storage(key, false, kind),
    }
}

fn minimal(exponent: u32) -> Vec<u8> {
    let bytes = exponent.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default().to_vec()
}

fn curve(size: usize) -> &'static [u8] {
    if size == 48 { P384 } else { P256 }
}

/// SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
pub(crate) fn spki(public: &PublicKey) -> Vec<u8> {
    let (algorithm, bits) = match public {
        PublicKey::Rsa { modulus, exponent } => {
            let algorithm = [
                0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1, 0x05, 0,
            ];
            let numbers = [integer(modulus), integer(&minimal(*exponent))].concat();
            (algorithm.to_vec(), tlv(0x30, &numbers))
        }
        PublicKey::Ec { x, y } => {
            let algorithm = [0x06, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
            (
                [&algorithm[..], curve(x.len())].concat(),
                [&[0x04][..], x, y].concat(),
            )
        }
    };
    let bits = tlv(0x03, &[&[0][..], &bits].concat());
    tlv(0x30, &[tlv(0x30, &algorithm), bits].concat())
}

fn integer(number: &[u8]) -> Vec<u8> {
    match number.first() {
        Some(first) if *first < 0x80 => tlv(0x02, number),
        _ => tlv(0x02, &[&[0][..], number].concat()),
    }
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 0x80 => out.push(short),
        (Ok(byte), _) => out.extend([0x81, byte]),
        (_, Ok(two)) => {
            out.push(0x82);
            out.extend(two.to_be_bytes());
        }
        _ => out.extend([0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
    }
    out.extend_from_slice(value);
    out
}
