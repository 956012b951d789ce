//! Signature algorithms, and the verification of signatures.

use std::fmt;
use std::str::FromStr;

use der::asn1::ObjectIdentifier;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::{BoxedUint, Pkcs1v15Sign};
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::asn1::{self, Reader};
use crate::error::quotable;
use crate::{Curve, Error, KeyKind, PublicKey, RsaPublicKey, oid};

/// How a request or certificate is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// `ecdsa-with-SHA256`.
    EcdsaSha256,
    /// `ecdsa-with-SHA384`.
    EcdsaSha384,
    /// `sha256WithRSAEncryption`: PKCS#1 v1.5.
    RsaSha256,
    /// `sha384WithRSAEncryption`: PKCS#1 v1.5.
    RsaSha384,
    /// `sha512WithRSAEncryption`: PKCS#1 v1.5.
    RsaSha512,
}

/// What is signed is digested with this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl SignatureAlgorithm {
    /// What a key of this kind signs with, if nobody says otherwise: SHA-384 on P-384, else SHA-256.
    #[must_use]
    pub const fn default_for(kind: KeyKind) -> Self {
        match kind {
            KeyKind::P256 => Self::EcdsaSha256,
            KeyKind::P384 => Self::EcdsaSha384,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => Self::RsaSha256,
        }
    }

    /// The algorithm of a kind of key with a digest; none for ECDSA with SHA-512.
    #[must_use]
    pub const fn with_digest(kind: KeyKind, digest: DigestAlgorithm) -> Option<Self> {
        match (kind, digest) {
            (KeyKind::P256 | KeyKind::P384, DigestAlgorithm::Sha256) => Some(Self::EcdsaSha256),
            (KeyKind::P256 | KeyKind::P384, DigestAlgorithm::Sha384) => Some(Self::EcdsaSha384),
            (KeyKind::P256 | KeyKind::P384, DigestAlgorithm::Sha512) => None,
            (KeyKind::Rsa2048 | KeyKind::Rsa3072, DigestAlgorithm::Sha256) => Some(Self::RsaSha256),
            (KeyKind::Rsa2048 | KeyKind::Rsa3072, DigestAlgorithm::Sha384) => Some(Self::RsaSha384),
            (KeyKind::Rsa2048 | KeyKind::Rsa3072, DigestAlgorithm::Sha512) => Some(Self::RsaSha512),
        }
    }

    /// Whether keys of this kind sign this way.
    #[must_use]
    pub const fn fits(self, kind: KeyKind) -> bool {
        let is_rsa = matches!(kind, KeyKind::Rsa2048 | KeyKind::Rsa3072);
        match self {
            Self::EcdsaSha256 | Self::EcdsaSha384 => !is_rsa,
            Self::RsaSha256 | Self::RsaSha384 | Self::RsaSha512 => is_rsa,
        }
    }

    /// The digest.
    #[must_use]
    pub const fn digest_algorithm(self) -> DigestAlgorithm {
        match self {
            Self::EcdsaSha256 | Self::RsaSha256 => DigestAlgorithm::Sha256,
            Self::EcdsaSha384 | Self::RsaSha384 => DigestAlgorithm::Sha384,
            Self::RsaSha512 => DigestAlgorithm::Sha512,
        }
    }

    const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::EcdsaSha256 => oid::ECDSA_SHA256,
            Self::EcdsaSha384 => oid::ECDSA_SHA384,
            Self::RsaSha256 => oid::RSA_SHA256,
            Self::RsaSha384 => oid::RSA_SHA384,
            Self::RsaSha512 => oid::RSA_SHA512,
        }
    }

    /// The AlgorithmIdentifier: with NULL for RSA (RFC 4055), without for ECDSA (RFC 5758).
    pub(crate) fn to_der(self) -> Vec<u8> {
        let mut parts = vec![asn1::oid(self.oid())];
        if self.fits(KeyKind::Rsa2048) {
            parts.push(asn1::element(asn1::TAG_NULL, &[]));
        }
        asn1::sequence(&parts)
    }

    /// The algorithm that an AlgorithmIdentifier means, if it is one of these. RSA without NULL is understood, and ECDSA
    /// with it, because some write so.
    pub(crate) fn from_der(der: &[u8]) -> Option<Self> {
        let mut fields = Reader::whole(der, "algorithm").ok()?;
        let kind = fields.oid().ok()?;
        if !fields.is_empty() {
            fields.null().ok()?;
        }
        ALL.into_iter().find(|known| known.oid() == kind)
    }
}

const ALL: [SignatureAlgorithm; 5] = [
    SignatureAlgorithm::EcdsaSha256,
    SignatureAlgorithm::EcdsaSha384,
    SignatureAlgorithm::RsaSha256,
    SignatureAlgorithm::RsaSha384,
    SignatureAlgorithm::RsaSha512,
];

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EcdsaSha256 => "ecdsa-with-SHA256",
            Self::EcdsaSha384 => "ecdsa-with-SHA384",
            Self::RsaSha256 => "sha256WithRSAEncryption",
            Self::RsaSha384 => "sha384WithRSAEncryption",
            Self::RsaSha512 => "sha512WithRSAEncryption",
        })
    }
}

