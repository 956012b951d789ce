//! Keys of the software token.
//!
//! The public part of a record is algorithm, class, origin and the public key; the private part is the
//! chip's identity and either the number of a prepared RSA key or a scalar.

use std::sync::OnceLock;

use cardea_card::record::ObjectBlob;
use cardea_card::secret::PrivateKey;
use cardea_card::token::{
    HashAlgorithm, KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, PrivateOperation, PublicKey, Rng,
    TokenError, TokenErrorKind,
};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::elliptic_curve::sec1::ToSec1Point;
use rsa::hazmat::rsa_decrypt;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Oaep, Pkcs1v15Encrypt, Pkcs1v15Sign, Pss, RsaPrivateKey};
use zeroize::Zeroizing;

use super::SeededRng;

/// Makes a key; `made` counts the keys before it.
pub(super) fn generate(
    chip: &[u8; 16],
    algorithm: KeyAlgorithm,
    class: KeyClass,
    made: usize,
    rng: &mut SeededRng,
) -> Result<ObjectBlob, TokenError> {
    let mut private = chip.to_vec();
    let mut public = vec![code(algorithm), u8::from(class == KeyClass::Always), 0];
    match algorithm {
        KeyAlgorithm::P256 => {
            let key = loop {
                let mut scalar = [0; 32];
                rng.fill(&mut scalar);
                if let Ok(key) = p256::SecretKey::from_slice(&scalar) {
                    break key;
                }
            };
            private.extend_from_slice(&key.to_bytes());
            let point = key.public_key().to_sec1_point(false);
            public.extend_from_slice(point.as_bytes().get(1..).unwrap_or_default());
        }
        KeyAlgorithm::P384 => {
            let key = loop {
                let mut scalar = [0; 48];
                rng.fill(&mut scalar);
                if let Ok(key) = p384::SecretKey::from_slice(&scalar) {
                    break key;
                }
            };
            private.extend_from_slice(&key.to_bytes());
            let point = key.public_key().to_sec1_point(false);
            public.extend_from_slice(point.as_bytes().get(1..).unwrap_or_default());
        }
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => {
            let prepared = prepared(algorithm);
            let number = made.checked_rem(prepared.len()).unwrap_or(0);
            let key = prepared.get(number).ok_or(TokenErrorKind::Internal)?;
            private.push(u8::try_from(number).map_err(|_| TokenErrorKind::Internal)?);
            public.extend_from_slice(&key.n().to_bytes_be());
        }
    }
    Ok(ObjectBlob { private, public })
}

/// Takes a key that was made elsewhere.
pub(super) fn import(
    chip: &[u8; 16],
    key: &PrivateKey,
    class: KeyClass,
) -> Result<ObjectBlob, TokenError> {
    let algorithm = key.algorithm();
    let mut private = chip.to_vec();
    let mut public = vec![code(algorithm), u8::from(class == KeyClass::Always), 1];
    match key {
        PrivateKey::Ec { scalar, x, y, .. } => {
            private.extend_from_slice(scalar);
            let expected = match algorithm {
                KeyAlgorithm::P256 => p256::SecretKey::from_slice(scalar)
                    .map_err(bad)?
                    .public_key()
                    .to_sec1_point(false)
                    .as_bytes()
                    .to_vec(),
                _ => p384::SecretKey::from_slice(scalar)
                    .map_err(bad)?
                    .public_key()
                    .to_sec1_point(false)
                    .as_bytes()
                    .to_vec(),
            };
            public.extend_from_slice(x);
            public.extend_from_slice(y);
            if expected.get(1..) != public.get(3..) {
                return Err(TokenErrorKind::BadData.into());
            }
        }
        PrivateKey::Rsa { modulus, prime, .. } => {
            imported(modulus, prime)?;
            private.push(IMPORTED);
            private.extend_from_slice(prime);
            public.extend_from_slice(modulus);
        }
    }
    Ok(ObjectBlob { private, public })
}

/// Stands where the number of a prepared RSA key stands.
const IMPORTED: u8 = 0xFF;

fn imported(modulus: &[u8], prime: &[u8]) -> Result<RsaPrivateKey, TokenError> {
    let (n, p) = (
        BigUint::from_bytes_be(modulus),
        BigUint::from_bytes_be(prime),
    );
    let q = &n / &p;
    if &q * &p != n {
        return Err(TokenErrorKind::BadData.into());
    }
    RsaPrivateKey::from_p_q(p, q, BigUint::from(65537u32)).map_err(bad)
}

