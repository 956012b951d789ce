//! A card of which a part is gone: the index of its administrator or its PUK alone was deleted or replaced.
//!
//! PIN and keys work on. What needs the part is refused by every door in the same words, and never as a wrong PUK or
//! a wrong answer, which would be counted against a person who made no mistake.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use cardea_card::record::{IndexRole, KeyRecord, Provisional, TpmRecord};
use cardea_card::secret::{AdminKeyBytes, Pin, PrivateKey};
use cardea_card::token::{
    AdminAnswer, AdminAuthority, AdminError, AdminForm, KeyAlgorithm, KeyClass, KeyInfo, KeyStore,
    PendingResult, PinAuthority, PinError, PinReference, PinStatus, PrivateOperation, RecoveryKey,
    Token, TokenError, TokenErrorKind, TokenRecord, Unblocker,
};
use cardea_client::message::Part;
use cardea_tpm::Chip;
use zeroize::Zeroizing;

/// Which parts of a card are gone.
#[derive(Debug, Default)]
pub(crate) struct GoneParts(AtomicU8);

impl GoneParts {
    /// As the TPM was last found.
    pub(crate) fn set(&self, roles: &[IndexRole]) {
        let bits = roles.iter().fold(0, |bits, role| bits | bit(*role));
        self.0.store(bits, Ordering::Relaxed);
    }

    pub(crate) fn has(&self, role: IndexRole) -> bool {
        self.0.load(Ordering::Relaxed) & bit(role) != 0
    }

    /// In the words of the socket.
    pub(crate) fn parts(&self) -> Vec<Part> {
        [
            (IndexRole::Adm, Part::Administrator),
            (IndexRole::Puk, Part::Puk),
        ]
        .into_iter()
        .filter_map(|(role, part)| self.has(role).then_some(part))
        .collect()
    }
}

fn bit(role: IndexRole) -> u8 {
    match role {
        IndexRole::Pin => 0,
        IndexRole::Adm => 1,
        IndexRole::Puk => 2,
    }
}

/// A card's token without the parts that are gone.
pub(crate) struct Partial {
    token: Box<dyn Token>,
    chip: Arc<dyn Chip>,
    /// What tells whose the indices are.
    record: TpmRecord,
    gone: Arc<GoneParts>,
}

impl Partial {
    pub(crate) fn new(
        token: Box<dyn Token>,
        chip: Arc<dyn Chip>,
        record: &TpmRecord,
        gone: Arc<GoneParts>,
    ) -> Self {
        Self {
            token,
            chip,
            record: TpmRecord {
                vault: None,
                previous_vault: None,
                ..record.clone()
            },
            gone,
        }
    }

    /// Refuses what needs a part that is gone.
    fn require(&self, role: IndexRole) -> Result<(), TokenError> {
        match self.gone.has(role) {
            true => Err(refusal(role)),
            false => Ok(()),
        }
    }

    /// Whether a part of which something failed is there no more.
    fn is_lost(&self, role: IndexRole) -> bool {
        if role == IndexRole::Pin {
            return false;
        }
        match self.chip.lost_parts(&self.record) {
            Ok(lost) => {
                self.gone.set(&lost);
                lost.contains(&role)
            }
            // Nothing is known of it.
            Err(_) => false,
        }
    }

    /// Something about a PIN or PUK.
    fn about_pin<R>(
        &mut self,
        role: IndexRole,
        work: impl FnOnce(&mut dyn Token) -> Result<R, PinError>,
    ) -> Result<R, PinError> {
        self.require(role)?;
        work(&mut *self.token).map_err(|error| match self.is_lost(role) {
            true => refusal(role).into(),
            false => error,
        })
    }

    /// Something about a part that is not a comparison.
    fn about<R>(
        &mut self,
        role: IndexRole,
        work: impl FnOnce(&mut dyn Token) -> Result<R, TokenError>,
    ) -> Result<R, TokenError> {
        self.require(role)?;
        work(&mut *self.token).map_err(|error| match self.is_lost(role) {
            true => refusal(role),
            false => error,
        })
    }

    /// Something about the administrator.
    fn about_admin<R>(
        &mut self,
        work: impl FnOnce(&mut dyn Token) -> Result<R, AdminError>,
    ) -> Result<R, AdminError> {
        self.require(IndexRole::Adm)?;
        work(&mut *self.token).map_err(|error| {
            // One that came too soon was not looked at.
            let delayed = matches!(error, AdminError::Delayed { .. });
            match !delayed && self.is_lost(IndexRole::Adm) {
                true => refusal(IndexRole::Adm).into(),
                false => error,
            }
        })
    }
}

/// The failure of everything that needs the part.
fn refusal(role: IndexRole) -> TokenError {
    let text = match role {
        IndexRole::Adm => ADMINISTRATOR_GONE,
        IndexRole::Pin | IndexRole::Puk => PUK_GONE,
    };
    TokenError::new(TokenErrorKind::Gone, text)
}

