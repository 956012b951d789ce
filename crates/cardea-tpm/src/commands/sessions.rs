//! Sessions and contexts (TPM 2.0 Part 3 §11, §28).

use std::time::Instant;

use zeroize::Zeroizing;

use super::{ALG_AES, ALG_CFB, ALG_NULL, ALG_SHA256};
use crate::code;
use crate::crypto::SecretUse;
use crate::error::{ResponseCode, TpmError};
use crate::hierarchy::NULL;
use crate::random::random;
use crate::session::{NONCE, Session, Use, attribute};
use crate::srk::Parent;
use crate::tpm::{Command, Handle, Tpm};
use crate::wire::Writer;

/// Random bytes that a session is proven with; they serve nothing else.
const PROOF: u16 = 8;

/// Kind of session to start (TPM_SE).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionKind {
    Hmac,
    Policy,
}

impl Tpm {
    /// TPM2_ContextSave of a session, which leaves its slot: TPMS_CONTEXT.
    pub(crate) fn context_save(&mut self, session: u32) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let response = self.plain(Command {
            name: "ContextSave",
            code: code::CONTEXT_SAVE,
            handles: &[Handle::plain(session)],
            parameters: Writer::new(),
        })?;
        Ok(Zeroizing::new(response.reader().rest().to_vec()))
    }

    /// TPM2_ContextLoad: the session's handle.
    pub(crate) fn context_load(&mut self, context: &[u8]) -> Result<u32, TpmError> {
        let response = self.plain_handle(Command {
            name: "ContextLoad",
            code: code::CONTEXT_LOAD,
            handles: &[],
            parameters: Writer::new().raw(context),
        })?;
        Ok(response.handle)
    }

    /// TPM2_StartAuthSession: SHA-256; salted to `salt_to` with AES-128-CFB, or unsalted without.
    pub(crate) fn start_session(
        &mut self,
        kind: SessionKind,
        salt_to: Option<&Parent>,
    ) -> Result<Session, TpmError> {
        const NAME: &str = "StartAuthSession";
        let started = Instant::now();
        let mut nonce_caller = [0; NONCE];
        random(&mut nonce_caller);
        let (salt, encrypted) = match salt_to {
            Some(parent) => {
                let (salt, encrypted) =
                    crate::crypto::shared_secret(&parent.key, SecretUse::Session, &mut random)
                        .ok_or(TpmError::Protocol {
                            command: NAME,
                            what: "the storage root key is an impossible one",
                        })?;
                (Some(salt), encrypted)
            }
            None => (None, Vec::new()),
        };
        let handles = [
            salt_to.map_or(Handle::plain(NULL), |parent| {
                Handle::named(parent.handle, &parent.name)
            }),
            Handle::plain(NULL),
        ];
        let kind = match kind {
            SessionKind::Hmac => 0,
            SessionKind::Policy => 1,
        };
        let mut parameters = Writer::new()
            .sized(&nonce_caller)
            .sized(&encrypted)
            .u8(kind);
        parameters = match salt {
            Some(_) => parameters.u16(ALG_AES).u16(128).u16(ALG_CFB),
            None => parameters.u16(ALG_NULL),
        };
        let response = self.plain_handle(Command {
            name: NAME,
            code: code::START_AUTH_SESSION,
            handles: &handles,
            parameters: parameters.u16(ALG_SHA256),
        })?;
        let mut reader = response.reader();
        let nonce_tpm = reader.sized()?;
        let session = Session::new(
            response.handle,
            salt.as_deref(),
            &nonce_caller,
            nonce_tpm,
            started,
        );
        reader.finish()?;
        Ok(session)
    }

    /// TPM2_StartAuthSession bound to an index, which a TPM fit for cards refuses: its handle.
    pub(crate) fn start_bound_session(&mut self, index: u32, name: &[u8]) -> Result<u32, TpmError> {
        let mut nonce_caller = [0; NONCE];
        random(&mut nonce_caller);
        let response = self.plain_handle(Command {
            name: "StartAuthSession",
            code: code::START_AUTH_SESSION,
            handles: &[Handle::plain(NULL), Handle::named(index, name)],
            parameters: Writer::new()
                .sized(&nonce_caller)
                .sized(&[])
                .u8(0)
                .u16(ALG_NULL)
                .u16(ALG_SHA256),
        })?;
        Ok(response.handle)
    }

    /// Shows that a salted session is ours: TPM2_GetRandom in it, whose answer is encrypted and has an HMAC
    /// that only the TPM can make, for this session's key and nonce. The answer to StartAuthSession has none:
    /// whoever is on the way can tell us the handle and the nonce of a session of his own.
    ///
    /// # Errors
    ///
    /// [`TpmError::Protocol`] where the session is another one.
    pub(crate) fn prove_session(&mut self, session: &mut Session) -> Result<(), TpmError> {
        let proved = self.with(
            Command {
                name: "GetRandom",
                code: code::GET_RANDOM,
                handles: &[],
                parameters: Writer::new().u16(PROOF),
            },
            &mut [Use::session(
                session,
                &[],
                attribute::CONTINUE | attribute::ENCRYPT,
            )],
        );
        match proved {
            Ok(_) => Ok(()),
            Err(error) => match error.code() {
                Some(ResponseCode::AUTH_FAIL | ResponseCode::BAD_AUTH) => Err(TpmError::Protocol {
                    command: "StartAuthSession",
                    what: "the session is not ours",
                }),
                _ => Err(error),
            },
        }
    }

    /// TPM2_FlushContext.
    pub(crate) fn flush(&mut self, handle: u32) -> Result<(), TpmError> {
        self.plain(Command {
            name: "FlushContext",
            code: code::FLUSH_CONTEXT,
            handles: &[],
            parameters: Writer::new().u32(handle),
        })
        .map(drop)
    }
}
