//! A card's keys and PINs, as the card applications see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cardea_card::record::{IndexRole, KeyRecord, Provisional};
use cardea_card::secret::{Pin, PrivateKey};
use cardea_card::token::{
    AdminAuthority as _, KeyAlgorithm, KeyClass, KeyInfo, KeyStore, PendingResult, PinAuthority,
    PinError, PinReference, PinStatus, PrivateOperation, TokenError, TokenErrorKind, Unblocker,
};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use zeroize::Zeroizing;

use crate::administration::Administration;
use crate::auth::{AuthValue, auth_value};
use crate::core::Core;
use crate::error::{TpmError, token_error};
use crate::import::{self, Incoming};
use crate::inner::Inner;
use crate::operate::{self, Verdict};
use crate::operation::OwnedOperation;
use crate::policy::ApprovalId;
use crate::probe::probe;
use crate::proof::{self, Proof};
use crate::rsa_key;
use crate::trusted_record::{Anchor, Index};
use crate::turns::{Lane, Length};

/// How long a counter that was read is shown again without asking the TPM: clients poll it.
const COUNTER_TIME: Duration = Duration::from_secs(1);

/// A card's token. Dropping it ends its verification.
pub struct CardToken {
    service: Arc<Inner>,
    lane: Lane,
    anchor: Arc<Anchor>,
    /// Whether the card has keys that want the PIN every time.
    always: AtomicBool,
    pub(crate) administration: Administration,
    pub(crate) puk_proof: Option<Proof>,
    counters: [Option<(Instant, PinStatus)>; 2],
}

impl CardToken {
    pub(crate) fn new(service: Arc<Inner>, lane: Lane, anchor: Anchor, keys: &[KeyRecord]) -> Self {
        let always = keys.iter().any(|key| {
            anchor
                .describe(key)
                .is_some_and(|info| info.class == KeyClass::Always)
        });
        Self {
            service,
            lane,
            anchor: Arc::new(anchor),
            always: AtomicBool::new(always),
            administration: Administration::default(),
            puk_proof: None,
            counters: [None; 2],
        }
    }

    pub(crate) fn run<R: Send + 'static>(
        &self,
        operation: impl FnMut(&mut Core, u64, &Anchor) -> Result<R, TpmError> + Send + 'static,
    ) -> Result<R, TokenError> {
        let turn = (self.lane, Length::Short);
        run(&self.service, &self.anchor, turn, operation)
    }

    /// Like [`Self::run`], for what makes a key.
    fn run_long<R: Send + 'static>(
        &self,
        operation: impl FnMut(&mut Core, u64, &Anchor) -> Result<R, TpmError> + Send + 'static,
    ) -> Result<R, TokenError> {
        let turn = (self.lane, Length::Long);
        run(&self.service, &self.anchor, turn, operation)
    }

    fn index(&self, reference: PinReference) -> Result<&Index, TokenError> {
        let role = match reference {
            PinReference::Pin => IndexRole::Pin,
            PinReference::Puk => IndexRole::Puk,
        };
        self.anchor
            .index(role)
            .ok_or_else(|| TokenErrorKind::NotConfigured.into())
    }

    fn auth(&self, reference: PinReference, pin: &Pin) -> Result<AuthValue, TokenError> {
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::KeptPins) {
            std::mem::forget(pin.expose().to_vec());
        } else if weakened::has(Weakness::LoggedPins) {
            tracing::trace!(pin = %String::from_utf8_lossy(pin.expose()), "compared");
        }
        Ok(auth_value(
            &self.anchor.salt,
            self.index(reference)?.role,
            pin.expose(),
        ))
    }

    fn counter(&mut self, reference: PinReference) -> &mut Option<(Instant, PinStatus)> {
        let [pin, puk] = &mut self.counters;
        match reference {
            PinReference::Pin => pin,
            PinReference::Puk => puk,
        }
    }

    /// After a comparison the TPM's counter may have moved.
    fn judge(&mut self, reference: PinReference, verdict: Verdict) -> Result<(), PinError> {
        *self.counter(reference) = None;
        match verdict {
            Verdict::Right => Ok(()),
            Verdict::Blocked => {
                self.end_if_pin(reference);
                Err(PinError::Blocked)
            }
            Verdict::Wrong => {
                let PinStatus { left, limit } = self.status(reference)?;
                if left == limit {
                    return Err(self.uncounted().into());
                }
                if left == 0 {
                    self.end_if_pin(reference);
                }
                Err(PinError::Wrong { left })
            }
        }
    }

    /// A wrong value was not counted: the TPM does not keep the count, or somebody has put that answer in place of
    /// another. The TPM is asked which; where the owner alone may ask, it is not known.
    fn uncounted(&self) -> TokenError {
        let asked = self.run(|core, _, anchor| {
            let taken: Vec<u32> = anchor.indices().map(|index| index.handle).collect();
            core.probed = false;
            probe(core, &taken)
        });
        match asked {
            Err(error) if error.kind() == TokenErrorKind::Unsafe => error,
            _ => TokenError::new(
                TokenErrorKind::Internal,
                "the TPM refused the value and did not count it",
            ),
        }
    }

    /// The reference is blocked: nothing goes on under an earlier verification of it.
    fn end_if_pin(&mut self, reference: PinReference) {
        if reference == PinReference::Pin {
            self.logout();
        }
    }
}

