//! Use of private keys: one decision for every door.
//!
//! A key is used under the PIN that this connection has verified; a key that wants the PIN every time once after
//! each verification, however that one operation ends. An operation counts as use of the key (`Event::KeyUsed`) from
//! when the token has taken it, whether or not it succeeds: of those that are begun here and done without the card,
//! nothing more is known when they are recorded.

use zeroize::Zeroizing;

use super::error::CardError;
use super::session_keys::{KeyReference, SessionKey};
use super::{Card, Connection};
use crate::event::Event;
use crate::record::{CardRecord, KeyRecord};
use crate::token::{KeyClass, PendingResult, PrivateOperation, TokenErrorKind};

/// An operation of [`Card::begin_use`].
pub struct PendingOperation(PendingResult);

impl PendingOperation {
    /// Does it, and waits for its turn in the token.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`], to be reported to [`Card::finish_use`].
    pub fn run(self) -> Result<Zeroizing<Vec<u8>>, CardError> {
        Ok((self.0)()?)
    }
}

impl Card {
    /// Uses a key; needs the PIN verified on this connection, for keys that want it every time just before.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotAuthenticated`, `NotConfigured` for an unknown number, `BadData`,
    /// `KeyUse` and others.
    pub fn use_key(
        &mut self,
        connection: &mut Connection,
        key: impl Into<KeyReference>,
        operation: PrivateOperation<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, CardError> {
        let key = key.into();
        self.begin_use(connection, key, operation)?
            .run()
            .inspect_err(|error| self.finish_use(key, error))
    }

    /// [`use_key`](Self::use_key) in two steps: who may is decided here, the work is done without the card, so
    /// that other connections are not kept waiting, and its end is reported to [`finish_use`](Self::finish_use).
    ///
    /// # Errors
    ///
    /// As [`use_key`](Self::use_key), as far as it can be known without the TPM.
    pub fn begin_use(
        &mut self,
        connection: &mut Connection,
        key: impl Into<KeyReference>,
        operation: PrivateOperation<'_>,
    ) -> Result<PendingOperation, CardError> {
        let key = key.into();
        self.admit_use(connection, key)?;
        let record = find(&self.record, &self.session_keys, key)?;
        let pending = self.token.begin(record, operation)?;
        self.happened(match key {
            KeyReference::Card(number) => Event::KeyUsed(number),
            KeyReference::Session(_) => Event::SessionKeyUsed,
        });
        Ok(PendingOperation(pending))
    }

    /// The effect of a failed operation on verifications: the token has ended the verification, unless it was only
    /// that of a key which needs a new one every time.
    pub fn finish_use(&mut self, key: impl Into<KeyReference>, error: &CardError) {
        let CardError::Token(error) = error else {
            return;
        };
        let every_time = matches!(self.class_of(key.into()), Ok(KeyClass::Always));
        if error.kind() == TokenErrorKind::NotAuthenticated && !every_time {
            self.end_all_verifications();
        }
    }

    /// Whether this connection may use the key now. With a key that wants the PIN every time, that is used up.
    fn admit_use(&mut self, connection: &Connection, key: KeyReference) -> Result<(), CardError> {
        find(&self.record, &self.session_keys, key)?;
        self.need_user(connection)?;
        if self.class_of(key)? == KeyClass::Always {
            if !self.security.is_armed_by(&connection.mark) {
                return Err(TokenErrorKind::NotAuthenticated.into());
            }
            // However the operation ends; the token sees to its own half.
            self.security.disarm();
        }
        Ok(())
    }

    fn class_of(&self, key: KeyReference) -> Result<KeyClass, CardError> {
        let record = find(&self.record, &self.session_keys, key)?;
        Ok(self.token.describe(record)?.class)
    }
}

/// The key in the card's record or among those of sessions.
fn find<'a>(
    record: &'a CardRecord,
    session_keys: &'a [SessionKey],
    key: KeyReference,
) -> Result<&'a KeyRecord, CardError> {
    let found = match key {
        KeyReference::Card(number) => record.key(number),
        KeyReference::Session(id) => SessionKey::find(session_keys, id),
    };
    found.ok_or_else(|| TokenErrorKind::NotConfigured.into())
}
