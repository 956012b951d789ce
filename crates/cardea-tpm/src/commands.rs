//! The commands in use, one method each (TPM 2.0 Part 3).

use std::time::Instant;

use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::policy::{cc, name_of};
use crate::session::{NONCE, Session, Use, attribute};
use crate::tpm::{Command, Handle, Response, Tpm, random};
use crate::wire::Writer;

/// TPM_RH_OWNER.
pub(crate) const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;

const ALG_SHA256: u16 = 0x000B;
const ALG_RSA: u16 = 0x0001;
const ALG_NULL: u16 = 0x0010;
const ALG_AES: u16 = 0x0006;
const ALG_CFB: u16 = 0x0043;
const ALG_ECDSA: u16 = 0x0018;

/// Command codes besides those of [`cc`].
pub(crate) mod code {
    use tpm2_protocol::data::TpmCc;

    pub(crate) const EVICT_CONTROL: u32 = TpmCc::EvictControl as u32;
    pub(crate) const NV_UNDEFINE_SPACE: u32 = TpmCc::NvUndefineSpace as u32;
    pub(crate) const NV_DEFINE_SPACE: u32 = TpmCc::NvDefineSpace as u32;
    pub(crate) const CREATE_PRIMARY: u32 = TpmCc::CreatePrimary as u32;
    pub(crate) const STARTUP: u32 = TpmCc::Startup as u32;
    pub(crate) const CREATE: u32 = TpmCc::Create as u32;
    pub(crate) const ECDH_ZGEN: u32 = TpmCc::EcdhZGen as u32;
    pub(crate) const LOAD: u32 = TpmCc::Load as u32;
    pub(crate) const RSA_DECRYPT: u32 = TpmCc::RsaDecrypt as u32;
    pub(crate) const SIGN: u32 = TpmCc::Sign as u32;
    pub(crate) const FLUSH_CONTEXT: u32 = TpmCc::FlushContext as u32;
    pub(crate) const LOAD_EXTERNAL: u32 = TpmCc::LoadExternal as u32;
    pub(crate) const NV_READ_PUBLIC: u32 = TpmCc::NvReadPublic as u32;
    pub(crate) const READ_PUBLIC: u32 = TpmCc::ReadPublic as u32;
    pub(crate) const START_AUTH_SESSION: u32 = TpmCc::StartAuthSession as u32;
    pub(crate) const VERIFY_SIGNATURE: u32 = TpmCc::VerifySignature as u32;
    pub(crate) const GET_CAPABILITY: u32 = TpmCc::GetCapability as u32;
    pub(crate) const POLICY_RESTART: u32 = TpmCc::PolicyRestart as u32;
    pub(crate) const POLICY_TICKET: u32 = TpmCc::PolicyTicket as u32;
    pub(crate) const POLICY_GET_DIGEST: u32 = TpmCc::PolicyGetDigest as u32;
    pub(crate) const TEST_PARMS: u32 = TpmCc::TestParms as u32;
}

/// Kind of session to start (TPM_SE).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionKind {
    Hmac,
    Policy,
}

/// A storage key that sessions are salted to and objects hang from.
pub(crate) struct Parent {
    pub(crate) handle: u32,
    pub(crate) name: [u8; 34],
    pub(crate) x: Vec<u8>,
    pub(crate) y: Vec<u8>,
}

/// What TPM2_Create makes.
pub(crate) struct Created {
    pub(crate) private: Vec<u8>,
    pub(crate) public: Vec<u8>,
    pub(crate) creation_hash: Vec<u8>,
    pub(crate) creation_ticket: Vec<u8>,
}

/// A capability list entry of 32-bit values.
pub(crate) enum Capability {
    Commands = 2,
    Handles = 1,
    Properties = 6,
    Curves = 8,
}

impl Tpm {
    /// TPM2_Startup(CLEAR).
    pub(crate) fn startup(&mut self) -> Result<(), TpmError> {
        self.plain(Command {
            name: "Startup",
            code: code::STARTUP,
            handles: &[],
            parameters: Writer::new().u16(0),
        })
        .map(drop)
    }

    /// One page of TPM2_GetCapability: the bytes after the capability, and whether there are more.
    pub(crate) fn capability(
        &mut self,
        capability: Capability,
        first: u32,
        count: u32,
    ) -> Result<Response, TpmError> {
        self.plain(Command {
            name: "GetCapability",
            code: code::GET_CAPABILITY,
            handles: &[],
            parameters: Writer::new().u32(capability as u32).u32(first).u32(count),
        })
    }

