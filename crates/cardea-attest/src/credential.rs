//! MakeCredential in software (TPM 2.0 Part 1, section 24 and annexes B.10.4 and C.6.1): a secret that only the TPM
//! with an endorsement key opens, and only if an object with a given Name is in it.

use std::convert::Infallible;

use aes::{Aes128, Aes256};
use cardea_pki::{Curve, EcPublicKey, PublicKey, RsaPublicKey};
use cfb_mode::cipher::KeyIvInit;
use hmac::{Hmac, KeyInit, Mac};
use p256::elliptic_curve::sec1::ToSec1Point;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::{BoxedUint, Oaep};
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

use crate::endorsement::NameDigest;
use crate::wire::put_sized;
use crate::{EndorsementKey, Name};

/// The parameters of TPM2_ActivateCredential, without the lengths before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// TPMS_ID_OBJECT: the integrity value and the encrypted secret.
    pub blob: Vec<u8>,
    /// The content of TPM2B_ENCRYPTED_SECRET.
    pub seed: Vec<u8>,
}

/// The label of a credential's seed; the zero behind it is part of it.
const IDENTITY: &[u8] = b"IDENTITY\0";

/// Makes a credential for an object, above all an attestation key, next to an endorsement key.
///
/// `random` fills a buffer with random bytes. The secret is the caller's: 32 random bytes, which whoever opens the
/// credential returns.
///
/// None if the secret is longer than the endorsement key's digest, if the key is one that cannot exist, or if the
/// random bytes are not random.
#[must_use]
pub fn make_credential(
    key: &EndorsementKey,
    object: &Name,
    secret: &[u8],
    random: &mut dyn FnMut(&mut [u8]),
) -> Option<Credential> {
    let digest = key.digest;
    if secret.len() > digest.length() {
        return None;
    }
    let (seed, told) = match &key.key {
        PublicKey::Ec(point) => match point.curve() {
            Curve::P256 => p256_seed(point, digest, random)?,
            Curve::P384 => p384_seed(point, digest, random)?,
        },
        PublicKey::Rsa(modulus) => rsa_seed(modulus, digest, random)?,
    };
    let mut identity = Zeroizing::new(Vec::with_capacity(2 + secret.len()));
    put_sized(&mut identity, secret);
    encrypt(
        &kdfa(digest, &seed, b"STORAGE\0", object, key.aes_bits),
        &mut identity,
    )?;
    let mac_key = kdfa(digest, &seed, b"INTEGRITY\0", &[], digest.bits());
    let integrity = digest.hmac(&mac_key, &[&identity, object]);
    let mut blob = Vec::with_capacity(2 + integrity.len() + identity.len());
    put_sized(&mut blob, &integrity);
    blob.extend_from_slice(&identity);
    Some(Credential { blob, seed: told })
}

type Secret = Zeroizing<Vec<u8>>;

impl NameDigest {
    const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    const fn bits(self) -> u16 {
        match self {
            Self::Sha256 => 256,
            Self::Sha384 => 384,
        }
    }

    fn hash(self, parts: &[&[u8]]) -> Secret {
        Zeroizing::new(match self {
            Self::Sha256 => hash_with(Sha256::new(), parts),
            Self::Sha384 => hash_with(Sha384::new(), parts),
        })
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        Zeroizing::new(match self {
            Self::Sha256 => mac_with(Hmac::<Sha256>::new_from_slice(key).ok(), parts),
            Self::Sha384 => mac_with(Hmac::<Sha384>::new_from_slice(key).ok(), parts),
        })
    }
}

fn hash_with(mut hasher: impl Digest, parts: &[&[u8]]) -> Vec<u8> {
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_vec()
}

