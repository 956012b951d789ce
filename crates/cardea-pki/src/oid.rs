//! Object identifiers, in one table.

use der::asn1::ObjectIdentifier;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

// Keys.
pub(crate) const RSA_ENCRYPTION: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
pub(crate) const SECP256R1: ObjectIdentifier = oid("1.2.840.10045.3.1.7");
pub(crate) const SECP384R1: ObjectIdentifier = oid("1.3.132.0.34");
pub(crate) const RSAES_OAEP: ObjectIdentifier = oid("1.2.840.113549.1.1.7");
pub(crate) const RSASSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
pub(crate) const MGF1: ObjectIdentifier = oid("1.2.840.113549.1.1.8");

// Signatures.
pub(crate) const RSA_SHA256: ObjectIdentifier = oid("1.2.840.113549.1.1.11");
pub(crate) const RSA_SHA384: ObjectIdentifier = oid("1.2.840.113549.1.1.12");
pub(crate) const RSA_SHA512: ObjectIdentifier = oid("1.2.840.113549.1.1.13");
pub(crate) const ECDSA_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
pub(crate) const ECDSA_SHA384: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
pub(crate) const ECDSA_SHA512: ObjectIdentifier = oid("1.2.840.10045.4.3.4");

// Digests.
pub(crate) const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
pub(crate) const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
pub(crate) const SHA384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
pub(crate) const SHA512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");
pub(crate) const SHA224: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.4");

// Encryption with a passphrase.
pub(crate) const PBKDF2: ObjectIdentifier = oid("1.2.840.113549.1.5.12");
pub(crate) const PBES2: ObjectIdentifier = oid("1.2.840.113549.1.5.13");
pub(crate) const PBMAC1: ObjectIdentifier = oid("1.2.840.113549.1.5.14");
pub(crate) const SCRYPT: ObjectIdentifier = oid("1.3.6.1.4.1.11591.4.11");
pub(crate) const HMAC_SHA1: ObjectIdentifier = oid("1.2.840.113549.2.7");
pub(crate) const HMAC_SHA224: ObjectIdentifier = oid("1.2.840.113549.2.8");
pub(crate) const HMAC_SHA256: ObjectIdentifier = oid("1.2.840.113549.2.9");
pub(crate) const HMAC_SHA384: ObjectIdentifier = oid("1.2.840.113549.2.10");
pub(crate) const HMAC_SHA512: ObjectIdentifier = oid("1.2.840.113549.2.11");
pub(crate) const AES128_CBC: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.2");
pub(crate) const AES192_CBC: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.22");
pub(crate) const AES256_CBC: ObjectIdentifier = oid("2.16.840.1.101.3.4.1.42");
pub(crate) const DES_EDE3_CBC: ObjectIdentifier = oid("1.2.840.113549.3.7");
pub(crate) const PKCS12_3DES_3KEY: ObjectIdentifier = oid("1.2.840.113549.1.12.1.3");
pub(crate) const PKCS12_3DES_2KEY: ObjectIdentifier = oid("1.2.840.113549.1.12.1.4");
pub(crate) const PKCS12_RC2_128: ObjectIdentifier = oid("1.2.840.113549.1.12.1.5");
pub(crate) const PKCS12_RC2_40: ObjectIdentifier = oid("1.2.840.113549.1.12.1.6");

// PKCS#7 and PKCS#12.
pub(crate) const PKCS7_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.1");
pub(crate) const PKCS7_SIGNED: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
pub(crate) const PKCS7_ENVELOPED: ObjectIdentifier = oid("1.2.840.113549.1.7.3");
pub(crate) const PKCS7_ENCRYPTED: ObjectIdentifier = oid("1.2.840.113549.1.7.6");
pub(crate) const BAG_KEY: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.1");
pub(crate) const BAG_SHROUDED_KEY: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.2");
pub(crate) const BAG_CERTIFICATE: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.3");
pub(crate) const BAG_SAFE_CONTENTS: ObjectIdentifier = oid("1.2.840.113549.1.12.10.1.6");
pub(crate) const X509_CERTIFICATE: ObjectIdentifier = oid("1.2.840.113549.1.9.22.1");
pub(crate) const FRIENDLY_NAME: ObjectIdentifier = oid("1.2.840.113549.1.9.20");

