//! The administrator: challenges, answers, the admin key; and the end of the initialisation state.

use super::security::Role;
use super::{Card, CardError, Connection};
use crate::event::Event;
use crate::record::{CardRecord, TpmRecord};
use crate::secret::AdminKeyBytes;
use crate::token::{
    AdminAnswer, AdminError, AdminForm, CardStore, PinError, PinReference, StoreError, Token,
    TokenErrorKind, TokenRecord,
};

/// The record and its store as the token sees them: its own part, saved before it is current.
struct Ledger<'a> {
    record: &'a mut CardRecord,
    store: &'a mut dyn CardStore,
}

impl TokenRecord for Ledger<'_> {
    fn current(&self) -> &TpmRecord {
        &self.record.tpm
    }

    fn save(&mut self, tpm: TpmRecord) -> Result<(), StoreError> {
        let mut record = self.record.clone();
        record.tpm = tpm;
        self.store.save(&record)?;
        *self.record = record;
        Ok(())
    }
}

impl Card {
    /// Whether somebody can be this card's administrator.
    #[must_use]
    pub fn has_administrator(&self) -> bool {
        self.record.tpm.vault.is_some()
    }

    /// A challenge, 8 bytes (external) or 16 (mutual), to which no right answer was given yet.
    /// It stays good until somebody answers it, on whatever connection.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`]: `NotConfigured` without administrator, `Full` when all are used up.
    pub fn admin_challenge(&mut self, form: AdminForm) -> Result<Vec<u8>, CardError> {
        Ok(self.token.challenge(&self.record.tpm, form)?)
    }

    /// Judges the answer to a challenge; the mutual form gives the card's cryptogram. A right one makes this
    /// connection the administrator's until a minute after its last use; a wrong one, which the TPM counts,
    /// ends that.
    ///
    /// # Errors
    ///
    /// [`CardError::Admin`]; [`CardError::Token`], [`CardError::Store`] when it could not be judged.
    pub fn admin_answer(
        &mut self,
        connection: &mut Connection,
        challenge: &[u8],
        answer: AdminAnswer<'_>,
    ) -> Result<Option<[u8; 40]>, CardError> {
        let result = self.with_ledger(|token, ledger| token.answer(ledger, challenge, answer));
        match result {
            Ok(cryptogram) => {
                let now = self.clock.now();
                self.security.grant(&connection.mark, Role::Admin, now);
                self.happened(Event::AdminAuthenticated);
                Ok(cryptogram)
            }
            // It was not looked at: whoever is authenticated stays so.
            Err(error @ AdminError::Delayed { .. }) => Err(error.into()),
            Err(error) => {
                if let AdminError::Wrong = error {
                    self.happened(Event::AdminFailed);
                }
                self.change_security(|security| security.revoke(&connection.mark, Role::Admin));
                self.end_unused_administration();
                Err(error.into())
            }
        }
    }

    /// Sets a new admin key, by the administrator who is authenticated on this connection.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`] with `NotAuthenticated` without one, or when the answer is more than a minute
    /// old; others, after which the card has the old key or the new one.
    pub fn change_admin_key(
        &mut self,
        connection: &mut Connection,
        key: &AdminKeyBytes,
    ) -> Result<(), CardError> {
        if !self.has_role(connection, Role::Admin) {
            return Err(TokenErrorKind::NotAuthenticated.into());
        }
        let result = self.with_ledger(|token, ledger| token.replace_key(ledger, key));
        match result {
            Err(AdminError::Token(error)) if error.kind() == TokenErrorKind::NotAuthenticated => {
                // The proof is over sooner than the role.
                self.change_security(|security| security.revoke(&connection.mark, Role::Admin));
                Err(error.into())
            }
            other => {
                other?;
                self.happened(Event::AdminKeyChanged);
                Ok(())
            }
        }
    }

    /// PUT KEY in initialisation state. The first value stays until activation, so that an interrupted
    /// personalisation can be begun again.
    pub(crate) fn initialise_admin_key(&mut self, key: &AdminKeyBytes) -> Result<(), CardError> {
        let first = self
            .record
            .provisional
            .as_ref()
            .and_then(|values| values.adm);
        let is_replaced =
            || CardError::Conflict("the card's first admin value is replaced already".into());
        let first = first.map(zeroize::Zeroizing::new).ok_or_else(is_replaced)?;
        match self.with_ledger(|token, ledger| token.initialise_key(ledger, &first, key)) {
            Err(AdminError::Wrong) => {
                // By an activation that could not be saved: as in a life of the host that knows of it.
                self.first_admin_value_gone();
                Err(is_replaced())
            }
            other => Ok(other?),
        }
    }

    /// Ends the initialisation state. Every first value that is left becomes random bytes that nobody knows: else a
    /// copy of the file from before could always reset the card. `arrange` changes what else of the record belongs
    /// to the new state, in the same write.
    pub(crate) fn activate(
        &mut self,
        arrange: impl FnOnce(&mut CardRecord),
    ) -> Result<(), CardError> {
        let Some(provisional) = self.record.provisional.clone() else {
            return Ok(());
        };
        if let Some(first) = provisional.adm {
            let first = zeroize::Zeroizing::new(first);
            self.with_ledger(|token, ledger| token.replace_first_value(ledger, &first))?;
            self.first_admin_value_gone();
        }
        for (reference, first) in [
            (PinReference::Pin, provisional.pin),
            (PinReference::Puk, provisional.puk),
        ] {
            if first.is_none() {
                continue;
            }
            self.forget_status(reference);
            let done = self.with_ledger(|token, ledger| {
                token.initialise(ledger, reference, &provisional, None)
            });
            match done {
                Ok(()) => {}
                // An interrupted CHANGE REFERENCE DATA had reached the TPM.
                Err(PinError::Token(error)) if error.kind() == TokenErrorKind::NotAuthenticated => {
                }
                Err(error) => return Err(error.into()),
            }
            self.first_value_gone(reference);
        }
        let mut record = self.record.clone();
        record.provisional = None;
        arrange(&mut record);
        if record.lengths.pin.is_empty() {
            // Nobody knows the PIN, whatever its length; the record wants one.
            record.lengths.pin = vec![u8::MAX >> 1];
        }
        self.commit(record)?;
        self.happened(Event::Personalised);
        Ok(())
    }

    fn first_admin_value_gone(&mut self) {
        let mut record = self.record.clone();
        if let Some(provisional) = &mut record.provisional {
            provisional.adm = None;
        }
        self.note_done(record);
    }

    pub(super) fn with_ledger<R, E>(
        &mut self,
        work: impl FnOnce(&mut dyn Token, &mut dyn TokenRecord) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut ledger = Ledger {
            record: &mut self.record,
            store: self.store.as_mut(),
        };
        work(self.token.as_mut(), &mut ledger)
    }
}