/// HMAC takes keys of any length: there always is one.
fn mac_with<M: Mac>(mac: Option<M>, parts: &[&[u8]]) -> Vec<u8> {
    let Some(mut mac) = mac else {
        return Vec::new();
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// KDFa (Part 1, section 11.4.10.2) with one context; the label ends in a zero.
fn kdfa(digest: NameDigest, key: &[u8], label: &[u8], context: &[u8], bits: u16) -> Secret {
    let length = usize::from(bits / 8);
    let mut derived = Zeroizing::new(Vec::with_capacity(length + digest.length()));
    for counter in 1u32.. {
        if derived.len() >= length {
            break;
        }
        let (counter, bits) = (counter.to_be_bytes(), u32::from(bits).to_be_bytes());
        derived.extend_from_slice(&digest.hmac(key, &[&counter, label, context, &bits]));
    }
    derived.truncate(length);
    derived
}

/// AES-CFB with an initialisation vector of zeros.
fn encrypt(key: &[u8], data: &mut [u8]) -> Option<()> {
    let iv = [0; 16];
    if let Ok(key) = <&[u8; 16]>::try_from(key) {
        cfb_mode::Encryptor::<Aes128>::new(key.into(), &iv.into()).encrypt(data);
    } else {
        let key = <&[u8; 32]>::try_from(key).ok()?;
        cfb_mode::Encryptor::<Aes256>::new(key.into(), &iv.into()).encrypt(data);
    }
    Some(())
}

/// The seed of an ephemeral key and an endorsement key: KDFe (Part 1, section 11.4.10.3), which is one block here.
fn agreed_seed(digest: NameDigest, shared: &[u8], own_x: &[u8], x: &[u8]) -> Secret {
    digest.hash(&[&1u32.to_be_bytes(), shared, IDENTITY, own_x, x])
}

// Each curve has types of its own.
macro_rules! agree {
    ($name:ident, $curve:ident, $length:literal) => {
        fn $name(
            peer: &EcPublicKey,
            digest: NameDigest,
            random: &mut dyn FnMut(&mut [u8]),
        ) -> Option<(Secret, Vec<u8>)> {
            let point = $curve::PublicKey::from_sec1_bytes(peer.point()).ok()?;
            // Nearly every number is a key; a source that gives none of them is broken.
            let own = (0..64).find_map(|_| {
                let mut candidate = Zeroizing::new([0; $length]);
                random(&mut *candidate);
                $curve::SecretKey::from_slice(&*candidate).ok()
            })?;
            let shared = $curve::ecdh::diffie_hellman(own.to_nonzero_scalar(), point.as_affine());
            let own = own.public_key().to_sec1_point(false);
            let (x, y) = (own.x()?, own.y()?);
            let seed = agreed_seed(digest, shared.raw_secret_bytes(), x, peer.x());
            let mut told = Vec::with_capacity(2 * (2 + $length));
            put_sized(&mut told, x);
            put_sized(&mut told, y);
            Some((seed, told))
        }
    };
}

agree!(p256_seed, p256, 32);
agree!(p384_seed, p384, 48);

/// A random seed, encrypted with RSAES-OAEP.
fn rsa_seed(
    key: &RsaPublicKey,
    digest: NameDigest,
    random: &mut dyn FnMut(&mut [u8]),
) -> Option<(Secret, Vec<u8>)> {
    let mut seed = Zeroizing::new(vec![0; digest.length()]);
    random(&mut seed);
    let modulus = BoxedUint::from_be_slice_vartime(key.n());
    let exponent = BoxedUint::from_be_slice_vartime(key.e());
    let key = rsa::PublicKey::new(modulus, exponent).ok()?;
    let mut random = Random(random);
    let told = match digest {
        NameDigest::Sha256 => {
            let padding = Oaep::<Sha256>::new_with_label(IDENTITY);
            key.encrypt(&mut random, padding, &seed)
        }
        NameDigest::Sha384 => {
            let padding = Oaep::<Sha384>::new_with_label(IDENTITY);
            key.encrypt(&mut random, padding, &seed)
        }
    };
    Some((seed, told.ok()?))
}

/// Where the RSA library takes its random bytes from.
struct Random<'a>(&'a mut dyn FnMut(&mut [u8]));

impl TryRng for Random<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        (self.0)(target);
        Ok(())
    }
}

impl TryCryptoRng for Random<'_> {}
