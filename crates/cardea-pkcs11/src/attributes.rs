//! Attributes of objects (PKCS#11 3.1 §4).

use cardea_client::message::PublicKey;
use cryptoki_sys::*;
use sha2::{Digest, Sha256};

use crate::object::{Body, Key, Location, Object};
use crate::x509;

/// The value of an attribute of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The object has no such attribute.
    Absent,
    Known(Vec<u8>),
    /// The attribute exists and is not revealed.
    Sensitive,
}

/// OIDs of key types in DER.
pub(crate) const RSA_ENCRYPTION: &[u8] = &[0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1];
const RSASSA_PSS: &[u8] = &[0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 10];
pub(crate) const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];

/// OIDs of the named curves in DER.
pub(crate) const P256: &[u8] = &[0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
pub(crate) const P384: &[u8] = &[0x06, 5, 0x2B, 0x81, 0x04, 0x00, 0x22];

pub(crate) fn get(object: &Object, kind: CK_ATTRIBUTE_TYPE) -> Value {
    if let Some(given) = object.given.get(&kind) {
        return Value::Known(given.clone());
    }
    let found = match &object.body {
        Body::Certificate { der } => certificate(object, der, kind),
        Body::Data { application, value } => match kind {
            CKA_CLASS => long(CKO_DATA),
            CKA_APPLICATION => Some(application.clone().into_bytes()),
            CKA_OBJECT_ID => Some(object.id.clone()),
            CKA_VALUE => Some(value.clone()),
            CKA_ID => None,
            _ => storage(object, kind),
        },
        Body::PrivateKey(key) => private_key(object, key, kind),
        Body::Profile(profile) => match kind {
            CKA_CLASS => long(CKO_PROFILE),
            CKA_PROFILE_ID => long(*profile),
            CKA_LABEL | CKA_ID => None,
            _ => storage(object, kind),
        },
        Body::PublicKey(key) => public_key(object, key, kind),
        Body::Secret {
            kind: key_type,
            value,
            sensitive,
        } => match kind {
            CKA_CLASS => long(CKO_SECRET_KEY),
            CKA_KEY_TYPE => long(*key_type),
            CKA_SENSITIVE => flag(*sensitive),
            CKA_EXTRACTABLE => flag(!*sensitive),
            CKA_VALUE if *sensitive => return Value::Sensitive,
            CKA_VALUE => Some(value.to_vec()),
            CKA_VALUE_LEN => long(value.len() as CK_ULONG),
            CKA_LOCAL
            | CKA_ALWAYS_SENSITIVE
            | CKA_NEVER_EXTRACTABLE
            | CKA_ENCRYPT
            | CKA_DECRYPT
            | CKA_SIGN
            | CKA_VERIFY
            | CKA_WRAP
            | CKA_UNWRAP
            | CKA_DERIVE
            | CKA_TRUSTED
            | CKA_WRAP_WITH_TRUSTED => flag(false),
            CKA_KEY_GEN_MECHANISM => long(CK_UNAVAILABLE_INFORMATION),
            CKA_START_DATE | CKA_END_DATE => Some(Vec::new()),
            _ => storage(object, kind),
        },
    };
    match found {
        Some(value) => Value::Known(value),
        None if matches!(object.body, Body::PrivateKey(_)) && is_secret(kind) => Value::Sensitive,
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

/// Attributes of every object.
fn storage(object: &Object, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    match kind {
        CKA_TOKEN => flag(!matches!(object.location, Location::Session(_))),
        CKA_DESTROYABLE => flag(object.location != Location::Module),
        CKA_PRIVATE => flag(object.is_private()),
        CKA_MODIFIABLE => flag(object.location != Location::Module),
        CKA_COPYABLE => flag(match object.body {
            Body::Certificate { .. } | Body::Data { .. } | Body::PublicKey(_) => true,
            Body::PrivateKey(_) => object.session_key().is_some(),
            Body::Profile(_) | Body::Secret { .. } => false,
        }),
        CKA_LABEL => Some(object.label.clone().into_bytes()),
        CKA_ID => Some(object.id.clone()),
        CKA_UNIQUE_ID => unique(object).map(String::into_bytes),
        _ => None,
    }
}

/// Constant for the lifetime of the object, unlike its label and identifier, and never that of another object:
/// programs keep it. A key's reference alone would be, because the next key has it after a deletion; and a certificate
/// moves between its key's container and the other objects.
fn unique(object: &Object) -> Option<String> {
    let fingerprint = |content: &[u8]| {
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(content).into();
        format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    };
    Some(match (object.location, &object.body) {
        (_, Body::Certificate { der }) => format!("certificate-{}", fingerprint(der)),
        (Location::Key(reference), Body::PrivateKey(key)) => {
            let key = fingerprint(&spki(&key.public));
            format!("key-{reference:02x}-{key}-private")
        }
        (Location::Key(reference), Body::PublicKey(key)) => {
            let key = fingerprint(&spki(&key.public));
            format!("key-{reference:02x}-{key}-public")
        }
        (Location::Object(number), _) => format!("object-{number}"),
        (_, Body::Profile(profile)) => format!("profile-{profile}"),
        // Objects of a session are made with theirs.
        (Location::Key(_) | Location::Module | Location::Session(_), _) => return None,
    })
}

/// Attributes of both halves of a key.
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
        (CKA_SUBJECT, _) => Some(key.subject.clone()),
        (CKA_MODULUS, PublicKey::Rsa { modulus, .. }) => Some(modulus.clone()),
        (CKA_PUBLIC_EXPONENT, PublicKey::Rsa { exponent, .. }) => Some(minimal(*exponent)),
        (CKA_EC_PARAMS, PublicKey::Ec { x, .. }) => Some(curve(x.len()).to_vec()),
        (CKA_EC_POINT, PublicKey::Ec { x, y }) => Some(tlv(0x04, &[&[0x04][..], x, y].concat())),
        (CKA_PUBLIC_KEY_INFO, public) => Some(spki(public)),
        _ => None,
    }
}

fn private_key(object: &Object, key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let rsa = key.is_rsa();
    match kind {
        CKA_CLASS => long(CKO_PRIVATE_KEY),
        CKA_SENSITIVE | CKA_SIGN => flag(true),
        CKA_ALWAYS_SENSITIVE | CKA_NEVER_EXTRACTABLE => flag(key.generated && !key.is_recoverable),
        CKA_DECRYPT | CKA_UNWRAP => flag(rsa && !key.sign_only),
        CKA_DERIVE => flag(!rsa),
        CKA_EXTRACTABLE | CKA_SIGN_RECOVER | CKA_WRAP_WITH_TRUSTED => flag(false),
        CKA_ALWAYS_AUTHENTICATE => flag(key.always),
        _ => storage(object, kind).or_else(|| key_attribute(key, kind)),
    }
}

fn public_key(object: &Object, key: &Key, kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let rsa = key.is_rsa();
    match kind {
        CKA_CLASS => long(CKO_PUBLIC_KEY),
        CKA_VERIFY => flag(true),
        CKA_ENCRYPT | CKA_WRAP => flag(rsa && !key.sign_only),
        CKA_DERIVE => flag(!rsa),
        CKA_VERIFY_RECOVER | CKA_TRUSTED => flag(false),
        CKA_MODULUS_BITS if rsa => long(8 * key.size() as CK_ULONG),
        _ => storage(object, kind).or_else(|| key_attribute(key, kind)),
    }
}

fn certificate(object: &Object, der: &[u8], kind: CK_ATTRIBUTE_TYPE) -> Option<Vec<u8>> {
    let fields = x509::fields(der).unwrap_or_default();
    match kind {
        CKA_CLASS => long(CKO_CERTIFICATE),
        CKA_CERTIFICATE_TYPE => long(CKC_X_509),
        CKA_CERTIFICATE_CATEGORY => long(match object.location {
            Location::Key(_) => CK_CERTIFICATE_CATEGORY_TOKEN_USER,
            _ => CK_CERTIFICATE_CATEGORY_UNSPECIFIED,
        }),
        CKA_URL | CKA_HASH_OF_SUBJECT_PUBLIC_KEY | CKA_HASH_OF_ISSUER_PUBLIC_KEY => {
            Some(Vec::new())
        }
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
        CKA_CHECK_VALUE => Some(x509::check_value(der).to_vec()),
        _ => storage(object, kind),
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
    let algorithm = match public {
        PublicKey::Rsa { .. } => [RSA_ENCRYPTION, &[0x05, 0]].concat(),
        PublicKey::Ec { x, .. } => [EC_PUBLIC_KEY, curve(x.len())].concat(),
    };
    let bits = tlv(0x03, &[&[0][..], &subject_public_key(public)].concat());
    tlv(0x30, &[tlv(0x30, &algorithm), bits].concat())
}

/// The bits inside it.
fn subject_public_key(public: &PublicKey) -> Vec<u8> {
    match public {
        PublicKey::Rsa { modulus, exponent } => {
            let numbers = [integer(modulus), integer(&minimal(*exponent))].concat();
            tlv(0x30, &numbers)
        }
        PublicKey::Ec { x, y } => [&[0x04][..], x, y].concat(),
    }
}

/// Whether a SubjectPublicKeyInfo is of this key, in whatever form: parameters of RSA that are absent, RSA for PSS
/// alone, points that are compressed. `cardea-pki` has the same rule for the command line, and both are tested with
/// the same certificates.
pub(crate) fn is_spki_of(spki: &[u8], key: &PublicKey) -> bool {
    let parts = || {
        let (0x30, fields, []) = x509::element(spki)? else {
            return None;
        };
        let (0x30, algorithm, rest) = x509::element(fields)? else {
            return None;
        };
        let (0x03, [0, bits @ ..], []) = x509::element(rest)? else {
            return None;
        };
        let (oid, parameters) = x509::whole(algorithm)?;
        Some((oid, parameters, bits))
    };
    let Some((oid, parameters, bits)) = parts() else {
        return false;
    };
    match key {
        PublicKey::Rsa { .. } => {
            (oid == RSA_ENCRYPTION || oid == RSASSA_PSS) && bits == subject_public_key(key)
        }
        PublicKey::Ec { x, y } => {
            // The lowest bit of y says which of the two points with this x it is (SEC 1 §2.3.3).
            let sign = y.last().map_or(0, |last| last & 1);
            oid == EC_PUBLIC_KEY
                && parameters == curve(x.len())
                && (bits == subject_public_key(key) || bits == [&[2 | sign][..], x].concat())
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::object::{Given, KeyReference};

    fn object(location: Location, body: Body) -> Object {
        Object {
            location,
            label: String::new(),
            id: Vec::new(),
            given: Given::new(),
            body,
        }
    }

    #[test]
    fn unique_id_is_never_that_of_the_next_key_with_the_same_reference() {
        let private = |x| {
            let key = Key::for_test(KeyReference::Card(0x81), x);
            object(Location::Key(0x81), Body::PrivateKey(Arc::new(key)))
        };
        assert_eq!(unique(&private(1)), unique(&private(1)));
        assert_ne!(unique(&private(1)), unique(&private(2)));
    }

    #[test]
    fn certificate_keeps_its_unique_id_when_it_moves() {
        let certificate = |location, content: u8| {
            let der = vec![0x30, 1, content];
            unique(&object(location, Body::Certificate { der }))
        };
        let in_container = certificate(Location::Key(0x81), 1);
        assert_eq!(in_container, certificate(Location::Object(5), 1));
        assert_ne!(in_container, certificate(Location::Key(0x81), 2));
    }

    /// What the command line takes for a key's certificate, the module does too: `cardea-pki` has the same test.
    #[test]
    fn awkward_certificates_belong_to_their_keys() {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../cardea-pki/tests");
        let of_key = |der: &[u8]| {
            let der = x509::without_padding(der)?;
            Some(x509::fields(der)?.key.to_vec())
        };
        let mut count = 0;
        for entry in std::fs::read_dir(format!("{data}/awkward")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (key, is_refused) = match name.strip_prefix("refused-") {
                Some(rest) => (rest, true),
                None => (name.as_str(), false),
            };
            let key = key.split('.').next().unwrap();
            let plain = std::fs::read(format!("{data}/data/{key}.cert.der")).unwrap();
            let public = public_of(&of_key(&plain).unwrap());
            let file = std::fs::read(format!("{data}/awkward/{name}")).unwrap();
            let belongs = of_key(&file).is_some_and(|spki| is_spki_of(&spki, &public));
            assert_eq!(belongs, !is_refused, "{name}");
            count += 1;
        }
        assert!(count >= 10, "{count} files");
    }

    /// Out of a SubjectPublicKeyInfo in its usual form.
    fn public_of(spki: &[u8]) -> PublicKey {
        let (_, fields, _) = x509::element(spki).unwrap();
        let (_, _, bits) = x509::element(fields).unwrap();
        let (_, bits, _) = x509::element(bits).unwrap();
        match &bits[1..] {
            [4, point @ ..] => {
                let (x, y) = point.split_at(point.len() / 2);
                let (x, y) = (x.to_vec(), y.to_vec());
                PublicKey::Ec { x, y }
            }
            numbers => {
                let (_, numbers, _) = x509::element(numbers).unwrap();
                let (_, modulus, _) = x509::element(numbers).unwrap();
                PublicKey::Rsa {
                    modulus: modulus[1..].to_vec(),
                    exponent: 65537,
                }
            }
        }
    }
}
