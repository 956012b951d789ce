//! What a module does, done by other libraries. Digest mechanisms name the hashes.

use cardea_testkit::software::SeededRng;
use cryptoki_sys::*;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::elliptic_curve::sec1::ToSec1Point;
use rsa::hazmat::rsa_encrypt;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt, Pkcs1v15Sign, Pss};
use sha2::Digest;

use crate::context::{Outcome, RSA, ensure};
use crate::session::Session;

/// Evaluates an expression with the type of a hash.
macro_rules! with_hash {
    ($hash:expr, $digest:ident => $work:expr) => {{
        match $hash {
            CKM_SHA_1 => {
                type $digest = sha1::Sha1;
                $work
            }
            CKM_SHA224 => {
                type $digest = sha2::Sha224;
                $work
            }
            CKM_SHA256 => {
                type $digest = sha2::Sha256;
                $work
            }
            CKM_SHA384 => {
                type $digest = sha2::Sha384;
                $work
            }
            CKM_SHA512 => {
                type $digest = sha2::Sha512;
                $work
            }
            other => panic!("no hash: {other:X}"),
        }
    }};
}

pub(crate) fn digest(hash: CK_MECHANISM_TYPE, data: &[u8]) -> Vec<u8> {
    with_hash!(hash, D => D::digest(data).to_vec())
}

/// ANSI X9.63 (SEC 1 §3.6.1).
pub(crate) fn x963(
    hash: CK_MECHANISM_TYPE,
    secret: &[u8],
    shared: &[u8],
    length: usize,
) -> Vec<u8> {
    let blocks = (1u32..).flat_map(|n| digest(hash, &[secret, &n.to_be_bytes(), shared].concat()));
    blocks.take(length).collect()
}

pub(crate) fn sha256(data: &[u8]) -> Vec<u8> {
    digest(CKM_SHA256, data)
}

/// The RSA key of the suite.
pub(crate) struct Rsa(rsa::PublicKey);

fn is_valid<E: std::fmt::Display>(verified: Result<(), E>) -> Outcome {
    verified.map_err(|error| format!("the signature is not valid: {error}").into())
}

impl Rsa {
    pub(crate) fn new(session: Session<'_>) -> Outcome<Self> {
        Self::of(session, session.public(RSA)?)
    }

    pub(crate) fn of(session: Session<'_>, key: CK_OBJECT_HANDLE) -> Outcome<Self> {
        let number = |kind| {
            Ok::<_, crate::module::Rv>(BoxedUint::from_be_slice_vartime(&session.get(key, kind)?))
        };
        let key = rsa::PublicKey::new(number(CKA_MODULUS)?, number(CKA_PUBLIC_EXPONENT)?);
        Ok(Self(key.map_err(|error| error.to_string())?))
    }

    /// PKCS#1 v1.5 of a digest with the DigestInfo of its hash, or of data as it is.
    pub(crate) fn verify_pkcs1(
        &self,
        hash: Option<CK_MECHANISM_TYPE>,
        digest: &[u8],
        signature: &[u8],
    ) -> Outcome {
        let scheme = match hash {
            Some(hash) => with_hash!(hash, D => Pkcs1v15Sign::new::<D>()),
            None => Pkcs1v15Sign::new_unprefixed(),
        };
        is_valid(self.0.verify(scheme, digest, signature))
    }

    pub(crate) fn verify_pss(
        &self,
        hash: CK_MECHANISM_TYPE,
        salt: u64,
        digest: &[u8],
        signature: &[u8],
    ) -> Outcome {
        with_hash!(hash, D => {
            let scheme = Pss::<D>::new_with_salt(salt as usize);
            is_valid(self.0.verify(scheme, digest, signature))
        })
    }

    pub(crate) fn encrypt_pkcs1(&self, plain: &[u8]) -> Vec<u8> {
        self.0
            .encrypt(&mut SeededRng::new(1), Pkcs1v15Encrypt, plain)
            .unwrap()
    }

    pub(crate) fn encrypt_oaep(
        &self,
        hash: CK_MECHANISM_TYPE,
        mask: CK_MECHANISM_TYPE,
        label: &str,
        plain: &[u8],
    ) -> Vec<u8> {
        with_hash!(hash, D => with_hash!(mask, M => {
            let padding = Oaep::<D, M>::new_with_mgf_hash_and_label(label.as_bytes());
            self.0.encrypt(&mut SeededRng::new(1), padding, plain).unwrap()
        }))
    }

    /// The bare operation with the public key, as long as the modulus.
    pub(crate) fn power(&self, data: &[u8]) -> Vec<u8> {
        let number = BoxedUint::from_be_slice(data, self.0.n_bits_precision()).unwrap();
        rsa_encrypt(&self.0, &number)
            .unwrap()
            .to_be_bytes()
            .into_vec()
    }
}

/// The point in a `CKA_EC_POINT`.
fn sec1(octets: &[u8]) -> &[u8] {
    &octets[2..]
}

/// ECDSA of a digest as long as a coordinate, with a `CKA_EC_POINT` of P-256 or P-384.
pub(crate) fn verify_ecdsa(octets: &[u8], digest: &[u8], signature: &[u8]) -> Outcome {
    let coordinate = sec1(octets).len() / 2;
    ensure!(
        signature.len() == 2 * coordinate,
        "{} bytes",
        signature.len()
    );
    macro_rules! verify {
        ($curve:ident) => {
            $curve::ecdsa::Signature::from_slice(signature).and_then(|signature| {
                let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(sec1(octets))?;
                key.verify_prehash(digest, &signature)
            })
        };
    }
    is_valid(match coordinate {
        48 => verify!(p384),
        _ => verify!(p256),
    })
}

/// The octets of the public point of a P-256 scalar, as in `CKA_EC_POINT`.
pub(crate) fn point_of(scalar: &[u8]) -> Vec<u8> {
    let key = p256::SecretKey::from_slice(scalar).unwrap().public_key();
    [&[4, 65], key.to_sec1_point(false).as_bytes()].concat()
}

/// The secret that a P-256 scalar shares with a `CKA_EC_POINT`.
pub(crate) fn shared_secret(scalar: &[u8], octets: &[u8]) -> Outcome<Vec<u8>> {
    let own = p256::SecretKey::from_slice(scalar).unwrap();
    let public = p256::PublicKey::from_sec1_bytes(sec1(octets)).map_err(|e| e.to_string())?;
    let shared = p256::ecdh::diffie_hellman(own.to_nonzero_scalar(), public.as_affine());
    Ok(shared.raw_secret_bytes().to_vec())
}
