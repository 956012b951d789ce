//! PIN and PUK: comparison, change, counters, and the lengths that CHANGE REFERENCE DATA needs.

use std::error::Error;
use std::time::Duration;

use super::{Card, CardError, Connection};
use crate::pin_policy::PinPolicy;
use crate::secret::Pin;
use crate::token::{PinError, PinReference, PinStatus, TokenErrorKind};

/// How long a counter that was read may be shown again. Clients poll it before and after everything,
/// and reading it costs several TPM commands; what the engine itself does to it is known at once.
const STATUS_LIFE: Duration = Duration::from_secs(2);

/// Counters read lately.
#[derive(Debug, Default)]
pub(crate) struct StatusCache {
    pin: Option<(Duration, PinStatus)>,
    puk: Option<(Duration, PinStatus)>,
}

impl StatusCache {
    fn entry(&mut self, reference: PinReference) -> &mut Option<(Duration, PinStatus)> {
        match reference {
            PinReference::Pin => &mut self.pin,
            PinReference::Puk => &mut self.puk,
        }
    }
}

impl Card {
    /// The counter as the TPM has it now.
    ///
    /// # Errors
    ///
    /// [`CardError::Token`], `NotConfigured` for the PUK of a card without one.
    pub fn pin_status(&mut self, reference: PinReference) -> Result<PinStatus, CardError> {
        self.must_have(reference)?;
        let status = self.token.status(reference)?;
        *self.statuses.entry(reference) = Some((self.clock.now(), status));
        Ok(status)
    }

    /// The counter for display, at most [`STATUS_LIFE`] old.
    pub(crate) fn recent_pin_status(
        &mut self,
        reference: PinReference,
    ) -> Result<PinStatus, CardError> {
        let now = self.clock.now();
        match *self.statuses.entry(reference) {
            Some((read, status)) if now.saturating_sub(read) < STATUS_LIFE => Ok(status),
            _ => self.pin_status(reference),
        }
    }

    /// Whether the card has a PUK.
    #[must_use]
    pub fn has_puk(&self) -> bool {
        !self.record.lengths.puk.is_empty()
    }

    /// Compares a PIN or PUK; a right PIN lets this connection use the card's keys.
    ///
    /// A wrong one costs one try, counted by the TPM, and ends what was verified on this connection;
    /// the last one ends it on all.
    ///
    /// # Errors
    ///
    /// [`CardError::Pin`], [`CardError::Token`].
    pub fn verify_pin(
        &mut self,
        connection: &mut Connection,
        reference: PinReference,
        pin: &Pin,
    ) -> Result<(), CardError> {
        self.compare(connection, reference, pin)?;
        let now = self.clock.now();
        self.security.grant(&connection.mark, reference, now);
        self.settle_length(reference, pin.len());
        Ok(())
    }

    /// Replaces a PIN or PUK by a new one that obeys the card's policy.
    ///
    /// Ends what is verified on every connection; afterwards the reference is verified on this one.
    ///
    /// # Errors
    ///
    /// [`CardError::Pin`] for a wrong old value, which costs one try; [`CardError::Rule`];
    /// [`CardError::Store`] before anything was changed; [`CardError::Token`].
    pub fn change_pin(
        &mut self,
        connection: &mut Connection,
        reference: PinReference,
        old: &Pin,
        new: &Pin,
    ) -> Result<(), CardError> {
        self.compare(connection, reference, old)?;
        self.replace(connection, reference, old, new)
    }