// Requests and certificates.
pub(crate) const EXTENSION_REQUEST: ObjectIdentifier = oid("1.2.840.113549.1.9.14");
pub(crate) const SUBJECT_DIRECTORY_ATTRIBUTES: ObjectIdentifier = oid("2.5.29.9");
// draft-ietf-lamps-csr-attestation.
pub(crate) const ATTESTATION: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.59");
pub(crate) const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");
pub(crate) const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
pub(crate) const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
pub(crate) const CERTIFICATE_POLICIES: ObjectIdentifier = oid("2.5.29.32");
pub(crate) const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.35");
pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
pub(crate) const UPN: ObjectIdentifier = oid("1.3.6.1.4.1.311.20.2.3");
pub(crate) const PKINIT_NAME: ObjectIdentifier = oid("1.3.6.1.5.2.2");
// The account's security identifier, as its directory knows it (MS-WCCE 2.2.2.7.7.4).
pub(crate) const NTDS_CA_SECURITY: ObjectIdentifier = oid("1.3.6.1.4.1.311.25.2");
pub(crate) const NTDS_OBJECT_SID: ObjectIdentifier = oid("1.3.6.1.4.1.311.25.2.1");

// EST (RFC 7030) and CMP (RFC 9810).
pub(crate) const CHALLENGE_PASSWORD: ObjectIdentifier = oid("1.2.840.113549.1.9.7");
pub(crate) const PASSWORD_BASED_MAC: ObjectIdentifier = oid("1.2.840.113533.7.66.13");
// RFC 4210, appendix D: what OpenSSL 3.0 writes for HMAC with SHA-1; others write HMAC_SHA1.
pub(crate) const CMP_HMAC_SHA1: ObjectIdentifier = oid("1.3.6.1.5.5.8.1.2");
pub(crate) const OLD_CERTIFICATE_ID: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.5");
pub(crate) const IMPLICIT_CONFIRM: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.13");
pub(crate) const CA_CERTIFICATES: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.17");
pub(crate) const REASON_CODE: ObjectIdentifier = oid("2.5.29.21");

// Attributes of names.
pub(crate) const COMMON_NAME: ObjectIdentifier = oid("2.5.4.3");

/// What people call an algorithm or curve that is refused.
pub(crate) fn describe(oid: ObjectIdentifier) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("1.2.840.113549.1.1.5", "RSA with SHA-1"),
        ("1.2.840.113549.1.1.7", "RSA-OAEP"),
        ("1.2.840.113549.1.1.10", "RSA-PSS"),
        ("1.2.840.10040.4.1", "DSA"),
        ("1.2.840.10046.2.1", "Diffie-Hellman"),
        ("1.2.840.113549.1.3.1", "Diffie-Hellman"),
        ("1.3.101.110", "X25519"),
        ("1.3.101.111", "X448"),
        ("1.3.101.112", "Ed25519"),
        ("1.3.101.113", "Ed448"),
        ("1.2.156.10197.1.301", "SM2"),
        ("1.2.840.10045.4.1", "ECDSA with SHA-1"),
        ("1.3.14.3.2.26", "SHA-1"),
        ("1.2.840.10045.3.1.1", "P-192"),
        ("1.3.132.0.10", "secp256k1"),
        ("1.3.132.0.33", "P-224"),
        ("1.3.132.0.35", "P-521"),
        ("1.3.36.3.3.2.8.1.1.1", "brainpoolP160r1"),
        ("1.3.36.3.3.2.8.1.1.3", "brainpoolP192r1"),
        ("1.3.36.3.3.2.8.1.1.5", "brainpoolP224r1"),
        ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
        ("1.3.36.3.3.2.8.1.1.8", "brainpoolP256t1"),
        ("1.3.36.3.3.2.8.1.1.9", "brainpoolP320r1"),
        ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
        ("1.3.36.3.3.2.8.1.1.12", "brainpoolP384t1"),
        ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
        ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
        ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
        ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
        ("1.2.840.113549.1.5.1", "PBE-MD2-DES"),
        ("1.2.840.113549.1.5.3", "PBE-MD5-DES"),
        ("1.2.840.113549.1.5.4", "PBE-MD2-RC2-64"),
        ("1.2.840.113549.1.5.6", "PBE-MD5-RC2-64"),
        ("1.2.840.113549.1.5.10", "PBE-SHA1-DES"),
        ("1.2.840.113549.1.5.11", "PBE-SHA1-RC2-64"),
        ("1.2.840.113549.1.12.1.1", "PBE-SHA1-RC4-128"),
        ("1.2.840.113549.1.12.1.2", "PBE-SHA1-RC4-40"),
        ("1.3.14.3.2.7", "DES-CBC"),
        ("1.2.840.113549.3.2", "RC2-CBC"),
        ("2.16.840.1.101.3.4.1.6", "AES-128-GCM"),
        ("2.16.840.1.101.3.4.1.46", "AES-256-GCM"),
        ("1.2.840.113549.1.7.2", "signed PKCS#7"),
        ("1.2.840.113549.1.7.3", "PKCS#7 enveloped for a certificate"),
        ("1.2.840.113549.2.5", "MD5"),
        ("2.16.840.1.101.3.4.2.5", "SHA-512/224"),
        ("2.16.840.1.101.3.4.2.6", "SHA-512/256"),
    ];
    let dotted = oid.to_string();
    NAMES
        .iter()
        .find(|(known, _)| *known == dotted)
        .map_or(format!("the algorithm {dotted}"), |(_, name)| {
            (*name).to_owned()
        })
}

