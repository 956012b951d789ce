//! Status words (ISO 7816-4 §5.6).

use std::fmt;

/// SW1 and SW2 of a response.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusWord(u16);

impl StatusWord {
    /// `90 00`: done.
    pub const SUCCESS: Self = Self(0x9000);
    /// `62 85`: the selected file is terminated.
    pub const SELECTED_FILE_TERMINATED: Self = Self(0x6285);
    /// `63 00`: wrong PIN or PUK, and nothing is said of its counter.
    pub const VERIFICATION_FAILED: Self = Self(0x6300);
    /// `64 00`: execution failed, nothing changed.
    pub const EXECUTION_ERROR_UNCHANGED: Self = Self(0x6400);
    /// `65 81`: what was to be stored could not be.
    pub const MEMORY_FAILURE: Self = Self(0x6581);
    /// `67 00`: wrong length.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// `68 81`: the logical channel is not supported.
    pub const CHANNEL_NOT_SUPPORTED: Self = Self(0x6881);
    /// `68 82`: secure messaging is not supported.
    pub const SECURE_MESSAGING_NOT_SUPPORTED: Self = Self(0x6882);
    /// `68 83`: the last command of the chain was expected.
    pub const LAST_OF_CHAIN_EXPECTED: Self = Self(0x6883);
    /// `68 84`: command chaining is not supported.
    pub const CHAINING_NOT_SUPPORTED: Self = Self(0x6884);
    /// `69 81`: the command does not fit the kind of file.
    pub const WRONG_FILE_KIND: Self = Self(0x6981);
    /// `69 82`: the access rule is not met.
    pub const SECURITY_STATUS_NOT_SATISFIED: Self = Self(0x6982);
    /// `69 83`: the PIN or PUK is blocked.
    pub const AUTHENTICATION_BLOCKED: Self = Self(0x6983);
    /// `69 84`: the reference data cannot be used.
    pub const REFERENCE_DATA_UNUSABLE: Self = Self(0x6984);
    /// `69 85`: out of sequence, or conditions of use not met.
    pub const CONDITIONS_NOT_SATISFIED: Self = Self(0x6985);
    /// `69 86`: no current EF, or not allowed in this life cycle state.
    pub const NO_CURRENT_EF: Self = Self(0x6986);
    /// `6A 80`: malformed data field.
    pub const WRONG_DATA: Self = Self(0x6A80);
    /// `6A 81`: the function is not supported.
    pub const FUNCTION_NOT_SUPPORTED: Self = Self(0x6A81);
    /// `6A 82`: file or application not found.
    pub const FILE_NOT_FOUND: Self = Self(0x6A82);
    /// `6A 84`: not enough memory.
    pub const NOT_ENOUGH_MEMORY: Self = Self(0x6A84);
    /// `6A 85`: Lc does not fit the TLV structure.
    pub const LC_TLV_MISMATCH: Self = Self(0x6A85);
    /// `6A 86`: wrong P1 or P2.
    pub const WRONG_P1_P2: Self = Self(0x6A86);
    /// `6A 87`: Lc does not fit P1 and P2.
    pub const LC_P1_P2_MISMATCH: Self = Self(0x6A87);
    /// `6A 88`: data object, key or PIN reference not found.
    pub const REFERENCE_NOT_FOUND: Self = Self(0x6A88);
    /// `6A 89`: the file exists already.
    pub const FILE_EXISTS: Self = Self(0x6A89);
    /// `6D 00`: unknown instruction.
    pub const INSTRUCTION_NOT_SUPPORTED: Self = Self(0x6D00);
    /// `6E 00`: unknown class.
    pub const CLASS_NOT_SUPPORTED: Self = Self(0x6E00);
    /// `6F 00`: failed, no diagnosis.
    pub const NO_DIAGNOSIS: Self = Self(0x6F00);

    /// The status word with this value, SW1 in the upper byte.
    #[must_use]
    pub const fn new(value: u16) -> Self {
        Self(value)
    }

    /// `61 xx`: `left` more bytes wait for GET RESPONSE; `00` stands for 256 and more.
    #[must_use]
    pub const fn more_data(left: u8) -> Self {
        Self(u16::from_be_bytes([0x61, left]))
    }

    /// `61 xx` for a number of bytes that may be larger than SW2 can tell.
    #[must_use]
    pub fn more_data_of(left: usize) -> Self {
        Self::more_data(u8::try_from(left).unwrap_or(0))
    }

    /// `63 Cx`: wrong PIN or PUK, or its counter asked for; x is at most F, which means "F or more".
    #[must_use]
    pub const fn tries_left(left: u32) -> Self {
        Self(if left < 0x0F {
            0x63C0 | left as u16
        } else {
            0x63CF
        })
    }

    /// The counter of a `63 Cx`.
    #[must_use]
    pub const fn counter(self) -> Option<u8> {
        match self.to_bytes() {
            [0x63, sw2 @ 0xC0..=0xCF] => Some(sw2 & 0x0F),
            _ => None,
        }
    }

    /// SW1 in the upper, SW2 in the lower byte.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// SW1.
    #[must_use]
    pub const fn sw1(self) -> u8 {
        let [sw1, _] = self.to_bytes();
        sw1
    }

    /// SW2.
    #[must_use]
    pub const fn sw2(self) -> u8 {
        let [_, sw2] = self.to_bytes();
        sw2
    }

    /// The two bytes as they stand on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

impl From<[u8; 2]> for StatusWord {
    fn from(bytes: [u8; 2]) -> Self {
        Self(u16::from_be_bytes(bytes))
    }
}

impl fmt::Display for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X} {:02X}", self.sw1(), self.sw2())
    }
}

impl fmt::Debug for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusWord({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_beyond_the_nibble_are_shown_as_f() {
        assert_eq!(StatusWord::tries_left(0).value(), 0x63C0);
        assert_eq!(StatusWord::tries_left(5).value(), 0x63C5);
        assert_eq!(StatusWord::tries_left(14).value(), 0x63CE);
        assert_eq!(StatusWord::tries_left(15).value(), 0x63CF);
        assert_eq!(StatusWord::tries_left(u32::MAX).value(), 0x63CF);
    }

    #[test]
    fn counter_is_read_from_63_cx_only() {
        assert_eq!(StatusWord::new(0x63C3).counter(), Some(3));
        assert_eq!(StatusWord::new(0x6303).counter(), None);
        assert_eq!(StatusWord::new(0x69C3).counter(), None);
    }

    #[test]
    fn more_than_255_waiting_bytes_are_shown_as_zero() {
        assert_eq!(StatusWord::more_data_of(14).value(), 0x610E);
        assert_eq!(StatusWord::more_data_of(255).value(), 0x61FF);
        assert_eq!(StatusWord::more_data_of(256).value(), 0x6100);
        assert_eq!(StatusWord::more_data_of(70_000).value(), 0x6100);
    }

    #[test]
    fn status_word_is_shown_as_two_bytes() {
        assert_eq!(StatusWord::WRONG_P1_P2.to_string(), "6A 86");
        assert_eq!(format!("{:?}", StatusWord::SUCCESS), "StatusWord(90 00)");
        assert_eq!(StatusWord::from([0x90, 0x00]), StatusWord::SUCCESS);
    }
}
