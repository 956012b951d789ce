//! Session keys of a program, over the socket.

use cardea_card::token::{KeyClass, TokenErrorKind};
use cardea_card::{CardError, SessionKeyId};
use cardea_client::message::{
    Failure, FailureKind, NewKey, Operation, Reply, SecretBytes, SessionKeyMaterial,
};

use crate::failure::fail;
use crate::holder::CardVisit;
use crate::holder::contents::{importable, new_key, private_operation, summary_of};
use crate::host::hosted::Body;

impl CardVisit<'_> {
    pub(crate) fn make_session_key(
        &self,
        class: KeyClass,
        material: &SessionKeyMaterial,
    ) -> Result<Reply, Failure> {
        let owner = &self.logins.session_keys;
        let made = match material {
            SessionKeyMaterial::Generated(algorithm) => self.with_login(|card, connection| {
                Ok(card.generate_session_key(connection, owner, *algorithm, class))
            }),
            SessionKeyMaterial::Imported(key) => {
                let key = importable(key)?;
                self.with_login(|card, connection| {
                    Ok(card.import_session_key(connection, owner, &key, class))
                })
            }
        }?;
        let (key, info) = made.map_err(|error| match &error {
            CardError::Token(refused) if refused.kind() == TokenErrorKind::Full => fail(
                FailureKind::Full,
                "there is no room for another session key; delete one that is no longer needed",
            ),
            _ => self.explained(&error),
        })?;
        Ok(Reply::SessionKey {
            key: key.get(),
            public: info.public,
        })
    }

    /// Makes a session key one of the card's keys, too.
    pub(crate) fn keep_session_key(&self, key: u64, new: &NewKey) -> Result<Reply, Failure> {
        let new = new_key(new)?;
        let key = SessionKeyId::new(key);
        let summary = self
            .with_login(|card, connection| {
                let number = card.keep_session_key(connection, key, &new)?;
                summary_of(card, number)
            })
            .map_err(|failure| self.of_session_key(key, failure))?;
        log_done!(self, "session key kept on the card");
        Ok(Reply::Key(Box::new(summary)))
    }

    /// It may be only that there is no such key.
    fn of_session_key(&self, key: SessionKeyId, failure: Failure) -> Failure {
        match self.with_card(|card, _| Ok(card.has_session_key(key))) {
            Ok(false) => no_session_key(),
            _ => failure,
        }
    }

    pub(crate) fn use_session_key(
        &self,
        key: u64,
        operation: &Operation,
    ) -> Result<Reply, Failure> {
        let key = SessionKeyId::new(key);
        let result = self
            .use_by_login(key.into(), private_operation(operation))
            .map_err(|failure| self.of_session_key(key, failure))?;
        Ok(Reply::Result(SecretBytes::new(result.to_vec())))
    }

    pub(crate) fn delete_session_key(&self, key: u64) -> Result<Reply, Failure> {
        let owner = &self.logins.session_keys;
        let key = SessionKeyId::new(key);
        if self.with_card(|card, _| Ok(card.delete_session_key(owner, key)))? {
            Ok(Reply::Done)
        } else {
            Err(no_session_key())
        }
    }

    /// Ends the program's session keys on this card.
    pub(super) fn end_session_keys(&self) {
        if let Body::Live(live) = &mut *self.card.body() {
            live.delete_session_keys(&self.logins.session_keys);
        }
    }
}

fn no_session_key() -> Failure {
    fail(
        FailureKind::NotFound,
        "there is no such session key, or it has ended",
    )
}
