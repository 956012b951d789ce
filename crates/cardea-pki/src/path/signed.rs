//! Whether one certificate was signed with the key of another.

use der::asn1::ObjectIdentifier;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::{BoxedUint, Pkcs1v15Sign, Pss};
use sha2::{Sha256, Sha384, Sha512};

use super::{PathCertificate, PathError, RawPublicKey};
use crate::asn1::Reader;
use crate::{DigestAlgorithm, Error, oid};

const WHAT: &str = "certificate";
/// RSA keys of authorities have these sizes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

enum Scheme {
    Ecdsa(DigestAlgorithm),
    Pkcs1(DigestAlgorithm),
    /// With the salt's length.
    Pss(DigestAlgorithm, usize),
}

/// Checks the signature of a certificate with its issuer's key.
pub(super) fn check(
    certificate: &PathCertificate,
    issuer: &PathCertificate,
) -> Result<(), PathError> {
    let (body, algorithm, signature) = certificate.signed();
    verify(body, algorithm, signature, issuer)
}

/// Checks a signature over anything with the key of a certificate.
pub(crate) fn verify(
    body: &[u8],
    algorithm: &[u8],
    signature: &[u8],
    issuer: &PathCertificate,
) -> Result<(), PathError> {
    let scheme = match read_scheme(algorithm) {
        Ok(Ok(scheme)) => scheme,
        Ok(Err(other)) => return Err(PathError::Algorithm(oid::describe(other))),
        Err(_) => return Err(PathError::Encoding),
    };
    let is_valid = match (scheme, issuer.raw_public_key()?) {
        (Scheme::Ecdsa(digest), RawPublicKey::Ec { curve, point }) => {
            ecdsa(&curve, &point, &digest.digest(body), signature)?
        }
        (Scheme::Pkcs1(digest), RawPublicKey::Rsa { n, e }) => rsa_key(&n, &e).is_some_and(|key| {
            let info = digest.digest_info(body);
            key.verify(Pkcs1v15Sign::new_unprefixed(), &info, signature)
                .is_ok()
        }),
        (Scheme::Pss(digest, salt), RawPublicKey::Rsa { n, e }) => {
            rsa_key(&n, &e).is_some_and(|key| {
                let hashed = digest.digest(body);
                match digest {
                    DigestAlgorithm::Sha256 => {
                        key.verify(Pss::<Sha256>::new_with_salt(salt), &hashed, signature)
                    }
                    DigestAlgorithm::Sha384 => {
                        key.verify(Pss::<Sha384>::new_with_salt(salt), &hashed, signature)
                    }
                    DigestAlgorithm::Sha512 => {
                        key.verify(Pss::<Sha512>::new_with_salt(salt), &hashed, signature)
                    }
                }
                .is_ok()
            })
        }
        _ => false,
    };
    if is_valid {
        Ok(())
    } else {
        Err(PathError::Signature)
    }
}

/// The scheme that an AlgorithmIdentifier names, or what it names instead.
fn read_scheme(der: &[u8]) -> Result<Result<Scheme, ObjectIdentifier>, Error> {
    let mut fields = Reader::whole(der, WHAT)?;
    Ok(Ok(match fields.oid()? {
        oid::ECDSA_SHA256 => Scheme::Ecdsa(DigestAlgorithm::Sha256),
        oid::ECDSA_SHA384 => Scheme::Ecdsa(DigestAlgorithm::Sha384),
        oid::ECDSA_SHA512 => Scheme::Ecdsa(DigestAlgorithm::Sha512),
        oid::RSA_SHA256 => Scheme::Pkcs1(DigestAlgorithm::Sha256),
        oid::RSA_SHA384 => Scheme::Pkcs1(DigestAlgorithm::Sha384),
        oid::RSA_SHA512 => Scheme::Pkcs1(DigestAlgorithm::Sha512),
        oid::RSASSA_PSS => return read_pss(fields.sequence()?),
        other => return Ok(Err(other)),
    }))
}

/// RSASSA-PSS-params (RFC 4055, section 3.1), with one digest for both uses.
fn read_pss(mut fields: Reader<'_>) -> Result<Result<Scheme, ObjectIdentifier>, Error> {
    // Absent means SHA-1.
    let Some(mut hash) = fields.constructed(0)? else {
        return Ok(Err(oid::SHA1));
    };
    let name = hash.sequence()?.oid()?;
    let Some(mut mask) = fields.constructed(1)? else {
        return Ok(Err(oid::SHA1));
    };
    let mut mask = mask.sequence()?;
    if mask.oid()? != oid::MGF1 || mask.sequence()?.oid()? != name {
        return Ok(Err(oid::RSASSA_PSS));
    }
    let salt = match fields.constructed(2)? {
        Some(mut salt) => salt.small()?,
        None => 20,
    };
    if let Some(mut trailer) = fields.constructed(3)?
        && trailer.small()? != 1
    {
        return Err(fields.malformed());
    }
    fields.finish()?;
    let digest = match name {
        oid::SHA256 => DigestAlgorithm::Sha256,
        oid::SHA384 => DigestAlgorithm::Sha384,
        oid::SHA512 => DigestAlgorithm::Sha512,
        other => return Ok(Err(other)),
    };
    Ok(match usize::try_from(salt) {
        // The longest digest; longer salts are possible, and nobody makes them.
        Ok(salt @ ..=64) => Ok(Scheme::Pss(digest, salt)),
        _ => Err(oid::RSASSA_PSS),
    })
}

fn rsa_key(n: &[u8], e: &[u8]) -> Option<rsa::PublicKey> {
    let (n, e) = (
        BoxedUint::from_be_slice_vartime(n),
        BoxedUint::from_be_slice_vartime(e),
    );
    rsa::PublicKey::new_with_size_limits(n, e, RSA_BITS).ok()
}

fn ecdsa(curve: &str, point: &[u8], digest: &[u8], der: &[u8]) -> Result<bool, PathError> {
    // Each curve has types of its own.
    macro_rules! verified {
        ($curve:ident) => {
            $curve::ecdsa::Signature::from_der(der)
                .and_then(|signature| {
                    $curve::ecdsa::VerifyingKey::from_sec1_bytes(point)?
                        .verify_prehash(digest, &signature)
                })
                .is_ok()
        };
    }
    Ok(match curve {
        P256 => verified!(p256),
        P384 => verified!(p384),
        // The field is longer than SHA-256, and the library wants at least half of it.
        P521 => verified!(p521),
        other => return Err(PathError::Algorithm(format!("on the curve {other}"))),
    })
}

const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const P521: &str = "1.3.132.0.35";
