//! Encryption with public keys, in the module (PKCS#11 3.1 §5.8).

use cardea_client::message::PublicKey;
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::hashes::length;
use crate::mechanisms::Scheme;
use crate::padding::{oaep_encode, pad_encryption, power};
use crate::random;
use crate::running::Running;
use crate::rv::{Result, Rv};

/// Encrypts the operation's data.
pub(crate) fn encrypt(running: &mut Running) -> Result<Zeroizing<Vec<u8>>> {
    let (_, plain) = running.take_message();
    let key = running.key()?;
    let PublicKey::Rsa { modulus, exponent } = &key.public else {
        return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
    };
    let size = modulus.len();
    let block = match &running.scheme {
        Scheme::Oaep { hash, mgf, label } => {
            let mut seed = vec![0; length(*hash)];
            random::fill(&mut seed)?;
            oaep_encode(&plain, &seed, *hash, *mgf, label, size)
        }
        Scheme::Pkcs1 => pad_encryption(&plain, size, |buffer| random::fill(buffer).ok()),
        Scheme::Raw => {
            let mut block = Zeroizing::new(vec![0; size - plain.len()]);
            block.extend_from_slice(&plain);
            Some(block)
        }
        _ => return Err(Rv(CKR_MECHANISM_INVALID)),
    };
    let block = block.ok_or(Rv(CKR_DATA_LEN_RANGE))?;
    power(modulus, *exponent, &block).ok_or(Rv(CKR_DATA_INVALID))
}
