//! A card's keys and PINs, as the card applications see them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cardea_card::record::{IndexRole, KeyRecord, ObjectBlob, Provisional, TpmRecord};
use cardea_card::secret::{Pin, PrivateKey};
use cardea_card::token::{
    AdminAuthority as _, KeyAlgorithm, KeyClass, KeyInfo, KeyStore, PendingResult, PinAuthority,
    PinError, PinReference, PinStatus, PrivateOperation, RecoveryKey, StoreError, TokenError,
    TokenErrorKind, TokenRecord, Unblocker,
};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use zeroize::Zeroizing;

use crate::administration::Administration;
use crate::auth::{AuthValue, auth_value};
use crate::core::Core;
use crate::counter_object;
use crate::error::{TpmError, token_error};
use crate::import::{self, Incoming};
use crate::inner::Inner;
use crate::operate;
use crate::operation::OwnedOperation;
use crate::policy::ApprovalId;
use crate::probe::probe;
use crate::proof::{self, Proof};
use crate::recovery::{self, Wanted};
use crate::rsa_key;
use crate::trusted_record::{Anchor, Index};
use crate::turns::{Lane, Length};
use crate::verdict::Verdict;

/// How long a counter that was read is shown again without asking the TPM: clients poll it.
const COUNTER_TIME: Duration = Duration::from_secs(1);

/// A card's token. Dropping it ends its verification.
pub struct CardToken {
    service: Arc<Inner>,
    lane: Lane,
    pub(crate) anchor: Arc<Anchor>,
    /// Whether the card has keys that want the PIN every time.
    always: AtomicBool,
    pub(crate) administration: Administration,
    pub(crate) puk_proof: Option<Proof>,
    counters: [Option<(Instant, PinStatus)>; 2],
    /// Whether the TPM has each algorithm, as far as it was asked: whoever looks at a card does not wait for it again.
    supported: [(KeyAlgorithm, OnceLock<bool>); 4],
    /// Counts in the card's file that are lower by now.
    counts: BTreeMap<IndexRole, u32>,
    /// What the TPM has refused as blocked, and nothing has unblocked since: all that is known of a count that is
    /// hidden.
    blocked: BTreeSet<IndexRole>,
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
            supported: KeyAlgorithm::ALL.map(|algorithm| (algorithm, OnceLock::new())),
            counts: BTreeMap::new(),
            blocked: BTreeSet::new(),
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
        self.anchor
            .index(role_of(reference))
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

    /// Compares a PIN or PUK. The TPM counts; or the card's file does, before the TPM is asked.
    fn compare<R>(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        work: impl FnOnce(&mut Self) -> Result<Result<R, Verdict>, TokenError>,
    ) -> Result<R, PinError> {
        if self.anchor.is_counted_in_file() {
            let role = self.index(reference)?.role;
            return self.compare_counted(record, role, work);
        }
        let role = self.index(reference)?.role;
        let compared = work(self)?;
        // The TPM's counter may have moved.
        *self.counter(reference) = None;
        self.blocked.remove(&role);
        match compared {
            Ok(done) => Ok(done),
            Err(Verdict::Blocked) => {
                self.blocked.insert(role);
                self.end_if_blocked(role);
                Err(PinError::Blocked)
            }
            Err(Verdict::Right | Verdict::Wrong) => {
                let PinStatus { left, limit } = match self.status(record.current(), reference) {
                    Err(error) if error.kind() == TokenErrorKind::CountHidden => {
                        return Err(PinError::Wrong { left: None });
                    }
                    status => status?,
                };
                if left == limit {
                    return Err(self.uncounted().into());
                }
                if left == 0 {
                    self.end_if_blocked(role_of(reference));
                }
                Err(PinError::Wrong { left: Some(left) })
            }
        }
    }

