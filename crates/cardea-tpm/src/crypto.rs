//! Key derivation, salts and parameter encryption (TPM 2.0 Part 1 §11.4.10, §19.6.13, §21, annexes B and C).

use std::convert::Infallible;

use aes::Aes128;
use cfb_mode::cipher::KeyIvInit;
use p256::elliptic_curve::sec1::ToSec1Point;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::{BoxedUint, Oaep};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::auth::hmac;
use crate::policy::hash;

/// KDFa with SHA-256: `bits` at most 65,535, a multiple of 8.
pub(crate) fn kdfa(
    key: &[u8],
    label: &str,
    context_u: &[u8],
    context_v: &[u8],
    bits: u16,
) -> Zeroizing<Vec<u8>> {
    let length = usize::from(bits / 8);
    let mut derived = Zeroizing::new(Vec::with_capacity(length + 32));
    let mut counter = 0u32;
    while derived.len() < length {
        counter += 1;
        let block = hmac(
            key,
            &[
                &counter.to_be_bytes(),
                label.as_bytes(),
                &[0],
                context_u,
                context_v,
                &u32::from(bits).to_be_bytes(),
            ],
        );
        derived.extend_from_slice(&*block);
    }
    derived.truncate(length);
    derived
}

/// KDFe with SHA-256 and one block of output (256 bits).
pub(crate) fn kdfe(z: &[u8], label: &str, party_u: &[u8], party_v: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hash(&[
        &1u32.to_be_bytes(),
        z,
        label.as_bytes(),
        &[0],
        party_u,
        party_v,
    ]))
}

/// Direction of a parameter.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Decrypt,
    Encrypt,
}

/// AES-128-CFB over a parameter, with key and IV from the session value and both nonces.
pub(crate) fn cfb(
    direction: Direction,
    session_value: &[u8],
    nonce_newer: &[u8],
    nonce_older: &[u8],
    data: &mut [u8],
) {
    let key_and_iv = kdfa(session_value, "CFB", nonce_newer, nonce_older, 256);
    let Some((key, iv)) = key_and_iv.split_first_chunk::<16>() else {
        return;
    };
    let Ok(iv) = <&[u8; 16]>::try_from(iv) else {
        return;
    };
    match direction {
        Direction::Encrypt => {
            cfb_mode::Encryptor::<Aes128>::new(key.into(), iv.into()).encrypt(data)
        }
        Direction::Decrypt => {
            cfb_mode::Decryptor::<Aes128>::new(key.into(), iv.into()).decrypt(data)
        }
    }
}

/// The use of a secret that is encrypted to a storage key (TPM 2.0 Part 1 annex B.10.4, C.6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretUse {
    /// Seed of an outer wrap.
    Duplicate,
    /// Salt of a session.
    Session,
}

impl SecretUse {
    fn label(self) -> &'static str {
        match self {
            Self::Duplicate => "DUPLICATE",
            Self::Session => "SECRET",
        }
    }
}

/// Public half of a storage key, at full lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StorageKey {
    /// On P-256.
    Ecc { x: [u8; 32], y: [u8; 32] },
    /// Modulus of 2048 bits, exponent 65537.
    Rsa(Box<[u8; 256]>),
}

/// A fresh secret and what tells it to the TPM (the content of TPM2B_ENCRYPTED_SECRET).
///
/// None when the key is impossible: a point off its curve, a modulus that is even or too short.
pub(crate) fn shared_secret(
    key: &StorageKey,
    purpose: SecretUse,
    random: &mut dyn FnMut(&mut [u8]),
) -> Option<(Zeroizing<[u8; 32]>, Vec<u8>)> {
    match key {
        StorageKey::Ecc { x, y } => ecc_secret(x, y, purpose, random),
        StorageKey::Rsa(modulus) => {
            let mut salt = Zeroizing::new([0; 32]);
            random(&mut *salt);
            let encrypted = rsa_oaep(modulus, purpose.label(), &salt, random)?;
            Some((salt, encrypted))
        }
    }
}

