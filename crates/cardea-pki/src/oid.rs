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
pub(crate) const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");
pub(crate) const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
pub(crate) const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
pub(crate) const CERTIFICATE_POLICIES: ObjectIdentifier = oid("2.5.29.32");
pub(crate) const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.35");
pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
pub(crate) const UPN: ObjectIdentifier = oid("1.3.6.1.4.1.311.20.2.3");

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_described_by_name_or_number() {
        assert_eq!(describe(oid("1.3.101.112")), "Ed25519");
        assert_eq!(describe(oid("1.2.3.4")), "the algorithm 1.2.3.4");
    }
}
