//! NV indices (TPM 2.0 Part 3 §31).

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::code;
use crate::error::TpmError;
use crate::hierarchy::OWNER;
use crate::policy::cc;
use crate::session::{Session, Use, attribute};
use crate::tpm::{Command, Handle, Response, Tpm};
use crate::wire::Writer;

impl Tpm {
    /// TPM2_NV_DefineSpace, the authorisation value encrypted in the channel.
    pub(crate) fn nv_define(
        &mut self,
        channel: &mut Session,
        auth: &[u8],
        public: &[u8],
    ) -> Result<(), TpmError> {
        let attributes = attribute::CONTINUE | decrypt();
        self.as_owner(
            Command {
                name: "NV_DefineSpace",
                code: code::NV_DEFINE_SPACE,
                handles: &[Handle::plain(OWNER)],
                parameters: Writer::new().sized(auth).sized(public),
            },
            Some(Use::session(channel, &[], attributes)),
            false,
        )
        .map(drop)
    }

    /// TPM2_NV_UndefineSpace.
    pub(crate) fn nv_undefine(&mut self, index: u32, name: &[u8]) -> Result<(), TpmError> {
        self.as_owner(
            Command {
                name: "NV_UndefineSpace",
                code: code::NV_UNDEFINE_SPACE,
                handles: &[Handle::plain(OWNER), Handle::named(index, name)],
                parameters: Writer::new(),
            },
            None,
            false,
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

    /// TPM2_NV_Read of a part of an index that has no secret: by the owner, if the Name is given for it, else by its own
    /// empty authorisation.
    pub(crate) fn nv_read_part(
        &mut self,
        index: u32,
        by_owner: Option<&[u8]>,
        size: u16,
        offset: u16,
    ) -> Result<Vec<u8>, TpmError> {
        let command = |handles| Command {
            name: "NV_Read",
            code: cc::NV_READ,
            handles,
            parameters: Writer::new().u16(size).u16(offset),
        };
        let response = match by_owner {
            Some(name) => {
                let handles = &[Handle::plain(OWNER), Handle::named(index, name)];
                self.as_owner(command(handles), None, false)?
            }
            None => {
                let handles = &[Handle::plain(index), Handle::plain(index)];
                self.with(command(handles), &mut [Use::empty_password()])?
            }
        };
        let mut reader = response.reader();
        let part = reader.sized()?.to_vec();
        reader.finish()?;
        Ok(part)
    }

    /// TPM2_NV_Write of a whole index under a policy session, which it empties or ends.
    pub(crate) fn nv_write(
        &mut self,
        index: u32,
        name: &[u8],
        session: &mut Session,
        attributes: u8,
        data: &[u8],
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

    /// TPM2_NV_Read of a whole counter under a policy session, which it ends: count and limit. The channel beside it gives
    /// the answer an HMAC; a session that is salted itself needs none.
    pub(crate) fn nv_read(
        &mut self,
        index: u32,
        name: &[u8],
        session: &mut Session,
        channel: Option<&mut Session>,
    ) -> Result<(u32, u32), TpmError> {
        let command = Command {
            name: "NV_Read",
            code: cc::NV_READ,
            handles: &[Handle::named(index, name), Handle::named(index, name)],
            parameters: Writer::new().u16(8).u16(0),
        };
        let policy = Use::session(session, &[], 0);
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::BelievedCounters) {
            return counter(&self.with(command, &mut [policy])?);
        }
        let response = match channel {
            Some(channel) => self.with(command, &mut [policy, answering(channel)]),
            None => self.with(command, &mut [policy]),
        };
        counter(&response?)
    }

    /// TPM2_NV_Read of a whole counter by the owner.
    pub(crate) fn nv_read_as_owner(
        &mut self,
        index: u32,
        name: &[u8],
        channel: &mut Session,
    ) -> Result<(u32, u32), TpmError> {
        let command = Command {
            name: "NV_Read",
            code: cc::NV_READ,
            handles: &[Handle::plain(OWNER), Handle::named(index, name)],
            parameters: Writer::new().u16(8).u16(0),
        };
        counter(&self.as_owner(command, Some(answering(channel)), false)?)
    }

    /// TPM2_NV_Write of a whole counter by the owner.
    pub(crate) fn nv_write_as_owner(
        &mut self,
        index: u32,
        name: &[u8],
        channel: &mut Session,
        data: &[u8; 8],
    ) -> Result<(), TpmError> {
        let command = Command {
            name: "NV_Write",
            code: cc::NV_WRITE,
            handles: &[Handle::plain(OWNER), Handle::named(index, name)],
            parameters: Writer::new().sized(data).u16(0),
        };
        let channel = Use::session(channel, &[], attribute::CONTINUE | attribute::DECRYPT);
        self.as_owner(command, Some(channel), false).map(drop)
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
                Use::session(channel, &[], attribute::CONTINUE | decrypt()),
            ],
        )
        .map(drop)
    }
}

/// The channel's part in a command that others authorise: the answer comes encrypted, with an HMAC.
fn answering(channel: &mut Session) -> Use<'_> {
    Use::session(channel, &[], attribute::CONTINUE | attribute::ENCRYPT)
}

/// TPMS_NV_PIN_COUNTER_PARAMETERS: count and limit.
fn counter(response: &Response) -> Result<(u32, u32), TpmError> {
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

/// The new value goes encrypted.
fn decrypt() -> u8 {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::ClearValues) {
        // A session must serve something: audit.
        return 0x80;
    }
    attribute::DECRYPT
}
