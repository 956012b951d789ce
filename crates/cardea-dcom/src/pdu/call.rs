//! Request, response and fault (C706 §12.6.4.7-10).

use std::fmt;

use crate::Guid;
use crate::bytes::{Buffer, Cursor};
use crate::pdu::error::PduError;

/// Numbers that a fault may have.
pub mod fault_status {
    /// The authentication failed, or its level is too low.
    pub const ACCESS_DENIED: u32 = 0x0000_0005;
    /// A reference pointer is null.
    pub const NULL_REFERENCE: u32 = 0x0000_06F4;
    /// The stub cannot be decoded.
    pub const BAD_STUB_DATA: u32 = 0x0000_06F7;
    /// A signature is invalid.
    pub const SECURITY_PACKAGE: u32 = 0x0000_0721;
    /// The interface has no such method.
    pub const OPERATION_RANGE: u32 = 0x1C01_0002;
    /// The interface or presentation context is unknown.
    pub const UNKNOWN_INTERFACE: u32 = 0x1C01_0003;
    /// The peer does not follow the protocol.
    pub const PROTOCOL_ERROR: u32 = 0x1C01_000B;
    /// The object is gone.
    pub const DISCONNECTED: u32 = 0x8001_0108;
    /// The major version of COM is another one.
    pub const VERSION_MISMATCH: u32 = 0x8001_0110;
}

/// Which call a request or response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The client's number for it.
    pub call_id: u32,
    /// The presentation context.
    pub context_id: u16,
    /// The method. 0 in a response.
    pub opnum: u16,
    /// The object: in DCOM the interface pointer. `None` in a response.
    pub object: Option<Guid>,
}

/// The body of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// How much is expected to come. Nothing is reserved for it.
    pub alloc_hint: u32,
    /// The presentation context.
    pub context_id: u16,
    /// The method.
    pub opnum: u16,
    /// The object: in DCOM the interface pointer.
    pub object: Option<Guid>,
    /// The arguments, or a part of them.
    pub stub: &'a [u8],
}

impl<'a> Request<'a> {
    pub(crate) fn read(content: &'a [u8], has_object: bool) -> Result<Self, PduError> {
        let mut from = Cursor::new(content);
        Ok(Self {
            alloc_hint: from.u32()?,
            context_id: from.u16()?,
            opnum: from.u16()?,
            object: match has_object {
                true => Some(from.guid()?),
                false => None,
            },
            stub: from.rest(),
        })
    }

    pub(crate) fn write(&self, out: &mut Buffer) {
        out.u32(self.alloc_hint);
        out.u16(self.context_id);
        out.u16(self.opnum);
        if let Some(object) = &self.object {
            out.guid(object);
        }
        out.bytes(self.stub);
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("context_id", &self.context_id)
            .field("opnum", &self.opnum)
            .field("object", &self.object)
            .field("stub", &self.stub.len())
            .finish_non_exhaustive()
    }
}

/// The body of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Response<'a> {
    /// How much is expected to come. Nothing is reserved for it.
    pub alloc_hint: u32,
    /// The presentation context.
    pub context_id: u16,
    /// How many cancellations came in.
    pub cancel_count: u8,
    /// The results, or a part of them.
    pub stub: &'a [u8],
}

impl<'a> Response<'a> {
    pub(crate) fn read(content: &'a [u8]) -> Result<Self, PduError> {
        let mut from = Cursor::new(content);
        let (alloc_hint, context_id) = (from.u32()?, from.u16()?);
        let [cancel_count, _] = from.array()?;
        Ok(Self {
            alloc_hint,
            context_id,
            cancel_count,
            stub: from.rest(),
        })
    }

    pub(crate) fn write(&self, out: &mut Buffer) {
        out.u32(self.alloc_hint);
        out.u16(self.context_id);
        out.bytes(&[self.cancel_count, 0]);
        out.bytes(self.stub);
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("context_id", &self.context_id)
            .field("stub", &self.stub.len())
            .finish_non_exhaustive()
    }
}

/// The body of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The presentation context.
    pub context_id: u16,
    /// How many cancellations came in.
    pub cancel_count: u8,
    /// Why: see [`fault_status`].
    pub status: u32,
}

impl Fault {
    pub(crate) fn read(content: &[u8]) -> Result<Self, PduError> {
        let mut from = Cursor::new(content);
        let (_alloc_hint, context_id) = (from.u32()?, from.u16()?);
        let [cancel_count, _] = from.array()?;
        // A reserved number and the data of an exception may follow; neither says anything here.
        Ok(Self {
            context_id,
            cancel_count,
            status: from.u32()?,
        })
    }

    pub(crate) fn write(&self, out: &mut Buffer) {
        out.u32(FAULT_LENGTH);
        out.u16(self.context_id);
        out.bytes(&[self.cancel_count, 0]);
        out.u32(self.status);
        out.u32(0);
    }
}

/// A fault without data of its own, as a hint: what Windows and Samba send.
const FAULT_LENGTH: u32 = 32;
