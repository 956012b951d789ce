//! The commands in use, one method each (TPM 2.0 Part 3).

mod nv;
mod policy;

use std::time::Instant;

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::crypto::{SecretUse, Wrapped};
use crate::error::{ResponseCode, TpmError};
use crate::policy::{cc, name_of};
use crate::session::{NONCE, Session, Use, attribute};
use crate::srk::Parent;
use crate::status::TpmTime;
use crate::tpm::{Command, Handle, Response, Tpm, random};
use crate::wire::Writer;
use zeroize::Zeroizing;

/// TPM_RH_OWNER.
pub(crate) const OWNER: u32 = 0x4000_0001;
/// TPM_RH_ENDORSEMENT.
pub(crate) const ENDORSEMENT: u32 = 0x4000_000B;
const NULL: u32 = 0x4000_0007;
/// TPM_RH_LOCKOUT.
pub(crate) const LOCKOUT: u32 = 0x4000_000A;

/// Random bytes that a session is proven with; they serve nothing else.
const PROOF: u16 = 8;
/// Permanent handles, to the last one that can have a policy (TPM 2.0 Part 2 §7.4).
const FIRST_PERMANENT: u32 = 0x4000_0000;
const LAST_PERMANENT: u32 = 0x4000_011F;

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
    pub(crate) const CONTEXT_LOAD: u32 = TpmCc::ContextLoad as u32;
    pub(crate) const CONTEXT_SAVE: u32 = TpmCc::ContextSave as u32;
    pub(crate) const HIERARCHY_CHANGE_AUTH: u32 = TpmCc::HierarchyChangeAuth as u32;
    pub(crate) const SET_PRIMARY_POLICY: u32 = TpmCc::SetPrimaryPolicy as u32;
    pub(crate) const LOCK_RESET: u32 = TpmCc::DictionaryAttackLockReset as u32;
    pub(crate) const LOCK_PARAMETERS: u32 = TpmCc::DictionaryAttackParameters as u32;
    pub(crate) const IMPORT: u32 = TpmCc::Import as u32;
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
    pub(crate) const GET_RANDOM: u32 = TpmCc::GetRandom as u32;
    pub(crate) const GET_TEST_RESULT: u32 = TpmCc::GetTestResult as u32;
    pub(crate) const SHUTDOWN: u32 = TpmCc::Shutdown as u32;
    pub(crate) const TEST_PARMS: u32 = TpmCc::TestParms as u32;
    pub(crate) const HMAC: u32 = TpmCc::Hmac as u32;
    pub(crate) const READ_CLOCK: u32 = TpmCc::ReadClock as u32;
}

