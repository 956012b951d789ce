//! Hexadecimal digits, as people type them and read them out.

use std::fmt;
use std::str::FromStr;

use cardea_client::dictation::{DictationError, from_dictation};
use zeroize::Zeroizing;

/// Exactly `N` bytes; blanks anywhere do not count.
pub(crate) fn parse<const N: usize>(text: &[u8]) -> Option<Zeroizing<[u8; N]>> {
    // Of its whole size at once: a secret's digits do not stay in what was too small.
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new([0; N]);
    let read = base16ct::mixed::decode(&digits, &mut *bytes).ok()?.len();
    (read == N).then_some(bytes)
}

/// Digits without blanks.
pub(crate) fn plain(bytes: &[u8]) -> String {
    base16ct::upper::encode_string(bytes)
}

/// Digits of a secret, after what `text` has: nothing of them stays elsewhere if `text` has room.
pub(crate) fn push(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
        }
    }
}

/// A challenge or a response: a block of DES.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(pub(crate) [u8; 8]);

impl FromStr for Block {
    type Err = DictationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        from_dictation(text.as_bytes()).map(Self)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Block(8 bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_do_not_count_and_everything_else_does() {
        let block = Block([0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]);
        for text in [
            "0123456789ABCDEF",
            "0123 4567 89ab cdef",
            " 01\t23456789ABCDEF\r\n",
            "0 123456789ABCDE F",
            "0123-4567-89AB-CDEF",
        ] {
            assert_eq!(text.parse(), Ok(block), "{text:?}");
        }
        for text in [
            "",
            "0123456789ABCDE",
            "0123456789ABCDEF0",
            "0123456789ABCDEF01",
            "0123456789ABCDEG",
        ] {
            assert!(text.parse::<Block>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn digits_are_capital_letters() {
        assert_eq!(plain(&[0xAB, 0x0D]), "AB0D");
        let mut text = String::from("hex:");
        push(&mut text, &[0xAB, 0x0D]);
        assert_eq!(text, "hex:AB0D");
    }
}
