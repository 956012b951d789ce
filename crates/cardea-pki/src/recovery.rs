//! Copies of a card's keys for the holders of recovery keys, opened without a TPM.
//!
//! A copy is what TPM2_Duplicate makes for a storage key on P-256 (TPM 2.0 Part 1 §23.3.2, annexes C.6.3 and C.6.4).
//! Whoever can do one key agreement with that storage key's private half opens it: with a file ([`agree`]), or with a
//! token that hands out the agreed abscissa.

use cardea_terms::RsaNumbers;
use cfb_mode::cipher::KeyIvInit;
use hmac::{Hmac, KeyInit, Mac};
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{Curve, PrivateKey, PublicKey};

/// A copy of a key, and the key.
#[derive(Clone, Copy, Debug)]
pub struct KeyCopy<'a> {
    /// Name of the key: `000B` and the SHA-256 digest of its public area.
    pub name: &'a [u8; 34],
    /// Its public half.
    pub public: &'a PublicKey,
    /// The wrapped private half: contents of TPM2B_PRIVATE.
    pub private: &'a [u8],
    /// What tells the seed of the wrap: contents of TPM2B_ENCRYPTED_SECRET.
    pub seed: &'a [u8],
}

/// The private half of a key of which there was a copy.
pub enum Recovered {
    /// The scalar, as long as the field.
    Ec(Zeroizing<Vec<u8>>),
    /// One of the primes, half as long as the modulus.
    Rsa(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recovered")
    }
}

/// Why a copy gives no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// What is in it is not the private half of the key.
    #[error("the copy is not one of this key")]
    AnotherKey,
    /// It cannot be a copy.
    #[error("the copy is damaged")]
    Malformed,
    /// It was made for another recovery key, or for another key of the card, or was changed.
    #[error("the copy does not open: it was changed, or made for another recovery key")]
    Unopened,
}

/// A point on P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Abscissa.
    pub x: [u8; 32],
    /// Ordinate.
    pub y: [u8; 32],
}

impl Point {
    /// The point of a public key, if it is one of P-256.
    #[must_use]
    pub fn of(key: &PublicKey) -> Option<Self> {
        match key {
            PublicKey::Ec(key) if key.curve() == Curve::P256 => Some(Self {
                x: key.x().try_into().ok()?,
                y: key.y().try_into().ok()?,
            }),
            _ => None,
        }
    }
}

impl KeyCopy<'_> {
    /// The point that the recovery key has to agree with.
    ///
    /// # Errors
    /// [`CopyError::Malformed`], also for a point that is not on the curve.
    pub fn peer(&self) -> Result<Point, CopyError> {
        let mut reader = Reader(self.seed);
        let (x, y) = (reader.sized()?, reader.sized()?);
        reader.finish()?;
        // Shorter coordinates are filled up: a TPM may leave their zeros out.
        let key = PublicKey::from_ec(Curve::P256, x, y).map_err(|_| CopyError::Malformed)?;
        Point::of(&key).ok_or(CopyError::Malformed)
    }

    /// Opens the copy. `recovery` is the abscissa of the recovery key, `agreed` what it has agreed on with
    /// [`peer`](Self::peer).
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn open(&self, recovery: &[u8; 32], agreed: &[u8; 32]) -> Result<Recovered, CopyError> {
        let peer = self.peer()?;
        // KDFe, one block of it (Part 1 §11.4.10.3).
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(
            Sha256::new()
                .chain_update([0, 0, 0, 1])
                .chain_update(agreed)
                .chain_update(b"DUPLICATE\0")
                .chain_update(peer.x)
                .chain_update(recovery)
                .finalize()
                .into(),
        );
        let mut reader = Reader(self.private);
        let integrity = reader.sized()?;
        let mut area = Zeroizing::new(reader.0.to_vec());
        let expected = mac(&kdfa(&seed, "INTEGRITY", &[], 256), &[&area, self.name]);
        if !bool::from(expected.as_slice().ct_eq(integrity)) {
            return Err(CopyError::Unopened);
        }
        let key = kdfa(&seed, "STORAGE", self.name, 128);
        let key: &[u8; 16] = key.first_chunk().ok_or(CopyError::Malformed)?;
        cfb_mode::Decryptor::<aes::Aes128>::new(key.into(), &[0; 16].into()).decrypt(&mut area);
        self.take(&area)
    }

    /// The secret in a TPM2B_SENSITIVE, if it is that of the key.
    fn take(&self, area: &[u8]) -> Result<Recovered, CopyError> {
        let mut outer = Reader(area);
        let mut reader = Reader(outer.sized()?);
        outer.finish()?;
        let kind = reader.u16()?;
        // Zeros or nothing: the object had no authorisation value. The other is the seed of a storage key.
        let (_, _) = (reader.sized()?, reader.sized()?);
        let secret = reader.sized()?;
        reader.finish()?;
        match (kind, self.public) {
            (0x0023, PublicKey::Ec(key)) => {
                let scalar = padded(secret, key.curve().field_len())?;
                let is_own = public_point(key.curve(), &scalar).as_deref() == Some(key.point());
                is_own
                    .then_some(Recovered::Ec(scalar))
                    .ok_or(CopyError::AnotherKey)
            }
            (0x0001, PublicKey::Rsa(key)) => {
                let numbers = RsaNumbers {
                    modulus: key.n(),
                    private_exponent: None,
                    prime_1: secret,
                    prime_2: None,
                    exponent_1: None,
                    exponent_2: None,
                    coefficient: None,
                };
                numbers.check().map_err(|_| CopyError::AnotherKey)?;
                Ok(Recovered::Rsa(padded(secret, key.n().len() / 2)?))
            }
            _ => Err(CopyError::AnotherKey),
        }
    }
}