impl DigestAlgorithm {
    /// The digest of bytes.
    #[must_use]
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    /// The DigestInfo that PKCS#1 v1.5 signs (RFC 8017, section 9.2).
    #[must_use]
    pub fn digest_info(self, bytes: &[u8]) -> Vec<u8> {
        let oid = match self {
            Self::Sha256 => oid::SHA256,
            Self::Sha384 => oid::SHA384,
            Self::Sha512 => oid::SHA512,
        };
        let algorithm = asn1::sequence(&[asn1::oid(oid), asn1::element(asn1::TAG_NULL, &[])]);
        let digest = asn1::element(asn1::TAG_OCTET_STRING, &self.digest(bytes));
        asn1::sequence(&[algorithm, digest])
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

impl FromStr for DigestAlgorithm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "sha256" | "sha-256" => Ok(Self::Sha256),
            "sha384" | "sha-384" => Ok(Self::Sha384),
            "sha512" | "sha-512" => Ok(Self::Sha512),
            _ => Err(Error::InvalidText {
                what: "digest",
                value: quotable(text),
                reason: "there are sha256, sha384 and sha512",
            }),
        }
    }
}

impl PublicKey {
    /// Whether a signature over bytes is valid: PKCS#1 v1.5 as long as the modulus; ECDSA as `r` and `s` behind each
    /// other or as DER.
    #[must_use]
    pub fn verifies(&self, algorithm: SignatureAlgorithm, bytes: &[u8], signature: &[u8]) -> bool {
        verified(self, algorithm, bytes, signature).is_some()
    }

    /// A signature over bytes in the form that certificates and TLS have, if it is valid.
    #[must_use]
    pub fn encoded_signature(
        &self,
        algorithm: SignatureAlgorithm,
        bytes: &[u8],
        signature: &[u8],
    ) -> Option<Vec<u8>> {
        verified(self, algorithm, bytes, signature)
    }
}

/// A signature in the form that certificates hold, if it is valid.
pub(crate) fn verified(
    key: &PublicKey,
    algorithm: SignatureAlgorithm,
    bytes: &[u8],
    signature: &[u8],
) -> Option<Vec<u8>> {
    if !algorithm.fits(key.kind()) {
        return None;
    }
    let digest = algorithm.digest_algorithm();
    match key {
        PublicKey::Rsa(key) => {
            rsa_is_right(key, &digest.digest_info(bytes), signature).then(|| signature.to_vec())
        }
        PublicKey::Ec(key) => {
            let digest = digest.digest(bytes);
            let as_raw = split_raw(key.curve(), signature);
            let as_der = split_der(key.curve(), signature);
            [as_raw, as_der].into_iter().flatten().find_map(|raw| {
                ecdsa_is_right(key.curve(), key.point(), &digest, &raw).then(|| {
                    let (r, s) = raw.split_at(raw.len() / 2);
                    asn1::sequence(&[asn1::unsigned(r), asn1::unsigned(s)])
                })
            })
        }
    }
}

fn split_raw(curve: Curve, signature: &[u8]) -> Option<Vec<u8>> {
    (signature.len() == curve.field_len() * 2).then(|| signature.to_vec())
}

fn split_der(curve: Curve, signature: &[u8]) -> Option<Vec<u8>> {
    let mut numbers = Reader::whole(signature, "signature").ok()?;
    let mut raw = Vec::new();
    for _ in 0..2 {
        let number = asn1::strip_zeros(numbers.unsigned().ok()?);
        let zeros = curve.field_len().checked_sub(number.len())?;
        raw.resize(raw.len() + zeros, 0);
        raw.extend_from_slice(number);
    }
    numbers.finish().ok()?;
    Some(raw)
}

fn ecdsa_is_right(curve: Curve, point: &[u8], digest: &[u8], raw: &[u8]) -> bool {
    match curve {
        Curve::P256 => p256::ecdsa::Signature::from_slice(raw)
            .and_then(|signature| {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(point)?
                    .verify_prehash(digest, &signature)
            })
            .is_ok(),
        Curve::P384 => p384::ecdsa::Signature::from_slice(raw)
            .and_then(|signature| {
                p384::ecdsa::VerifyingKey::from_sec1_bytes(point)?
                    .verify_prehash(digest, &signature)
            })
            .is_ok(),
    }
}

/// RFC 8017, section 8.2.2: what was signed is built and compared, not parsed.
fn rsa_is_right(key: &RsaPublicKey, digest_info: &[u8], signature: &[u8]) -> bool {
    rsa_key(key.n()).is_some_and(|key| {
        key.verify(Pkcs1v15Sign::new_unprefixed(), digest_info, signature)
            .is_ok()
    })
}

/// A key with the exponent 65537, for the library.
pub(crate) fn rsa_key(modulus: &[u8]) -> Option<rsa::PublicKey> {
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    rsa::PublicKey::new(modulus, BoxedUint::from(65537u32)).ok()
}
