//! An examination as it is kept over restarts, on a disk where others may change it.
//!
//! A file that says of a TPM which sets counts back that it does not would bring guesses without end. So what is kept
//! has an HMAC under a key that this TPM alone can use: whoever has only the disk cannot write it, and what was written
//! for another TPM, or before this one was cleared, cannot be used. Whoever has the TPM too can make such a form; it
//! decides nothing about a new card, for which the TPM is tried again.

use minicbor::{Decode, Encode};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::examination::{CounterFinding, Examination};
use crate::examine::properties;
use crate::hmac_key::HmacKey;
use crate::policy::hash;
use crate::random::random;
use crate::service::Service;

#[derive(Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Kept {
    #[n(0)]
    examination: Examination,
    /// TPMT_PUBLIC.
    #[cbor(n(1), with = "minicbor::bytes")]
    key_public: Vec<u8>,
    /// Contents of TPM2B_PRIVATE.
    #[cbor(n(2), with = "minicbor::bytes")]
    key_private: Vec<u8>,
    #[cbor(n(3), with = "minicbor::bytes")]
    tag: [u8; 32],
}

impl Service {
    /// Makes the form of an examination that [`Self::recall_examination`] believes. The key is a new one each time.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn keep_examination(&self, examination: &Examination) -> Result<Vec<u8>, TpmError> {
        let mut secret = Zeroizing::new([0; 32]);
        random(&mut *secret);
        let key = self.make_hmac_key(&secret)?;
        let tag = self.hmac(&key, &digest(examination)?)?;
        encode(&Kept {
            examination: examination.clone(),
            key_public: key.public,
            key_private: key.private,
            tag: *tag,
        })
    }

    /// The examination in a form that was kept, if it was made for this TPM with its present firmware and is as it was
    /// made. None: the TPM has to be examined. It is asked for an HMAC, and nothing changes in it.
    ///
    /// # Errors
    ///
    /// [`TpmError`] when the TPM does not answer.
    pub fn recall_examination(&self, kept: &[u8]) -> Result<Option<Examination>, TpmError> {
        let Ok(kept) = minicbor::decode::<Kept>(kept) else {
            return Ok(None);
        };
        let model = self.run(|core| properties(core).map(|(model, _)| model))?;
        if model != kept.examination.model {
            return Ok(None);
        }
        let key = HmacKey {
            public: kept.key_public,
            private: kept.key_private,
        };
        // Not a key of this TPM, or one that cannot be used now. Whatever the TPM makes of a damaged one, it is examined;
        // and if it is away, that says so.
        let Ok(tag) = self.hmac(&key, &digest(&kept.examination)?) else {
            return Ok(None);
        };
        if !bool::from(tag[..].ct_eq(&kept.tag[..])) {
            return Ok(None);
        }
        let resets = kept.examination.counters == CounterFinding::Resets;
        self.run(move |core| {
            core.resets_counts = resets;
            Ok(())
        })?;
        Ok(Some(kept.examination))
    }
}

/// What the HMAC covers.
fn digest(examination: &Examination) -> Result<[u8; 32], TpmError> {
    const PURPOSE: &[u8] = b"examination of a TPM, 1";
    Ok(hash(&[PURPOSE, &encode(examination)?]))
}

fn encode(value: &impl Encode<()>) -> Result<Vec<u8>, TpmError> {
    minicbor::to_vec(value).map_err(|_| TpmError::Unfit("an examination cannot be encoded".into()))
}
