//! Signing (PKCS#11 3.1 §5.13).

use std::sync::Arc;

use cardea_client::message::{Hash, Operation, Reply, Request, SecretBytes};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::digests::{Hasher, hash_of, hash_of_mgf, length};
use crate::module::{LIMIT, Module};
use crate::objects::Key;
use crate::padding::{digest_info, pad_signature, pss_encode};
use crate::rv::{About, Output, Result, Rv};
use crate::sessions::Fresh;

/// A mechanism with its parameters, copied.
#[derive(Debug)]
pub(crate) struct Mechanism {
    pub(crate) kind: CK_MECHANISM_TYPE,
    pub(crate) parameters: Parameters,
}

/// Parameters of the mechanisms that have some.
#[derive(Debug)]
pub(crate) enum Parameters {
    Ecdh {
        public: Vec<u8>,
    },
    None,
    Oaep {
        hash: Hash,
        mgf: Hash,
        label: Vec<u8>,
    },
    Pss {
        hash: Hash,
        mgf: Hash,
        salt: usize,
    },
}

/// A signature in the making, or one that is to be verified.
#[derive(Debug)]
pub(crate) struct Signing {
    pub(crate) key: Arc<Key>,
    pub(crate) scheme: Scheme,
    input: Input,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Ecdsa,
    Pkcs1,
    Pss { hash: Hash, mgf: Hash, salt: usize },
    Raw,
}

#[derive(Debug)]
pub(crate) enum Input {
    /// The data itself.
    Data(Zeroizing<Vec<u8>>),
    /// Its hash.
    Hash(Hash, Box<Hasher>),
}

/// More than any input that is not hashed.
const MAX_INPUT: usize = 512;

impl Signing {
    pub(crate) fn new(key: Arc<Key>, mechanism: &Mechanism) -> Result<Self> {
        let (scheme, hash) = match mechanism.kind {
            CKM_RSA_PKCS => (Scheme::Pkcs1, None),
            CKM_RSA_X_509 => (Scheme::Raw, None),
            CKM_SHA1_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha1)),
            CKM_SHA256_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha256)),
            CKM_SHA384_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha384)),
            CKM_SHA512_RSA_PKCS => (Scheme::Pkcs1, Some(Hash::Sha512)),
            CKM_RSA_PKCS_PSS => (pss(mechanism, None)?, None),
            CKM_SHA1_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha1))?, Some(Hash::Sha1)),
            CKM_SHA256_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha256))?, Some(Hash::Sha256)),
            CKM_SHA384_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha384))?, Some(Hash::Sha384)),
            CKM_SHA512_RSA_PKCS_PSS => (pss(mechanism, Some(Hash::Sha512))?, Some(Hash::Sha512)),
            CKM_ECDSA => (Scheme::Ecdsa, None),
            CKM_ECDSA_SHA1 => (Scheme::Ecdsa, Some(Hash::Sha1)),
            CKM_ECDSA_SHA256 => (Scheme::Ecdsa, Some(Hash::Sha256)),
            CKM_ECDSA_SHA384 => (Scheme::Ecdsa, Some(Hash::Sha384)),
            CKM_ECDSA_SHA512 => (Scheme::Ecdsa, Some(Hash::Sha512)),
            _ => return Err(Rv(CKR_MECHANISM_INVALID)),
        };
        if key.is_rsa() == (scheme == Scheme::Ecdsa) {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        }
        let input = match hash {
            Some(hash) => Input::Hash(hash, Box::new(Hasher::new(hash))),
            None => Input::Data(Zeroizing::new(Vec::with_capacity(MAX_INPUT))),
        };
        Ok(Self { key, scheme, input })
    }

    pub(crate) fn update(&mut self, data: &[u8]) -> Result {
        match &mut self.input {
            Input::Hash(_, hasher) => hasher.update(data),
            Input::Data(input) if input.len() + data.len() <= MAX_INPUT => {
                input.extend_from_slice(data);
            }
            Input::Data(_) => return Err(Rv(CKR_DATA_LEN_RANGE)),
        }
        Ok(())
    }

    pub(crate) fn length(&self) -> usize {
        if self.key.is_rsa() {
            self.key.size()
        } else {
            2 * self.key.size()
        }
    }

    /// What is signed: the data, or its digest and the hash that made it.
    pub(crate) fn message(input: Input) -> (Option<Hash>, Zeroizing<Vec<u8>>) {
        match input {
            Input::Data(input) => (None, input),
            Input::Hash(hash, hasher) => (Some(hash), Zeroizing::new(hasher.finish())),
        }
    }

    pub(crate) fn into_parts(self) -> (Arc<Key>, Scheme, Input) {
        (self.key, self.scheme, self.input)
    }

    fn operation(self) -> Result<Operation> {
        let size = self.key.size();
        let (hash, input) = Self::message(self.input);
        let block = |block: Vec<u8>| Operation::RsaRaw {
            block: SecretBytes::new(block),
        };
        match (self.scheme, hash) {
            (Scheme::Ecdsa, _) if input.is_empty() => Err(Rv(CKR_DATA_LEN_RANGE)),
            (Scheme::Ecdsa, _) => Ok(Operation::SignEcdsa {
                digest: input.to_vec(),
            }),
            (Scheme::Pkcs1, Some(hash)) => Ok(Operation::SignPkcs1 {
                hash,
                digest: input.to_vec(),
            }),
            (Scheme::Pkcs1, None) => match recognise(&input) {
                Some((hash, digest)) => Ok(Operation::SignPkcs1 {
                    hash,
                    digest: digest.to_vec(),
                }),
                None => pad_signature(&input, size)
                    .map(block)
                    .ok_or(Rv(CKR_DATA_LEN_RANGE)),
            },
            (Scheme::Raw, _) => {
                let missing = size
                    .checked_sub(input.len())
                    .ok_or(Rv(CKR_DATA_LEN_RANGE))?;
                Ok(block([&vec![0; missing][..], &input].concat()))
            }
            (Scheme::Pss { hash, mgf, salt }, _) => {
                if input.len() != length(hash) {
                    return Err(Rv(CKR_DATA_LEN_RANGE));
                }
                if mgf == hash && salt == length(hash) {
                    return Ok(Operation::SignPss {
                        hash,
                        digest: input.to_vec(),
                    });
                }
                let mut random = vec![0; salt];
                Module::random(&mut random)?;
                pss_encode(&input, &random, hash, mgf, size)
                    .map(block)
                    .ok_or(Rv(CKR_MECHANISM_PARAM_INVALID))
            }
        }
    }
}