/// Runs an operation of a card in its turn.
fn run<R: Send + 'static>(
    service: &Inner,
    anchor: &Arc<Anchor>,
    turn: (Lane, Length),
    mut operation: impl FnMut(&mut Core, u64, &Anchor) -> Result<R, TpmError> + Send + 'static,
) -> Result<R, TokenError> {
    let anchor = Arc::clone(anchor);
    let card = turn.0.card;
    service
        .queue
        .run(turn, move |core| {
            core.attempt_unless(
                |core| operation(core, card, &anchor),
                |core, index| operate::counted(core, card, &anchor, index),
            )
        })
        .and_then(|result| result)
        .map_err(token_error)
}

impl KeyStore for CardToken {
    fn supports(&self, algorithm: KeyAlgorithm) -> bool {
        self.run(move |core, _, _| core.supports(algorithm))
            .unwrap_or(false)
    }

    fn generate(
        &mut self,
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError> {
        let key = self.run_long(move |core, _, anchor| {
            operate::generate(core, anchor, reference, algorithm, class)
        })?;
        if class == KeyClass::Always {
            self.always.store(true, Ordering::Relaxed);
        }
        Ok(key)
    }

    fn describe(&self, key: &KeyRecord) -> Result<KeyInfo, TokenError> {
        let info = self.anchor.describe(key).ok_or(TokenErrorKind::Internal)?;
        if info.class == KeyClass::Always {
            self.always.store(true, Ordering::Relaxed);
        }
        Ok(info)
    }

    fn operate(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.begin(key, operation)?()
    }

    fn begin(
        &mut self,
        key: &KeyRecord,
        operation: PrivateOperation<'_>,
    ) -> Result<PendingResult, TokenError> {
        let info = self.describe(key)?;
        let operation = OwnedOperation::fitting(&info, operation)?;
        let key = key.clone();
        let (service, anchor) = (Arc::clone(&self.service), Arc::clone(&self.anchor));
        let turn = (self.lane, Length::Short);
        Ok(Box::new(move || {
            run(&service, &anchor, turn, move |core, card, anchor| {
                operate::operate(
                    core,
                    card,
                    anchor,
                    &key,
                    info.class,
                    info.algorithm.size(),
                    operation.borrow(),
                )
            })?
            .ok_or_else(|| TokenErrorKind::NotAuthenticated.into())
        }))
    }

    fn import(
        &mut self,
        reference: u8,
        key: &PrivateKey,
        class: KeyClass,
    ) -> Result<KeyRecord, TokenError> {
        if let PrivateKey::Rsa { modulus, prime, .. } = key {
            rsa_key::check_import(modulus, prime).map_err(token_error)?;
        }
        let incoming = Incoming::new(&self.anchor, key, class);
        let key = self.run(move |core, card, anchor| {
            let key = import::import(core, anchor, reference, &incoming)?;
            import::check_signature(core, card, anchor, &key)?;
            Ok(key)
        })?;
        if class == KeyClass::Always {
            self.always.store(true, Ordering::Relaxed);
        }
        Ok(key)
    }

    fn forget(&mut self, key: &KeyRecord) {
        let public = key.object.public.clone();
        self.service
            .queue
            .post(self.lane, Box::new(move |core| core.unload(&public)));
    }
}

impl PinAuthority for CardToken {
    fn status(&mut self, reference: PinReference) -> Result<PinStatus, TokenError> {
        let role = self.index(reference)?.role;
        if let Some((read, status)) = self.counter(reference)
            && read.elapsed() < COUNTER_TIME
        {
            return Ok(*status);
        }
        let status =
            self.run(move |core, card, anchor| operate::read_counter(core, card, anchor, role))?;
        *self.counter(reference) = Some((Instant::now(), status));
        Ok(status)
    }

