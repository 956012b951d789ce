//! What each call of an object begins with, and each answer (MS-DCOM §2.2.13).

use crate::Guid;
use crate::ndr::{Decoder, Encoder, Message, NdrError};
use crate::pdu::fault_status;

/// A version of COM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComVersion {
    /// Must be 5.
    pub major: u16,
    /// The lower one of both sides counts.
    pub minor: u16,
}

impl ComVersion {
    /// The version that is spoken here.
    pub const CURRENT: Self = Self { major: 5, minor: 7 };

    /// The version that both sides speak.
    ///
    /// # Errors
    /// The fault of a call with another major version.
    pub fn negotiate(self) -> Result<Self, u32> {
        match self.major == Self::CURRENT.major {
            true => Ok(Self {
                major: self.major,
                minor: self.minor.min(Self::CURRENT.minor),
            }),
            false => Err(fault_status::VERSION_MISMATCH),
        }
    }
}

impl Message for ComVersion {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            major: from.u16()?,
            minor: from.u16()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.u16(self.major);
        to.u16(self.minor);
    }
}

/// What a call begins with. Extensions are checked and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrpcThis {
    /// The caller's version.
    pub version: ComVersion,
    /// 0 in calls, anything in activation.
    pub flags: u32,
    /// The causality: calls that are made because of this one have the same.
    pub cid: Guid,
}

impl OrpcThis {
    /// A call in the chain of calls of this number.
    #[must_use]
    pub const fn new(cid: Guid) -> Self {
        Self {
            version: ComVersion::CURRENT,
            flags: 0,
            cid,
        }
    }
}

impl Message for OrpcThis {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        from.align(4)?;
        let (version, flags) = (ComVersion::read(from)?, from.u32()?);
        let _reserved = from.u32()?;
        let cid = from.guid()?;
        extensions(from)?;
        Ok(Self {
            version,
            flags,
            cid,
        })
    }

    fn write(&self, to: &mut Encoder) {
        to.align(4);
        self.version.write(to);
        to.u32(self.flags);
        to.u32(0);
        to.guid(&self.cid);
        to.pointer(false);
    }
}

/// What an answer begins with. Extensions are checked and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrpcThat {
    /// No bit of it means anything here.
    pub flags: u32,
}

impl Message for OrpcThat {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        let flags = from.u32()?;
        extensions(from)?;
        Ok(Self { flags })
    }

    fn write(&self, to: &mut Encoder) {
        to.u32(self.flags);
        to.pointer(false);
    }
}

/// An answer that is a result and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrpcResult {
    /// The answer.
    pub that: OrpcThat,
    /// The result.
    pub result: u32,
}

impl OrpcResult {
    /// An answer with this result.
    #[must_use]
    pub const fn new(result: u32) -> Self {
        Self {
            that: OrpcThat { flags: 0 },
            result,
        }
    }
}

impl Message for OrpcResult {
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError> {
        Ok(Self {
            that: OrpcThat::read(from)?,
            result: from.u32()?,
        })
    }

    fn write(&self, to: &mut Encoder) {
        self.that.write(to);
        to.u32(self.result);
    }
}

/// ORPC_EXTENT_ARRAY: read to its end, for what follows.
fn extensions(from: &mut Decoder<'_>) -> Result<(), NdrError> {
    if !from.pointer()? {
        return Ok(());
    }
    let size = from.u32()?;
    let _reserved = from.u32()?;
    let is_there = from.pointer()?;
    if size > MAX_EXTENSIONS {
        return Err(NdrError::BadStubData);
    }
    let rounded = size.next_multiple_of(2);
    let pointers =
        from.optional_array(is_there, if is_there { rounded } else { size }, 4, |from| {
            from.pointer()
        })?;
    for _ in pointers.into_iter().filter(|is_there| *is_there) {
        let rounded = from.u32()?;
        let _id = from.guid()?;
        let size = from.u32()?;
        if size.checked_next_multiple_of(8) != Some(rounded) {
            return Err(NdrError::BadStubData);
        }
        from.bytes(usize::try_from(rounded).map_err(|_| NdrError::BadStubData)?)?;
    }
    Ok(())
}

const MAX_EXTENSIONS: u32 = 16;
