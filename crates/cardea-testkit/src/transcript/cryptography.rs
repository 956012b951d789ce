//! What a client does with a card's public key.

use cardea_iso7816::tlv;
use cardea_tpm::AdminKey;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::hazmat::rsa_encrypt;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt};
use sha1::Sha1;

use super::{Encryption, Signature};
use crate::software::SeededRng;

/// Encrypts to a key given as `7F49` template.
pub(super) fn encrypt(scheme: Encryption, public: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
    let Key::Rsa(key) = parse(public)? else {
        return Err("encryption needs an RSA key".to_owned());
    };
    let mut rng = SeededRng::new(1);
    match scheme {
        Encryption::Oaep => key.encrypt(&mut rng, Oaep::<Sha1>::new(), plain),
        Encryption::Pkcs1 => key.encrypt(&mut rng, Pkcs1v15Encrypt, plain),
        Encryption::Raw => power(&key, plain),
    }
    .map_err(|error| error.to_string())
}

/// Checks a signature by a key given as `7F49` template.
pub(super) fn verify(
    scheme: Signature,
    public: &[u8],
    data: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let right = match (scheme, parse(public)?) {
        (Signature::Pkcs1, Key::Rsa(key)) => {
            let mut block = vec![0, 1];
            block.resize(key.size().saturating_sub(data.len() + 1), 0xFF);
            block.push(0);
            block.extend_from_slice(data);
            signature.len() == key.size() && power(&key, signature).is_ok_and(|b| b == block)
        }
        (Signature::Raw, Key::Rsa(key)) => {
            signature.len() == key.size() && power(&key, signature).is_ok_and(|b| b == data)
        }
        (Signature::Ecdsa, Key::P256(key)) => {
            let signature = p256::ecdsa::Signature::from_der(signature)
                .map_err(|error| format!("not a DER signature: {error}"))?;
            key.verify_prehash(&widened(data, 32), &signature).is_ok()
        }
        (Signature::Ecdsa, Key::P384(key)) => {
            let signature = p384::ecdsa::Signature::from_der(signature)
                .map_err(|error| format!("not a DER signature: {error}"))?;
            key.verify_prehash(&widened(data, 48), &signature).is_ok()
        }
        _ => return Err("the key is not of this kind".to_owned()),
    };
    if right {
        Ok(())
    } else {
        Err("the signature is wrong".to_owned())
    }
}

enum Key {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    Rsa(rsa::PublicKey),
}

fn parse(template: &[u8]) -> Result<Key, String> {
    let outer = tlv::parse_single(template)
        .ok()
        .filter(|outer| outer.tag == 0x7F49)
        .ok_or("not a public key template")?;
    let parts: Vec<_> = tlv::Reader::new(outer.value)
        .collect::<Result<_, _>>()
        .map_err(|_| "malformed public key template")?;
    match parts.as_slice() {
        [modulus, exponent] if (modulus.tag, exponent.tag) == (0x81, 0x82) => rsa::PublicKey::new(
            BoxedUint::from_be_slice_vartime(modulus.value),
            BoxedUint::from_be_slice_vartime(exponent.value),
        )
        .map(Key::Rsa)
        .map_err(|error| error.to_string()),
        [point] if (point.tag, point.value.len()) == (0x86, 65) => {
            p256::ecdsa::VerifyingKey::from_sec1_bytes(point.value)
                .map(Key::P256)
                .map_err(|error| error.to_string())
        }
        [point] if (point.tag, point.value.len()) == (0x86, 97) => {
            p384::ecdsa::VerifyingKey::from_sec1_bytes(point.value)
                .map(Key::P384)
                .map_err(|error| error.to_string())
        }
        _ => Err("unknown public key".to_owned()),
    }
}

/// The bare public operation, as long as the modulus.
fn power(key: &rsa::PublicKey, data: &[u8]) -> rsa::Result<Vec<u8>> {
    let number = BoxedUint::from_be_slice(data, key.n_bits_precision())
        .ok()
        .filter(|number| number < key.n().as_ref())
        .ok_or(rsa::Error::Decryption)?;
    Ok(rsa_encrypt(key, &number)?.to_be_bytes().into_vec())
}

/// A short digest as the number it stands for.
fn widened(digest: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![0; size.saturating_sub(digest.len())];
    out.extend_from_slice(digest);
    out
}

fn admin_key(key: &[u8]) -> Result<AdminKey, String> {
    AdminKey::new(key).map_err(|error| error.to_string())
}

/// The answer to a challenge of external authentication.
pub(super) fn external(key: &[u8], challenge: &[u8]) -> Result<Vec<u8>, String> {
    let mut answer = challenge.to_vec();
    admin_key(key)?.encrypt(&mut answer);
    Ok(answer)
}

/// The host's part of mutual authentication; Z1 is fixed, since nobody uses it.
pub(super) fn mutual(key: &[u8], card: &[u8], host: &[u8]) -> Result<Vec<u8>, String> {
    let mut cryptogram = [card, host, &[0x5A; 7], &[0x80]].concat();
    admin_key(key)?.encrypt(&mut cryptogram);
    Ok(cryptogram)
}

/// Whether the card's part is right.
pub(super) fn mutual_answer(
    key: &[u8],
    card: &[u8],
    host: &[u8],
    cryptogram: &[u8],
) -> Result<(), String> {
    let mut plain = cryptogram.to_vec();
    admin_key(key)?.decrypt(&mut plain);
    let expected = [host, card].concat();
    if plain.len() == 40 && plain.starts_with(&expected) && plain.ends_with(&[0x80]) {
        Ok(())
    } else {
        Err("the card's cryptogram is wrong".to_owned())
    }
}
