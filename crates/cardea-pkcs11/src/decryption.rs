//! Decryption (PKCS#11 2.40 §5.9).

use cardea_client::message::{Hash, Operation, SecretBytes};
use cryptoki_sys::*;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::digests::{digest, hash_of, hash_of_mgf, mgf1};
use crate::module::Module;
use crate::objects::Key;
use crate::rv::{Output, Result, Rv};
use crate::signing::{Mechanism, Parameters};

/// A decryption in the making.
#[derive(Debug)]
pub(crate) struct Decryption {
    key: Key,
    scheme: Scheme,
    cryptogram: Vec<u8>,
    /// Plain text that did not fit the caller's buffer: the TPM is not asked twice.
    plain: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Clone, Debug)]
enum Scheme {
    Oaep { hash: Hash, label: Vec<u8> },
    Pkcs1,
    Raw,
}

/// The parameters of OAEP: the card's OAEP has one hash for label and mask.
pub(crate) fn oaep_parameters(
    hash: CK_MECHANISM_TYPE,
    mgf: CK_RSA_PKCS_MGF_TYPE,
    label: Vec<u8>,
) -> Result<Parameters> {
    match (hash_of(hash), hash_of_mgf(mgf)) {
        (Some(hash), Some(mgf)) if hash == mgf => Ok(Parameters::Oaep { hash, label }),
        _ => Err(Rv(CKR_MECHANISM_PARAM_INVALID)),
    }
}