/// What a key is, from its public part alone.
pub(super) fn describe(object: &ObjectBlob) -> Result<KeyInfo, TokenError> {
    let (&[algorithm, class, origin], key) = object
        .public
        .split_first_chunk()
        .ok_or(TokenErrorKind::Internal)?;
    let algorithm = [
        KeyAlgorithm::P256,
        KeyAlgorithm::P384,
        KeyAlgorithm::Rsa2048,
        KeyAlgorithm::Rsa3072,
    ]
    .into_iter()
    .find(|candidate| code(*candidate) == algorithm)
    .ok_or(TokenErrorKind::Internal)?;
    let class = match class {
        0 => KeyClass::Session,
        1 => KeyClass::Always,
        _ => return Err(TokenErrorKind::Internal.into()),
    };
    let size = algorithm.size();
    let public = match algorithm {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => {
            let (x, y) = key
                .split_at_checked(size)
                .filter(|(_, y)| y.len() == size)
                .ok_or(TokenErrorKind::Internal)?;
            PublicKey::Ec {
                x: x.to_vec(),
                y: y.to_vec(),
            }
        }
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 if key.len() == size => PublicKey::Rsa {
            modulus: key.to_vec(),
            exponent: 65537,
        },
        _ => return Err(TokenErrorKind::Internal.into()),
    };
    Ok(KeyInfo {
        algorithm,
        class,
        origin: match origin {
            0 => KeyOrigin::Generated,
            1 => KeyOrigin::Imported,
            _ => return Err(TokenErrorKind::Internal.into()),
        },
        public,
    })
}

/// Uses a key. A key of another chip is lost, as it is with a TPM.
pub(super) fn operate(
    chip: &[u8; 16],
    object: &ObjectBlob,
    info: &KeyInfo,
    operation: PrivateOperation<'_>,
    rng: &mut SeededRng,
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let private = object
        .private
        .strip_prefix(chip)
        .ok_or(TokenErrorKind::Lost)?;
    match info.algorithm {
        KeyAlgorithm::P256 => p256_operation(private, operation),
        KeyAlgorithm::P384 => p384_operation(private, operation),
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => {
            let (&number, prime) = private.split_first().ok_or(TokenErrorKind::Lost)?;
            if let (IMPORTED, PublicKey::Rsa { modulus, .. }) = (number, &info.public) {
                let key = imported(modulus, prime)?;
                return rsa_operation(&key, operation, rng).map(Zeroizing::new);
            }
            let key = prepared(info.algorithm)
                .get(usize::from(number))
                .filter(|key| {
                    matches!(&info.public, PublicKey::Rsa { modulus, .. }
                        if *modulus == key.n().to_bytes_be())
                })
                .ok_or(TokenErrorKind::Lost)?;
            rsa_operation(key, operation, rng)
        }
    }
    .map(Zeroizing::new)
}

fn p256_operation(private: &[u8], operation: PrivateOperation<'_>) -> Result<Vec<u8>, TokenError> {
    let key = p256::SecretKey::from_slice(private).map_err(lost)?;
    match operation {
        PrivateOperation::SignEcdsa { digest } => {
            let signature: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(key)
                .sign_prehash(&widened(digest, 32)?)
                .map_err(bad)?;
            Ok(signature.to_bytes().to_vec())
        }
        PrivateOperation::Ecdh { x, y } => {
            let point = [&[4], x, y].concat();
            let peer = p256::PublicKey::from_sec1_bytes(&point).map_err(bad)?;
            let secret = p256::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine());
            Ok(secret.raw_secret_bytes().to_vec())
        }
        _ => Err(TokenErrorKind::KeyUse.into()),
    }
}

fn p384_operation(private: &[u8], operation: PrivateOperation<'_>) -> Result<Vec<u8>, TokenError> {
    let key = p384::SecretKey::from_slice(private).map_err(lost)?;
    match operation {
        PrivateOperation::SignEcdsa { digest } => {
            let signature: p384::ecdsa::Signature = p384::ecdsa::SigningKey::from(key)
                .sign_prehash(&widened(digest, 48)?)
                .map_err(bad)?;
            Ok(signature.to_bytes().to_vec())
        }
        PrivateOperation::Ecdh { x, y } => {
            let point = [&[4], x, y].concat();
            let peer = p384::PublicKey::from_sec1_bytes(&point).map_err(bad)?;
            let secret = p384::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine());
            Ok(secret.raw_secret_bytes().to_vec())
        }
        _ => Err(TokenErrorKind::KeyUse.into()),
    }
}