/// Kind of session to start (TPM_SE).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionKind {
    Hmac,
    Policy,
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
    AuthPolicies = 9,
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

    /// TPM2_Shutdown(CLEAR): the next start is an orderly one.
    pub(crate) fn shutdown(&mut self) -> Result<(), TpmError> {
        self.plain(Command {
            name: "Shutdown",
            code: code::SHUTDOWN,
            handles: &[],
            parameters: Writer::new().u16(0),
        })
        .map(drop)
    }

    /// At most `count` random bytes; a TPM may give fewer.
    pub(crate) fn get_random(&mut self, count: u16) -> Result<Vec<u8>, TpmError> {
        let response = self.plain(Command {
            name: "GetRandom",
            code: code::GET_RANDOM,
            handles: &[],
            parameters: Writer::new().u16(count),
        })?;
        let mut reader = response.reader();
        let bytes = reader.sized()?.to_vec();
        reader.finish()?;
        Ok(bytes)
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

    /// TPM2_ReadClock (TPM 2.0 Part 3 §29.1).
    pub(crate) fn read_clock(&mut self) -> Result<TpmTime, TpmError> {
        let response = self.plain(Command {
            name: "ReadClock",
            code: code::READ_CLOCK,
            handles: &[],
            parameters: Writer::new(),
        })?;
        // TPMS_TIME_INFO: time, clock, resets, restarts, whether the clock is safe.
        let mut reader = response.reader();
        let (high, low) = (reader.u32()?, reader.u32()?);
        reader.raw(8)?;
        let (resets, restarts) = (reader.u32()?, reader.u32()?);
        reader.raw(1)?;
        reader.finish()?;
        Ok(TpmTime {
            milliseconds: u64::from(high) << 32 | u64::from(low),
            resets,
            restarts,
        })
    }

    /// Whether the TPM is in failure mode (TPM2_GetTestResult works in it).
    pub(crate) fn in_failure_mode(&mut self) -> Result<bool, TpmError> {
        let response = self.plain(Command {
            name: "GetTestResult",
            code: code::GET_TEST_RESULT,
            handles: &[],
            parameters: Writer::new(),
        })?;
        let mut reader = response.reader();
        reader.sized()?;
        Ok(ResponseCode(reader.u32()?) == ResponseCode::FAILURE)
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
                // A list that does not go on upwards would never end.
                Some(last) if more != 0 && count != 0 && *last >= next && *last != u32::MAX => {
                    next = last + 1;
                }
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

    /// The property with this number, if the TPM knows it.
    pub(crate) fn property(&mut self, property: u32) -> Result<Option<u32>, TpmError> {
        let properties = self.properties(property)?;
        let found = properties.first().filter(|(found, _)| *found == property);
        Ok(found.map(|(_, value)| *value))
    }

    /// Hierarchies that a policy opens besides their authorisation. None: the TPM does not tell, as those before
    /// revision 1.38 do not.
    pub(crate) fn hierarchies_with_policy(&mut self) -> Result<Option<Vec<u32>>, TpmError> {
        let mut found = Vec::new();
        let mut next = FIRST_PERMANENT;
        loop {
            // One at a time: how long a digest is need not be known then.
            let response = match self.capability(Capability::AuthPolicies, next, 1) {
                Err(error) if error.code().is_some_and(|code| !code.asks_for_retry()) => {
                    return Ok(None);
                }
                other => other?,
            };
            let mut reader = response.reader();
            let more = reader.u8()?;
            reader.u32()?;
            if reader.u32()? == 0 {
                return Ok(Some(found));
            }
            let (hierarchy, algorithm) = (reader.u32()?, reader.u16()?);
            if algorithm != ALG_NULL {
                found.push(hierarchy);
            }
            // A list that does not go on upwards would never end.
            if more == 0 || hierarchy < next || hierarchy >= LAST_PERMANENT {
                return Ok(Some(found));
            }
            next = hierarchy + 1;
        }
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

    /// TPM2_CreatePrimary in the owner hierarchy.
    pub(crate) fn create_primary(&mut self, template: &[u8]) -> Result<(u32, Vec<u8>), TpmError> {
        let command = Command {
            name: "CreatePrimary",
            code: code::CREATE_PRIMARY,
            handles: &[Handle::plain(OWNER)],
            parameters: Writer::new().u16(4).u32(0).sized(template).u16(0).u32(0),
        };
        let response = self.as_owner(command, None, true)?;
        let public = response.reader().sized()?.to_vec();
        Ok((response.handle, public))
    }

    /// TPM2_CreatePrimary in the null hierarchy, which needs no authorisation.
    pub(crate) fn create_temporary(&mut self, template: &[u8]) -> Result<(u32, Vec<u8>), TpmError> {
        let response = self.with_handle(
            Command {
                name: "CreatePrimary",
                code: code::CREATE_PRIMARY,
                handles: &[Handle::plain(NULL)],
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
        self.as_owner(
            Command {
                name: "EvictControl",
                code: code::EVICT_CONTROL,
                handles: &[Handle::plain(OWNER), Handle::named(object, name)],
                parameters: Writer::new().u32(persistent),
            },
            None,
            false,
        )
        .map(drop)
    }

    /// TPM2_HierarchyChangeAuth, the new value encrypted in the session that shows the old one.
    pub(crate) fn hierarchy_change_auth(
        &mut self,
        hierarchy: u32,
        session: &mut Session,
        old: &[u8],
        new: &[u8],
    ) -> Result<(), TpmError> {
        let attributes = attribute::CONTINUE | attribute::DECRYPT;
        self.with(
            Command {
                name: "HierarchyChangeAuth",
                code: code::HIERARCHY_CHANGE_AUTH,
                handles: &[Handle::plain(hierarchy)],
                parameters: Writer::new().sized(new),
            },
            &mut [Use::session(session, old, attributes).changing_to(new)],
        )
        .map(drop)
    }

    /// TPM2_SetPrimaryPolicy with no policy: from then on its authorisation alone opens the hierarchy.
    pub(crate) fn empty_policy(
        &mut self,
        hierarchy: u32,
        session: &mut Session,
        auth: &[u8],
    ) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "SetPrimaryPolicy",
                code: code::SET_PRIMARY_POLICY,
                handles: &[Handle::plain(hierarchy)],
                parameters: Writer::new().sized(&[]).u16(ALG_NULL),
            },
            &mut [Use::session(session, auth, attribute::CONTINUE)],
        )
        .map(drop)
    }

    /// TPM2_DictionaryAttackLockReset.
    pub(crate) fn lock_reset(
        &mut self,
        session: &mut Session,
        auth: &[u8],
    ) -> Result<(), TpmError> {
        self.with(
            Command {
                name: "DictionaryAttackLockReset",
                code: code::LOCK_RESET,
                handles: &[Handle::plain(LOCKOUT)],
                parameters: Writer::new(),
            },
            &mut [Use::session(session, auth, attribute::CONTINUE)],
        )
        .map(drop)
    }

    /// TPM2_DictionaryAttackParameters: failures, seconds for one of them, seconds for the lockout
    /// authorisation.
    pub(crate) fn lock_parameters(
        &mut self,
        session: &mut Session,
        auth: &[u8],
        parameters: [u32; 3],
    ) -> Result<(), TpmError> {
        let parameters = parameters
            .into_iter()
            .fold(Writer::new(), |out, value| out.u32(value));
        self.with(
            Command {
                name: "DictionaryAttackParameters",
                code: code::LOCK_PARAMETERS,
                handles: &[Handle::plain(LOCKOUT)],
                parameters,
            },
            &mut [Use::session(session, auth, attribute::CONTINUE)],
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

    /// TPM2_Import of an object in an outer wrap and, with a key for it, in an inner wrap: contents of
    /// TPM2B_PRIVATE. The key is the first parameter and travels encrypted in the channel.
    pub(crate) fn import(
        &mut self,
        parent: &Parent,
        channel: &mut Session,
        inner_key: Option<&[u8; 16]>,
        public: &[u8],
        wrapped: &Wrapped,
    ) -> Result<Vec<u8>, TpmError> {
        let parameters = Writer::new()
            .sized(inner_key.map_or(&[], |key| &key[..]))
            .sized(public)
            .sized(&wrapped.private)
            .sized(&wrapped.seed);
        let (parameters, attributes) = match inner_key {
            Some(_) => (
                parameters.u16(ALG_AES).u16(128).u16(ALG_CFB),
                attribute::CONTINUE | attribute::DECRYPT,
            ),
            None => (parameters.u16(ALG_NULL), attribute::CONTINUE),
        };
        let response = self.with(
            Command {
                name: "Import",
                code: code::IMPORT,
                handles: &[Handle::named(parent.handle, &parent.name)],
                parameters,
            },
            &mut [Use::session(channel, &[], attributes)],
        )?;
        let mut reader = response.reader();
        let private = reader.sized()?.to_vec();
        reader.finish()?;
        Ok(private)
    }

    /// TPM2_HMAC by the key's own scheme, the answer encrypted.
    pub(crate) fn hmac(
        &mut self,
        key: u32,
        public: &[u8],
        channel: &mut Session,
        data: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, TpmError> {
        let response = self.with(
            Command {
                name: "HMAC",
                code: code::HMAC,
                handles: &[Handle::named(key, &name_of(public))],
                parameters: Writer::new().sized(data).u16(ALG_NULL),
            },
            &mut [Use::session(
                channel,
                &[],
                attribute::CONTINUE | attribute::ENCRYPT,
            )],
        )?;
        let mut reader = response.reader();
        let mac = reader.sized()?;
        let mac: &[u8; 32] = mac.try_into().map_err(|_| TpmError::Protocol {
            command: "HMAC",
            what: "not of SHA-256",
        })?;
        let mac = Zeroizing::new(*mac);
        reader.finish()?;
        Ok(mac)
    }

    /// TPM2_Unseal, the answer encrypted; ends the session.
    pub(crate) fn unseal(
        &mut self,
        object: Handle<'_>,
        session: &mut Session,
    ) -> Result<Response, TpmError> {
        self.with(
            Command {
                name: "Unseal",
                code: cc::UNSEAL,
                handles: &[object],
                parameters: Writer::new(),
            },
            &mut [Use::session(session, &[], encrypt())],
        )
    }

    /// TPM2_Load of nothing with an empty authorisation: how it fails tells whether that was right.
    pub(crate) fn load_nothing(&mut self, parent: u32, name: &[u8]) -> Result<(), TpmError> {
        self.with_handle(
            Command {
                name: "Load",
                code: code::LOAD,
                handles: &[Handle::named(parent, name)],
                parameters: Writer::new().sized(&[]).sized(&[]),
            },
            &mut [Use::empty_password()],
        )
        .map(drop)
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
            &mut [Use::session(session, &[], attributes | encrypt())],
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
            &mut [Use::session(session, &[], attributes | encrypt())],
        )
    }
}

/// The answer's first parameter comes encrypted.
fn encrypt() -> u8 {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::ClearAnswers) {
        return 0;
    }
    attribute::ENCRYPT
}

/// TPMT_SIGNATURE: ECDSA with SHA-256, r ‖ s.
fn ecdsa(out: Writer, signature: &[u8; 64]) -> Writer {
    let (r, s) = signature.split_at(32);
    out.u16(ALG_ECDSA).u16(ALG_SHA256).sized(r).sized(s)
}