impl Module {
    /// C_DecryptInit.
    pub(crate) fn decrypt_begin(
        &mut self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result {
        if self.session(session)?.decryption.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let key = self.private_key(session, key)?;
        let scheme = match (mechanism.kind, &mechanism.parameters) {
            (CKM_RSA_PKCS, _) => Scheme::Pkcs1,
            (CKM_RSA_X_509, _) => Scheme::Raw,
            (CKM_RSA_PKCS_OAEP, Parameters::Oaep { hash, label }) => Scheme::Oaep {
                hash: *hash,
                label: label.clone(),
            },
            (CKM_RSA_PKCS_OAEP, _) => return Err(Rv(CKR_MECHANISM_PARAM_INVALID)),
            _ => return Err(Rv(CKR_MECHANISM_INVALID)),
        };
        if !key.is_rsa() {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        }
        self.session(session)?.decryption = Some(Decryption {
            key,
            scheme,
            cryptogram: Vec::new(),
            plain: None,
        });
        Ok(())
    }

    /// C_DecryptUpdate: nothing comes out before the end.
    pub(crate) fn decrypt_update(&mut self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
        let running = &mut self.session(session)?.decryption;
        let decryption = running.as_mut().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        if decryption.cryptogram.len() + data.len() > decryption.key.size() {
            *running = None;
            return Err(Rv(CKR_ENCRYPTED_DATA_LEN_RANGE));
        }
        decryption.cryptogram.extend_from_slice(data);
        Ok(())
    }

    /// C_DecryptFinal, or C_Decrypt with the data.
    pub(crate) fn decrypt_end(
        &mut self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        mut output: Output<'_>,
    ) -> Result {
        let running = &mut self.session(session)?.decryption;
        let decryption = running.as_ref().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        // An upper bound is enough for who only asks, and no operation is spent on the answer.
        if matches!(output, Output::Length(_)) {
            let bound = decryption
                .plain
                .as_ref()
                .map_or(decryption.key.size(), |plain| plain.len());
            output.room(bound)?;
            return Ok(());
        }
        let mut decryption = running.take().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        let plain = match decryption.plain.take() {
            Some(plain) => plain,
            None => {
                decryption
                    .cryptogram
                    .extend_from_slice(data.unwrap_or_default());
                self.decrypt(session, &decryption)?
            }
        };
        match output.room(plain.len()) {
            Ok(_) => output.put(&plain),
            Err(error) => {
                decryption.plain = Some(plain);
                self.session(session)?.decryption = Some(decryption);
                Err(error)
            }
        }
    }

    fn decrypt(
        &mut self,
        session: CK_SESSION_HANDLE,
        decryption: &Decryption,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let cryptogram = decryption.cryptogram.clone();
        if cryptogram.len() != decryption.key.size() {
            return Err(Rv(CKR_ENCRYPTED_DATA_LEN_RANGE));
        }
        let operation = match decryption.scheme.clone() {
            Scheme::Oaep { hash, label } if label.is_empty() => Operation::DecryptOaep {
                hash,
                label,
                cryptogram,
            },
            // A TPM's labels end with a zero byte that counts (TPM 2.0 Part 1 §B.4); those of pkcs11-tool do not.
            Scheme::Oaep { hash, label } => {
                let operation = Operation::RsaRaw {
                    block: SecretBytes::new(cryptogram),
                };
                let block = self.use_key(session, decryption.key.reference, operation)?;
                return oaep_decode(&block, hash, &label).ok_or(Rv(CKR_ENCRYPTED_DATA_INVALID));
            }
            Scheme::Pkcs1 => Operation::DecryptPkcs1 { cryptogram },
            Scheme::Raw => Operation::RsaRaw {
                block: SecretBytes::new(cryptogram),
            },
        };
        self.use_key(session, decryption.key.reference, operation)
            .map_err(|error| match error {
                Rv(CKR_DATA_INVALID) => Rv(CKR_ENCRYPTED_DATA_INVALID),
                other => other,
            })
    }
}

/// EME-OAEP decoding (RFC 8017 §7.1.2, step 3). Whether it is right shows only at the end.
fn oaep_decode(block: &[u8], hash: Hash, label: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let label_hash = digest(hash, &[label]);
    let size = label_hash.len();
    let (first, rest) = block.split_first()?;
    let (masked_seed, masked_db) = rest.split_at_checked(size)?;
    if masked_db.len() <= size {
        return None;
    }
    let unmask = |masked: &[u8], mask: &[u8]| -> Zeroizing<Vec<u8>> {
        let bytes = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask);
        Zeroizing::new(bytes.collect())
    };
    let seed = unmask(masked_seed, &mgf1(hash, masked_db, size));
    let db = unmask(masked_db, &mgf1(hash, &seed, masked_db.len()));
    let (found, padded) = db.split_at_checked(size)?;
    let mut good = first.ct_eq(&0) & found.ct_eq(&label_hash);
    let mut looking = Choice::from(1);
    let mut start = 0u32;
    for (byte, after) in padded.iter().zip(1u32..) {
        let one = byte.ct_eq(&1);
        start.conditional_assign(&after, looking & one);
        good &= !looking | one | byte.ct_eq(&0);
        looking &= !one;
    }
    good &= !looking;
    let plain = padded.get(usize::try_from(start).ok()?..)?;
    bool::from(good).then(|| Zeroizing::new(plain.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(plain: &[u8], label: &[u8], size: usize) -> Vec<u8> {
        let label_hash = digest(Hash::Sha256, &[label]);
        let zeros = size - plain.len() - 2 * label_hash.len() - 2;
        let db = [&label_hash[..], &vec![0; zeros], &[1], plain].concat();
        let seed = [7; 32];
        let xor = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a ^ b).collect::<Vec<u8>>();
        let masked_db = xor(&db, &mgf1(Hash::Sha256, &seed, db.len()));
        let masked_seed = xor(&seed, &mgf1(Hash::Sha256, &masked_db, 32));
        [&[0][..], &masked_seed, &masked_db].concat()
    }

    #[test]
    fn oaep_gives_what_was_encoded_and_refuses_what_was_changed() {
        for plain in [&b""[..], b"\0\x01secret", &[9; 190]] {
            let block = encode(plain, b"label", 256);
            let decoded = oaep_decode(&block, Hash::Sha256, b"label");
            assert_eq!(decoded.as_deref().map(Vec::as_slice), Some(plain));
            assert_eq!(oaep_decode(&block, Hash::Sha256, b"other"), None);
            for at in [0, 1, 33, 70, 255] {
                let mut changed = block.clone();
                changed[at] ^= 1;
                let decoded = oaep_decode(&changed, Hash::Sha256, b"label");
                assert_ne!(decoded.as_deref().map(Vec::as_slice), Some(plain), "{at}");
            }
        }
        assert_eq!(oaep_decode(&[0; 64], Hash::Sha256, b""), None);
        assert_eq!(oaep_decode(&[], Hash::Sha256, b""), None);
    }
}
