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
use rsa::{BoxedUint, Oaep, Pkcs1v15Sign, Pss};
use sha1::Sha1;
use sha2::digest::{Digest, FixedOutputReset};
use sha2::{Sha256, Sha384, Sha512};
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
            public.extend_from_slice(&key.n_bytes());
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

fn imported(modulus: &[u8], prime: &[u8]) -> Result<rsa::PrivateKey, TokenError> {
    let n = BoxedUint::from_be_slice_vartime(modulus);
    let p = BoxedUint::from_be_slice_vartime(prime);
    let q = n
        .checked_div(&p)
        .into_option()
        .ok_or(TokenErrorKind::BadData)?;
    let q = BoxedUint::from_be_slice_vartime(&q.to_be_bytes_trimmed_vartime());
    rsa::PrivateKey::from_p_q(p, q, BoxedUint::from(65537u32))
        .map_err(bad)
        .and_then(|key| match *key.n_bytes() == *modulus {
            true => Ok(key),
            false => Err(TokenErrorKind::BadData.into()),
        })
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
        is_recoverable: false,
        origin: match origin {
            0 => KeyOrigin::Generated,
            1 => KeyOrigin::Imported,
            _ => return Err(TokenErrorKind::Internal.into()),
        },
        public,
    })
}

/// A card's RSA key for the RSA library; none for a curve.
#[must_use]
pub fn rsa_public_key(public: &PublicKey) -> Option<rsa::PublicKey> {
    let PublicKey::Rsa { modulus, exponent } = public else {
        return None;
    };
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    rsa::PublicKey::new(modulus, BoxedUint::from(*exponent)).ok()
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
                        if modulus[..] == *key.n_bytes())
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
    key: &rsa::PrivateKey,
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
            match hash {
                HashAlgorithm::Sha1 => decrypt_oaep::<Sha1>(key, label, cryptogram),
                HashAlgorithm::Sha256 => decrypt_oaep::<Sha256>(key, label, cryptogram),
                HashAlgorithm::Sha384 => decrypt_oaep::<Sha384>(key, label, cryptogram),
                HashAlgorithm::Sha512 => decrypt_oaep::<Sha512>(key, label, cryptogram),
            }
        }
        PrivateOperation::DecryptPkcs1 { cryptogram } => {
            exact(cryptogram, key.size())?;
            without_padding(&raw(key, cryptogram)?)
                .map(<[u8]>::to_vec)
                .ok_or_else(|| TokenErrorKind::BadData.into())
        }
        PrivateOperation::RsaRaw { block } => {
            exact(block, key.size())?;
            raw(key, block)
        }
        PrivateOperation::SignPkcs1 { hash, digest } => {
            exact(digest, hash.size())?;
            let padding = match hash {
                HashAlgorithm::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
                HashAlgorithm::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
                HashAlgorithm::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
                HashAlgorithm::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
            };
            key.sign(padding, digest).map_err(bad)
        }
        PrivateOperation::SignPss { hash, digest } => {
            exact(digest, hash.size())?;
            match hash {
                HashAlgorithm::Sha1 => sign_pss::<Sha1>(key, rng, digest),
                HashAlgorithm::Sha256 => sign_pss::<Sha256>(key, rng, digest),
                HashAlgorithm::Sha384 => sign_pss::<Sha384>(key, rng, digest),
                HashAlgorithm::Sha512 => sign_pss::<Sha512>(key, rng, digest),
            }
        }
        PrivateOperation::Ecdh { .. } | PrivateOperation::SignEcdsa { .. } => {
            Err(TokenErrorKind::KeyUse.into())
        }
    }
}

/// The bare operation, as long as the modulus.
fn raw(key: &rsa::PrivateKey, block: &[u8]) -> Result<Vec<u8>, TokenError> {
    let number = BoxedUint::from_be_slice(block, key.n_bits_precision()).map_err(bad)?;
    let plain = rsa_decrypt::<SeededRng>(None, key, &number).map_err(bad)?;
    Ok(plain.to_be_bytes().into_vec())
}

/// The content of an EME-PKCS1-v1_5 block (RFC 8017 §7.2.2). The library answers a block without padding with an
/// invented content; a TPM refuses it.
fn without_padding(block: &[u8]) -> Option<&[u8]> {
    let padded = block.strip_prefix(&[0, 2])?;
    let zero = padded.iter().position(|byte| *byte == 0)?;
    padded.get(zero + 1..).filter(|_| zero >= 8)
}

fn decrypt_oaep<D: Digest + FixedOutputReset>(
    key: &rsa::PrivateKey,
    label: &[u8],
    cryptogram: &[u8],
) -> Result<Vec<u8>, TokenError> {
    key.decrypt(Oaep::<D>::new_with_label(label), cryptogram)
        .map_err(bad)
}

fn sign_pss<D: Digest + FixedOutputReset>(
    key: &rsa::PrivateKey,
    rng: &mut SeededRng,
    digest: &[u8],
) -> Result<Vec<u8>, TokenError> {
    let padding = Pss::<D>::new_with_salt(<D as Digest>::output_size());
    key.sign_with_rng(rng, padding, digest).map_err(bad)
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
fn prepared(algorithm: KeyAlgorithm) -> &'static [rsa::PrivateKey] {
    static RSA2048: OnceLock<Vec<rsa::PrivateKey>> = OnceLock::new();
    static RSA3072: OnceLock<Vec<rsa::PrivateKey>> = OnceLock::new();
    let read = |files: &[&[u8]]| {
        files
            .iter()
            .filter_map(|der| rsa::PrivateKey::from_pkcs1_der(der).ok())
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
