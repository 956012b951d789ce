//! Authorisation sessions (TPM 2.0 Part 1 §19): nonces, HMACs, parameter encryption.

use std::time::Instant;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::auth::{hmac, without_trailing_zeros};
use crate::crypto::{Direction, cfb, kdfa};
use crate::error::TpmError;

/// Password authorisation (TPM_RS_PW).
pub(crate) const PASSWORD: u32 = 0x4000_0009;

/// Session attributes (TPM 2.0 Part 2 §8.4).
pub(crate) mod attribute {
    pub(crate) const CONTINUE: u8 = 0x01;
    pub(crate) const DECRYPT: u8 = 0x20;
    pub(crate) const ENCRYPT: u8 = 0x40;
}

/// Nonce length in bytes, both ways.
pub(crate) const NONCE: usize = 16;

/// A session that the TPM keeps for us.
pub(crate) struct Session {
    pub(crate) handle: u32,
    pub(crate) nonce_tpm: Vec<u8>,
    /// Empty in an unsalted session.
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// Before the TPM's own start of the session, so that an age is never too small.
    pub(crate) started: Instant,
    /// A command in it was answered with an error, which has no HMAC: the TPM may have executed it and have
    /// another nonce, and a right value would then look like a wrong one.
    pub(crate) doubtful: bool,
}

impl Session {
    pub(crate) fn new(
        handle: u32,
        salt: Option<&[u8; 32]>,
        nonce_caller: &[u8],
        nonce_tpm: &[u8],
        started: Instant,
    ) -> Self {
        let key = match salt {
            Some(salt) => kdfa(salt, "ATH", nonce_tpm, nonce_caller, 256),
            None => Zeroizing::new(Vec::new()),
        };
        Self {
            handle,
            nonce_tpm: nonce_tpm.to_vec(),
            key,
            started,
            doubtful: false,
        }
    }
}

/// One session's part in one command.
pub(crate) struct Use<'a> {
    session: Option<&'a mut Session>,
    /// Authorisation value of the entity, without trailing zeros; part of the HMAC key.
    auth: Zeroizing<Vec<u8>>,
    /// Its value after the command, where the command changes it.
    changed: Option<Zeroizing<Vec<u8>>>,
    attributes: u8,
    nonce_caller: [u8; NONCE],
}

impl<'a> Use<'a> {
    /// A password session with an empty password.
    pub(crate) fn empty_password() -> Self {
        Self::password(&[])
    }

    /// A password session. Not for PINs: the value is sent unencrypted.
    pub(crate) fn password(value: &[u8]) -> Self {
        Self {
            session: None,
            auth: Zeroizing::new(without_trailing_zeros(value).to_vec()),
            changed: None,
            attributes: attribute::CONTINUE,
            nonce_caller: [0; NONCE],
        }
    }

    /// An HMAC session that authorises with this value, or any session with none.
    pub(crate) fn session(session: &'a mut Session, auth: &[u8], attributes: u8) -> Self {
        Self {
            session: Some(session),
            auth: Zeroizing::new(without_trailing_zeros(auth).to_vec()),
            changed: None,
            attributes,
            nonce_caller: [0; NONCE],
        }
    }

    /// For a command that replaces the entity's value: the response's HMAC is made with the new one
    /// (TPM 2.0 Part 1 §19.6.8).
    pub(crate) fn changing_to(mut self, new: &[u8]) -> Self {
        self.changed = Some(Zeroizing::new(without_trailing_zeros(new).to_vec()));
        self
    }

    pub(crate) fn refresh(&mut self, random: &mut dyn FnMut(&mut [u8])) {
        random(&mut self.nonce_caller);
    }

    pub(crate) fn has(&self, attribute: u8) -> bool {
        self.attributes & attribute != 0
    }

    fn hmac_key(&self) -> Zeroizing<Vec<u8>> {
        let session_key = self
            .session
            .as_ref()
            .map_or(&[][..], |session| &session.key);
        Zeroizing::new([session_key, &self.auth].concat())
    }

    /// Encrypts the first parameter for the TPM: two bytes of size, then the data.
    pub(crate) fn encrypt(&self, data: &mut [u8]) {
        if let Some(session) = &self.session {
            let key = self.hmac_key();
            cfb(
                Direction::Encrypt,
                &key,
                &self.nonce_caller,
                &session.nonce_tpm,
                data,
            );
        }
    }

    /// Decrypts the first parameter of a response, after its HMAC was verified.
    pub(crate) fn decrypt(&self, data: &mut [u8]) {
        if let Some(session) = &self.session {
            let key = self.hmac_key();
            cfb(
                Direction::Decrypt,
                &key,
                &session.nonce_tpm,
                &self.nonce_caller,
                data,
            );
        }
    }

    pub(crate) fn nonce_tpm(&self) -> Option<&[u8]> {
        self.session.as_ref().map(|session| &session.nonce_tpm[..])
    }

    /// TPMS_AUTH_COMMAND. `extra` are the nonces of separate encryption sessions, in the first use only.
    pub(crate) fn authorise(&self, cp_hash: &[u8; 32], extra: &[u8], out: &mut Vec<u8>) {
        let Some(session) = &self.session else {
            out.extend_from_slice(&PASSWORD.to_be_bytes());
            out.extend_from_slice(&[0, 0, self.attributes]);
            sized(out, &self.auth);
            return;
        };
        out.extend_from_slice(&session.handle.to_be_bytes());
        sized(out, &self.nonce_caller);
        out.push(self.attributes);
        let key = self.hmac_key();
        if key.is_empty() {
            sized(out, &[]);
        } else {
            let parts: [&[u8]; 5] = [
                cp_hash,
                &self.nonce_caller,
                &session.nonce_tpm,
                extra,
                &[self.attributes],
            ];
            sized(out, &*hmac(&key, &parts));
        }
    }

    /// The command was answered with an error.
    pub(crate) fn doubt(&mut self) {
        if let Some(session) = &mut self.session {
            session.doubtful = true;
        }
    }

    /// Verifies TPMS_AUTH_RESPONSE and takes the new nonce over.
    pub(crate) fn verify(
        &mut self,
        command: &'static str,
        rp_hash: &[u8; 32],
        nonce_tpm: &[u8],
        attributes: u8,
        mac: &[u8],
    ) -> Result<(), TpmError> {
        if let Some(changed) = self.changed.take() {
            self.auth = changed;
        }
        let key = self.hmac_key();
        let Some(session) = &mut self.session else {
            return if nonce_tpm.is_empty() && mac.is_empty() {
                Ok(())
            } else {
                Err(TpmError::Protocol {
                    command,
                    what: "a password session with a nonce or HMAC",
                })
            };
        };
        if !key.is_empty() {
            let expected = hmac(
                &key,
                &[rp_hash, nonce_tpm, &self.nonce_caller, &[attributes]],
            );
            if !bool::from(expected[..].ct_eq(mac)) {
                return Err(TpmError::Protocol {
                    command,
                    what: "the response's HMAC is invalid",
                });
            }
            session.doubtful = false;
        }
        session.nonce_tpm = nonce_tpm.to_vec();
        Ok(())
    }
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}
