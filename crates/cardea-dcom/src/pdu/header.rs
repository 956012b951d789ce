//! The header that all packets have in common (C706 §12.6.3.1).

use crate::bytes::Buffer;
use crate::pdu::error::PduError;

/// Length of a [`Header`].
pub const HEADER_LENGTH: usize = 16;

/// The longest fragment that is accepted or made: what Windows and Samba offer.
pub const MAX_FRAGMENT: u16 = 5840;

/// The shortest limit that a peer may have (C706 §12.6, MustRecvFragSize).
pub const MIN_FRAGMENT: u16 = 1432;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PduKind {
    /// A call.
    Request = 0,
    /// Its result.
    Response = 2,
    /// Its failure.
    Fault = 3,
    /// Begins a connection.
    Bind = 11,
    /// The answer to it.
    BindAck = 12,
    /// Its refusal.
    BindNak = 13,
    /// More presentation contexts, or another leg of an authentication.
    AlterContext = 14,
    /// The answer to it.
    AlterContextResponse = 15,
    /// The last leg of an authentication; has no answer.
    Auth3 = 16,
    /// The server is going away.
    Shutdown = 17,
    /// The client wants its call ended.
    CoCancel = 18,
    /// The client no longer wants the answer.
    Orphaned = 19,
}

impl PduKind {
    /// The kind of a number on the wire.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Request,
            2 => Self::Response,
            3 => Self::Fault,
            11 => Self::Bind,
            12 => Self::BindAck,
            13 => Self::BindNak,
            14 => Self::AlterContext,
            15 => Self::AlterContextResponse,
            16 => Self::Auth3,
            17 => Self::Shutdown,
            18 => Self::CoCancel,
            19 => Self::Orphaned,
            _ => return None,
        })
    }

    /// Whether such packets may come in several fragments.
    #[must_use]
    pub const fn may_be_fragmented(self) -> bool {
        matches!(self, Self::Request | Self::Response | Self::Fault)
    }
}

/// Bits of a header, `pfc_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// First fragment.
    pub const FIRST: Self = Self(0x01);
    /// Last fragment.
    pub const LAST: Self = Self(0x02);
    /// The only fragment.
    pub const WHOLE: Self = Self(0x03);
    /// In [`PduKind::Bind`] and its like: headers can be signed.
    pub const HEADER_SIGNING: Self = Self(0x04);
    /// Several calls at once on one connection.
    pub const MULTIPLEXING: Self = Self(0x10);
    /// In [`PduKind::Fault`]: the call was not executed.
    pub const DID_NOT_EXECUTE: Self = Self(0x20);
    /// In [`PduKind::Request`]: the number of an object is there.
    pub const OBJECT: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The header of a packet, as it was sent: nothing but its byte order has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the protocol, major and minor.
    pub version: (u8, u8),
    /// See [`Header::kind`].
    pub type_number: u8,
    /// `pfc_flags`.
    pub flags: Flags,
    /// Byte order, text and floating-point format of the sender.
    pub representation: [u8; 4],
    /// Length of the whole packet.
    pub fragment_length: u16,
    /// Length of the authentication value at the end; 0: there is no security trailer.
    pub auth_length: u16,
    /// Number of the call.
    pub call_id: u32,
}

impl Header {
    /// Reads a header. Every header can be read, so that an unacceptable one can be answered: see [`Header::check`].
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_LENGTH]) -> Self {
        let [
            major,
            minor,
            type_number,
            flags,
            r0,
            r1,
            r2,
            r3,
            f0,
            f1,
            a0,
            a1,
            c0,
            c1,
            c2,
            c3,
        ] = *bytes;
        let representation = [r0, r1, r2, r3];
        let is_little = r0 & 0xF0 != 0;
        let u16 = |bytes| match is_little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        };
        Self {
            version: (major, minor),
            type_number,
            flags: Flags(flags),
            representation,
            fragment_length: u16([f0, f1]),
            auth_length: u16([a0, a1]),
            call_id: match is_little {
                true => u32::from_le_bytes([c0, c1, c2, c3]),
                false => u32::from_be_bytes([c0, c1, c2, c3]),
            },
        }
    }

    /// A header that is about to be written; lengths come later.
    #[must_use]
    pub(crate) fn new(kind: PduKind, flags: Flags, call_id: u32) -> Self {
        Self {
            version: (5, 0),
            type_number: kind as u8,
            flags,
            representation: LITTLE_ENDIAN,
            fragment_length: 0,
            auth_length: 0,
            call_id,
        }
    }

    pub(crate) fn write(&self, out: &mut Buffer) {
        out.bytes(&[
            self.version.0,
            self.version.1,
            self.type_number,
            self.flags.0,
        ]);
        out.bytes(&self.representation);
        out.u16(self.fragment_length);
        out.u16(self.auth_length);
        out.u32(self.call_id);
    }

    /// What the packet is, if it is spoken here.
    #[must_use]
    pub const fn kind(&self) -> Option<PduKind> {
        PduKind::from_wire(self.type_number)
    }

    /// Checks version, byte order, kind and lengths, before the rest of the packet is received.
    ///
    /// Big-endian senders are refused: no client of the interfaces served here is one.
    ///
    /// # Errors
    /// What is not acceptable; [`crate::pdu::refusal`] makes the answer.
    pub fn check(&self) -> Result<PduKind, PduError> {
        let (major, minor) = self.version;
        if major != 5 || minor > 1 {
            return Err(PduError::Version { major, minor });
        }
        if self.representation.first() != LITTLE_ENDIAN.first() {
            return Err(PduError::ByteOrder);
        }
        let kind = self.kind().ok_or(PduError::Type(self.type_number))?;
        if !kind.may_be_fragmented() && !self.flags.has(Flags::WHOLE) {
            return Err(PduError::Fragments);
        }
        let trailer = match usize::from(self.auth_length) {
            0 => 0,
            value => value.saturating_add(TRAILER_LENGTH),
        };
        let length = usize::from(self.fragment_length);
        if length < HEADER_LENGTH || self.fragment_length > MAX_FRAGMENT {
            return Err(PduError::FragmentLength);
        }
        if length < HEADER_LENGTH.saturating_add(trailer) {
            return Err(PduError::BadTrailer);
        }
        Ok(kind)
    }
}

/// Little endian, ASCII, IEEE.
pub(crate) const LITTLE_ENDIAN: [u8; 4] = [0x10, 0, 0, 0];

/// Length of a security trailer without its value.
pub(crate) const TRAILER_LENGTH: usize = 8;