    /// Compares under the count in the card's file. It has the try before the TPM is asked, so that a power cut gives
    /// none back.
    pub(crate) fn compare_counted<R>(
        &mut self,
        record: &mut dyn TokenRecord,
        role: IndexRole,
        work: impl FnOnce(&mut Self) -> Result<Result<R, Verdict>, TokenError>,
    ) -> Result<R, PinError> {
        let PinStatus { left, limit } = self.tries(record.current(), role)?;
        if left == 0 {
            self.end_if_blocked(role);
            return Err(PinError::Blocked);
        }
        if self.anchor.has_objects() {
            self.run(|core, _, _| counter_object::keep_from_lockout(core))?;
        }
        let before = limit - left;
        counter_object::save_count(record, role, before + 1)?;
        self.counts.remove(&role);
        match work(self) {
            Ok(Ok(done)) => {
                self.set_count(record, role, 0);
                Ok(done)
            }
            Ok(Err(Verdict::Blocked)) => {
                // By wrong values that this file knows nothing of.
                self.set_count(record, role, limit);
                self.end_if_blocked(role);
                Err(PinError::Blocked)
            }
            Ok(Err(Verdict::Right | Verdict::Wrong)) => {
                if left == 1 {
                    self.end_if_blocked(role);
                }
                Err(PinError::Wrong {
                    left: Some(left - 1),
                })
            }
            Err(error) => {
                // It was not compared. What else fails may have been.
                if error.kind() == TokenErrorKind::Lockout {
                    self.set_count(record, role, before);
                }
                Err(error.into())
            }
        }
    }

    /// The count in the card's file, or a lower one that could not be written there.
    pub(crate) fn tries(
        &self,
        record: &TpmRecord,
        role: IndexRole,
    ) -> Result<PinStatus, TokenError> {
        let counter = counter_object::counter(record, role).ok_or(TokenErrorKind::NotConfigured)?;
        let count = self.counts.get(&role).copied().unwrap_or(counter.count);
        Ok(PinStatus {
            left: counter.limit.saturating_sub(count),
            limit: counter.limit,
        })
    }

    /// What the TPM has decided holds, whether the file can be written or not.
    fn set_count(&mut self, record: &mut dyn TokenRecord, role: IndexRole, count: u32) {
        if let Err(error) = counter_object::save_count(record, role, count) {
            tracing::warn!(error = %error, "the count of tries is not in the card file yet");
            self.counts.insert(role, count);
        }
    }

    /// A counter object has another value as soon as the card's file has its new form.
    pub(crate) fn keep(
        &mut self,
        record: &mut dyn TokenRecord,
        role: IndexRole,
        object: Option<ObjectBlob>,
    ) -> Result<(), StoreError> {
        let Some(object) = object else {
            if self.anchor.is_counted_in_file() {
                self.set_count(record, role, 0);
            }
            return Ok(());
        };
        let changed = counter_object::with_counter(record.current(), role, 0, Some(object));
        record.save(changed)?;
        self.counts.remove(&role);
        self.take_objects(record.current());
        Ok(())
    }

    /// Goes on with the counter objects of a record that was saved.
    pub(crate) fn take_objects(&mut self, record: &TpmRecord) {
        match Anchor::from_tpm_record(record, self.anchor.session_limit) {
            Ok(anchor) => self.anchor = Arc::new(anchor),
            Err(fault) => tracing::error!(fault = %fault, "the card's new objects are not used"),
        }
    }

    /// A wrong value was not counted: the TPM does not keep the count, or somebody has put that answer in place of
    /// another. The TPM is asked which; where the owner alone may ask, it is not known.
    fn uncounted(&self) -> TokenError {
        let untrue = || {
            TokenError::new(
                TokenErrorKind::Internal,
                "the TPM refused the value and did not count it",
            )
        };
        if !self.anchor.has_open_counters() {
            // The card was made for a TPM that resets counts by policies, and has none that would.
            return untrue();
        }
        let asked = self.run(|core, _, anchor| {
            let indices = anchor.indices().filter_map(Index::nv);
            let taken: Vec<u32> = indices.map(|(handle, _)| handle).collect();
            core.probed = false;
            probe(core, &taken)
        });
        match asked {
            Err(error) if error.kind() == TokenErrorKind::Unsafe => error,
            _ => untrue(),
        }
    }

    /// The value of this role is blocked: nothing goes on under an earlier verification of it.
    fn end_if_blocked(&mut self, role: IndexRole) {
        if role == IndexRole::Pin {
            self.logout();
        }
    }
}

