//! The number of a key on its card.

use std::fmt;

use crate::record::{CardRecord, KeyRecord};

/// What the engine, the audit and the doors other than APDUs call a key: constant for its life, unique on its card.
///
/// It is not an application's name for the key: GIDS has references and PIV has slots, and each application maps them to
/// numbers itself. That numbers are `81` to `9E` is a matter of the card file's first format, which has recorded
/// GIDS's references as the numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyNumber(u8);

impl KeyNumber {
    /// From a message, a command line or a card file.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// As messages and card files have it.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Two hexadecimal digits, as people see it.
impl fmt::Display for KeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl fmt::Debug for KeyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyNumber({self})")
    }
}

impl KeyRecord {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> KeyNumber {
        KeyNumber(self.reference)
    }
}

impl CardRecord {
    /// The key of this number.
    #[must_use]
    pub fn key(&self, number: KeyNumber) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.number() == number)
    }

    /// The key of this number, to be changed.
    pub fn key_mut(&mut self, number: KeyNumber) -> Option<&mut KeyRecord> {
        self.keys.iter_mut().find(|key| key.number() == number)
    }
}