fn rsa_operation(
    key: &RsaPrivateKey,
    operation: PrivateOperation<'_>,
    rng: &mut SeededRng,
) -> Result<Vec<u8>, TokenError> {
    let exact = |data: &[u8], size: usize| {
        if data.len() == size {
            Ok(())
        } else {
            Err(TokenError::from(TokenErrorKind::BadData))
        }
    };
    match operation {
        PrivateOperation::DecryptOaep {
            hash,
            label,
            cryptogram,
        } => {
            exact(cryptogram, key.size())?;
            let label = std::str::from_utf8(label).map_err(bad)?;
            let padding = match hash {
                HashAlgorithm::Sha1 => Oaep::new_with_label::<rsa_sha1::Sha1, _>(label),
                HashAlgorithm::Sha256 => Oaep::new_with_label::<rsa::sha2::Sha256, _>(label),
                HashAlgorithm::Sha384 => Oaep::new_with_label::<rsa::sha2::Sha384, _>(label),
                HashAlgorithm::Sha512 => Oaep::new_with_label::<rsa::sha2::Sha512, _>(label),
            };
            key.decrypt(padding, cryptogram).map_err(bad)
        }
        PrivateOperation::DecryptPkcs1 { cryptogram } => {
            exact(cryptogram, key.size())?;
            key.decrypt(Pkcs1v15Encrypt, cryptogram).map_err(bad)
        }
        PrivateOperation::RsaRaw { block } => {
            exact(block, key.size())?;
            let plain = rsa_decrypt::<SeededRng>(None, key, &BigUint::from_bytes_be(block))
                .map_err(bad)?
                .to_bytes_be();
            let mut out = vec![0; key.size().saturating_sub(plain.len())];
            out.extend_from_slice(&plain);
            Ok(out)
        }
        PrivateOperation::SignPkcs1 { hash, digest } => {
            exact(digest, hash.size())?;
            let padding = match hash {
                HashAlgorithm::Sha1 => Pkcs1v15Sign::new::<rsa_sha1::Sha1>(),
                HashAlgorithm::Sha256 => Pkcs1v15Sign::new::<rsa::sha2::Sha256>(),
                HashAlgorithm::Sha384 => Pkcs1v15Sign::new::<rsa::sha2::Sha384>(),
                HashAlgorithm::Sha512 => Pkcs1v15Sign::new::<rsa::sha2::Sha512>(),
            };
            key.sign(padding, digest).map_err(bad)
        }
        PrivateOperation::SignPss { hash, digest } => {
            exact(digest, hash.size())?;
            let salt = hash.size();
            let padding = match hash {
                HashAlgorithm::Sha1 => Pss::new_with_salt::<rsa_sha1::Sha1>(salt),
                HashAlgorithm::Sha256 => Pss::new_with_salt::<rsa::sha2::Sha256>(salt),
                HashAlgorithm::Sha384 => Pss::new_with_salt::<rsa::sha2::Sha384>(salt),
                HashAlgorithm::Sha512 => Pss::new_with_salt::<rsa::sha2::Sha512>(salt),
            };
            key.sign_with_rng(rng, padding, digest).map_err(bad)
        }
        PrivateOperation::Ecdh { .. } | PrivateOperation::SignEcdsa { .. } => {
            Err(TokenErrorKind::KeyUse.into())
        }
    }
}

/// A digest shorter than the curve's order, as the number it stands for.
fn widened(digest: &[u8], size: usize) -> Result<Vec<u8>, TokenError> {
    if digest.is_empty() {
        return Err(TokenErrorKind::BadData.into());
    }
    let mut out = vec![0; size.saturating_sub(digest.len())];
    out.extend_from_slice(digest);
    Ok(out)
}

fn bad(error: impl std::error::Error + Send + Sync + 'static) -> TokenError {
    TokenError::new(TokenErrorKind::BadData, error)
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> TokenError {
    TokenError::new(TokenErrorKind::Lost, error)
}

fn code(algorithm: KeyAlgorithm) -> u8 {
    match algorithm {
        KeyAlgorithm::P256 => 1,
        KeyAlgorithm::P384 => 2,
        KeyAlgorithm::Rsa2048 => 3,
        KeyAlgorithm::Rsa3072 => 4,
    }
}

/// The prepared keys of a size (`keys/README.md`); none for curves.
fn prepared(algorithm: KeyAlgorithm) -> &'static [RsaPrivateKey] {
    static RSA2048: OnceLock<Vec<RsaPrivateKey>> = OnceLock::new();
    static RSA3072: OnceLock<Vec<RsaPrivateKey>> = OnceLock::new();
    let read = |files: &[&[u8]]| {
        files
            .iter()
            .filter_map(|der| RsaPrivateKey::from_pkcs1_der(der).ok())
            .collect()
    };
    match algorithm {
        KeyAlgorithm::P256 | KeyAlgorithm::P384 => &[],
        KeyAlgorithm::Rsa2048 => RSA2048.get_or_init(|| {
            read(&[
                include_bytes!("../../keys/rsa2048-1.der"),
                include_bytes!("../../keys/rsa2048-2.der"),
                include_bytes!("../../keys/rsa2048-3.der"),
                include_bytes!("../../keys/rsa2048-4.der"),
            ])
        }),
        KeyAlgorithm::Rsa3072 => RSA3072.get_or_init(|| {
            read(&[
                include_bytes!("../../keys/rsa3072-1.der"),
                include_bytes!("../../keys/rsa3072-2.der"),
            ])
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_prepared_keys_are_there_and_differ() {
        let all: Vec<_> = prepared(KeyAlgorithm::Rsa2048)
            .iter()
            .chain(prepared(KeyAlgorithm::Rsa3072))
            .map(|key| key.n().clone())
            .collect();
        assert_eq!(all.len(), 6);
        for (i, n) in all.iter().enumerate() {
            assert!(!all[..i].contains(n));
        }
    }
}
