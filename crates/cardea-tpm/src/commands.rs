//! The commands in use, one method each (TPM 2.0 Part 3).

mod attest;
mod capabilities;
mod nv;
mod policy;
mod sessions;

pub(crate) use attest::Signing;
pub use attest::Statement;
pub(crate) use sessions::SessionKind;

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::auth::without_trailing_zeros;
use crate::clock::TpmTime;
use crate::code;
use crate::crypto::Wrapped;
use crate::error::{ResponseCode, TpmError};
use crate::hierarchy::{LOCKOUT, NULL, OWNER};
use crate::policy::{cc, name_of};
use crate::session::{Session, Use, attribute};
use crate::srk::Parent;
use crate::tpm::{Command, Handle, Response, Tpm};
use crate::wire::Writer;
use zeroize::Zeroizing;

const ALG_SHA256: u16 = 0x000B;
const ALG_RSA: u16 = 0x0001;
const ALG_NULL: u16 = 0x0010;
const ALG_AES: u16 = 0x0006;
const ALG_CFB: u16 = 0x0043;
const ALG_ECDSA: u16 = 0x0018;

/// What a new object is to keep (TPMS_SENSITIVE_CREATE).
#[derive(Default)]
pub(crate) struct Sensitive<'a> {
    /// Its authorisation value.
    pub(crate) auth: &'a [u8],
    /// What is sealed in it.
    pub(crate) data: &'a [u8],
}

/// What TPM2_Create makes.
pub(crate) struct Created {
    pub(crate) private: Vec<u8>,
    pub(crate) public: Vec<u8>,
    pub(crate) creation_data: Vec<u8>,
    pub(crate) creation_hash: Vec<u8>,
    pub(crate) creation_ticket: Vec<u8>,
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
        self.create_in(NULL, template)
    }

    /// TPM2_CreatePrimary in a hierarchy without authorisation.
    pub(crate) fn create_in(
        &mut self,
        hierarchy: u32,
        template: &[u8],
    ) -> Result<(u32, Vec<u8>), TpmError> {
        let response = self.with_handle(
            Command {
                name: "CreatePrimary",
                code: code::CREATE_PRIMARY,
                handles: &[Handle::plain(hierarchy)],
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
        sensitive: &Sensitive<'_>,
        template: &[u8],
    ) -> Result<Created, TpmError> {
        let sensitive = Writer::new()
            .sized(without_trailing_zeros(sensitive.auth))
            .sized(sensitive.data)
            .finish();
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
        let creation_data = reader.sized()?.to_vec();
        let creation_hash = reader.sized()?.to_vec();
        let creation_ticket = reader.ticket()?.to_vec();
        reader.finish()?;
        Ok(Created {
            private,
            public,
            creation_data,
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

    /// TPM2_Load without a session to carry it, on a connection that has none. That another object was loaded shows at
    /// its first use: the Name is part of what is authorised.
    pub(crate) fn load_openly(
        &mut self,
        parent: &Parent,
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
            &mut [Use::empty_password()],
        )?;
        Ok(response.handle)
    }

    /// TPM2_ObjectChangeAuth: the object with its new value, contents of TPM2B_PRIVATE; the loaded one keeps the old
    /// value. Authorised by the policy session, with the present value if its policy asks for that; the new one
    /// travels encrypted in the channel, which is associated with nothing. Ends the session.
    pub(crate) fn object_change_auth(
        &mut self,
        object: Handle<'_>,
        parent: &Parent,
        (session, present): (&mut Session, &[u8]),
        channel: &mut Session,
        new: &[u8; 32],
    ) -> Result<Vec<u8>, TpmError> {
        let response = self.with(
            Command {
                name: "ObjectChangeAuth",
                code: cc::OBJECT_CHANGE_AUTH,
                handles: &[object, Handle::named(parent.handle, &parent.name)],
                parameters: Writer::new().sized(without_trailing_zeros(new)),
            },
            &mut [
                Use::session(session, present, 0),
                Use::session(channel, &[], attribute::CONTINUE | attribute::DECRYPT),
            ],
        )?;
        let mut reader = response.reader();
        let private = reader.sized()?.to_vec();
        reader.finish()?;
        Ok(private)
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

    /// TPM2_Duplicate of an object to a storage key, without an inner wrap: contents of TPM2B_PRIVATE, and what tells
    /// the storage key the seed of the outer wrap. Authorised by the policy session, which it ends.
    pub(crate) fn duplicate(
        &mut self,
        object: Handle<'_>,
        parent: Handle<'_>,
        session: &mut Session,
    ) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
        let response = self.with(
            Command {
                name: "Duplicate",
                code: code::DUPLICATE,
                handles: &[object, parent],
                parameters: Writer::new().sized(&[]).u16(ALG_NULL),
            },
            &mut [Use::session(session, &[], 0)],
        )?;
        let mut reader = response.reader();
        // The inner key, which there is none of.
        reader.sized()?;
        let private = reader.sized()?.to_vec();
        let seed = reader.sized()?.to_vec();
        reader.finish()?;
        Ok((private, seed))
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

    /// TPM2_Load of nothing with an empty authorisation: the error shows whether that was correct.
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
