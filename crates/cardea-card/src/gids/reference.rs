//! Key references of GIDS, and the keys, files and containers that they stand for.

use crate::key_number::KeyNumber;

/// A key reference as commands carry it: `80` is the administrator's, `81` to `9E` are the user's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyReference(u8);

impl KeyReference {
    /// The administrator's key; the PIN has the same number in another name space.
    pub(crate) const ADMINISTRATOR: Self = Self(0x80);

    /// Any byte: what it stands for, if anything, is found out by looking for it.
    pub(crate) const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The reference by which GIDS knows a key of the card; none when it cannot know it.
    pub(crate) fn of(key: KeyNumber) -> Option<Self> {
        let reference = Self(key.get());
        reference.key().map(|_| reference)
    }

    /// That of the key in a container, by its index.
    pub(crate) fn of_container(index: u8) -> Option<Self> {
        let reference = Self(FIRST.checked_add(index)?);
        reference.key().map(|_| reference)
    }

    /// That of the key in a key file.
    pub(crate) fn of_file(id: u16) -> Self {
        let [_, reference] = id.to_be_bytes();
        Self(reference)
    }

    /// Those of all keys that a card can have.
    pub(crate) fn all() -> impl DoubleEndedIterator<Item = Self> {
        (FIRST..=LAST).map(Self)
    }

    /// The number of the user's key that it stands for, whether or not the card has that key.
    pub(crate) fn key(self) -> Option<KeyNumber> {
        (FIRST..=LAST)
            .contains(&self.0)
            .then(|| KeyNumber::new(self.0))
    }

    /// As commands carry it.
    pub(crate) fn byte(self) -> u8 {
        self.0
    }

    /// The file of its key: `B0kk`.
    pub(crate) fn file_id(self) -> u16 {
        0xB000 | u16::from(self.0)
    }

    /// The index of the container of a user's key.
    pub(crate) fn container(self) -> Option<u8> {
        self.key().map(|_| self.0 - FIRST)
    }
}

const FIRST: u8 = 0x81;
const LAST: u8 = 0x9E;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_reference_a_file_and_a_container() {
        assert_eq!(KeyReference::all().count(), 30);
        for (index, reference) in KeyReference::all().enumerate() {
            let key = reference.key().unwrap();
            assert_eq!(KeyReference::of(key), Some(reference));
            assert_eq!(KeyReference::of_file(reference.file_id()), reference);
            let container = reference.container().unwrap();
            assert_eq!(usize::from(container), index);
            assert_eq!(KeyReference::of_container(container), Some(reference));
        }
        assert_eq!(KeyReference::of_container(30), None);
    }

    #[test]
    fn the_administrators_reference_is_no_key() {
        assert_eq!(KeyReference::ADMINISTRATOR.key(), None);
        assert_eq!(KeyReference::ADMINISTRATOR.file_id(), 0xB080);
        assert_eq!(KeyReference::of(KeyNumber::new(0x80)), None);
        assert_eq!(KeyReference::of(KeyNumber::new(0x9F)), None);
    }
}
