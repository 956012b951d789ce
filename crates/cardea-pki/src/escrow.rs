//! A small secret in a file, under a passphrase: the form of `openssl enc -aes-256-cbc -pbkdf2 -iter 600000`, so that
//! it can be opened without this program too.
//!
//! `Salted__`, 8 bytes of salt, then AES-256-CBC with PKCS #7 padding; key and IV are the 48 bytes of
//! PBKDF2-HMAC-SHA256 (RFC 8018). Nothing tells a wrong passphrase but what comes out: the content should begin with
//! something known.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Rounds of PBKDF2.
pub const ROUNDS: u32 = 600_000;

/// Bytes of salt.
pub const SALT: usize = 8;

/// What such files begin with.
const MAGIC: &[u8] = b"Salted__";

/// Longest content in bytes.
const MAX_CONTENT: usize = 1024;

/// Not such a file, or another passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong passphrase, or not a file of `openssl enc`")]
pub struct EscrowError;

/// The file for a secret of at most 1,024 bytes. The salt is random.
///
/// # Errors
///
/// [`EscrowError`] for a longer one.
pub fn seal(secret: &[u8], passphrase: &[u8], salt: [u8; SALT]) -> Result<Vec<u8>, EscrowError> {
    if secret.len() > MAX_CONTENT {
        return Err(EscrowError);
    }
    let derived = derive(passphrase, &salt);
    let (key, iv) = derived.split_at(32);
    let cipher =
        cbc::Encryptor::<aes::Aes256>::new_from_slices(key, iv).map_err(|_| EscrowError)?;
    let mut buffer = Zeroizing::new([0; MAX_CONTENT + 16]);
    let place = buffer.get_mut(..secret.len()).ok_or(EscrowError)?;
    place.copy_from_slice(secret);
    let sealed = cipher
        .encrypt_padded::<Pkcs7>(&mut *buffer, secret.len())
        .map_err(|_| EscrowError)?;
    Ok([MAGIC, &salt, sealed].concat())
}

/// The secret in a file.
///
/// # Errors
///
/// [`EscrowError`]. A wrong passphrase may also return bytes that are not the secret.
pub fn open(file: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, EscrowError> {
    let rest = file.strip_prefix(MAGIC).ok_or(EscrowError)?;
    let (salt, sealed) = rest.split_first_chunk::<SALT>().ok_or(EscrowError)?;
    if sealed.len() > MAX_CONTENT + 16 {
        return Err(EscrowError);
    }
    let derived = derive(passphrase, salt);
    let (key, iv) = derived.split_at(32);
    let cipher =
        cbc::Decryptor::<aes::Aes256>::new_from_slices(key, iv).map_err(|_| EscrowError)?;
    let mut content = Zeroizing::new(sealed.to_vec());
    let length = cipher
        .decrypt_padded::<Pkcs7>(&mut content)
        .map_err(|_| EscrowError)?
        .len();
    content.truncate(length);
    Ok(content)
}

fn derive(passphrase: &[u8], salt: &[u8]) -> Zeroizing<[u8; 48]> {
    let mut derived = Zeroizing::new([0; 48]);
    pbkdf2::pbkdf2_hmac::<Sha256>(passphrase, salt, ROUNDS, &mut *derived);
    derived
}
