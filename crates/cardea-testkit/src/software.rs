//! The traits of `cardea-card` in software: a token, a store, a clock and a source of randomness that
//! tests can steer. Nothing here protects anything.

mod admin;
mod ambient;
mod keys;
mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cardea_card::record::{KeyRecord, Provisional, TpmRecord};
use cardea_card::secret::{Pin, PrivateKey};
use cardea_card::token::{
    KeyAlgorithm, KeyClass, KeyInfo, KeyStore, PendingResult, PinAuthority, PinError, PinReference,
    PinStatus, PrivateOperation, RecoveryKey, TokenError, TokenErrorKind, TokenRecord, Unblocker,
};
use zeroize::Zeroizing;

pub(crate) use self::admin::empty_vault;
pub use self::ambient::{ManualClock, MemoryStore, SeededRng};
pub use self::keys::rsa_public_key;
pub use self::record::CARD_ID;
pub use self::record::card_record;

/// Tries of a PIN.
pub const PIN_LIMIT: u32 = 5;
/// Tries of a PUK.
pub const PUK_LIMIT: u32 = 10;

/// A token in software. Clones are the same chip, so a test keeps one and gives another to the card.
///
/// The chip lives in memory; key records carry the keys, as with a TPM, and another chip refuses them.
/// With the same seed and the same commands it gives the same keys and the same signatures
/// (PKCS#1 v1.5, ECDSA), so that transcripts replay identically.
#[derive(Clone, Debug)]
pub struct SoftwareToken(Arc<Mutex<Chip>>);

#[derive(Debug)]
struct Chip {
    id: [u8; 16],
    rng: SeededRng,
    made: usize,
    pin: Secret,
    puk: Option<Secret>,
    supported: Vec<KeyAlgorithm>,
    verified: bool,
    once: bool,
    admin: admin::Admin,
    puk_proved: bool,
    fail_next: Option<TokenErrorKind>,
    fail_next_change: Option<TokenErrorKind>,
    tally: Tally,
}

/// How often the token was asked for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// `expire_administration`.
    pub administration_looks: u32,
    /// `logout`.
    pub logouts: u32,
    /// `forget`.
    pub forgotten: u32,
    /// `status`.
    pub statuses: u32,
    /// `verify`, of either reference.
    pub verifications: u32,
}

#[derive(Debug)]
struct Secret {
    value: Pin,
    left: u32,
    limit: u32,
}

impl SoftwareToken {
    /// A new chip with a PIN and perhaps a PUK.
    #[must_use]
    pub fn new(pin: Pin, puk: Option<Pin>, seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let mut id = [0; 16];
        cardea_card::token::Rng::fill(&mut rng, &mut id);
        Self(Arc::new(Mutex::new(Chip {
            id,
            rng,
            made: 0,
            pin: Secret::new(pin, PIN_LIMIT),
            puk: puk.map(|puk| Secret::new(puk, PUK_LIMIT)),
            supported: vec![
                KeyAlgorithm::P256,
                KeyAlgorithm::P384,
                KeyAlgorithm::Rsa2048,
                KeyAlgorithm::Rsa3072,
            ],
            verified: false,
            once: false,
            admin: admin::Admin::default(),
            puk_proved: false,
            fail_next: None,
            fail_next_change: None,
            tally: Tally::default(),
        })))
    }

    /// The next request fails with this kind; nothing happens to the chip.
    pub fn fail_next(&self, kind: TokenErrorKind) {
        self.chip().fail_next = Some(kind);
    }

    /// The next change of a PIN or PUK fails with this kind; nothing happens to the chip.
    pub fn fail_next_change(&self, kind: TokenErrorKind) {
        self.chip().fail_next_change = Some(kind);
    }

    /// Somebody with this key is administrator.
    pub fn set_admin_key(&self, key: [u8; 24]) {
        self.chip().admin.set_key(key);
    }

    /// Only these algorithms from now on.
    pub fn support_only(&self, algorithms: &[KeyAlgorithm]) {
        self.chip().supported = algorithms.to_vec();
    }

    /// What a power cycle of a TPM does: the verification is gone, and nobody told the card.
    pub fn lose_verification(&self) {
        let mut chip = self.chip();
        chip.verified = false;
        chip.once = false;
    }

    /// Sets the PIN behind the card's back, as an interrupted change leaves it.
    pub fn set_pin(&self, pin: Pin) {
        self.chip().pin.value = pin;
    }

    /// Whether a verification lives.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.chip().verified
    }

    /// How often the token was asked for something.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.chip().tally
    }

    fn chip(&self) -> MutexGuard<'_, Chip> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secret {
    fn new(value: Pin, limit: u32) -> Self {
        Self {
            value,
            left: limit,
            limit,
        }
    }

    fn compare(&mut self, pin: &Pin) -> Result<(), PinError> {
        if self.left == 0 {
            return Err(PinError::Blocked);
        }
        if *pin != self.value {
            self.left -= 1;
            return Err(PinError::Wrong {
                left: Some(self.left),
            });
        }
        self.left = self.limit;
        Ok(())
    }
}

impl Chip {
    fn fault(&mut self) -> Result<(), TokenError> {
        self.fail_next
            .take()
            .map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn secret(&mut self, reference: PinReference) -> Result<&mut Secret, TokenError> {
        match reference {
            PinReference::Pin => Ok(&mut self.pin),
            PinReference::Puk => Ok(self.puk.as_mut().ok_or(TokenErrorKind::NotConfigured)?),
        }
    }

    fn compare(&mut self, reference: PinReference, pin: &Pin) -> Result<(), PinError> {
        self.fault()?;
        let result = self.secret(reference)?.compare(pin);
        if self.pin.left == 0 {
            self.end();
        }
        result
    }

    fn end(&mut self) {
        self.verified = false;
        self.once = false;
    }
}

impl KeyStore for SoftwareToken {
    fn supports(&self, algorithm: KeyAlgorithm) -> bool {
        self.chip().supported.contains(&algorithm)
    }