    /// Handles of a kind from `first` on, as many as the TPM tells.
    pub(crate) fn handles(&mut self, first: u32) -> Result<Vec<u32>, TpmError> {
        let mut found = Vec::new();
        let mut next = first;
        loop {
            let response = self.capability(Capability::Handles, next, 254)?;
            let mut reader = response.reader();
            let more = reader.u8()?;
            reader.u32()?;
            let count = reader.u32()?;
            for _ in 0..count {
                found.push(reader.u32()?);
            }
            match found.last() {
                Some(last) if more != 0 && count != 0 => next = last.saturating_add(1),
                _ => return Ok(found),
            }
        }
    }

    /// TPM properties from `first` on.
    pub(crate) fn properties(&mut self, first: u32) -> Result<Vec<(u32, u32)>, TpmError> {
        let response = self.capability(Capability::Properties, first, 127)?;
        let mut reader = response.reader();
        reader.raw(5)?;
        let count = reader.u32()?;
        (0..count)
            .map(|_| Ok((reader.u32()?, reader.u32()?)))
            .collect()
    }

    /// Whether a command is implemented.
    pub(crate) fn implements(&mut self, command: u32) -> Result<bool, TpmError> {
        let response = self.capability(Capability::Commands, command, 1)?;
        let mut reader = response.reader();
        reader.raw(5)?;
        Ok(reader.u32()? == 1 && reader.u32()? & 0xFFFF == command)
    }

    /// Curves that the TPM knows (TPM_ECC_CURVE).
    pub(crate) fn curves(&mut self) -> Result<Vec<u16>, TpmError> {
        let response = self.capability(Capability::Curves, 0, 64)?;
        let mut reader = response.reader();
        reader.raw(5)?;
        let count = reader.u32()?;
        (0..count).map(|_| reader.u16()).collect()
    }