    /// CHANGE REFERENCE DATA: old and new value without delimiter, to be cut at the recorded length.
    ///
    /// After an interrupted change there are two recorded lengths. The newer is tried first; the other
    /// only while more than one try is left, so that the guess never blocks the card by itself.
    /// `new` of no valid length breaks the policy, but only after the old value was compared: lengths
    /// cannot be probed without spending tries.
    pub(crate) fn change_joined(
        &mut self,
        connection: &mut Connection,
        reference: PinReference,
        joined: &[u8],
    ) -> Result<(), CardError> {
        self.must_have(reference)?;
        let lengths = self.lengths(reference).clone();
        let mut refused = CardError::from(TokenErrorKind::NotConfigured);
        for (position, length) in lengths.iter().enumerate() {
            // Shorter than the old value alone: wrong, and counted as such.
            let (old, new) = joined
                .split_at_checked(usize::from(*length))
                .unwrap_or((joined, &[]));
            let Ok(old) = Pin::new(old) else {
                return Err(CardError::Rule(self.policy(reference).length_error()));
            };
            match self.compare(connection, reference, &old) {
                Ok(()) => {
                    let new = Pin::new(new)
                        .map_err(|_| CardError::Rule(self.policy(reference).length_error()));
                    return match new {
                        Ok(new) => self.replace(connection, reference, &old, &new),
                        Err(error) => {
                            self.end_unused_verification();
                            Err(error)
                        }
                    };
                }
                Err(CardError::Pin(PinError::Wrong { left })) => {
                    refused = CardError::Pin(PinError::Wrong { left });
                    if left <= 1 || position + 1 == lengths.len() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// The new value, after the old one was compared.
    fn replace(
        &mut self,
        connection: &mut Connection,
        reference: PinReference,
        old: &Pin,
        new: &Pin,
    ) -> Result<(), CardError> {
        if let Err(error) = self.policy(reference).check(new) {
            self.end_unused_verification();
            return Err(CardError::Rule(error));
        }
        // Both lengths are on disk before the TPM changes: a crash in between must not make
        // a later CHANGE REFERENCE DATA cut at the wrong place.
        let mut candidates = vec![new.len(), old.len()];
        candidates.dedup();
        if let Err(error) = self.save_lengths(reference, candidates) {
            self.end_unused_verification();
            return Err(error);
        }
        self.forget_status(reference);
        let changed = self.token.change(reference, old, new);
        // The token has ended every verification, whatever it answered.
        self.security.clear();
        if let Err(error) = changed {
            self.token.logout();
            return Err(error.into());
        }
        self.settle_length(reference, new.len());
        // The comparison counts as verification (GIDS 2.0, CHANGE REFERENCE DATA). The change itself
        // is done: if this fails, the client is merely asked for the PIN again.
        match self.token.verify(reference, new) {
            Ok(()) => {
                let now = self.clock.now();
                self.security.grant(&connection.mark, reference, now);
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn Error,
                "the new PIN could not be verified at once"
            ),
        }
        Ok(())
    }

    /// The comparison alone, with its consequences if it fails.
    fn compare(
        &mut self,
        connection: &Connection,
        reference: PinReference,
        pin: &Pin,
    ) -> Result<(), CardError> {
        self.must_have(reference)?;
        self.forget_status(reference);
        let Err(error) = self.token.verify(reference, pin) else {
            return Ok(());
        };
        match (&error, reference) {
            (PinError::Wrong { left: 0 }, _) | (PinError::Blocked, PinReference::Pin) => {
                self.end_all_verifications();
            }
            (PinError::Wrong { .. }, _) | (PinError::Blocked, PinReference::Puk) => {
                self.change_security(|security| security.revoke(&connection.mark, reference));
            }
            (PinError::Token(_), _) => {}
        }
        Err(error.into())
    }

    /// A right PIN of this length was seen: that is the length, whatever was recorded.
    fn settle_length(&mut self, reference: PinReference, length: u8) {
        if self.lengths(reference).as_slice() == [length] {
            return;
        }
        if let Err(error) = self.save_lengths(reference, vec![length]) {
            // Both candidates stay on record; the next verification tries again.
            tracing::warn!(
                error = &error as &dyn Error,
                "the length of the PIN could not be saved"
            );
        }
    }

    fn save_lengths(&mut self, reference: PinReference, lengths: Vec<u8>) -> Result<(), CardError> {
        let mut record = self.record.clone();
        match reference {
            PinReference::Pin => record.lengths.pin = lengths,
            PinReference::Puk => record.lengths.puk = lengths,
        }
        Ok(self.commit(record)?)
    }

    fn lengths(&self, reference: PinReference) -> &Vec<u8> {
        match reference {
            PinReference::Pin => &self.record.lengths.pin,
            PinReference::Puk => &self.record.lengths.puk,
        }
    }

    fn policy(&self, reference: PinReference) -> PinPolicy {
        match reference {
            PinReference::Pin => self.pin_policy,
            PinReference::Puk => PinPolicy::puk(),
        }
    }

    fn forget_status(&mut self, reference: PinReference) {
        *self.statuses.entry(reference) = None;
    }

    fn must_have(&self, reference: PinReference) -> Result<(), CardError> {
        if reference == PinReference::Puk && !self.has_puk() {
            return Err(TokenErrorKind::NotConfigured.into());
        }
        Ok(())
    }
}
