//! Message digesting (PKCS#11 3.1 §5.12), and the hashes inside signature mechanisms.

use cardea_client::message::Hash;
use cryptoki_sys::*;
use sha2::Digest;
use zeroize::Zeroizing;

use crate::module::Module;
use crate::rv::{Output, Result, Rv};

/// A digest in the making.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    pub(crate) fn new(hash: Hash) -> Self {
        match hash {
            Hash::Sha1 => Self::Sha1(sha1::Sha1::new()),
            Hash::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Hash::Sha384 => Self::Sha384(sha2::Sha384::new()),
            Hash::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha1(hasher) => hasher.update(data),
            Self::Sha256(hasher) => hasher.update(data),
            Self::Sha384(hasher) => hasher.update(data),
            Self::Sha512(hasher) => hasher.update(data),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha384(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Sha1(_) => 20,
            Self::Sha256(_) => 32,
            Self::Sha384(_) => 48,
            Self::Sha512(_) => 64,
        }
    }
}

/// The hash of a digest mechanism.
pub(crate) fn hash_of(mechanism: CK_MECHANISM_TYPE) -> Option<Hash> {
    match mechanism {
        CKM_SHA_1 => Some(Hash::Sha1),
        CKM_SHA256 => Some(Hash::Sha256),
        CKM_SHA384 => Some(Hash::Sha384),
        CKM_SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}

/// The hash of a mask generation function.
pub(crate) fn hash_of_mgf(mgf: CK_RSA_PKCS_MGF_TYPE) -> Option<Hash> {
    match mgf {
        CKG_MGF1_SHA1 => Some(Hash::Sha1),
        CKG_MGF1_SHA256 => Some(Hash::Sha256),
        CKG_MGF1_SHA384 => Some(Hash::Sha384),
        CKG_MGF1_SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}

pub(crate) fn digest(hash: Hash, parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = Hasher::new(hash);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finish()
}

/// MGF1 (RFC 8017 §B.2.1).
pub(crate) fn mgf1(hash: Hash, seed: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut mask = Zeroizing::new(Vec::with_capacity(length + 64));
    let mut counter = 0u32;
    while mask.len() < length {
        mask.extend(digest(hash, &[seed, &counter.to_be_bytes()]));
        counter += 1;
    }
    mask.truncate(length);
    mask
}

/// Length of a digest.
pub(crate) fn length(hash: Hash) -> usize {
    Hasher::new(hash).len()
}

impl Module {
    /// C_DigestInit.
    pub(crate) fn digest_begin(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
    ) -> Result {
        let mut state = self.state();
        let session = state.session(session)?;
        if session.digest.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let hash = hash_of(mechanism).ok_or(Rv(CKR_MECHANISM_INVALID))?;
        session.digest = Some(Hasher::new(hash));
        Ok(())
    }

    /// C_DigestUpdate.
    pub(crate) fn digest_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
        let mut state = self.state();
        let digest = state.session(session)?.digest.as_mut();
        digest
            .ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?
            .update(data);
        Ok(())
    }

    /// C_DigestKey: the value of a secret.
    pub(crate) fn digest_key(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result {
        if self.state().session(session)?.digest.is_none() {
            return Err(Rv(CKR_OPERATION_NOT_INITIALIZED));
        }
        let value = self.secret(session, key).map_err(|error| match error {
            Rv(CKR_KEY_TYPE_INCONSISTENT) => Rv(CKR_KEY_INDIGESTIBLE),
            other => other,
        })?;
        self.digest_update(session, &value)
    }

    /// C_DigestFinal, or C_Digest with the data.
    pub(crate) fn digest_end(
        &self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        mut output: Output<'_>,
    ) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.digest;
        let hasher = running.as_ref().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        if !output.room(hasher.len())? {
            return Ok(());
        }
        let mut hasher = running.take().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        if let Some(data) = data {
            hasher.update(data);
        }
        output.put(&hasher.finish())
    }
}