    /// Whether RSA keys of this size can be made (TPM2_TestParms).
    pub(crate) fn supports_rsa(&mut self, bits: u16) -> Result<bool, TpmError> {
        let tested = self.plain(Command {
            name: "TestParms",
            code: code::TEST_PARMS,
            handles: &[],
            parameters: Writer::new()
                .u16(ALG_RSA)
                .u16(ALG_NULL)
                .u16(ALG_NULL)
                .u16(bits)
                .u32(0),
        });
        match tested {
            Ok(_) => Ok(true),
            Err(error) if error.code().is_some_and(|code| !code.asks_for_retry()) => Ok(false),
            Err(error) => Err(error),
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
                let (salt, encrypted) = crate::crypto::salt(&parent.x, &parent.y, &mut random)
                    .ok_or(TpmError::Protocol {
                        command: NAME,
                        what: "the SRK is not on its curve",
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

    /// TPM2_ReadPublic: the public area, whose Name is computed here and not believed.
    pub(crate) fn read_public(&mut self, handle: u32) -> Result<Vec<u8>, TpmError> {
        let response = self.plain(Command {
            name: "ReadPublic",
            code: code::READ_PUBLIC,
            handles: &[Handle::plain(handle)],
            parameters: Writer::new(),
        })?;
        Ok(response.reader().sized()?.to_vec())
    }

    /// TPM2_CreatePrimary in the owner hierarchy with an empty owner authorisation.
    pub(crate) fn create_primary(&mut self, template: &[u8]) -> Result<(u32, Vec<u8>), TpmError> {
        let response = self.with_handle(
            Command {
                name: "CreatePrimary",
                code: code::CREATE_PRIMARY,
                handles: &[Handle::plain(OWNER)],
                parameters: Writer::new().u16(4).u32(0).sized(template).u16(0).u32(0),
            },
            &mut [Use::empty_password()],
        )?;
        let public = response.reader().sized()?.to_vec();
        Ok((response.handle, public))
    }

    /// TPM2_EvictControl.
    pub(crate) fn persist(
        &mut self,
        object: u32,
        name: &[u8],
        persistent: u32,
    ) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "EvictControl",
                code: code::EVICT_CONTROL,
                handles: &[Handle::plain(OWNER), Handle::named(object, name)],
                parameters: Writer::new().u32(persistent),
            },
            &mut [Use::empty_password()],
        )
        .map(drop)
    }

    /// TPM2_Create below the SRK, authorised by the channel, the sensitive part encrypted.
    pub(crate) fn create(
        &mut self,
        parent: &Parent,
        channel: &mut Session,
        sealed: &[u8],
        template: &[u8],
    ) -> Result<Created, TpmError> {
        let sensitive = Writer::new().sized(&[]).sized(sealed).finish();
        let response = self.with(
            Command {
                name: "Create",
                code: code::CREATE,
                handles: &[Handle::named(parent.handle, &parent.name)],
                parameters: Writer::new()
                    .sized(&sensitive)
                    .sized(template)
                    .sized(&[])
                    .u32(0),
            },
            &mut [Use::session(
                channel,
                &[],
                attribute::CONTINUE | attribute::DECRYPT,
            )],
        )?;
        let mut reader = response.reader();
        let private = reader.sized()?.to_vec();
        let public = reader.sized()?.to_vec();
        reader.sized()?;
        let creation_hash = reader.sized()?.to_vec();
        let creation_ticket = reader.ticket()?.to_vec();
        reader.finish()?;
        Ok(Created {
            private,
            public,
            creation_hash,
            creation_ticket,
        })
    }

    /// TPM2_Load below the SRK.
    pub(crate) fn load(
        &mut self,
        parent: &Parent,
        channel: &mut Session,
        private: &[u8],
        public: &[u8],
    ) -> Result<u32, TpmError> {
        let response = self.with_handle(
            Command {
                name: "Load",
                code: code::LOAD,
                handles: &[Handle::named(parent.handle, &parent.name)],
                parameters: Writer::new().sized(private).sized(public),
            },
            &mut [Use::session(channel, &[], attribute::CONTINUE)],
        )?;
        if response.reader().sized()? != name_of(public) {
            return Err(TpmError::Protocol {
                command: "Load",
                what: "another object was loaded",
            });
        }
        Ok(response.handle)
    }

    /// TPM2_LoadExternal of a public key in the owner hierarchy, whose tickets outlive a reset.
    pub(crate) fn load_external(&mut self, public: &[u8]) -> Result<u32, TpmError> {
        let response = self.plain_handle(Command {
            name: "LoadExternal",
            code: code::LOAD_EXTERNAL,
            handles: &[],
            parameters: Writer::new().u16(0).sized(public).u32(OWNER),
        })?;
        Ok(response.handle)
    }

    /// TPM2_VerifySignature of an ECDSA-SHA256 signature: TPMT_TK_VERIFIED.
    pub(crate) fn verify_signature(
        &mut self,
        key: u32,
        digest: &[u8; 32],
        signature: &[u8; 64],
    ) -> Result<Vec<u8>, TpmError> {
        let response = self.plain(Command {
            name: "VerifySignature",
            code: code::VERIFY_SIGNATURE,
            handles: &[Handle::plain(key)],
            parameters: ecdsa(Writer::new().sized(digest), signature),
        })?;
        let mut reader = response.reader();
        let ticket = reader.ticket()?.to_vec();
        reader.finish()?;
        Ok(ticket)
    }

    /// TPM2_NV_DefineSpace, the authorisation value encrypted in the channel.
    pub(crate) fn nv_define(
        &mut self,
        channel: &mut Session,
        auth: &[u8; 32],
        public: &[u8],
    ) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "NV_DefineSpace",
                code: code::NV_DEFINE_SPACE,
                handles: &[Handle::plain(OWNER)],
                parameters: Writer::new().sized(auth).sized(public),
            },
            &mut [
                Use::empty_password(),
                Use::session(channel, &[], attribute::CONTINUE | attribute::DECRYPT),
            ],
        )
        .map(drop)
    }

    /// TPM2_NV_UndefineSpace.
    pub(crate) fn nv_undefine(&mut self, index: u32, name: &[u8]) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "NV_UndefineSpace",
                code: code::NV_UNDEFINE_SPACE,
                handles: &[Handle::plain(OWNER), Handle::named(index, name)],
                parameters: Writer::new(),
            },
            &mut [Use::empty_password()],
        )
        .map(drop)
    }

    /// TPM2_NV_ReadPublic: the public area, whose Name is computed here and not believed.
    pub(crate) fn nv_read_public(&mut self, index: u32) -> Result<Vec<u8>, TpmError> {
        let response = self.plain(Command {
            name: "NV_ReadPublic",
            code: code::NV_READ_PUBLIC,
            handles: &[Handle::plain(index)],
            parameters: Writer::new(),
        })?;
        Ok(response.reader().sized()?.to_vec())
    }

    /// TPM2_NV_Write of a whole counter under a policy session, which it empties or ends.
    pub(crate) fn nv_write(
        &mut self,
        index: u32,
        name: &[u8],
        session: &mut Session,
        attributes: u8,
        data: &[u8; 8],
    ) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "NV_Write",
                code: cc::NV_WRITE,
                handles: &[Handle::named(index, name), Handle::named(index, name)],
                parameters: Writer::new().sized(data).u16(0),
            },
            &mut [Use::session(session, &[], attributes)],
        )
        .map(drop)
    }

    /// TPM2_NV_Read of a whole counter under a policy session, which it ends: count and limit.
    pub(crate) fn nv_read(
        &mut self,
        index: u32,
        name: &[u8],
        session: &mut Session,
    ) -> Result<(u32, u32), TpmError> {
        let response = self.with(
            Command {
                name: "NV_Read",
                code: cc::NV_READ,
                handles: &[Handle::named(index, name), Handle::named(index, name)],
                parameters: Writer::new().u16(8).u16(0),
            },
            &mut [Use::session(session, &[], 0)],
        )?;
        let mut reader = response.reader();
        if reader.u16()? != 8 {
            return Err(TpmError::Protocol {
                command: "NV_Read",
                what: "not a PIN counter",
            });
        }
        let counter = (reader.u32()?, reader.u32()?);
        reader.finish()?;
        Ok(counter)
    }

    /// TPM2_NV_ChangeAuth: authorised by the policy session, the new value encrypted in the channel,
    /// which is associated with nothing and so needs not know the present value.
    pub(crate) fn nv_change_auth(
        &mut self,
        index: u32,
        name: &[u8],
        session: &mut Session,
        channel: &mut Session,
        auth: &[u8; 32],
    ) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "NV_ChangeAuth",
                code: cc::NV_CHANGE_AUTH,
                handles: &[Handle::named(index, name)],
                parameters: Writer::new().sized(auth),
            },
            &mut [
                Use::session(session, &[], 0),
                Use::session(channel, &[], attribute::CONTINUE | attribute::DECRYPT),
            ],
        )
        .map(drop)
    }

    /// TPM2_PolicySecret with an index's value in the channel: timeout and TPMT_TK_AUTH, both empty
    /// without a negative expiration.
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
        // A reusable expiration-free use is not bound to the session's nonce.
        let nonce: &[u8] = if expiration == 0 {
            &[]
        } else {
            &session.nonce_tpm
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
            &mut [Use::session(channel, auth, attribute::CONTINUE)],
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

    /// TPM2_Sign with a scheme as it stands on the wire; TPMT_SIGNATURE comes back.
    pub(crate) fn sign(
        &mut self,
        key: Handle<'_>,
        session: &mut Session,
        attributes: u8,
        digest: &[u8],
        scheme: &[u16],
    ) -> Result<Response, TpmError> {
        let parameters = scheme
            .iter()
            .fold(Writer::new().sized(digest), |out, part| out.u16(*part));
        self.with(
            Command {
                name: "Sign",
                code: code::SIGN,
                handles: &[key],
                // No hash check ticket: the keys are not restricted.
                parameters: parameters.u16(0x8024).u32(NULL).u16(0),
            },
            &mut [Use::session(session, &[], attributes)],
        )
    }

    /// TPM2_RSA_Decrypt with a scheme as it stands on the wire, the answer encrypted.
    pub(crate) fn rsa_decrypt(
        &mut self,
        key: Handle<'_>,
        session: &mut Session,
        attributes: u8,
        cryptogram: &[u8],
        scheme: &[u16],
        label: &[u8],
    ) -> Result<Response, TpmError> {
        let parameters = scheme
            .iter()
            .fold(Writer::new().sized(cryptogram), |out, part| out.u16(*part));
        self.with(
            Command {
                name: "RSA_Decrypt",
                code: code::RSA_DECRYPT,
                handles: &[key],
                parameters: parameters.sized(label),
            },
            &mut [Use::session(session, &[], attributes | attribute::ENCRYPT)],
        )
    }

    /// TPM2_ECDH_ZGen, the answer encrypted.
    pub(crate) fn ecdh_zgen(
        &mut self,
        key: Handle<'_>,
        session: &mut Session,
        attributes: u8,
        x: &[u8],
        y: &[u8],
    ) -> Result<Response, TpmError> {
        let point = Writer::new().sized(x).sized(y).finish();
        self.with(
            Command {
                name: "ECDH_ZGen",
                code: code::ECDH_ZGEN,
                handles: &[key],
                parameters: Writer::new().sized(&point),
            },
            &mut [Use::session(session, &[], attributes | attribute::ENCRYPT)],
        )
    }
}

/// TPMT_SIGNATURE: ECDSA with SHA-256, r ‖ s.
fn ecdsa(out: Writer, signature: &[u8; 64]) -> Writer {
    let (r, s) = signature.split_at(32);
    out.u16(ALG_ECDSA).u16(ALG_SHA256).sized(r).sized(s)
}