    fn verify(&mut self, reference: PinReference, pin: &Pin) -> Result<(), PinError> {
        let auth = self.auth(reference, pin)?;
        let once = self.always.load(Ordering::Relaxed);
        let verdict = match reference {
            PinReference::Pin => self.run(move |core, card, anchor| {
                operate::verify_pin(core, card, anchor, &auth, once)
            })?,
            PinReference::Puk => {
                self.end_administration();
                let proved = self
                    .run(move |core, card, anchor| proof::prove_puk(core, card, anchor, &auth))?;
                match proved {
                    Ok(proof) => {
                        self.puk_proof = Some(proof);
                        Verdict::Right
                    }
                    Err(verdict) => verdict,
                }
            }
        };
        self.judge(reference, verdict)
    }

    fn change(&mut self, reference: PinReference, old: &Pin, new: &Pin) -> Result<(), PinError> {
        let (old, new) = (self.auth(reference, old)?, self.auth(reference, new)?);
        let index = self.index(reference)?.clone();
        let verdict = self.run(move |core, card, anchor| {
            operate::change(core, card, anchor, &index, &old, &new)
        })?;
        self.judge(reference, verdict)
    }

    fn unblock(&mut self, by: Unblocker, new: &Pin) -> Result<(), TokenError> {
        let (ids, role) = match by {
            Unblocker::Admin => ([ApprovalId::P2, ApprovalId::P1], IndexRole::Adm),
            Unblocker::Puk => ([ApprovalId::P5, ApprovalId::P4], IndexRole::Puk),
        };
        if !self.is_proven(by) {
            return Err(TokenErrorKind::NotAuthenticated.into());
        }
        if ids.iter().any(|id| self.anchor.approval(*id).is_none()) {
            return Err(TokenErrorKind::NotConfigured.into());
        }
        let auth = self.auth(PinReference::Pin, new)?;
        *self.counter(PinReference::Pin) = None;
        self.run(move |core, card, anchor| proof::unblock(core, card, anchor, role, &auth))
    }

    fn initialise(
        &mut self,
        reference: PinReference,
        provisional: &Provisional,
        new: Option<&Pin>,
    ) -> Result<(), TokenError> {
        let role = self.index(reference)?.role;
        let auth = new.map(|new| self.auth(reference, new)).transpose()?;
        let provisional = provisional.clone();
        *self.counter(PinReference::Pin) = None;
        *self.counter(PinReference::Puk) = None;
        self.run(move |core, card, anchor| {
            proof::initialise(core, card, anchor, role, &provisional, auth.as_ref())
        })
    }

    fn disarm(&mut self) {
        drop(self.run(|core, card, _| {
            core.disarm(card);
            Ok(())
        }));
    }

    fn logout(&mut self) {
        // Waits: when it returns, nothing is left that would allow another operation.
        drop(self.run(|core, card, _| {
            core.logout(card);
            Ok(())
        }));
    }
}

impl Drop for CardToken {
    fn drop(&mut self) {
        let card = self.lane.card;
        self.service
            .queue
            .post(self.lane, Box::new(move |core| core.remove(card)));
    }
}
