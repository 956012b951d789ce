//! Verification of signatures with public keys, in the module (PKCS#11 3.1 §5.15).

use cardea_client::message::{Hash, PublicKey};
use cryptoki_sys::*;
use p256::ecdsa::signature::hazmat::PrehashVerifier;

use crate::digests::length;
use crate::module::Module;
use crate::padding::{digest_info, pad_signature, power, pss_is_right};
use crate::rv::{Result, Rv};
use crate::signing::{Mechanism, Scheme, Signing};

/// A verification in the making: what would be signed, with the public half of the key.
#[derive(Debug)]
pub(crate) struct Verification(Signing);

impl Verification {
    fn check(self, signature: &[u8]) -> Result {
        if signature.len() != self.0.length() {
            return Err(Rv(CKR_SIGNATURE_LEN_RANGE));
        }
        let (key, scheme, input) = self.0.into_parts();
        let (hash, input) = Signing::message(input);
        let right = match &key.public {
            PublicKey::Ec { x, y } => ecdsa_is_right(x, y, &input, signature),
            PublicKey::Rsa { modulus, exponent } => {
                let block = power(modulus, *exponent, signature);
                block.is_some_and(|block| rsa_is_right(scheme, hash, &input, &block))
            }
        };
        if right {
            Ok(())
        } else {
            Err(Rv(CKR_SIGNATURE_INVALID))
        }
    }
}

fn rsa_is_right(scheme: Scheme, hash: Option<Hash>, input: &[u8], block: &[u8]) -> bool {
    match scheme {
        Scheme::Ecdsa => false,
        Scheme::Pkcs1 => {
            let prefix = hash.map(digest_info).unwrap_or_default();
            let expected = pad_signature(&[&prefix, input].concat(), block.len());
            expected.is_some_and(|expected| expected == block)
        }
        Scheme::Pss { hash, mgf, salt } => {
            input.len() == length(hash) && pss_is_right(block, input, salt, hash, mgf)
        }
        Scheme::Raw => block
            .len()
            .checked_sub(input.len())
            .and_then(|zeros| block.split_at_checked(zeros))
            .is_some_and(|(zeros, rest)| zeros.iter().all(|byte| *byte == 0) && rest == input),
    }
}

fn ecdsa_is_right(x: &[u8], y: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    let point = [&[4], x, y].concat();
    // Longer digests are cut (FIPS 186-5 §6.4.2), shorter ones are the same number with zeros before it.
    let cut = digest.get(..x.len()).unwrap_or(digest);
    let mut full = vec![0; x.len() - cut.len()];
    full.extend_from_slice(cut);
    if x.len() == 48 {
        p384::ecdsa::Signature::from_slice(signature)
            .and_then(|signature| {
                p384::ecdsa::VerifyingKey::from_sec1_bytes(&point)?
                    .verify_prehash(&full, &signature)
            })
            .is_ok()
    } else {
        p256::ecdsa::Signature::from_slice(signature)
            .and_then(|signature| {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(&point)?
                    .verify_prehash(&full, &signature)
            })
            .is_ok()
    }
}

impl Module {
    /// C_VerifyInit.
    pub(crate) fn verify_begin(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        key: CK_OBJECT_HANDLE,
    ) -> Result {
        if self.state().session(session)?.verification.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let key = self.public_key(session, key)?;
        let verification = Verification(Signing::new(key, mechanism)?);
        self.state().session(session)?.verification = Some(verification);
        Ok(())
    }

    /// C_VerifyUpdate.
    pub(crate) fn verify_update(&self, session: CK_SESSION_HANDLE, data: &[u8]) -> Result {
        let mut state = self.state();
        let running = &mut state.session(session)?.verification;
        let verification = running.as_mut().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        let result = verification.0.update(data);
        if result.is_err() {
            *running = None;
        }
        result
    }

    /// C_VerifyFinal, or C_Verify with the data.
    pub(crate) fn verify_end(
        &self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        signature: &[u8],
    ) -> Result {
        let running = self.state().session(session)?.verification.take();
        let mut verification = running.ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        if let Some(data) = data {
            verification.0.update(data)?;
        }
        verification.check(signature)
    }
}