/// ECDH on P-256: the abscissa that a private key and a point agree on. None for a key on another curve, or of RSA, and
/// for a point that is not on the curve.
#[must_use]
pub fn agree(key: &PrivateKey, peer: &Point) -> Option<Zeroizing<[u8; 32]>> {
    let PrivateKey::Ec(key) = key else {
        return None;
    };
    if key.curve() != Curve::P256 {
        return None;
    }
    let secret = p256::SecretKey::from_slice(key.d()).ok()?;
    let point = [&[4][..], &peer.x, &peer.y].concat();
    let peer = p256::PublicKey::from_sec1_bytes(&point).ok()?;
    let shared = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), peer.as_affine());
    let shared = shared.raw_secret_bytes().as_slice().try_into().ok()?;
    Some(Zeroizing::new(shared))
}

fn public_point(curve: Curve, scalar: &[u8]) -> Option<Vec<u8>> {
    Some(match curve {
        Curve::P256 => p256::SecretKey::from_slice(scalar)
            .ok()?
            .public_key()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec(),
        Curve::P384 => p384::SecretKey::from_slice(scalar)
            .ok()?
            .public_key()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec(),
    })
}

/// A number at its full length.
fn padded(short: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>, CopyError> {
    let missing = length.checked_sub(short.len());
    let missing = missing.ok_or(CopyError::AnotherKey)?;
    let mut full = Zeroizing::new(Vec::with_capacity(length));
    full.resize(missing, 0);
    full.extend_from_slice(short);
    Ok(full)
}

/// KDFa with SHA-256, one block of it (Part 1 §11.4.10.2).
fn kdfa(key: &[u8; 32], label: &str, context: &[u8], bits: u16) -> Zeroizing<Vec<u8>> {
    let bits_field = u32::from(bits).to_be_bytes();
    let block = mac(
        key,
        &[&[0, 0, 0, 1], label.as_bytes(), &[0], context, &bits_field],
    );
    let length = usize::from(bits / 8).min(block.len());
    Zeroizing::new(block.get(..length).unwrap_or_default().to_vec())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// Structures of the TPM.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u16(&mut self) -> Result<u16, CopyError> {
        let (value, rest) = self.0.split_first_chunk().ok_or(CopyError::Malformed)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*value))
    }

    fn sized(&mut self) -> Result<&'a [u8], CopyError> {
        let length = self.u16()?.into();
        let (value, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(CopyError::Malformed)?;
        self.0 = rest;
        Ok(value)
    }

    fn finish(&self) -> Result<(), CopyError> {
        match self.0 {
            [] => Ok(()),
            _ => Err(CopyError::Malformed),
        }
    }
}
