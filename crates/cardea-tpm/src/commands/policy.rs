//! Enhanced authorisation (TPM 2.0 Part 3 §23).

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use zeroize::Zeroizing;

use super::ecdsa;
use crate::code;
use crate::error::TpmError;
use crate::policy::{Comparison, RESET_COUNT, cc};
use crate::session::{Session, Use, attribute};
use crate::tpm::{Command, Handle, Tpm};
use crate::wire::Writer;

impl Tpm {
    /// TPM2_PolicySecret with an index's value in the channel: timeout and TPMT_TK_AUTH, both empty
    /// without a negative expiration.
    ///
    /// The channel's HMAC covers the session's handle, which another session may have by now; the nonce is the
    /// session's alone.
    #[expect(clippy::too_many_arguments, reason = "they are the command's own")]
    pub(crate) fn policy_secret(
        &mut self,
        index: u32,
        name: &[u8],
        channel: &mut Session,
        auth: &[u8],
        session: &Session,
        policy_ref: &[u8],
        expiration: i32,
    ) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), TpmError> {
        let nonce: &[u8] = if binds_nonce(expiration) {
            &session.nonce_tpm
        } else {
            &[]
        };
        let response = self.with(
            Command {
                name: "PolicySecret",
                code: cc::POLICY_SECRET,
                handles: &[Handle::named(index, name), Handle::plain(session.handle)],
                parameters: Writer::new()
                    .sized(nonce)
                    .sized(&[])
                    .sized(policy_ref)
                    .raw(&expiration.to_be_bytes()),
            },
            &mut [authorisation(channel, auth)],
        )?;
        let mut reader = response.reader();
        let timeout = reader.sized()?.to_vec();
        let ticket = Zeroizing::new(reader.ticket()?.to_vec());
        reader.finish()?;
        Ok((timeout, ticket))
    }

    /// TPM2_PolicyTicket.
    pub(crate) fn policy_ticket(
        &mut self,
        session: &Session,
        timeout: &[u8],
        policy_ref: &[u8],
        name: &[u8],
        ticket: &[u8],
    ) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyTicket",
            code: code::POLICY_TICKET,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new()
                .sized(timeout)
                .sized(&[])
                .sized(policy_ref)
                .sized(name)
                .raw(ticket),
        })
        .map(drop)
    }

    /// TPM2_PolicySigned over the session's nonce, without expiration.
    pub(crate) fn policy_signed(
        &mut self,
        key: u32,
        key_name: &[u8],
        session: &Session,
        policy_ref: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), TpmError> {
        let parameters = Writer::new()
            .sized(&session.nonce_tpm)
            .sized(&[])
            .sized(policy_ref)
            .u32(0);
        self.plain(Command {
            name: "PolicySigned",
            code: cc::POLICY_SIGNED,
            handles: &[Handle::named(key, key_name), Handle::plain(session.handle)],
            parameters: ecdsa(parameters, signature),
        })
        .map(drop)
    }

    /// TPM2_PolicyCommandCode.
    pub(crate) fn policy_command_code(
        &mut self,
        session: &Session,
        command: u32,
    ) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyCommandCode",
            code: cc::POLICY_COMMAND_CODE,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new().u32(command),
        })
        .map(drop)
    }

    /// TPM2_PolicyAuthValue: the command that follows shows the object's value.
    pub(crate) fn policy_auth_value(&mut self, session: &Session) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyAuthValue",
            code: cc::POLICY_AUTH_VALUE,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new(),
        })
        .map(drop)
    }

    /// TPM2_PolicyOR.
    pub(crate) fn policy_or(
        &mut self,
        session: &Session,
        branches: &[[u8; 32]],
    ) -> Result<(), TpmError> {
        let count = u32::try_from(branches.len()).unwrap_or(u32::MAX);
        let branches = branches.iter();
        self.plain(Command {
            name: "PolicyOR",
            code: cc::POLICY_OR,
            handles: &[Handle::plain(session.handle)],
            parameters: branches.fold(Writer::new().u32(count), |out, digest| out.sized(digest)),
        })
        .map(drop)
    }

    /// TPM2_PolicyDuplicationSelect: the object with this Name may be duplicated to this new parent. The policy that
    /// it stands for names the parent alone.
    pub(crate) fn policy_duplication_select(
        &mut self,
        session: &Session,
        object: &[u8; 34],
        parent: &[u8; 34],
    ) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyDuplicationSelect",
            code: cc::POLICY_DUPLICATION_SELECT,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new().sized(object).sized(parent).raw(&[0]),
        })
        .map(drop)
    }

    /// TPM2_PolicyAuthorize.
    pub(crate) fn policy_authorize(
        &mut self,
        session: &Session,
        approved: &[u8; 32],
        policy_ref: &[u8],
        key_name: &[u8],
        ticket: &[u8],
    ) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyAuthorize",
            code: cc::POLICY_AUTHORIZE,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new()
                .sized(approved)
                .sized(policy_ref)
                .sized(key_name)
                .raw(ticket),
        })
        .map(drop)
    }

    /// TPM2_PolicyCounterTimer of the number of the TPM's resets.
    pub(crate) fn policy_resets(
        &mut self,
        session: &Session,
        comparison: Comparison,
        count: u32,
    ) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyCounterTimer",
            code: code::POLICY_COUNTER_TIMER,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new()
                .sized(&count.to_be_bytes())
                .u16(RESET_COUNT)
                .u16(comparison.operation()),
        })
        .map(drop)
    }

    /// TPM2_PolicyNameHash: the command that follows is for the entities with this digest of Names.
    pub(crate) fn policy_name_hash(
        &mut self,
        session: &Session,
        digest: &[u8; 32],
    ) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyNameHash",
            code: code::POLICY_NAME_HASH,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new().sized(digest),
        })
        .map(drop)
    }

    /// TPM2_PolicyCpHash: the command that follows has these very parameters.
    pub(crate) fn policy_cp_hash(
        &mut self,
        session: &Session,
        digest: &[u8; 32],
    ) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyCpHash",
            code: code::POLICY_CP_HASH,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new().sized(digest),
        })
        .map(drop)
    }

    /// TPM2_PolicyAuthorizeNV: what the session has satisfied is what the index holds, which anybody may read.
    pub(crate) fn policy_authorize_nv(
        &mut self,
        session: &Session,
        index: u32,
    ) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "PolicyAuthorizeNV",
                code: code::POLICY_AUTHORIZE_NV,
                handles: &[
                    Handle::plain(index),
                    Handle::plain(index),
                    Handle::plain(session.handle),
                ],
                parameters: Writer::new(),
            },
            &mut [Use::empty_password()],
        )
        .map(drop)
    }

    /// TPM2_PolicyRestart.
    pub(crate) fn policy_restart(&mut self, session: &Session) -> Result<(), TpmError> {
        self.plain(Command {
            name: "PolicyRestart",
            code: code::POLICY_RESTART,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new(),
        })
        .map(drop)
    }

    /// TPM2_PolicyGetDigest.
    pub(crate) fn policy_digest(&mut self, session: &Session) -> Result<Vec<u8>, TpmError> {
        let response = self.plain(Command {
            name: "PolicyGetDigest",
            code: code::POLICY_GET_DIGEST,
            handles: &[Handle::plain(session.handle)],
            parameters: Writer::new(),
        })?;
        Ok(response.reader().sized()?.to_vec())
    }
}

/// Whether a comparison arms the one session that has this nonce.
fn binds_nonce(expiration: i32) -> bool {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::NoNonces) || weakened::has(Weakness::UnprovenSessions) {
        return expiration != 0;
    }
    let _ = expiration;
    true
}

fn authorisation<'a>(channel: &'a mut Session, auth: &[u8]) -> Use<'a> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::ClearPin) {
        return Use::password(auth);
    }
    Use::session(channel, auth, attribute::CONTINUE)
}
