//! Verification of signatures with public keys, in the module (PKCS#11 3.1 §5.15).

use cardea_client::message::{Hash, PublicKey};
use cryptoki_sys::*;
use p256::ecdsa::signature::hazmat::PrehashVerifier;

use crate::hashes::{digest_info, length};
use crate::mechanisms::Scheme;
use crate::padding::{is_pss_of, pad_signature, power};
use crate::running::Running;
use crate::rv::{Result, Rv};

/// Compares a signature with the operation's data.
pub(crate) fn verify(mut running: Running, signature: &[u8]) -> Result {
    if signature.len() != running.length {
        return Err(Rv(CKR_SIGNATURE_LEN_RANGE));
    }
    let (hash, input) = running.take_message();
    let is_valid = match &running.key()?.public {
        PublicKey::Ec { x, y } => is_ecdsa_of(x, y, &input, signature),
        PublicKey::Rsa { modulus, exponent } => {
            let block = power(modulus, *exponent, signature);
            block.is_some_and(|block| is_rsa_of(&running.scheme, hash, &input, &block))
        }
    };
    if is_valid {
        Ok(())
    } else {
        Err(Rv(CKR_SIGNATURE_INVALID))
    }
}

fn is_rsa_of(scheme: &Scheme, hash: Option<Hash>, input: &[u8], block: &[u8]) -> bool {
    match scheme {
        Scheme::Pkcs1 => {
            let prefix = hash.map(digest_info).unwrap_or_default();
            let expected = pad_signature(&[prefix, input].concat(), block.len());
            expected.is_some_and(|expected| expected == block)
        }
        Scheme::Pss { hash, mgf, salt } => {
            input.len() == length(*hash) && is_pss_of(block, input, *salt, *hash, *mgf)
        }
        Scheme::Raw => block
            .len()
            .checked_sub(input.len())
            .and_then(|zeros| block.split_at_checked(zeros))
            .is_some_and(|(zeros, rest)| zeros.iter().all(|byte| *byte == 0) && rest == input),
        _ => false,
    }
}

fn is_ecdsa_of(x: &[u8], y: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    let point = [&[4], x, y].concat();
    // Longer digests are cut (FIPS 186-5 §6.4.2), shorter ones are the same number with leading zeros.
    let cut = digest.get(..x.len()).unwrap_or(digest);
    let mut full = vec![0; x.len() - cut.len()];
    full.extend_from_slice(cut);
    if x.len() == 48 {
        p384::ecdsa::Signature::from_slice(signature)
            .and_then(|signature| {
                p384::ecdsa::VerifyingKey::from_sec1_bytes(&point)?
                    .verify_prehash(&full, &signature)
            })
            .is_ok()
    } else {
        p256::ecdsa::Signature::from_slice(signature)
            .and_then(|signature| {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(&point)?
                    .verify_prehash(&full, &signature)
            })
            .is_ok()
    }
}
