//! What the TPM is asked to sign (PKCS#11 3.1 §5.13).

use cardea_client::message::{Hash, Operation, SecretBytes};
use cryptoki_sys::*;

use crate::hashes::{self, digest_info, length};
use crate::mechanisms::Scheme;
use crate::padding::{pad_signature, pss_encode};
use crate::random;
use crate::running::Running;
use crate::rv::{Result, Rv};

/// The one request of a signature. Takes the data out of the operation.
pub(crate) fn operation(running: &mut Running) -> Result<Operation> {
    let size = running.length;
    let (hash, input) = running.take_message();
    let block = |block: Vec<u8>| Operation::RsaRaw {
        block: SecretBytes::new(block),
    };
    match (&running.scheme, hash) {
        (Scheme::Ecdsa, _) if input.is_empty() => Err(Rv(CKR_DATA_LEN_RANGE)),
        (Scheme::Ecdsa, _) => Ok(Operation::SignEcdsa {
            digest: input.to_vec(),
        }),
        (Scheme::Pkcs1, Some(hash)) => Ok(Operation::SignPkcs1 {
            hash,
            digest: input.to_vec(),
        }),
        (Scheme::Pkcs1, None) => match split_digest_info(&input) {
            Some((hash, digest)) => Ok(Operation::SignPkcs1 {
                hash,
                digest: digest.to_vec(),
            }),
            None => pad_signature(&input, size)
                .map(block)
                .ok_or(Rv(CKR_DATA_LEN_RANGE)),
        },
        (Scheme::Pss { hash, mgf, salt }, _) => {
            if input.len() != length(*hash) {
                return Err(Rv(CKR_DATA_LEN_RANGE));
            }
            // A TPM's PSS has one hash and a salt of its length; for others the module encodes the block.
            if mgf == hash && *salt == length(*hash) {
                return Ok(Operation::SignPss {
                    hash: *hash,
                    digest: input.to_vec(),
                });
            }
            let mut bytes = vec![0; *salt];
            random::fill(&mut bytes)?;
            pss_encode(&input, &bytes, *hash, *mgf, size)
                .map(block)
                .ok_or(Rv(CKR_MECHANISM_PARAM_INVALID))
        }
        (Scheme::Raw, _) => {
            let missing = size
                .checked_sub(input.len())
                .ok_or(Rv(CKR_DATA_LEN_RANGE))?;
            Ok(block([&vec![0; missing][..], &input].concat()))
        }
        _ => Err(Rv(CKR_MECHANISM_INVALID)),
    }
}

/// The parts of a DigestInfo as the TPM makes it. As a signature of a digest it is one command, and the reply needs
/// no encryption.
fn split_digest_info(data: &[u8]) -> Option<(Hash, &[u8])> {
    hashes::ALL.iter().find_map(|hash| {
        let digest = data.strip_prefix(digest_info(*hash))?;
        (digest.len() == length(*hash)).then_some((*hash, digest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_infos_are_split_if_their_digest_is_complete() {
        let info = [
            &[
                0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                0x01, 0x05, 0x00, 0x04, 0x20,
            ][..],
            &[7; 32],
        ]
        .concat();
        assert_eq!(split_digest_info(&info), Some((Hash::Sha256, &[7; 32][..])));
        assert_eq!(split_digest_info(&info[..50]), None);
        assert_eq!(split_digest_info(&[0; 36]), None);
        for hash in hashes::ALL {
            let info = [digest_info(*hash), &vec![9; length(*hash)]].concat();
            let (found, digest) = split_digest_info(&info).unwrap();
            assert_eq!((found, digest.len()), (*hash, length(*hash)));
        }
    }
}