/// The content of an object identifier from its numbers with dots between them.
///
/// The library's identifiers have numbers of 32 bits; those of a UUID (2.25, ITU-T X.667) have 128.
pub(crate) fn encode(text: &str) -> Option<Vec<u8>> {
    let mut arcs = text.split('.').map(|arc| {
        let is_plain =
            arc.bytes().all(|byte| byte.is_ascii_digit()) && (arc == "0" || !arc.starts_with('0'));
        arc.parse::<u128>().ok().filter(|_| is_plain)
    });
    let (first, second) = (arcs.next()??, arcs.next()??);
    if first > 2 || (first < 2 && second > 39) {
        return None;
    }
    let mut out = Vec::new();
    put_arc(&mut out, second.checked_add(first * 40)?);
    for arc in arcs {
        put_arc(&mut out, arc?);
    }
    (out.len() <= MAX_CONTENT).then_some(out)
}

/// The numbers of an object identifier's content, with dots between them; none if it is malformed, or if a number has
/// more than 128 bits.
pub(crate) fn dotted(content: &[u8]) -> Option<String> {
    if content.len() > MAX_CONTENT {
        return None;
    }
    let mut out = String::new();
    let mut arc: Option<u128> = None;
    for byte in content {
        // A number has no leading zeros.
        if arc.is_none() && *byte == 0x80 {
            return None;
        }
        let value = arc.unwrap_or_default().checked_mul(128)? | u128::from(byte & 0x7F);
        arc = Some(value).filter(|_| byte & 0x80 != 0);
        if arc.is_some() {
            continue;
        }
        if out.is_empty() {
            let first = (value / 40).min(2);
            out = format!("{first}.{}", value - first * 40);
        } else {
            out.push_str(&format!(".{value}"));
        }
    }
    (arc.is_none() && !out.is_empty()).then_some(out)
}

/// The longest content that is read or written.
const MAX_CONTENT: usize = 127;

/// Seven bits in a byte, the highest first, and the eighth set in all but the last.
fn put_arc(out: &mut Vec<u8>, mut arc: u128) {
    let at = out.len();
    let mut more = 0;
    loop {
        let [low, ..] = arc.to_le_bytes();
        out.insert(at, low & 0x7F | more);
        arc >>= 7;
        more = 0x80;
        if arc == 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_described_by_name_or_number() {
        assert_eq!(describe(oid("1.3.101.112")), "Ed25519");
        assert_eq!(describe(oid("1.2.3.4")), "the algorithm 1.2.3.4");
    }

    #[test]
    fn identifiers_of_any_length_are_written_and_read() {
        for (text, content) in [
            ("0.0", &[0x00][..]),
            ("1.2.840.113549", &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D]),
            ("2.5.29.17", &[0x55, 0x1D, 0x11]),
            ("2.999", &[0x88, 0x37]),
            ("2.23.133.8.3", &[0x67, 0x81, 0x05, 0x08, 0x03]),
            // ITU-T X.667, the example of its clause 6.3: a UUID as one number.
            (
                "2.25.329800735698586629295641978511506172918",
                &[
                    0x69, 0x83, 0xF0, 0x9D, 0xA7, 0xEB, 0xCF, 0xDE, 0xE0, 0xC7, 0xA1, 0xA7, 0xB2,
                    0xC0, 0x94, 0x8C, 0xC8, 0xF9, 0xD7, 0x76,
                ],
            ),
        ] {
            assert_eq!(encode(text).unwrap(), content, "{text}");
            assert_eq!(dotted(content).unwrap(), text);
        }
        for text in [
            "",
            "1",
            "3.1",
            "1.40",
            "1.2.",
            "1..2",
            "1.02",
            "1.+2",
            "a.b",
            "2.340282366920938463463374607431768211456",
        ] {
            assert_eq!(encode(text), None, "{text}");
        }
        for content in [
            &[][..],
            &[0x80, 0x01],
            &[0x2A, 0x86],
            &[0x2A, 0x80, 0x01],
            &[0xFF; 20],
        ] {
            assert_eq!(dotted(content), None, "{content:?}");
        }
    }
}
