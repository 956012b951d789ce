//! Private-key operations as the TPM's commands have them.

use cardea_card::token::{HashAlgorithm, PrivateOperation};
use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::session::Session;
use crate::tpm::{Handle, Response, Tpm};

const ALG_NULL: u16 = 0x0010;
const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAES: u16 = 0x0015;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_OAEP: u16 = 0x0017;
const ALG_ECDSA: u16 = 0x0018;

fn hash_id(hash: HashAlgorithm) -> u16 {
    match hash {
        HashAlgorithm::Sha1 => 0x0004,
        HashAlgorithm::Sha256 => 0x000B,
        HashAlgorithm::Sha384 => 0x000C,
        HashAlgorithm::Sha512 => 0x000D,
    }
}

/// Does an operation with a loaded key under a session that satisfies its policy. `size` is that of the key's
/// algorithm.
pub(crate) fn perform(
    tpm: &mut Tpm,
    key: Handle<'_>,
    session: &mut Session,
    attributes: u8,
    size: usize,
    operation: PrivateOperation<'_>,
) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    match operation {
        PrivateOperation::SignPkcs1 { hash, digest } => rsa_signature(
            &tpm.sign(
                key,
                session,
                attributes,
                digest,
                &[ALG_RSASSA, hash_id(hash)],
            )?,
            size,
        ),
        PrivateOperation::SignPss { hash, digest } => rsa_signature(
            &tpm.sign(
                key,
                session,
                attributes,
                digest,
                &[ALG_RSAPSS, hash_id(hash)],
            )?,
            size,
        ),
        PrivateOperation::SignEcdsa { digest } => {
            let (hash, digest) = fitted(digest, size);
            let response = tpm.sign(key, session, attributes, &digest, &[ALG_ECDSA, hash])?;
            ecdsa_signature(&response, size)
        }
        PrivateOperation::RsaRaw { block } => {
            message(&tpm.rsa_decrypt(key, session, attributes, block, &[ALG_NULL], &[])?)
                .and_then(|short| left_padded(&short, size))
        }
        PrivateOperation::DecryptPkcs1 { cryptogram } => {
            message(&tpm.rsa_decrypt(key, session, attributes, cryptogram, &[ALG_RSAES], &[])?)
        }
        PrivateOperation::DecryptOaep {
            hash,
            label,
            cryptogram,
        } => {
            // The TPM takes a label with its final zero, and none for the empty one.
            let label = if label.is_empty() {
                Vec::new()
            } else {
                [label, &[0]].concat()
            };
            message(&tpm.rsa_decrypt(
                key,
                session,
                attributes,
                cryptogram,
                &[ALG_OAEP, hash_id(hash)],
                &label,
            )?)
        }
        PrivateOperation::Ecdh { x, y } => {
            let response = tpm.ecdh_zgen(key, session, attributes, x, y)?;
            let mut reader = response.reader();
            // TPM2B_ECC_POINT: x is the secret, y is dropped.
            reader.u16()?;
            left_padded(reader.sized()?, size)
        }
    }
}

/// Signature algorithm and hash, then the signature.
fn rsa_signature(response: &Response, size: usize) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    let mut reader = response.reader();
    reader.u32()?;
    let signature = left_padded(reader.sized()?, size)?;
    reader.finish()?;
    Ok(signature)
}

/// Signature algorithm and hash, then r and s, either of which may be shorter than the curve.
fn ecdsa_signature(response: &Response, size: usize) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    let mut reader = response.reader();
    reader.u32()?;
    let r = left_padded(reader.sized()?, size)?;
    let s = left_padded(reader.sized()?, size)?;
    reader.finish()?;
    Ok(Zeroizing::new([&r[..], &s[..]].concat()))
}

fn message(response: &Response) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    let mut reader = response.reader();
    let message = Zeroizing::new(reader.sized()?.to_vec());
    reader.finish()?;
    Ok(message)
}

/// A number at its full length.
fn left_padded(short: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    let Some(missing) = length.checked_sub(short.len()) else {
        return Err(TpmError::Protocol {
            command: "private-key operation",
            what: "the result is longer than the key",
        });
    };
    let mut full = Zeroizing::new(Vec::with_capacity(length));
    full.resize(missing, 0);
    full.extend_from_slice(short);
    Ok(full)
}

/// ECDSA takes the leftmost bits of a digest (FIPS 186-5 §6.4.1), and the TPM wants exactly the length of
/// some hash. Both curves have one of their size: a longer digest is cut to it, a shorter one padded with
/// zeros on the left, which keeps its value.
fn fitted(digest: &[u8], size: usize) -> (u16, Vec<u8>) {
    let hash = if size == 32 {
        HashAlgorithm::Sha256
    } else {
        HashAlgorithm::Sha384
    };
    let cut = digest.get(..size).unwrap_or(digest);
    let mut full = vec![0; size - cut.len()];
    full.extend_from_slice(cut);
    (hash_id(hash), full)
}
