//! Encryption with public keys, in the module (PKCS#11 3.1 §5.8).

use std::sync::Arc;

use cardea_client::message::PublicKey;
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::decryption::Scheme;
use crate::digests::length;
use crate::module::Module;
use crate::objects::Key;
use crate::padding::{oaep_encode, pad_encryption, power};
use crate::rv::{Output, Result, Rv};
use crate::signing::Mechanism;

/// An encryption in the making.
#[derive(Debug)]
pub(crate) struct Encryption {
    key: Arc<Key>,
    scheme: Scheme,
    plain: Zeroizing<Vec<u8>>,
}

impl Encryption {
    fn new(key: Arc<Key>, mechanism: &Mechanism) -> Result<Self> {
        let scheme = Scheme::new(mechanism)?;
        if !key.is_rsa() {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        }
        if key.sign_only {
            return Err(Rv(CKR_KEY_FUNCTION_NOT_PERMITTED));
        }
        let size = key.size();
        Ok(Self {
            key,
            scheme,
            plain: Zeroizing::new(Vec::with_capacity(size)),
        })
    }

    fn update(&mut self, data: &[u8]) -> Result {
        if self.plain.len() + data.len() > self.key.size() {
            return Err(Rv(CKR_DATA_LEN_RANGE));
        }
        self.plain.extend_from_slice(data);
        Ok(())
    }

    fn finish(self) -> Result<Zeroizing<Vec<u8>>> {
        let PublicKey::Rsa { modulus, exponent } = &self.key.public else {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        };
        let size = modulus.len();
        let block = match self.scheme {
            Scheme::Oaep { hash, mgf, label } => {
                let mut seed = vec![0; length(hash)];
                Module::random(&mut seed)?;
                oaep_encode(&self.plain, &seed, hash, mgf, &label, size)
            }
            Scheme::Pkcs1 => {
                pad_encryption(&self.plain, size, |buffer| Module::random(buffer).ok())
            }
            Scheme::Raw => {
                let mut block = Zeroizing::new(vec![0; size - self.plain.len()]);
                block.extend_from_slice(&self.plain);
                Some(block)
            }
        };
        let block = block.ok_or(Rv(CKR_DATA_LEN_RANGE))?;
        power(modulus, *exponent, &block).ok_or(Rv(CKR_DATA_INVALID))
    }
}

impl Module {
    /// C_EncryptInit.
    pub(crate) fn encrypt_begin(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result {
        if self.state().session(session)?.encryption.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let key = self.public_key(session, key)?;
        let encryption = Encryption::new(key, mechanism)?;
        self.state().session(session)?.encryption = Some(encryption);
        Ok(())
    }

    /// C_EncryptUpdate: nothing comes out before the end.
    pub(crate) fn encrypt_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.encryption;
        let encryption = running.as_mut().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        let result = encryption.update(data);
        if result.is_err() {
            *running = None;
        }
        result
    }

    /// C_EncryptFinal, or C_Encrypt with the data.
    pub(crate) fn encrypt_end(
        &self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        mut output: Output<'_>,
    ) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.encryption;
        let size = running
            .as_ref()
            .ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?
            .key
            .size();
        if !output.room(size)? {
            return Ok(());
        }
        let mut encryption = running.take().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        drop(state);
        if let Some(data) = data {
            encryption.update(data)?;
        }
        output.put(&encryption.finish()?)
    }

    /// C_WrapKey: the value of a secret of this session.
    pub(crate) fn wrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        mut output: Output<'_>,
    ) -> Result {
        let wrapping = self
            .public_key(session, wrapping)
            .map_err(|error| match error {
                Rv(CKR_KEY_HANDLE_INVALID) => Rv(CKR_WRAPPING_KEY_HANDLE_INVALID),
                Rv(CKR_KEY_TYPE_INCONSISTENT) => Rv(CKR_WRAPPING_KEY_TYPE_INCONSISTENT),
                other => other,
            })?;
        // A card's private keys do not leave it, under whatever other key.
        let value = self.secret(session, key).map_err(|error| match error {
            Rv(CKR_KEY_TYPE_INCONSISTENT) => Rv(CKR_KEY_UNEXTRACTABLE),
            other => other,
        })?;
        let mut encryption = Encryption::new(wrapping, mechanism)?;
        if !output.room(encryption.key.size())? {
            return Ok(());
        }
        encryption
            .update(&value)
            .map_err(|_| Rv(CKR_KEY_SIZE_RANGE))?;
        output.put(&encryption.finish()?)
    }
}
