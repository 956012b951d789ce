//! PIN and PUK: comparison, change, counters, and the lengths that CHANGE REFERENCE DATA needs.

use std::error::Error;
use std::time::Duration;

use super::security::{Role, Security};
use super::session_keys::SessionKey;
use super::{Card, CardError, Connection};
use crate::event::Event;
use crate::record::{CardRecord, IndexRole};
use crate::secret::Pin;
use crate::token::{KeyClass, PinError, PinReference, PinStatus, TokenErrorKind, Unblocker};
use cardea_terms::{PinPolicy, PinRuleError};

/// How long a counter that was read may be shown again. Clients poll it before and after everything,
/// and reading it costs several TPM commands; what the engine itself does to it is known at once.
const STATUS_LIFE: Duration = Duration::from_secs(2);

/// Who notes in the card's file system that a PIN or PUK changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotedBy {
    /// The client, by commands of its own (as Windows' minidriver does).
    Client,
    /// The engine.
    Engine,
}

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
        let status = self.token.status(&self.record.tpm, reference)?;
        *self.statuses.entry(reference) = Some((self.clock.now(), status));
        Ok(status)
    }

    /// The counter as last read; read now only when it never was, or something was done to it since.
    /// What other software does to the TPM shows later.
    ///
    /// # Errors
    ///
    /// As [`pin_status`](Self::pin_status).
    pub fn known_pin_status(&mut self, reference: PinReference) -> Result<PinStatus, CardError> {
        match *self.statuses.entry(reference) {
            Some((_, status)) => Ok(status),
            None => self.pin_status(reference),
        }
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

    /// Wrong tries that block, as the record has it; none: the card has no such index.
    #[must_use]
    pub fn pin_limit(&self, reference: PinReference) -> Option<u32> {
        let role = match reference {
            PinReference::Pin => IndexRole::Pin,
            PinReference::Puk => IndexRole::Puk,
        };
        let mut indices = self.record.tpm.indices.iter();
        let index = indices.find(|index| index.role == role);
        index.map(|index| index.limit)
    }

    /// Whether the card has a PUK.
    #[must_use]
    pub fn has_puk(&self) -> bool {
        let mut roles = self.record.tpm.roles();
        !self.record.lengths.puk.is_empty() || roles.any(|role| role == IndexRole::Puk)
    }

    /// Whether a new PIN or PUK obeys the card's policy: asked before a try is spent on the old one.
    ///
    /// # Errors
    ///
    /// [`CardError::Rule`] names the rule; [`CardError::Token`] without a PUK.
    pub fn check_new(&self, reference: PinReference, new: &Pin) -> Result<(), CardError> {
        self.must_have(reference)?;
        Ok(self.policy(reference).check(new.expose())?)
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
        self.settle_length(reference, pin.len());
        self.grant(connection, reference);
        Ok(())
    }

    fn grant(&mut self, connection: &Connection, reference: PinReference) {
        let now = self.clock.now();
        self.security.grant(&connection.mark, reference.into(), now);
        if reference == PinReference::Pin && self.has_always_keys() {
            self.security.arm(&connection.mark, now);
        }
    }

    fn has_always_keys(&self) -> bool {
        let own = self.record.keys.iter();
        let mut keys = own.chain(SessionKey::records(&self.session_keys));
        keys.any(|key| {
            self.token
                .describe(key)
                .is_ok_and(|info| info.class == KeyClass::Always)
        })
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
        self.replace(connection, reference, old, new, NotedBy::Engine)
    }

    /// CHANGE REFERENCE DATA: old and new value without delimiter, to be cut at the recorded length.
    ///
    /// `new` of no valid length breaks the policy, but only after the old value was compared: lengths
    /// cannot be probed without spending tries.
    pub(crate) fn change_joined(
        &mut self,
        connection: &mut Connection,
        reference: PinReference,
        joined: &[u8],
    ) -> Result<(), CardError> {
        self.must_have(reference)?;
        let (old, new) = self.matching_cut(connection, reference, joined)?;
        match new {
            Ok(new) => self.replace(connection, reference, &old, &new, NotedBy::Client),
            Err(error) => {
                self.end_unused_verification();
                self.end_unused_administration();
                Err(error)
            }
        }
    }

    /// The present value at the beginning of `joined`, compared with success, and what follows it.
    ///
    /// After an interrupted change there are two recorded lengths. The newer is tried first; the other
    /// only while more than one try is left, so that the guess never blocks the card by itself.
    fn matching_cut(
        &mut self,
        connection: &Connection,
        reference: PinReference,
        joined: &[u8],
    ) -> Result<(Pin, Result<Pin, CardError>), CardError> {
        let lengths = self.lengths(reference).clone();
        let mut refused = CardError::from(TokenErrorKind::NotConfigured);
        let policy = match reference {
            PinReference::Pin => self.pin_policy,
            PinReference::Puk => PinPolicy::puk(),
        };
        for (position, length) in lengths.iter().enumerate() {
            // Shorter than the old value alone: wrong, and counted as such.
            let (old, new) = joined
                .split_at_checked(usize::from(*length))
                .unwrap_or((joined, &[]));
            let Ok(old) = Pin::new(old) else {
                return Err(CardError::Rule(policy.length_error()));
            };
            match self.compare(connection, reference, &old) {
                Ok(()) => {
                    let new = Pin::new(new).map_err(|_| CardError::Rule(policy.length_error()));
                    return Ok((old, new));
                }
                Err(CardError::Pin(PinError::Wrong { left })) => {
                    refused = CardError::Pin(PinError::Wrong { left });
                    // A count that is hidden may be the last.
                    if left.is_none_or(|left| left <= 1) || position + 1 == lengths.len() {
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
        noted_by: NotedBy,
    ) -> Result<(), CardError> {
        if let Err(error) = self.policy(reference).check(new.expose()) {
            self.end_unused_verification();
            self.end_unused_administration();
            return Err(CardError::Rule(error));
        }
        let candidates = vec![new.len(), old.len()];
        if let Err(error) = self.announce_change(reference, candidates, noted_by) {
            self.end_unused_verification();
            self.end_unused_administration();
            return Err(error);
        }
        self.forget_status(reference);
        let changed = self.with_ledger(|token, ledger| token.change(ledger, reference, old, new));
        // The token has ended every verification, whatever it answered.
        self.change_security(Security::clear);
        if let Err(error) = changed {
            self.token.logout();
            return Err(error.into());
        }
        self.happened(match reference {
            PinReference::Pin => Event::PinChanged,
            PinReference::Puk => Event::PukChanged,
        });
        self.settle_length(reference, new.len());
        // The comparison counts as verification (GIDS 2.0, CHANGE REFERENCE DATA). The change itself
        // is done: if this fails, the client is merely asked for the PIN again.
        match self.with_ledger(|token, ledger| token.verify(ledger, reference, new)) {
            Ok(()) => self.grant(connection, reference),
            Err(error) => tracing::warn!(
                error = &error as &dyn Error,
                "the new PIN could not be verified at once"
            ),
        }
        Ok(())
    }

    /// Sets a new PIN by the PUK, and gives it its tries back. A wrong PUK costs one of its own tries.
    ///
    /// # Errors
    ///
    /// [`CardError::Pin`] for the PUK; [`CardError::Rule`]; [`CardError::Store`] before anything was changed;
    /// [`CardError::Token`], after which the PIN may be blocked with the new value.
    pub fn unblock_by_puk(
        &mut self,
        connection: &mut Connection,
        puk: &Pin,
        new: &Pin,
    ) -> Result<(), CardError> {
        self.compare(connection, PinReference::Puk, puk)?;
        self.settle_length(PinReference::Puk, puk.len());
        let result = self.set_pin(Unblocker::Puk, new, NotedBy::Engine);
        self.end_unused_administration();
        result
    }

    /// RESET RETRY COUNTER with P1 = 00: PUK and new PIN without delimiter, cut as
    /// [`change_joined`](Self::change_joined) does.
    pub(crate) fn unblock_joined(
        &mut self,
        connection: &mut Connection,
        joined: &[u8],
    ) -> Result<(), CardError> {
        self.must_have(PinReference::Puk)?;
        let (puk, new) = self.matching_cut(connection, PinReference::Puk, joined)?;
        self.settle_length(PinReference::Puk, puk.len());
        let result = new.and_then(|new| self.set_pin(Unblocker::Puk, &new, NotedBy::Client));
        self.end_unused_administration();
        result
    }

    /// Sets a new PIN by the administrator who is authenticated on this connection, and gives it its tries
    /// back. Afterwards nobody is authenticated on this connection.
    ///
    /// # Errors
    ///
    /// As [`unblock_by_puk`](Self::unblock_by_puk); `NotAuthenticated` without administrator,
    /// [`CardError::Conflict`] on a card with a PUK.
    pub fn unblock_by_admin(
        &mut self,
        connection: &mut Connection,
        new: &Pin,
    ) -> Result<(), CardError> {
        if self.has_puk() {
            return Err(CardError::Conflict(
                "the PIN of a card with a PUK is unblocked by the PUK".into(),
            ));
        }
        if !self.has_role(connection, Role::Admin) {
            return Err(TokenErrorKind::NotAuthenticated.into());
        }
        self.set_pin(Unblocker::Admin, new, NotedBy::Engine)?;
        self.deauthenticate(connection);
        Ok(())
    }

    /// A new PIN, which the token accepts from somebody whom it has authenticated.
    fn set_pin(&mut self, by: Unblocker, new: &Pin, noted_by: NotedBy) -> Result<(), CardError> {
        self.pin_policy.check(new.expose())?;
        let mut candidates = vec![new.len()];
        candidates.extend(self.record.lengths.pin.first());
        self.announce_change(PinReference::Pin, candidates, noted_by)?;
        self.forget_status(PinReference::Pin);
        let done = self.with_ledger(|token, ledger| token.unblock(ledger, by, new));
        // The present PIN may be another one now, whatever the token answered.
        self.end_all_verifications();
        done?;
        self.happened(Event::PinUnblocked);
        self.settle_length(PinReference::Pin, new.len());
        Ok(())
    }

    /// CHANGE REFERENCE DATA with P1 = 01: the first PIN or PUK of a card in initialisation state.
    pub(crate) fn initialise_pin(
        &mut self,
        reference: PinReference,
        new: &Pin,
    ) -> Result<(), CardError> {
        self.must_have(reference)?;
        self.policy(reference).check(new.expose())?;
        let Some(provisional) = self.record.provisional.clone() else {
            return Err(TokenErrorKind::NotAuthenticated.into());
        };
        self.announce_change(reference, vec![new.len()], NotedBy::Client)?;
        self.forget_status(reference);
        let done = self.with_ledger(|token, ledger| {
            token.initialise(ledger, reference, &provisional, Some(new))
        });
        match done {
            Err(PinError::Token(error)) if error.kind() == TokenErrorKind::NotAuthenticated => {
                // Set before, and nobody is left who could set it again.
                return Err(CardError::Conflict("this value is set already".into()));
            }
            other => other?,
        }
        self.first_value_gone(reference);
        Ok(())
    }

    /// Notes that the token has another value than the random first one.
    pub(super) fn first_value_gone(&mut self, reference: PinReference) {
        let mut record = self.record.clone();
        if let Some(provisional) = &mut record.provisional {
            match reference {
                PinReference::Pin => provisional.pin = None,
                PinReference::Puk => provisional.puk = None,
            }
        }
        self.note_done(record);
    }

    /// The comparison alone, with its consequences if it fails.
    fn compare(
        &mut self,
        connection: &Connection,
        reference: PinReference,
        pin: &Pin,
    ) -> Result<(), CardError> {
        self.must_have(reference)?;
        if let Err(rule) = self.policy(reference).check_length(pin.expose()) {
            return Err(self.refuse_form(connection, reference, rule));
        }
        self.forget_status(reference);
        let compared = self.with_ledger(|token, ledger| token.verify(ledger, reference, pin));
        let Err(error) = compared else {
            return Ok(());
        };
        if let PinError::Wrong { left } = &error {
            let left = *left;
            let (failed, blocked) = match reference {
                PinReference::Pin => (Event::PinFailed { left }, Event::PinBlocked),
                PinReference::Puk => (Event::PukFailed { left }, Event::PukBlocked),
            };
            self.happened(failed);
            if left == Some(0) {
                self.happened(blocked);
            }
        }
        match (&error, reference) {
            (PinError::Wrong { left: Some(0) } | PinError::Blocked, PinReference::Pin) => {
                self.end_all_verifications();
            }
            (PinError::Wrong { .. }, _) | (PinError::Blocked, PinReference::Puk) => {
                self.change_security(|security| {
                    security.revoke(&connection.mark, reference.into())
                });
            }
            (PinError::Store(_) | PinError::Token(_), _) => {}
        }
        Err(error.into())
    }

    /// What a value is refused with that the card cannot have: a slip of the fingers costs no try. What was verified
    /// on the connection ends as with any other incorrect value.
    fn refuse_form(
        &mut self,
        connection: &Connection,
        reference: PinReference,
        rule: PinRuleError,
    ) -> CardError {
        self.change_security(|security| security.revoke(&connection.mark, reference.into()));
        match self.known_pin_status(reference) {
            Ok(PinStatus { left: 0, .. }) => PinError::Blocked.into(),
            Ok(PinStatus { left, .. }) => CardError::PinForm {
                rule,
                left: Some(left),
            },
            Err(error) if error.is_hidden_count() => CardError::PinForm { rule, left: None },
            Err(error) => error,
        }
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

    /// Saves what belongs to a change before the TPM makes it: afterwards a full disk could only turn the TPM's yes
    /// into a no. Both lengths, because a crash in between must not make a later CHANGE REFERENCE DATA cut at the
    /// wrong place; the note for programs, which at worst read again what is as it was.
    fn announce_change(
        &mut self,
        reference: PinReference,
        mut candidates: Vec<u8>,
        noted_by: NotedBy,
    ) -> Result<(), CardError> {
        candidates.dedup();
        let mut record = self.record.clone();
        if noted_by == NotedBy::Engine {
            self.catalogue().note_pin_change(&mut record);
        }
        *Self::lengths_mut(&mut record, reference) = candidates;
        Ok(self.commit(record)?)
    }

    fn save_lengths(&mut self, reference: PinReference, lengths: Vec<u8>) -> Result<(), CardError> {
        let mut record = self.record.clone();
        *Self::lengths_mut(&mut record, reference) = lengths;
        Ok(self.commit(record)?)
    }

    fn lengths_mut(record: &mut CardRecord, reference: PinReference) -> &mut Vec<u8> {
        match reference {
            PinReference::Pin => &mut record.lengths.pin,
            PinReference::Puk => &mut record.lengths.puk,
        }
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

    pub(super) fn forget_status(&mut self, reference: PinReference) {
        *self.statuses.entry(reference) = None;
    }

    fn must_have(&self, reference: PinReference) -> Result<(), CardError> {
        if reference == PinReference::Puk && !self.has_puk() {
            return Err(TokenErrorKind::NotConfigured.into());
        }
        Ok(())
    }
}