const ADMINISTRATOR_GONE: &str = "the index of its administrator was deleted or replaced; PIN and keys still work, but the card no longer has an administrator; create a new card while its keys can still be used";
const PUK_GONE: &str = "the index of its PUK was deleted or replaced; PIN and keys still work, but a blocked PIN can no longer be unblocked; create a new card while its keys can still be used";

fn role_of(reference: PinReference) -> IndexRole {
    match reference {
        PinReference::Pin => IndexRole::Pin,
        PinReference::Puk => IndexRole::Puk,
    }
}

impl KeyStore for Partial {
    fn supports(&self, algorithm: KeyAlgorithm) -> bool {
        self.token.supports(algorithm)
    }

    fn generate(
        &mut self,
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError> {
        self.token.generate(reference, algorithm, class)
    }

    fn generate_recoverable(
        &mut self,
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
        keys: &[RecoveryKey],
    ) -> Result<KeyRecord, TokenError> {
        self.token
            .generate_recoverable(reference, algorithm, class, keys)
    }

    fn describe(&self, key: &KeyRecord) -> Result<KeyInfo, TokenError> {
        self.token.describe(key)
    }

    fn operate(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.token.operate(key, operation)
    }

    fn begin(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<PendingResult, TokenError> {
        self.token.begin(key, operation)
    }

    fn import(
        &mut self,
        reference: u8,
        key: &PrivateKey,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError> {
        self.token.import(reference, key, class)
    }

    fn forget(&mut self, key: &KeyRecord) {
        self.token.forget(key);
    }
}

impl PinAuthority for Partial {
    fn status(
        &mut self,
        record: &TpmRecord,
        reference: PinReference,
    ) -> Result<PinStatus, TokenError> {
        self.about(role_of(reference), |token| token.status(record, reference))
    }

    fn verify(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        pin: &Pin,
    ) -> Result<(), PinError> {
        self.about_pin(role_of(reference), |token| {
            token.verify(record, reference, pin)
        })
    }

    fn change(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        old: &Pin,
        new: &Pin,
    ) -> Result<(), PinError> {
        self.about_pin(role_of(reference), |token| {
            token.change(record, reference, old, new)
        })
    }

    fn unblock(
        &mut self,
        record: &mut dyn TokenRecord,
        by: Unblocker,
        new: &Pin,
    ) -> Result<(), PinError> {
        let role = match by {
            Unblocker::Admin => IndexRole::Adm,
            Unblocker::Puk => IndexRole::Puk,
        };
        self.about_pin(role, |token| token.unblock(record, by, new))
    }

    fn initialise(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        provisional: &Provisional,
        new: Option<&Pin>,
    ) -> Result<(), PinError> {
        self.about_pin(role_of(reference), |token| {
            token.initialise(record, reference, provisional, new)
        })
    }

    fn logout(&mut self) {
        self.token.logout();
    }

    fn disarm(&mut self) {
        self.token.disarm();
    }
}

impl AdminAuthority for Partial {
    fn challenge(&mut self, record: &TpmRecord, form: AdminForm) -> Result<Vec<u8>, TokenError> {
        self.require(IndexRole::Adm)?;
        self.token.challenge(record, form)
    }

    fn answer(
        &mut self,
        record: &mut dyn TokenRecord,
        challenge: &[u8],
        answer: AdminAnswer<'_>,
    ) -> Result<Option<[u8; 40]>, AdminError> {
        self.about_admin(|token| token.answer(record, challenge, answer))
    }

    fn replace_key(
        &mut self,
        record: &mut dyn TokenRecord,
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError> {
        self.about_admin(|token| token.replace_key(record, key))
    }

    fn initialise_key(
        &mut self,
        record: &mut dyn TokenRecord,
        first_value: &[u8; 32],
        key: &AdminKeyBytes,
    ) -> Result<(), AdminError> {
        self.about_admin(|token| token.initialise_key(record, first_value, key))
    }

    fn replace_first_value(
        &mut self,
        record: &mut dyn TokenRecord,
        first_value: &[u8; 32],
    ) -> Result<(), AdminError> {
        self.about_admin(|token| token.replace_first_value(record, first_value))
    }

    fn end_administration(&mut self) {
        self.token.end_administration();
    }

    fn expire_administration(&mut self) {
        self.token.expire_administration();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_that_were_last_found_gone() {
        let gone = GoneParts::default();
        assert!(gone.parts().is_empty());
        gone.set(&[IndexRole::Puk, IndexRole::Adm]);
        assert_eq!(gone.parts(), [Part::Administrator, Part::Puk]);
        gone.set(&[IndexRole::Puk]);
        assert!(gone.has(IndexRole::Puk) && !gone.has(IndexRole::Adm));
        gone.set(&[]);
        assert!(gone.parts().is_empty());
    }
}