fn role_of(reference: PinReference) -> IndexRole {
    match reference {
        PinReference::Pin => IndexRole::Pin,
        PinReference::Puk => IndexRole::Puk,
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
        let mut supported = self.supported.iter();
        let Some((_, known)) = supported.find(|(found, _)| *found == algorithm) else {
            return false;
        };
        if let Some(known) = known.get() {
            return *known;
        }
        // What cannot be asked now may be asked later.
        self.run(move |core, _, _| core.supports(algorithm))
            .is_ok_and(|is_supported| *known.get_or_init(|| is_supported))
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

    fn generate_recoverable(
        &mut self,
        reference: u8,
        algorithm: KeyAlgorithm,
        class: KeyClass,
        keys: &[RecoveryKey],
    ) -> Result<KeyRecord, TokenError> {
        let wanted = Wanted::new(reference, algorithm, class, keys);
        let wanted = wanted.ok_or(TokenErrorKind::BadData)?;
        let key = self
            .run_long(move |core, card, anchor| recovery::generate(core, card, anchor, &wanted))?;
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
    fn status(
        &mut self,
        record: &TpmRecord,
        reference: PinReference,
    ) -> Result<PinStatus, TokenError> {
        let role = self.index(reference)?.role;
        if self.anchor.is_counted_in_file() {
            return self.tries(record, role);
        }
        if let Some((read, status)) = self.counter(reference)
            && read.elapsed() < COUNTER_TIME
        {
            return Ok(*status);
        }
        let read =
            self.run(move |core, card, anchor| operate::read_counter(core, card, anchor, role));
        let status = match read {
            Err(error)
                if error.kind() == TokenErrorKind::CountHidden && self.blocked.contains(&role) =>
            {
                let limit = self.index(reference)?.limit;
                PinStatus { left: 0, limit }
            }
            other => other?,
        };
        *self.counter(reference) = Some((Instant::now(), status));
        Ok(status)
    }

    fn verify(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        pin: &Pin,
    ) -> Result<(), PinError> {
        let auth = self.auth(reference, pin)?;
        let once = self.always.load(Ordering::Relaxed);
        match reference {
            PinReference::Pin => self.compare(record, reference, |token| {
                let verdict = token.run(move |core, card, anchor| {
                    operate::verify_pin(core, card, anchor, &auth, once)
                })?;
                Ok(match verdict {
                    Verdict::Right => Ok(()),
                    refused => Err(refused),
                })
            }),
            PinReference::Puk => {
                self.end_administration();
                let proof = self.compare(record, reference, |token| {
                    token.run(move |core, card, anchor| proof::prove_puk(core, card, anchor, &auth))
                })?;
                self.puk_proof = Some(proof);
                Ok(())
            }
        }
    }

    fn change(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        old: &Pin,
        new: &Pin,
    ) -> Result<(), PinError> {
        let (old, new) = (self.auth(reference, old)?, self.auth(reference, new)?);
        let index = self.index(reference)?.clone();
        let role = index.role;
        let object = self.compare(record, reference, |token| {
            token.run(move |core, card, anchor| {
                operate::change(core, card, anchor, &index, &old, &new)
            })
        })?;
        Ok(self.keep(record, role, object)?)
    }

    fn unblock(
        &mut self,
        record: &mut dyn TokenRecord,
        by: Unblocker,
        new: &Pin,
    ) -> Result<(), PinError> {
        let (ids, role) = match by {
            Unblocker::Admin => ([ApprovalId::P2, ApprovalId::P1], IndexRole::Adm),
            Unblocker::Puk => ([ApprovalId::P5, ApprovalId::P4], IndexRole::Puk),
        };
        let refused = |kind: TokenErrorKind| PinError::from(TokenError::from(kind));
        if !self.is_proven(by) {
            return Err(refused(TokenErrorKind::NotAuthenticated));
        }
        if ids.iter().any(|id| !self.anchor.allows(*id)) {
            return Err(refused(TokenErrorKind::NotConfigured));
        }
        let auth = self.auth(PinReference::Pin, new)?;
        *self.counter(PinReference::Pin) = None;
        self.blocked.remove(&IndexRole::Pin);
        let object =
            self.run(move |core, card, anchor| proof::unblock(core, card, anchor, role, &auth))?;
        Ok(self.keep(record, IndexRole::Pin, object)?)
    }

    fn initialise(
        &mut self,
        record: &mut dyn TokenRecord,
        reference: PinReference,
        provisional: &Provisional,
        new: Option<&Pin>,
    ) -> Result<(), PinError> {
        let role = self.index(reference)?.role;
        let auth = new.map(|new| self.auth(reference, new)).transpose()?;
        let provisional = provisional.clone();
        *self.counter(PinReference::Pin) = None;
        *self.counter(PinReference::Puk) = None;
        self.blocked.clear();
        let object = self.run(move |core, card, anchor| {
            proof::initialise(core, card, anchor, role, &provisional, auth.as_ref())
        })?;
        Ok(self.keep(record, role, object)?)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use cardea_card::record::{CardId, GidsRecord, SecretLengths, Settings, SrkRecord};
    use cardea_card::record::{CardRecord, CounterMode, IndexRecord};

    use super::*;
    use crate::policy::{NV_WRITTEN, index_policy, name_of, nv_public};
    use crate::service::Service;
    use crate::turns::SERVICE_USER;

    const OWNER: u32 = 1000;
    const OTHER: u32 = 1001;

    /// A card that contradicts nothing.
    fn record(id: u8, owner: u32) -> CardRecord {
        let birth_public = vec![id; 88];
        let handle = 0x01C2_0000 + u32::from(id);
        let policy = index_policy(&name_of(&birth_public), IndexRole::Pin);
        CardRecord {
            id: CardId::new([id; 16]),
            name: "card".into(),
            owner,
            created: 1,
            settings: Settings::default(),
            lengths: SecretLengths::default(),
            tpm: TpmRecord {
                mode: CounterMode::Nv,
                srk: SrkRecord {
                    handle: 0x8100_0001,
                    name: vec![7; 34],
                    template: vec![1],
                },
                salt: [0; 16],
                indices: vec![IndexRecord {
                    role: IndexRole::Pin,
                    handle,
                    name: name_of(&nv_public(handle, NV_WRITTEN, &policy)).to_vec(),
                    limit: 5,
                }],
                birth_public,
                approvals: Vec::new(),
                vault: None,
                previous_vault: None,
                sealed_key: None,
                attestation_key: None,
                previous_sealed_key: None,
                counter_objects: None,
                sealed_policies: None,
                attestation_chain: None,
            },
            keys: Vec::new(),
            gids: GidsRecord {
                life_cycle: 5,
                files: Vec::new(),
            },
            certificates_written: 0,
            objects: None,
            provisional: None,
        }
    }

    fn service() -> Service {
        Service::start(&"swtpm:unix=/nonexistent".parse().unwrap()).unwrap()
    }

    /// Has one job done. That there is no TPM changes nothing.
    fn work(token: &CardToken, length: Length) {
        let failed = match length {
            Length::Long => token.run_long(|_, _, _| Ok(())),
            Length::Short => token.run(|_, _, _| Ok(())),
        };
        assert!(failed.is_err());
    }

    #[test]
    fn jobs_of_a_card_are_on_the_balance_of_its_owner() {
        for length in [Length::Short, Length::Long] {
            let service = service();
            let booked = || service.inner.queue.booked();
            let token = service.token(&record(1, OWNER)).unwrap();
            assert!(booked().is_empty());
            // At once.
            work(&token, length);
            assert_eq!(booked(), [OWNER]);
            let other = service.token(&record(2, OWNER)).unwrap();
            work(&other, length);
            assert_eq!(booked(), [OWNER], "another card of the same user");
            let other = service.token(&record(3, OTHER)).unwrap();
            work(&other, length);
            assert_eq!(booked(), [OWNER, OTHER]);
            assert!(service.run(|_| Ok(())).is_err());
            assert_eq!(booked(), [OWNER, OTHER, SERVICE_USER]);
        }
    }

    #[test]
    fn jobs_that_wait_for_their_turn_are_on_the_balance_of_the_card_s_owner() {
        for length in [Length::Short, Length::Long] {
            let service = service();
            let booked = || service.inner.queue.booked();
            let token = service.token(&record(1, OWNER)).unwrap();
            let (gate, wait) = mpsc::channel::<()>();
            let at_work = Lane {
                card: 0,
                user: SERVICE_USER,
            };
            let job = Box::new(move |_: &mut Core| wait.recv().unwrap_or_default());
            service.inner.queue.post(at_work, job);
            thread::scope(|threads| {
                threads.spawn(|| work(&token, length));
                while booked() == [SERVICE_USER] {
                    thread::yield_now();
                }
                assert_eq!(booked(), [OWNER, SERVICE_USER]);
                drop(gate);
            });
            assert_eq!(booked(), [OWNER, SERVICE_USER]);
        }
    }
}
