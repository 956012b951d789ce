//! What a TPM says of itself (TPM 2.0 Part 3 §30).

use super::{ALG_NULL, ALG_RSA};
use crate::code;
use crate::error::{ResponseCode, TpmError};
use crate::examination::OptionalCommand;
use crate::policy::cc;
use crate::tpm::{Command, Response, Tpm};
use crate::wire::{Reader, Writer};

/// TPM_RH_NULL (TPM 2.0 Part 2 §7.4).
const NULL_HIERARCHY: u32 = 0x4000_0007;

/// A resource manager puts its own number above the code.
const WITHOUT_LAYER: u32 = 0xFFFF;

/// Permanent handles, to the last one that can have a policy (TPM 2.0 Part 2 §7.4).
const FIRST_PERMANENT: u32 = 0x4000_0000;
const LAST_PERMANENT: u32 = 0x4000_011F;

/// A capability list entry of 32-bit values.
pub(crate) enum Capability {
    Algorithms = 0,
    Commands = 2,
    Handles = 1,
    Properties = 6,
    Curves = 8,
    AuthPolicies = 9,
}

impl Tpm {
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

    /// Whether a command is both listed and known when it comes: where the list is not true, cards could be made that
    /// cannot be used.
    pub(crate) fn has(&mut self, command: OptionalCommand) -> Result<bool, TpmError> {
        let (code, handles) = match command {
            OptionalCommand::NvCertify => (cc::NV_CERTIFY, 3),
            OptionalCommand::PolicyAuthorizeNv => (code::POLICY_AUTHORIZE_NV, 3),
            OptionalCommand::PolicyCounterTimer => (code::POLICY_COUNTER_TIMER, 1),
            OptionalCommand::PolicyTicket => (code::POLICY_TICKET, 1),
        };
        Ok(self.implements(code)? && self.knows(command.name(), code, handles)?)
    }

    /// Whether the TPM answers to a command with anything but that there is no such command. Each handle is the null
    /// hierarchy's, which none of the optional commands takes: nothing is done.
    fn knows(
        &mut self,
        name: &'static str,
        command: u32,
        handles: usize,
    ) -> Result<bool, TpmError> {
        let size = 10 + 4 * handles;
        let mut asked = vec![0x80, 0x01];
        asked.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        asked.extend_from_slice(&command.to_be_bytes());
        for _ in 0..handles {
            asked.extend_from_slice(&NULL_HIERARCHY.to_be_bytes());
        }
        let mut response = Vec::new();
        self.raw(&asked, &mut response)
            .map_err(|source| TpmError::Transport {
                command: name,
                source,
            })?;
        let mut reader = Reader::new(name, &response);
        reader.raw(6)?;
        let code = ResponseCode(reader.u32()?);
        if code.asks_for_retry() {
            return Err(TpmError::Response {
                command: name,
                handle: None,
                code,
            });
        }
        Ok(code.0 & WITHOUT_LAYER != ResponseCode::COMMAND_CODE.0)
    }

    /// Whether an algorithm is implemented.
    pub(crate) fn has_algorithm(&mut self, algorithm: u16) -> Result<bool, TpmError> {
        let response = self.capability(Capability::Algorithms, algorithm.into(), 1)?;
        let mut reader = response.reader();
        reader.raw(5)?;
        Ok(reader.u32()? == 1 && reader.u16()? == algorithm)
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
}
