//! Where names, identifiers and certificates of keys are kept.
//!
//! The doors other than APDUs show of a key what programs see that talk to the card's applications, so there is one
//! place for it, and an application provides it. The engine and the doors know this trait alone.

use std::fmt;

use super::error::CardError;
use crate::key_number::KeyNumber;
use crate::record::{CardId, CardRecord};
use crate::token::{KeyAlgorithm, KeyClass};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUsage {
    /// Sign and decrypt.
    Exchange,
    /// Sign only.
    Signature,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Name shown to people, 1 to 127 bytes without control characters; `None` = a random one.
    pub label: Option<String>,
    /// What RSA keys are offered for; elliptic-curve keys sign and agree on secrets.
    pub usage: KeyUsage,
    /// PIN once or every time.
    pub class: KeyClass,
    /// Identifier that a client chose for it, 1 to 255 bytes; `None` = the catalogue's.
    pub id: Option<Vec<u8>>,
}

/// A part of the record that tells keys apart for people and programs. Every change is made to a copy of the record,
/// which becomes the card's with everything else that belongs to the change.
pub trait Catalogue: fmt::Debug + Send + Sync {
    /// The id that programs know the card by, absent on a card that has no file system.
    fn card_id(&self, record: &CardRecord) -> Option<CardId>;

    /// Replaces the card id. False: there is no place for one.
    fn set_card_id(&self, record: &mut CardRecord, id: CardId) -> bool;

    /// Empties the catalogue and gives the card this id.
    fn format(&self, record: &mut CardRecord, id: CardId);

    /// A number for a new key; that of the client's identifier, if it can be: then all doors show the same.
    fn free_number(
        &self,
        record: &CardRecord,
        algorithm: KeyAlgorithm,
        id: Option<&[u8]>,
    ) -> Option<KeyNumber>;

    /// Enters a key that the record has by now, under a name. True: the whole name is kept here.
    ///
    /// # Errors
    ///
    /// [`CardError::Conflict`] without a file system, [`CardError::Token`] with `Full`.
    fn add(
        &self,
        record: &mut CardRecord,
        key: KeyNumber,
        algorithm: KeyAlgorithm,
        new: &NewKey,
        name: &str,
    ) -> Result<bool, CardError>;

    /// Removes a key's entry and its certificate.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    fn remove(&self, record: &mut CardRecord, key: KeyNumber) -> Result<(), CardError>;

    /// Gives a key another name. True: the whole name is kept here.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    fn rename(
        &self,
        record: &mut CardRecord,
        key: KeyNumber,
        name: &str,
    ) -> Result<bool, CardError>;

    /// The name that is kept here.
    fn name(&self, record: &CardRecord, key: KeyNumber) -> Option<String>;

    /// The identifier that a key has without one of a client's.
    fn id(&self, key: KeyNumber) -> Option<Vec<u8>>;

    /// What a key is offered for, if it is offered here at all.
    fn usage(&self, record: &CardRecord, key: KeyNumber) -> Option<KeyUsage>;

    /// The certificate of a key, DER, whoever stored it; none when the file is not a certificate.
    fn certificate(&self, record: &CardRecord, key: KeyNumber) -> Option<Vec<u8>>;

    /// Stores the certificate of a key in place of an earlier one.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    fn store_certificate(
        &self,
        record: &mut CardRecord,
        key: KeyNumber,
        der: &[u8],
    ) -> Result<(), CardError>;

    /// Removes the certificate of a key. False: there was none.
    fn remove_certificate(&self, record: &mut CardRecord, key: KeyNumber) -> bool;

    /// Notes that the PIN or the PUK changes, for programs that keep what they know of the card.
    fn note_pin_change(&self, record: &mut CardRecord);
}
