//! What an administrator does to a card as a whole: its name, its settings, its file system.

use crate::engine::{Card, CardError, Connection, Role};
use crate::record::{CardId, ObjectBlob, ReaderVisibility};
use crate::token::TokenErrorKind;
use minicbor::bytes::ByteVec;

impl Card {
    /// The id that Windows and OpenSC know the card by: the administrator's, absent on a blank card.
    #[must_use]
    pub fn card_id(&self) -> Option<CardId> {
        self.catalogue().card_id(self.record())
    }

    /// Gives the card another name: 1 to 127 bytes without control characters, which the caller has checked.
    ///
    /// # Errors
    ///
    /// [`CardError::Store`]; nothing was changed then.
    pub fn rename(&mut self, name: &str) -> Result<(), CardError> {
        let mut record = self.record().clone();
        name.clone_into(&mut record.name);
        Ok(self.commit(record)?)
    }

    /// Changes what the administrator has chosen; `None` leaves it.
    ///
    /// # Errors
    ///
    /// [`CardError::Store`]; nothing was changed then.
    pub fn configure(
        &mut self,
        pin_pad: Option<bool>,
        visibility: Option<ReaderVisibility>,
    ) -> Result<(), CardError> {
        let mut record = self.record().clone();
        if let Some(pin_pad) = pin_pad {
            record.settings.pin_pad = pin_pad;
        }
        if let Some(visibility) = visibility {
            record.settings.visibility = visibility;
        }
        Ok(self.commit(record)?)
    }

    /// Keeps an attestation key for the card, which has none.
    ///
    /// # Errors
    ///
    /// [`CardError::Store`]; nothing was changed then.
    pub fn set_attestation_key(&mut self, key: ObjectBlob) -> Result<(), CardError> {
        let mut record = self.record().clone();
        record.tpm.attestation_key = Some(key);
        Ok(self.commit(record)?)
    }

    /// Keeps the certificates of the attestation key, its own first; none removes them.
    ///
    /// # Errors
    ///
    /// [`CardError::Store`]; nothing was changed then.
    pub fn set_attestation_chain(&mut self, certificates: Vec<ByteVec>) -> Result<(), CardError> {
        let mut record = self.record().clone();
        record.tpm.attestation_chain = (!certificates.is_empty()).then_some(certificates);
        Ok(self.commit(record)?)
    }

    /// By the administrator who is authenticated on this connection: with `wipe`, all keys and files go and a
    /// fresh file system is written; `id`, if there is one, becomes the card id.
    ///
    /// Everything at once: a power cut leaves the card as it was or as it is to be. PIN, PUK and admin key stay.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`] with `NotAuthenticated` without an administrator; [`CardError::Conflict`] for an id
    /// on a card that has no file system and gets none; [`CardError::Store`]; nothing was changed then.
    pub fn provision(
        &mut self,
        connection: &Connection,
        wipe: bool,
        id: Option<CardId>,
    ) -> Result<(), CardError> {
        if !self.has_role(connection, Role::Admin) {
            return Err(TokenErrorKind::NotAuthenticated.into());
        }
        let catalogue = self.catalogue();
        if wipe {
            let kept = id.or_else(|| self.card_id());
            let id = kept.unwrap_or(self.record().id);
            return self.remove_keys(
                |_| true,
                |record| {
                    catalogue.format(record, id);
                    record.objects = None;
                    Ok(())
                },
            );
        }
        let Some(id) = id else { return Ok(()) };
        let mut record = self.record().clone();
        if !catalogue.set_card_id(&mut record, id) {
            return Err(CardError::Conflict(
                "this card has no file system for a card id: have it formatted".into(),
            ));
        }
        Ok(self.commit(record)?)
    }
}