    fn generate(
        &mut self,
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError> {
        let mut chip = self.chip();
        chip.fault()?;
        if !chip.supported.contains(&algorithm) {
            return Err(TokenErrorKind::Unsupported.into());
        }
        let Chip { id, rng, made, .. } = &mut *chip;
        let object = keys::generate(id, algorithm, class, *made, rng)?;
        *made += 1;
        Ok(KeyRecord {
            reference,
            object,
            creation_hash: Vec::new(),
            creation_ticket: Vec::new(),
            label: None,
            client_id: None,
            certificate_label: None,
            inner_wrapped: None,
            creation_data: None,
            recovery: None,
        })
    }

    fn import(
        &mut self,
        reference: u8,
        key: &PrivateKey,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError> {
        let mut chip = self.chip();
        chip.fault()?;
        if !chip.supported.contains(&key.algorithm()) {
            return Err(TokenErrorKind::Unsupported.into());
        }
        Ok(KeyRecord {
            reference,
            object: keys::import(&chip.id, key, class)?,
            creation_hash: Vec::new(),
            creation_ticket: Vec::new(),
            label: None,
            client_id: None,
            certificate_label: None,
            // Nothing crosses a bus here.
            inner_wrapped: Some(true),
            creation_data: None,
            recovery: None,
        })
    }

    /// These tokens make no copies.
    fn generate_recoverable(
        &mut self,
        _reference: u8,
        _algorithm: KeyAlgorithm,
        _class: KeyClass,
        _keys: &[RecoveryKey],
    ) -> Result<KeyRecord, TokenError> {
        Err(TokenErrorKind::Unsupported.into())
    }

    fn describe(&self, key: &KeyRecord) -> Result<KeyInfo, TokenError> {
        keys::describe(&key.object)
    }

    fn operate(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let mut chip = self.chip();
        chip.fault()?;
        let info = keys::describe(&key.object)?;
        let allowed = match info.class {
            KeyClass::Always => std::mem::take(&mut chip.once),
            KeyClass::Session => chip.verified,
        };
        if !allowed {
            return Err(TokenErrorKind::NotAuthenticated.into());
        }
        let Chip { id, rng, .. } = &mut *chip;
        keys::operate(id, &key.object, &info, operation, rng)
    }

    /// At once: there is nothing to wait for.
    fn begin(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<PendingResult, TokenError> {
        let result = self.operate(key, operation);
        Ok(Box::new(|| result))
    }

    fn forget(&mut self, _key: &KeyRecord) {
        self.chip().tally.forgotten += 1;
    }
}

impl PinAuthority for SoftwareToken {
    fn status(
        &mut self,
        _record: &TpmRecord,
        reference: PinReference,
    ) -> Result<PinStatus, TokenError> {
        let mut chip = self.chip();
        chip.tally.statuses += 1;
        chip.fault()?;
        let secret = chip.secret(reference)?;
        Ok(PinStatus {
            left: secret.left,
            limit: secret.limit,
        })
    }

    fn verify(
        &mut self,
        _record: &mut dyn TokenRecord,
        reference: PinReference,
        pin: &Pin,
    ) -> Result<(), PinError> {
        let mut chip = self.chip();
        chip.tally.verifications += 1;
        chip.compare(reference, pin)?;
        match reference {
            PinReference::Pin => {
                chip.verified = true;
                chip.once = true;
            }
            PinReference::Puk => chip.puk_proved = true,
        }
        Ok(())
    }

    fn change(
        &mut self,
        _record: &mut dyn TokenRecord,
        reference: PinReference,
        old: &Pin,
        new: &Pin,
    ) -> Result<(), PinError> {
        let mut chip = self.chip();
        if let Some(kind) = chip.fail_next_change.take() {
            return Err(TokenError::from(kind).into());
        }
        chip.compare(reference, old)?;
        chip.secret(reference)?.value = new.clone();
        chip.end();
        Ok(())
    }

    fn unblock(
        &mut self,
        _record: &mut dyn TokenRecord,
        by: Unblocker,
        new: &Pin,
    ) -> Result<(), PinError> {
        let mut chip = self.chip();
        chip.fault()?;
        let proved = match by {
            Unblocker::Admin if chip.puk.is_some() => {
                return Err(TokenError::from(TokenErrorKind::NotConfigured).into());
            }
            Unblocker::Admin => chip.admin.is_proved(),
            Unblocker::Puk => chip.puk_proved,
        };
        if !proved {
            return Err(TokenError::from(TokenErrorKind::NotAuthenticated).into());
        }
        chip.pin = Secret::new(new.clone(), PIN_LIMIT);
        chip.end();
        Ok(())
    }

    fn initialise(
        &mut self,
        _record: &mut dyn TokenRecord,
        reference: PinReference,
        _provisional: &Provisional,
        new: Option<&Pin>,
    ) -> Result<(), PinError> {
        let mut chip = self.chip();
        chip.fault()?;
        let nobody_knows =
            Pin::new(&[0xA5; 127]).map_err(|_| TokenError::from(TokenErrorKind::Internal))?;
        chip.secret(reference)?.value = new.cloned().unwrap_or(nobody_knows);
        Ok(())
    }

    fn logout(&mut self) {
        let mut chip = self.chip();
        chip.tally.logouts += 1;
        chip.end();
    }

    fn disarm(&mut self) {
        self.chip().once = false;
    }
}
