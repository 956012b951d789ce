//! Key derivation and parameter encryption (TPM 2.0 Part 1 §11.4.10, §21).

use aes::Aes128;
use cfb_mode::cipher::KeyIvInit;
use p256::elliptic_curve::sec1::ToSec1Point;
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

/// A salt for a storage key on P-256: the salt and the ephemeral point that tells it to the TPM.
///
/// None when the key's point is not on the curve.
pub(crate) fn salt(
    x: &[u8],
    y: &[u8],
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
    let salt = kdfe(shared.raw_secret_bytes(), "SECRET", own_x, x);
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
