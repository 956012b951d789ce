//! An operation between its Init function and its end, for all five families.

use std::sync::Arc;

use cardea_client::message::Hash;
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::hashes::{self, Hasher};
use crate::mechanisms::{Keys, Row, Scheme};
use crate::object::Key;
use crate::output::Output;
use crate::rv::{Result, Rv};

/// The families of operations (PKCS#11 3.1 §5.8 to §5.15). A session can run one of each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Decrypt,
    Digest,
    Encrypt,
    Sign,
    Verify,
}

/// A running operation.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) family: Family,
    /// Absent for a digest.
    key: Option<Arc<Key>>,
    pub(crate) scheme: Scheme,
    input: Input,
    /// Length in bytes of the result, or of the signature that is verified; for plain text the upper bound.
    pub(crate) length: usize,
    /// A result that did not fit the program's buffer: the TPM is not asked twice.
    pub(crate) result: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Debug)]
enum Input {
    /// The data itself.
    Data(Zeroizing<Vec<u8>>),
    /// Its hash.
    Hash(Hash, Box<Hasher>),
}

/// Longest data of a signature whose mechanism includes no hash; more than any key can sign.
const MAX_UNHASHED: usize = 512;

impl Family {
    pub(crate) const ALL: [Self; 5] = [
        Self::Decrypt,
        Self::Digest,
        Self::Encrypt,
        Self::Sign,
        Self::Verify,
    ];

    /// The flag of the family in `CK_MECHANISM_INFO` and in C_SessionCancel.
    pub(crate) const fn flag(self) -> CK_FLAGS {
        match self {
            Self::Decrypt => CKF_DECRYPT,
            Self::Digest => CKF_DIGEST,
            Self::Encrypt => CKF_ENCRYPT,
            Self::Sign => CKF_SIGN,
            Self::Verify => CKF_VERIFY,
        }
    }

    /// Whether the operation uses a private key.
    pub(crate) const fn is_private(self) -> bool {
        matches!(self, Self::Decrypt | Self::Sign)
    }
}

impl Running {
    /// With what [`Mechanism::for_function`] has returned for the family: before the key is looked up, as a program
    /// that tries out mechanisms expects (PKCS#11 3.1 §5.1.6 has no order for the two; `pkcs11-tool --test` does).
    pub(crate) fn new(
        family: Family,
        (row, scheme): (&'static Row, Scheme),
        key: Option<Arc<Key>>,
    ) -> Result<Self> {
        if let Scheme::Pss { hash, .. } = scheme
            && row.hash.is_some_and(|own| own != hash)
        {
            return Err(Rv(CKR_MECHANISM_PARAM_INVALID));
        }
        let mut length = row.hash.map_or(0, hashes::length);
        if let Some(key) = &key {
            if key.is_rsa() != (row.keys == Keys::Rsa) {
                return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
            }
            if matches!(family, Family::Decrypt | Family::Encrypt) && key.sign_only {
                return Err(Rv(CKR_KEY_FUNCTION_NOT_PERMITTED));
            }
            length = key.result_length();
            // RFC 8017 §9.1.1 step 3. Before anything is as long as the program says.
            if let Scheme::Pss { hash, salt, .. } = scheme
                && salt > length.saturating_sub(hashes::length(hash) + 2)
            {
                return Err(Rv(CKR_MECHANISM_PARAM_INVALID));
            }
        }
        let mut running = Self {
            family,
            key,
            scheme,
            input: Input::Data(Zeroizing::default()),
            length,
            result: None,
        };
        running.input = match row.hash {
            Some(hash) => Input::Hash(hash, Box::new(Hasher::new(hash))),
            None => Input::Data(Zeroizing::new(Vec::with_capacity(running.limit()))),
        };
        Ok(running)
    }

    /// The key. Only a digest has none.
    pub(crate) fn key(&self) -> Result<&Key> {
        self.key.as_deref().ok_or(Rv(CKR_KEY_HANDLE_INVALID))
    }

    /// Longest data that is not hashed. With the result there can be no more.
    fn limit(&self) -> usize {
        match self.family {
            _ if self.result.is_some() => 0,
            Family::Decrypt | Family::Encrypt => self.length,
            Family::Digest | Family::Sign | Family::Verify => MAX_UNHASHED,
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) -> Result {
        let limit = self.limit();
        match &mut self.input {
            Input::Hash(_, hasher) => hasher.update(data),
            Input::Data(input) if input.len() + data.len() <= limit => {
                input.extend_from_slice(data);
            }
            Input::Data(_) if self.family == Family::Decrypt => {
                return Err(Rv(CKR_ENCRYPTED_DATA_LEN_RANGE));
            }
            Input::Data(_) => return Err(Rv(CKR_DATA_LEN_RANGE)),
        }
        Ok(())
    }

    /// The data, or its digest and the hash that made it. Takes it out of the operation.
    pub(crate) fn take_message(&mut self) -> (Option<Hash>, Zeroizing<Vec<u8>>) {
        match std::mem::replace(&mut self.input, Input::Data(Zeroizing::default())) {
            Input::Data(input) => (None, input),
            Input::Hash(hash, hasher) => (Some(hash), Zeroizing::new(hasher.finish())),
        }
    }

    /// Whether the result is to be computed now, and not only its length. An error leaves the operation running.
    pub(crate) fn is_result_wanted(&self, output: &mut Output<'_>) -> Result<bool> {
        match output {
            // The length of plain text is known only once it is there; the bound is enough for a program that asks
            // for the length, and the TPM is not asked for it.
            Output::Buffer(..) if self.family == Family::Decrypt => Ok(true),
            _ => output.room(
                self.result
                    .as_ref()
                    .map_or(self.length, |result| result.len()),
            ),
        }
    }
}
