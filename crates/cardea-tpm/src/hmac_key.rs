//! A secret that this TPM alone computes HMACs with: an administrator's master secret, which need not lie in the
//! clear.

use zeroize::Zeroizing;

use crate::commands::Sensitive;
use crate::error::TpmError;
use crate::service::Service;
use crate::wire::Writer;

/// An HMAC-SHA256 key as the TPM hands it out, wrapped: of use with this TPM only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HmacKey {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// Contents of TPM2B_PRIVATE.
    pub private: Vec<u8>,
}

const ALG_KEYEDHASH: u16 = 0x0008;
const ALG_HMAC: u16 = 0x0005;
const ALG_SHA256: u16 = 0x000B;

/// fixedTPM, fixedParent, userWithAuth, noDA, sign (TPM 2.0 Part 2 §8.3).
const ATTRIBUTES: u32 = 1 << 1 | 1 << 4 | 1 << 6 | 1 << 10 | 1 << 18;

/// Bytes of data that every TPM takes at once.
const MAX_DATA: usize = 1024;

impl Service {
    /// Wraps a secret to the TPM; it goes there encrypted.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn make_hmac_key(&self, secret: &[u8; 32]) -> Result<HmacKey, TpmError> {
        let secret = Zeroizing::new(*secret);
        self.run(move |core| {
            core.use_found_srk()?;
            core.unload_all();
            core.channel()?;
            let template = Writer::new()
                .u16(ALG_KEYEDHASH)
                .u16(ALG_SHA256)
                .u32(ATTRIBUTES)
                .sized(&[])
                .u16(ALG_HMAC)
                .u16(ALG_SHA256)
                .sized(&[])
                .finish();
            let sensitive = Sensitive {
                data: &*secret,
                ..Sensitive::default()
            };
            let (tpm, parent, channel) = core.link()?.parts()?;
            let made = tpm.create(parent, channel, &sensitive, &template)?;
            Ok(HmacKey {
                public: made.public,
                private: made.private,
            })
        })
    }

    /// HMAC-SHA256 of at most 1,024 bytes; it comes back encrypted.
    ///
    /// # Errors
    ///
    /// [`TpmError`]: an integrity error of the TPM's for a key of another one.
    pub fn hmac(&self, key: &HmacKey, data: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        if data.len() > MAX_DATA {
            return Err(TpmError::Unfit("too long for an HMAC at once".into()));
        }
        let (key, data) = (key.clone(), data.to_vec());
        self.run(move |core| {
            core.use_found_srk()?;
            core.channel()?;
            let handle = core.load(&key.private, &key.public)?;
            let (tpm, _, channel) = core.link()?.parts()?;
            let result = tpm.hmac(handle, &key.public, channel, &data);
            core.unload(&key.public);
            result
        })
    }
}
