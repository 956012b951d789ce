//! Interfaces and encodings, as a bind names them.

use crate::Guid;
use crate::bytes::{Buffer, Cursor, Truncated};

/// An interface or an encoding, with its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyntaxId {
    /// Which.
    pub uuid: Guid,
    /// Major version in the low half, minor in the high half.
    pub version: u32,
}

impl SyntaxId {
    /// NDR, the encoding that is spoken here.
    pub const NDR: Self = Self {
        uuid: Guid::from_u128(0x8A88_5D04_1CEB_11C9_9FE8_0800_2B10_4860),
        version: 2,
    };

    /// NDR64, which is refused: whoever offers it offers NDR as well.
    pub const NDR64: Self = Self {
        uuid: Guid::from_u128(0x7171_0533_BEBA_4937_8319_B5DB_EF9C_CC36),
        version: 1,
    };

    /// No encoding: what a refused context is answered with.
    pub const NONE: Self = Self {
        uuid: Guid::NIL,
        version: 0,
    };

    /// An interface of version 0.0, as those of DCOM are.
    #[must_use]
    pub const fn interface(uuid: Guid) -> Self {
        Self { uuid, version: 0 }
    }

    /// The negotiation of features, offered as if it were an encoding (MS-RPCE §2.2.2.14).
    #[must_use]
    pub fn of_features(features: Features) -> Self {
        let mut bytes = *FEATURES.as_bytes();
        if let Some(place) = bytes.get_mut(8) {
            *place = features.0;
        }
        Self {
            uuid: Guid::from_bytes(bytes),
            version: 1,
        }
    }

    /// The features that are offered, if this is their negotiation.
    #[must_use]
    pub fn features(&self) -> Option<Features> {
        let (fixed, bits) = self.uuid.as_bytes().split_first_chunk::<8>()?;
        let is_negotiation = Some(fixed) == FEATURES.as_bytes().first_chunk() && self.version == 1;
        bits.first()
            .filter(|_| is_negotiation)
            .map(|&bits| Features(bits))
    }

    pub(crate) fn read(from: &mut Cursor<'_>) -> Result<Self, Truncated> {
        Ok(Self {
            uuid: from.guid()?,
            version: from.u32()?,
        })
    }

    pub(crate) fn write(&self, out: &mut Buffer) {
        out.guid(&self.uuid);
        out.u32(self.version);
    }
}

const FEATURES: Guid = Guid::from_u128(0x6CB7_1C2C_9812_4540_0000_0000_0000_0000);

/// Features of a connection that both sides may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u8);

impl Features {
    /// Several security contexts on one connection.
    pub const SECURITY_CONTEXTS: Self = Self(1);
    /// A connection survives a call that was abandoned.
    pub const KEEP_ON_ORPHAN: Self = Self(2);
}
