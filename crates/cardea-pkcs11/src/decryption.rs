//! Decryption (PKCS#11 3.1 §5.10).

use std::sync::Arc;

use cardea_client::message::{Hash, Operation, SecretBytes};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::digests::{hash_of, hash_of_mgf};
use crate::module::Module;
use crate::objects::Key;
use crate::padding::oaep_decode;
use crate::rv::{Output, Result, Rv};
use crate::signing::{Mechanism, Parameters};

/// A decryption in the making.
#[derive(Debug)]
pub(crate) struct Decryption {
    pub(crate) key: Arc<Key>,
    scheme: Scheme,
    cryptogram: Vec<u8>,
    /// Plain text that did not fit the caller's buffer: the TPM is not asked twice.
    plain: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Scheme {
    Oaep {
        hash: Hash,
        mgf: Hash,
        label: Vec<u8>,
    },
    Pkcs1,
    Raw,
}

/// The parameters of OAEP.
pub(crate) fn oaep_parameters(
    hash: CK_MECHANISM_TYPE,
    mgf: CK_RSA_PKCS_MGF_TYPE,
    label: Vec<u8>,
) -> Result<Parameters> {
    match (hash_of(hash), hash_of_mgf(mgf)) {
        (Some(hash), Some(mgf)) => Ok(Parameters::Oaep { hash, mgf, label }),
        _ => Err(Rv(CKR_MECHANISM_PARAM_INVALID)),
    }
}

impl Scheme {
    pub(crate) fn new(mechanism: &Mechanism) -> Result<Self> {
        match (mechanism.kind, &mechanism.parameters) {
            (CKM_RSA_PKCS, _) => Ok(Self::Pkcs1),
            (CKM_RSA_X_509, _) => Ok(Self::Raw),
            (CKM_RSA_PKCS_OAEP, Parameters::Oaep { hash, mgf, label }) => Ok(Self::Oaep {
                hash: *hash,
                mgf: *mgf,
                label: label.clone(),
            }),
            (CKM_RSA_PKCS_OAEP, _) => Err(Rv(CKR_MECHANISM_PARAM_INVALID)),
            _ => Err(Rv(CKR_MECHANISM_INVALID)),
        }
    }
}

impl Decryption {
    pub(crate) fn new(key: Arc<Key>, mechanism: &Mechanism) -> Result<Self> {
        let scheme = Scheme::new(mechanism)?;
        if !key.is_rsa() {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        }
        if key.sign_only {
            return Err(Rv(CKR_KEY_FUNCTION_NOT_PERMITTED));
        }
        Ok(Self {
            key,
            scheme,
            cryptogram: Vec::new(),
            plain: None,
        })
    }
}

impl Module {
    /// C_DecryptInit.
    pub(crate) fn decrypt_begin(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result {
        if self.state().session(session)?.decryption.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let key = self.private_key(session, key)?;
        let decryption = Decryption::new(key, mechanism)?;
        let mut state = self.state();
        let session = state.session(session)?;
        session.decryption = Some(decryption);
        session.fresh = None;
        Ok(())
    }

    /// C_DecryptUpdate: nothing comes out before the end.
    pub(crate) fn decrypt_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.decryption;
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
        &self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        mut output: Output<'_>,
    ) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.decryption;
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
        drop(state);
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
                self.state().session(session)?.decryption = Some(decryption);
                Err(error)
            }
        }
    }

    /// Decrypts what C_UnwrapKey is given, in one.
    pub(crate) fn decrypt_whole(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
        cryptogram: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.private_key(session, key)?;
        let mut decryption = Decryption::new(key, mechanism)?;
        decryption.cryptogram = cryptogram.to_vec();
        self.decrypt(session, &decryption)
    }

    fn decrypt(
        &self,
        session: CK_SESSION_HANDLE,
        decryption: &Decryption,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let cryptogram = decryption.cryptogram.clone();
        if cryptogram.len() != decryption.key.size() {
            return Err(Rv(CKR_ENCRYPTED_DATA_LEN_RANGE));
        }
        let operation = match decryption.scheme.clone() {
            Scheme::Oaep { hash, mgf, label } if label.is_empty() && hash == mgf => {
                Operation::DecryptOaep {
                    hash,
                    label,
                    cryptogram,
                }
            }
            // A TPM's labels end with a zero byte that counts (TPM 2.0 Part 1 §B.4), those of pkcs11-tool do not;
            // and it has one hash for label and mask.
            Scheme::Oaep { hash, mgf, label } => {
                let operation = Operation::RsaRaw {
                    block: SecretBytes::new(cryptogram),
                };
                let block = self
                    .use_key(session, &decryption.key, operation)
                    .map_err(of_cryptogram)?;
                return oaep_decode(&block, hash, mgf, &label)
                    .ok_or(Rv(CKR_ENCRYPTED_DATA_INVALID));
            }
            Scheme::Pkcs1 => Operation::DecryptPkcs1 { cryptogram },
            Scheme::Raw => Operation::RsaRaw {
                block: SecretBytes::new(cryptogram),
            },
        };
        self.use_key(session, &decryption.key, operation)
            .map_err(of_cryptogram)
    }
}

fn of_cryptogram(error: Rv) -> Rv {
    match error {
        Rv(CKR_DATA_INVALID) => Rv(CKR_ENCRYPTED_DATA_INVALID),
        other => other,
    }
}
