//! Session keys: made in the token like the card's own keys and used by the same decision, but kept in memory alone.
//!
//! A session key belongs to the program that asked for it and ends with it, or with the card. It is not among the card's
//! 30 keys, has no name, and is never written anywhere.

use std::fmt;
use std::sync::{Arc, Weak};

use super::error::CardError;
use super::keys::Material;
use super::{Card, Connection};
use crate::event::Event;
use crate::key_number::KeyNumber;
use crate::record::KeyRecord;
use crate::secret::PrivateKey;
use crate::token::{KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, TokenErrorKind};

/// Session keys of one card.
const MAX_OF_CARD: usize = 64;
/// Session keys of one program on one card.
const MAX_OF_PROGRAM: usize = 32;

/// A program that has session keys: they end when this is dropped.
#[derive(Debug, Default)]
pub struct SessionKeyOwner(Arc<()>);

impl SessionKeyOwner {
    /// Whether some card has a session key of this program.
    #[must_use]
    pub fn has_any(&self) -> bool {
        Arc::weak_count(&self.0) > 0
    }
}

/// Names a session key. It is random: whoever knows it has it from the program whose key it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionKeyId(u64);

impl SessionKeyId {
    /// From a message.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// As messages have it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Without the number, which is for its program alone.
impl fmt::Debug for SessionKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeyId")
    }
}

/// A key that is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// One of the card's.
    Card(KeyNumber),
    /// One of a session.
    Session(SessionKeyId),
}

impl From<KeyNumber> for KeyReference {
    fn from(number: KeyNumber) -> Self {
        Self::Card(number)
    }
}

impl From<SessionKeyId> for KeyReference {
    fn from(id: SessionKeyId) -> Self {
        Self::Session(id)
    }
}

/// A session key as the card keeps it.
pub(super) struct SessionKey {
    id: SessionKeyId,
    owner: Weak<()>,
    key: KeyRecord,
}

impl SessionKey {
    /// The key of this name, if its program is still there.
    pub(super) fn find(keys: &[Self], id: SessionKeyId) -> Option<&KeyRecord> {
        let mut alive = keys.iter().filter(|key| key.is_alive());
        alive.find(|key| key.id == id).map(|key| &key.key)
    }

    pub(super) fn records(keys: &[Self]) -> impl Iterator<Item = &KeyRecord> {
        keys.iter().map(|key| &key.key)
    }

    fn is_alive(&self) -> bool {
        self.owner.strong_count() > 0
    }

    fn belongs_to(&self, owner: &SessionKeyOwner) -> bool {
        std::ptr::eq(self.owner.as_ptr(), Arc::as_ptr(&owner.0))
    }
}

impl Card {
    /// Makes a session key in the token; needs the PIN verified on this connection.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `Full` (32 of one program, 64 in all), `Unsupported`, and others.
    pub fn generate_session_key(
        &mut self,
        connection: &Connection,
        owner: &SessionKeyOwner,
        algorithm: KeyAlgorithm,
        class: KeyClass,
    ) -> Result<(SessionKeyId, KeyInfo), CardError> {
        self.add_session_key(connection, owner, Material::Generated(algorithm), class)
    }

    /// Takes a key that was made elsewhere as a session key.
    ///
    /// # Errors
    ///
    /// As [`generate_session_key`](Self::generate_session_key); `BadData` when the key's parts do not fit each other.
    pub fn import_session_key(
        &mut self,
        connection: &Connection,
        owner: &SessionKeyOwner,
        key: &PrivateKey,
        class: KeyClass,
    ) -> Result<(SessionKeyId, KeyInfo), CardError> {
        self.add_session_key(connection, owner, Material::Imported(key), class)
    }

    fn add_session_key(
        &mut self,
        connection: &Connection,
        owner: &SessionKeyOwner,
        material: Material<'_>,
        class: KeyClass,
    ) -> Result<(SessionKeyId, KeyInfo), CardError> {
        self.need_user(connection)?;
        let own = self.session_keys.iter().filter(|key| key.belongs_to(owner));
        if self.session_keys.len() >= MAX_OF_CARD || own.count() >= MAX_OF_PROGRAM {
            return Err(TokenErrorKind::Full.into());
        }
        let key = self.make_object(NO_NUMBER, material, class)?;
        let info = self
            .token
            .describe(&key)
            .inspect_err(|_| self.token.forget(&key))?;
        self.happened(match info.origin {
            KeyOrigin::Generated => Event::SessionKeyGenerated,
            KeyOrigin::Imported => Event::SessionKeyImported,
        });
        let id = self.new_session_key_id();
        self.session_keys.push(SessionKey {
            id,
            owner: Arc::downgrade(&owner.0),
            key,
        });
        Ok((id, info))
    }

    /// The TPM object of a session key, which may become one of the card's keys.
    pub(crate) fn session_key_object(&self, id: SessionKeyId) -> Result<&KeyRecord, CardError> {
        SessionKey::find(&self.session_keys, id).ok_or_else(|| TokenErrorKind::NotConfigured.into())
    }

    /// Whether there is such a session key.
    #[must_use]
    pub fn has_session_key(&self, id: SessionKeyId) -> bool {
        SessionKey::find(&self.session_keys, id).is_some()
    }

    /// Ends a session key of this program. False: it has none of this name.
    pub fn delete_session_key(&mut self, owner: &SessionKeyOwner, id: SessionKeyId) -> bool {
        let before = self.session_keys.len();
        self.retain_session_keys(|key| key.id != id || !key.belongs_to(owner));
        self.session_keys.len() < before
    }

    /// Ends all session keys of this program.
    pub fn delete_session_keys(&mut self, owner: &SessionKeyOwner) {
        self.retain_session_keys(|key| !key.belongs_to(owner));
    }

    /// Ends the keys of programs that are gone.
    pub(super) fn expire_session_keys(&mut self) {
        self.retain_session_keys(SessionKey::is_alive);
    }

    fn retain_session_keys(&mut self, keep: impl Fn(&SessionKey) -> bool) {
        for SessionKey { key, .. } in self.session_keys.extract_if(.., |key| !keep(key)) {
            self.token.forget(&key);
        }
    }

    fn new_session_key_id(&mut self) -> SessionKeyId {
        loop {
            let mut bytes = [0; 8];
            self.fill_random(&mut bytes);
            let id = SessionKeyId(u64::from_ne_bytes(bytes));
            if !self.session_keys.iter().any(|key| key.id == id) {
                return id;
            }
        }
    }
}

/// In the token's record of a key, where the card's keys have their number.
const NO_NUMBER: u8 = 0;