/// RSAES-OAEP with SHA-256 (RFC 8017 §7.1.1); a TPM's label ends in a zero that is part of it.
fn rsa_oaep(
    modulus: &[u8; 256],
    label: &str,
    message: &[u8; 32],
    random: &mut dyn FnMut(&mut [u8]),
) -> Option<Vec<u8>> {
    if modulus.first()? & 0x80 == 0 {
        return None;
    }
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    let key = rsa::PublicKey::new(modulus, BoxedUint::from(65537u32)).ok()?;
    let padding = Oaep::<Sha256>::new_with_label([label.as_bytes(), &[0]].concat());
    key.encrypt(&mut Random(random), padding, message).ok()
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

/// One-pass ECDH with an ephemeral key, whose point is sent to the TPM.
fn ecc_secret(
    x: &[u8; 32],
    y: &[u8; 32],
    purpose: SecretUse,
    random: &mut dyn FnMut(&mut [u8]),
) -> Option<(Zeroizing<[u8; 32]>, Vec<u8>)> {
    let mut sec1 = vec![4];
    sec1.extend_from_slice(x);
    sec1.extend_from_slice(y);
    let peer = p256::PublicKey::from_sec1_bytes(&sec1).ok()?;
    let secret = secret_scalar(random);
    let point = secret.public_key().to_sec1_point(false);
    let (own_x, own_y) = (point.x()?, point.y()?);
    let shared = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), peer.as_affine());
    let salt = kdfe(shared.raw_secret_bytes(), purpose.label(), own_x, x);
    let mut encoded = Vec::with_capacity(68);
    for coordinate in [own_x, own_y] {
        encoded.extend_from_slice(&32u16.to_be_bytes());
        encoded.extend_from_slice(coordinate);
    }
    Some((salt, encoded))
}

/// A uniformly chosen P-256 private key.
pub(crate) fn secret_scalar(random: &mut dyn FnMut(&mut [u8])) -> p256::SecretKey {
    loop {
        let mut candidate = Zeroizing::new([0; 32]);
        random(&mut *candidate);
        if let Ok(key) = p256::SecretKey::from_slice(&*candidate) {
            return key;
        }
    }
}

/// An object on its way to a storage key.
pub(crate) struct Wrapped {
    /// Contents of TPM2B_PRIVATE.
    pub(crate) private: Zeroizing<Vec<u8>>,
    /// What tells the storage key the seed of the outer wrap.
    pub(crate) seed: Vec<u8>,
}

/// A sensitive area with its size, as it is wrapped (TPM2B_SENSITIVE).
pub(crate) fn sensitive_area(sensitive: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u16::try_from(sensitive.len()).unwrap_or(u16::MAX);
    let mut area = Zeroizing::new(Vec::with_capacity(sensitive.len() + 2));
    area.extend_from_slice(&length.to_be_bytes());
    area.extend_from_slice(sensitive);
    area
}

/// The inner wrap of an object (TPM 2.0 Part 1 §23.3.2.3): integrity value and sensitive area, encrypted with a
/// key that the storage key does not know.
pub(crate) fn inner_wrap(key: &[u8; 16], name: &[u8], area: &[u8]) -> Zeroizing<Vec<u8>> {
    let integrity = Zeroizing::new(hash(&[area, name]));
    let mut inner = Zeroizing::new(Vec::with_capacity(34 + area.len()));
    inner.extend_from_slice(&32u16.to_be_bytes());
    inner.extend_from_slice(&*integrity);
    inner.extend_from_slice(area);
    cfb_mode::Encryptor::<Aes128>::new(key.into(), &[0; 16].into()).encrypt(&mut inner);
    inner
}

/// The outer wrap of an object (TPM 2.0 Part 1 §23.3.2.2): integrity value and area, encrypted with a key from
/// the seed. Contents of TPM2B_PRIVATE.
pub(crate) fn outer_wrap(seed: &[u8; 32], name: &[u8], area: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut area = Zeroizing::new(area.to_vec());
    let key = kdfa(seed, "STORAGE", name, &[], 128);
    if let Ok(key) = <&[u8; 16]>::try_from(&key[..]) {
        cfb_mode::Encryptor::<Aes128>::new(key.into(), &[0; 16].into()).encrypt(&mut area);
    }
    let integrity = hmac(&kdfa(seed, "INTEGRITY", &[], &[], 256), &[&area, name]);
    let mut wrapped = Zeroizing::new(Vec::with_capacity(34 + area.len()));
    wrapped.extend_from_slice(&32u16.to_be_bytes());
    wrapped.extend_from_slice(&*integrity);
    wrapped.extend_from_slice(&area);
    wrapped
}

