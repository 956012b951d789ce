//! The security trailer at the end of a packet, and which bytes are signed and sealed (MS-RPCE §2.2.2.11).

use std::ops::Range;

use crate::bytes::{Buffer, Cursor};
use crate::pdu::error::PduError;
use crate::pdu::header::{HEADER_LENGTH, Header, TRAILER_LENGTH};

/// Mechanisms, as they are numbered on the wire.
pub mod auth_type {
    /// SPNEGO.
    pub const SPNEGO: u8 = 9;
    /// NTLM by itself.
    pub const NTLM: u8 = 10;
    /// Kerberos by itself.
    pub const KERBEROS: u8 = 16;
}

/// How much of a call is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthLevel {
    /// Nothing.
    None = 1,
    /// The peer is authenticated once.
    Connect = 2,
    /// Each packet is from the peer. Level 3, each call, means the same.
    Packet = 4,
    /// Packets are signed.
    Integrity = 5,
    /// Packets are signed and sealed.
    Privacy = 6,
}

impl AuthLevel {
    /// The level of a number on the wire.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::None,
            2 => Self::Connect,
            3 | 4 => Self::Packet,
            5 => Self::Integrity,
            6 => Self::Privacy,
            _ => return None,
        })
    }
}

/// The security trailer of a packet that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthTrailer<'a> {
    /// The mechanism: see [`auth_type`].
    pub auth_type: u8,
    /// The level as it was sent: see [`AuthTrailer::level`].
    pub level: u8,
    /// Bytes of padding between body and trailer.
    pub pad_length: u8,
    /// Which security context of the connection.
    pub context_id: u32,
    /// A message of the mechanism, or a signature.
    pub value: &'a [u8],
}

impl AuthTrailer<'_> {
    /// How much is protected, if the number is known.
    #[must_use]
    pub const fn level(&self) -> Option<AuthLevel> {
        AuthLevel::from_wire(self.level)
    }
}

/// The security trailer of a packet to be made, with room for a value that is filled in later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSlot {
    /// The mechanism: see [`auth_type`].
    pub auth_type: u8,
    /// The level.
    pub level: AuthLevel,
    /// Which security context of the connection.
    pub context_id: u32,
    /// How long the value will be. Not 0: that means no trailer.
    pub value_length: u16,
}

impl AuthSlot {
    pub(crate) fn write(&self, pad_length: u8, out: &mut Buffer) {
        out.bytes(&[self.auth_type, self.level as u8, pad_length, 0]);
        out.u32(self.context_id);
        out.zeros(usize::from(self.value_length));
    }
}

/// Where the parts of a packet with a security trailer are.
///
/// What is signed is everything but the value, `0..trailer.end`, before `body` is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    /// The header, with what a call adds to it. Signed, never sealed.
    pub header: Range<usize>,
    /// The body with its padding: what is sealed.
    pub body: Range<usize>,
    /// The eight bytes of the trailer. Signed, never sealed.
    pub trailer: Range<usize>,
    /// The value: the signature of a call, or a message of the mechanism.
    pub value: Range<usize>,
}

impl Spans {
    /// What is signed.
    #[must_use]
    pub fn signed(&self) -> Range<usize> {
        self.header.start..self.trailer.end
    }
}

/// A packet cut at its trailer.
pub(crate) struct Cut<'a> {
    /// From the end of the common header to the padding.
    pub(crate) content: &'a [u8],
    /// From the end of the common header to the trailer, and how long the packet's own header is beyond that.
    pub(crate) padded: Range<usize>,
    pub(crate) trailer: Option<AuthTrailer<'a>>,
}

/// Cuts a packet whose header was checked and whose length is that of the header.
pub(crate) fn cut<'a>(header: &Header, bytes: &'a [u8]) -> Result<Cut<'a>, PduError> {
    let after_header = bytes.get(HEADER_LENGTH..).ok_or(PduError::Truncated)?;
    if header.auth_length == 0 {
        return Ok(Cut {
            content: after_header,
            padded: HEADER_LENGTH..bytes.len(),
            trailer: None,
        });
    }
    let value_length = usize::from(header.auth_length);
    let start = bytes
        .len()
        .checked_sub(value_length.saturating_add(TRAILER_LENGTH))
        .filter(|start| *start >= HEADER_LENGTH && start.is_multiple_of(4))
        .ok_or(PduError::BadTrailer)?;
    let mut cursor = Cursor::new(bytes.get(start..).ok_or(PduError::BadTrailer)?);
    let [auth_type, level, pad_length, _reserved] = cursor.array()?;
    let trailer = AuthTrailer {
        auth_type,
        level,
        pad_length,
        context_id: cursor.u32()?,
        value: cursor.rest(),
    };
    let end = start
        .checked_sub(usize::from(pad_length))
        .ok_or(PduError::BadTrailer)?;
    Ok(Cut {
        content: bytes.get(HEADER_LENGTH..end).ok_or(PduError::BadTrailer)?,
        padded: HEADER_LENGTH..start,
        trailer: Some(trailer),
    })
}