fn pss(mechanism: &Mechanism, wanted: Option<Hash>) -> Result<Scheme> {
    match mechanism.parameters {
        Parameters::Pss { hash, mgf, salt } if wanted.is_none_or(|wanted| wanted == hash) => {
            Ok(Scheme::Pss { hash, mgf, salt })
        }
        _ => Err(Rv(CKR_MECHANISM_PARAM_INVALID)),
    }
}

/// The parameters of PSS.
pub(crate) fn pss_parameters(
    hash: CK_MECHANISM_TYPE,
    mgf: CK_RSA_PKCS_MGF_TYPE,
    salt: CK_ULONG,
) -> Result<Parameters> {
    let invalid = || Rv(CKR_MECHANISM_PARAM_INVALID);
    Ok(Parameters::Pss {
        hash: hash_of(hash).ok_or_else(invalid)?,
        mgf: hash_of_mgf(mgf).ok_or_else(invalid)?,
        salt: usize::try_from(salt).map_err(|_| invalid())?,
    })
}

/// A DigestInfo that the TPM would make itself: a signature of its own is one command, and its answer needs no
/// encryption.
fn recognise(data: &[u8]) -> Option<(Hash, &[u8])> {
    [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512]
        .into_iter()
        .find_map(|hash| {
            let digest = data.strip_prefix(&digest_info(hash)[..])?;
            (digest.len() == length(hash)).then_some((hash, digest))
        })
}

impl Module {
    /// C_SignInit.
    pub(crate) fn sign_begin(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result {
        if self.state().session(session)?.signing.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let key = self.private_key(session, key)?;
        let signing = Signing::new(key, mechanism)?;
        let mut state = self.state();
        let session = state.session(session)?;
        session.signing = Some(signing);
        session.fresh = None;
        Ok(())
    }

    /// C_SignUpdate.
    pub(crate) fn sign_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.signing;
        let signing = running.as_mut().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        let result = signing.update(data);
        if result.is_err() {
            *running = None;
        }
        result
    }

    /// C_SignFinal, or C_Sign with the data.
    pub(crate) fn sign_end(
        &self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        mut output: Output<'_>,
    ) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.signing;
        let length = running
            .as_ref()
            .ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?
            .length();
        if !output.room(length)? {
            return Ok(());
        }
        let mut signing = running.take().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        drop(state);
        if let Some(data) = data {
            signing.update(data)?;
        }
        let key = Arc::clone(&signing.key);
        let operation = signing.operation()?;
        output.put(&self.use_key(session, &key, operation)?)
    }

    /// One private operation, one round trip.
    pub(crate) fn use_key(
        &self,
        session: CK_SESSION_HANDLE,
        key: &Key,
        operation: Operation,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let slot = self.slot_of(session)?;
        let request = Request::UseKey {
            card: self.card(slot)?,
            pin: None,
            reference: key.reference.ok_or(Rv(CKR_KEY_HANDLE_INVALID))?,
            operation,
        };
        let answer = match self.take_fresh(session)? {
            _ if !key.always => self.ask_verified(slot, &request, About::Data, LIMIT),
            Fresh::Own(mut client) => match client.call(&request, LIMIT) {
                Ok(Reply::Failed(failure)) => Err(Rv::of(&failure, About::Data)),
                Ok(reply) => Ok(reply),
                Err(_) => Err(Rv(CKR_DEVICE_REMOVED)),
            },
            // The card allows one operation after each verification, and no more.
            Fresh::Login => self.ask_home(&request, About::Data),
            Fresh::No => Err(Rv(CKR_USER_NOT_LOGGED_IN)),
        };
        match answer {
            Ok(Reply::Result(result)) => Ok(Zeroizing::new(result.expose().to_vec())),
            Ok(_) => Err(Rv(CKR_DEVICE_ERROR)),
            Err(Rv(CKR_KEY_HANDLE_INVALID)) => {
                // The key was deleted by another door, or the card with it.
                let there = self.require_token(slot);
                Err(there
                    .err()
                    .map_or(Rv(CKR_KEY_HANDLE_INVALID), |_| Rv(CKR_DEVICE_REMOVED)))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_infos_of_the_four_hashes_are_recognised() {
        let info = [
            &[
                0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                0x01, 0x05, 0x00, 0x04, 0x20,
            ][..],
            &[7; 32],
        ]
        .concat();
        assert_eq!(recognise(&info), Some((Hash::Sha256, &[7; 32][..])));
        assert_eq!(recognise(&info[..50]), None);
        assert_eq!(recognise(&[0; 36]), None);
    }
}