#[cfg(test)]
mod tests {
    use rsa::traits::PublicKeyParts as _;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        base16ct::mixed::decode_vec(text).unwrap()
    }

    fn system_random(buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }

    // Expected values of the next three tests: Python's hmac and hashlib, and `openssl enc -aes-128-cfb`.
    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const U: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf";
    const V: &str = "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf";

    #[test]
    fn kdfa_gives_the_values_of_another_program() {
        let (key, u, v) = (hex(KEY), hex(U), hex(V));
        assert_eq!(
            kdfa(&key, "ATH", &u, &v, 256)[..],
            hex("c4f8c300878fcde061c6930a425a8900e00334f3df40fb144ccd329e3b59118c")
        );
        // More than one block, the last one cut.
        assert_eq!(
            kdfa(&key, "CFB", &u, &v, 320)[..],
            hex("375da9916690119751bc9f0e8cdb73a3edcaf68a31bbe243631e209baa8a8848674573889df6099d")
        );
    }

    #[test]
    fn kdfe_gives_the_value_of_another_program() {
        let z: Vec<u8> = (0x40..0x60).collect();
        assert_eq!(
            kdfe(&z, SecretUse::Session.label(), &hex(U), &hex(V))[..],
            hex("28c98ae2a689f8c24f956eca27310059f607f33d28fdea0456ceff107366054a")
        );
    }

    #[test]
    fn cfb_gives_the_value_of_another_program() {
        let mut data: Vec<u8> = (0..45).collect();
        cfb(Direction::Encrypt, &hex(KEY), &hex(U), &hex(V), &mut data);
        assert_eq!(
            data,
            hex(
                "6da1f12d41827c27c5c8ec1661a2845e5794223bb7a5bcf1408535ad5fb1c31378f50fdbf86955d6844fbb056a"
            )
        );
    }
    #[test]
    fn cfb_decrypts_what_it_encrypted_and_depends_on_both_nonces() {
        let plain = [0x5A; 45];
        let mut data = plain;
        cfb(Direction::Encrypt, b"key", b"newer", b"older", &mut data);
        assert_ne!(data, plain);
        let encrypted = data;
        cfb(Direction::Decrypt, b"key", b"newer", b"older", &mut data);
        assert_eq!(data, plain);
        let mut swapped = encrypted;
        cfb(Direction::Decrypt, b"key", b"older", b"newer", &mut swapped);
        assert_ne!(swapped, plain);
    }

    #[test]
    fn ecc_key_finds_the_salt_that_it_was_told() {
        let srk = secret_scalar(&mut system_random);
        let point = srk.public_key().to_sec1_point(false);
        let (x, y) = (*point.x().unwrap(), *point.y().unwrap());
        let key = StorageKey::Ecc {
            x: x.into(),
            y: y.into(),
        };
        let (salt, told) = shared_secret(&key, SecretUse::Session, &mut system_random).unwrap();
        assert_eq!((&told[..2], &told[34..36]), (&[0, 32][..], &[0, 32][..]));
        let (own_x, own_y) = (&told[2..34], &told[36..]);
        let peer = p256::PublicKey::from_sec1_bytes(&[&[4], own_x, own_y].concat()).unwrap();
        let shared = p256::ecdh::diffie_hellman(srk.to_nonzero_scalar(), peer.as_affine());
        // KDFe for 256 bits of SHA-256 is one block (TPM 2.0 Part 1 §11.4.10.3).
        let block = hash(&[
            &[0, 0, 0, 1],
            shared.raw_secret_bytes(),
            b"SECRET\0",
            own_x,
            &x,
        ]);
        assert_eq!(*salt, block);
    }

    #[test]
    fn point_off_the_curve_is_no_storage_key() {
        let key = StorageKey::Ecc {
            x: [1; 32],
            y: [1; 32],
        };
        assert!(shared_secret(&key, SecretUse::Session, &mut system_random).is_none());
    }

    #[test]
    fn rsa_key_finds_the_salt_that_it_was_told() {
        let private = rsa::PrivateKey::new(&mut Random(&mut system_random), 2048).unwrap();
        let modulus: [u8; 256] = private.n_bytes().as_ref().try_into().unwrap();
        let (salt, told) = shared_secret(
            &StorageKey::Rsa(modulus.into()),
            SecretUse::Session,
            &mut system_random,
        )
        .unwrap();
        let padding = Oaep::<Sha256>::new_with_label(*b"SECRET\0");
        assert_eq!(private.decrypt(padding, &told).unwrap(), salt[..]);
        for impossible in [[0xFE; 256], [0x01; 256]] {
            let key = StorageKey::Rsa(impossible.into());
            assert!(super::shared_secret(&key, SecretUse::Session, &mut system_random).is_none());
        }
    }
}
