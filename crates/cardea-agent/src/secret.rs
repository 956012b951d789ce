//! What was typed: in one place of fixed size, erased in the end, and out through a pipe.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest PIN or PUK in bytes.
pub(crate) const MAX: usize = 127;

/// A secret that a person has typed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret {
    bytes: [u8; MAX],
    length: usize,
    too_long: bool,
}

impl Secret {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; MAX],
            length: 0,
            too_long: false,
        }
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut secret = Self::new();
        for byte in bytes {
            secret.push(*byte);
        }
        secret
    }

    pub(crate) fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.too_long = true,
        }
    }

    /// Whether more was typed than there is room for.
    pub(crate) fn is_too_long(&self) -> bool {
        self.too_long
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The read end of a pipe that has it, for a message.
    pub(crate) fn pipe(&self) -> io::Result<zbus::OwnedFd> {
        let (reader, mut writer) = io::pipe()?;
        // Less than a pipe takes at once.
        writer.write_all(self.expose())?;
        Ok(OwnedFd::from(reader).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_pin_is_noticed() {
        assert!(!Secret::of(&[1; MAX]).is_too_long());
        let long = Secret::of(&[1; MAX + 1]);
        assert!(long.is_too_long());
        assert_eq!(long.expose().len(), MAX);
    }
}
