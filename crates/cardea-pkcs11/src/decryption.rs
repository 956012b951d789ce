//! What the TPM is asked to decrypt, and what becomes of its answer (PKCS#11 3.1 §5.10).

use cardea_client::message::{Operation, SecretBytes};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::mechanisms::Scheme;
use crate::padding::oaep_decode;
use crate::rv::{Result, Rv};

/// The one request of a decryption.
pub(crate) fn operation(scheme: &Scheme, cryptogram: Vec<u8>) -> Result<Operation> {
    Ok(match scheme {
        Scheme::Oaep { hash, label, .. } if is_decoded_by_tpm(scheme) => Operation::DecryptOaep {
            hash: *hash,
            label: label.clone(),
            cryptogram,
        },
        Scheme::Pkcs1 => Operation::DecryptPkcs1 { cryptogram },
        Scheme::Oaep { .. } | Scheme::Raw => Operation::RsaRaw {
            block: SecretBytes::new(cryptogram),
        },
        _ => return Err(Rv(CKR_MECHANISM_INVALID)),
    })
}

/// The plain text in the TPM's answer.
pub(crate) fn plain_text(
    scheme: &Scheme,
    answer: Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<Vec<u8>>> {
    match scheme {
        Scheme::Oaep { hash, mgf, label } if !is_decoded_by_tpm(scheme) => {
            oaep_decode(&answer, *hash, *mgf, label).ok_or(Rv(CKR_ENCRYPTED_DATA_INVALID))
        }
        _ => Ok(answer),
    }
}

/// A TPM's OAEP has one hash for label and mask, and its labels end with a zero byte that counts (TPM 2.0 Part 1
/// §B.4), which those of pkcs11-tool do not. The module decodes the others.
fn is_decoded_by_tpm(scheme: &Scheme) -> bool {
    matches!(scheme, Scheme::Oaep { hash, mgf, label } if label.is_empty() && hash == mgf)
}
