//! GUIDs, in the byte order of the wire.

use std::fmt;

/// A GUID: of an interface, a class, an interface pointer, a chain of calls.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid([u8; 16]);

impl Guid {
    /// Sixteen zeros.
    pub const NIL: Self = Self([0; 16]);

    /// A GUID from its number: `0x112B1DFF_D9DC_41F7_869F_D67FEE7CB591` is written
    /// `112B1DFF-D9DC-41F7-869F-D67FEE7CB591`.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        let [
            d0,
            d1,
            d2,
            d3,
            e0,
            e1,
            f0,
            f1,
            g0,
            g1,
            g2,
            g3,
            g4,
            g5,
            g6,
            g7,
        ] = number.to_be_bytes();
        // The first three fields are little endian on the wire, the last eight bytes are in order.
        Self([
            d3, d2, d1, d0, e1, e0, f1, f0, g0, g1, g2, g3, g4, g5, g6, g7,
        ])
    }

    /// A GUID that COM defines: `NUMBER-0000-0000-C000-000000000046`.
    #[must_use]
    pub const fn of_com(number: u32) -> Self {
        Self::from_u128(((number as u128) << 96) | 0xC000_0000_0000_0046)
    }

    /// A GUID as it is on the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The GUID as it is on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether all bytes are zero.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        *self == Self::NIL
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [
            d0,
            d1,
            d2,
            d3,
            e0,
            e1,
            f0,
            f1,
            g0,
            g1,
            g2,
            g3,
            g4,
            g5,
            g6,
            g7,
        ] = self.0;
        write!(
            f,
            "{d3:02X}{d2:02X}{d1:02X}{d0:02X}-{e1:02X}{e0:02X}-{f1:02X}{f0:02X}-{g0:02X}{g1:02X}-\
             {g2:02X}{g3:02X}{g4:02X}{g5:02X}{g6:02X}{g7:02X}"
        )
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid_is_mixed_endian_on_the_wire_and_in_order_as_text() {
        let guid = Guid::from_u128(0x112B_1DFF_D9DC_41F7_869F_D67F_EE7C_B591);
        assert_eq!(
            guid.as_bytes(),
            b"\xff\x1d\x2b\x11\xdc\xd9\xf7\x41\x86\x9f\xd6\x7f\xee\x7c\xb5\x91"
        );
        assert_eq!(guid.to_string(), "112B1DFF-D9DC-41F7-869F-D67FEE7CB591");
        assert_eq!(
            Guid::of_com(0x1A2).to_string(),
            "000001A2-0000-0000-C000-000000000046"
        );
        assert!(!guid.is_nil() && Guid::NIL.is_nil());
    }
}
