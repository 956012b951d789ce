//! What the daemon needs of a TPM, whichever generation it is.

use std::sync::Arc;

use cardea_card::record::{CardRecord, IndexRole, ObjectBlob, SrkRecord, TpmRecord};
use cardea_card::token::Token;
use cardea_terms::Step;
use zeroize::Zeroizing;

use crate::attestation::{CertifiedKey, CertifiedKeys, Challenge, Evidence};
use crate::clock::TpmTime;
use crate::counter_object::LockoutRoom;
use crate::create::{NewCard, PreparedCard};
use crate::endorsement::EndorsementKey;
use crate::error::TpmError;
use crate::examination::Examination;
use crate::hierarchy::{Hierarchy, HierarchyAuth};
use crate::hierarchy_admin::{DefinedIndex, HierarchyPolicy, LockoutParameters};
use crate::intent::IntentIndex;
use crate::service::Service;
use crate::status::Status;
use crate::transport::Address;
use crate::trusted_record::CardFault;

/// A TPM that cards live in. [`Service`] is a TPM 2.0.
///
/// Each method is one request, which may wait for its turn. A chip that is away answers with
/// [`TpmError::Transport`] or [`TpmError::Stopped`], and is asked again later.
pub trait Chip: Send + Sync {
    /// Where it is, for people.
    fn address(&self) -> &Address;

    /// Maker, version, slots, lockout.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn status(&self) -> Result<Status, TpmError>;

    /// Its endorsement keys: see [`Service::endorsement_keys`].
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn endorsement_keys(&self) -> Result<Vec<EndorsementKey>, TpmError>;

    /// Wrong values until cards with counter objects have to wait.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn lockout_room(&self) -> Result<LockoutRoom, TpmError>;

    /// Its time.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn time(&self) -> Result<TpmTime, TpmError>;

    /// 32 bytes of its random number generator.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn random(&self) -> Result<[u8; 32], TpmError>;

    /// Does what is due while nobody waits for the TPM: see [`Service::run_idle_work`].
    fn run_idle_work(&self);

    /// Whether its requests make progress, however slowly: false if they wait and nothing moves.
    fn is_served(&self) -> bool;

    /// The same chip, with the owner's authorisation for everything that is asked of it through this value.
    fn with_owner(&self, owner: Option<HierarchyAuth>) -> Arc<dyn Chip>;

    /// Whether the hierarchy of the cards is switched on.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn is_owner_on(&self) -> Result<bool, TpmError>;

    /// Whether a hierarchy has an authorisation.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn is_set(&self, hierarchy: Hierarchy) -> Result<bool, TpmError>;

    /// Sets the authorisation of a hierarchy: see [`Service::set_hierarchy_auth`].
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn set_hierarchy_auth(
        &self,
        hierarchy: Hierarchy,
        old: &HierarchyAuth,
        new: &HierarchyAuth,
    ) -> Result<HierarchyPolicy, TpmError>;

    /// Empties the policy of a hierarchy.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn empty_policy(&self, hierarchy: Hierarchy, auth: &HierarchyAuth) -> Result<(), TpmError>;

    /// Forgets all failures and ends a lockout.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn reset_lockout(&self, auth: &HierarchyAuth) -> Result<(), TpmError>;

    /// Sets when it locks, and for how long.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn set_lockout_parameters(
        &self,
        auth: &HierarchyAuth,
        parameters: LockoutParameters,
    ) -> Result<(), TpmError>;

    /// Whether one more card has room. `taken` are handles that others claim.
    ///
    /// # Errors
    ///
    /// [`TpmError::NvFull`] where there is none; others.
    fn room_for_card(&self, taken: &[u32]) -> Result<(), TpmError>;

    /// Removes what a crash in a test of the chip has left: see [`Service::remove_leftovers`].
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn remove_leftovers(&self, taken: &[u32]) -> Result<usize, TpmError>;

    /// Finds out what it can do, and whether it counts wrong PINs: see [`Service::examine`].
    ///
    /// # Errors
    ///
    /// [`TpmError::Unfit`] and others.
    fn examine(&self, taken: &[u32]) -> Result<Examination, TpmError>;

    /// A form of an examination to be kept: see [`Service::keep_examination`].
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn keep_examination(&self, examination: &Examination) -> Result<Vec<u8>, TpmError>;

    /// An examination of this very chip in a form that was kept: see [`Service::recall_examination`].
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn recall_examination(&self, kept: &[u8]) -> Result<Option<Examination>, TpmError>;

    /// Chooses what a new card is made of; nothing is in the TPM yet.
    ///
    /// # Errors
    ///
    /// [`TpmError::Unfit`] and others.
    fn prepare_card(&self, taken: &[u32], new: NewCard) -> Result<PreparedCard, TpmError>;

    /// Makes the card's objects. The intent must be on disk before. What fails leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`TpmError::NvFull`] and others.
    fn create_card(
        &self,
        prepared: PreparedCard,
        progress: &mut dyn FnMut(Step),
    ) -> Result<TpmRecord, TpmError>;

    /// Makes an attestation key for a card: see [`Service::make_attestation_key`].
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn make_attestation_key(&self, record: &CardRecord) -> Result<ObjectBlob, CardFault>;

    /// The storage root key of a card: see [`Service::storage_root_key`].
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn storage_root_key(&self, record: &CardRecord) -> Result<Vec<u8>, CardFault>;

    /// What a card's attestation key says of itself: see [`Service::certify_own_keys`].
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn certify_own_keys(
        &self,
        record: &CardRecord,
        qualifying: [u8; 32],
    ) -> Result<CertifiedKeys, CardFault>;

    /// Opens what was encrypted for a card's attestation key: see [`Service::activate`].
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn activate(
        &self,
        record: &CardRecord,
        challenge: Challenge,
    ) -> Result<Zeroizing<Vec<u8>>, CardFault>;

    /// A card's evidence: see [`Service::evidence`].
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn evidence(
        &self,
        record: &CardRecord,
        qualifying: [u8; 32],
        references: &[u8],
    ) -> Result<Evidence, CardFault>;

    /// What a card's attestation key says of one key: see [`Service::certify_key`].
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn certify_key(
        &self,
        record: &CardRecord,
        qualifying: Vec<u8>,
        reference: u8,
    ) -> Result<CertifiedKey, CardFault>;

    /// Removes what is the card's own.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn destroy_card(&self, record: &TpmRecord) -> Result<(), TpmError>;

    /// Removes what an intent names.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn undo_intent(&self, indices: &[IntentIndex]) -> Result<(), TpmError>;

    /// Whether a record can be believed and its card lives here. Spends no try and changes nothing.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn check_card(&self, record: &CardRecord) -> Result<(), CardFault>;

    /// The same, without reading its counters: see [`Service::check_presence`].
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn check_presence(&self, record: &CardRecord) -> Result<(), CardFault>;

    /// Administrator and PUK of a card, as far as they are gone.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    fn lost_parts(&self, record: &TpmRecord) -> Result<Vec<IndexRole>, CardFault>;

    /// Whether it has the root that a card was made under.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn has_root(&self, srk: &SrkRecord) -> Result<bool, TpmError>;

    /// Keys and PINs of a card that was checked.
    ///
    /// # Errors
    ///
    /// [`CardFault::Damaged`] for a record that contradicts itself.
    fn token(&self, record: &CardRecord) -> Result<Box<dyn Token>, CardFault>;

    /// What is defined in the cards' range, whoever made it.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    fn indices(&self) -> Result<Vec<DefinedIndex>, TpmError>;

    /// Removes an index by its handle. False: it is not there.
    ///
    /// # Errors
    ///
    /// [`TpmError::Unfit`] outside the cards' range; [`TpmError`].
    fn undefine_index(&self, handle: u32) -> Result<bool, TpmError>;
}

impl Chip for Service {
    fn address(&self) -> &Address {
        self.address()
    }

    fn status(&self) -> Result<Status, TpmError> {
        self.status()
    }

    fn endorsement_keys(&self) -> Result<Vec<EndorsementKey>, TpmError> {
        self.endorsement_keys()
    }

    fn lockout_room(&self) -> Result<LockoutRoom, TpmError> {
        self.lockout_room()
    }

    fn time(&self) -> Result<TpmTime, TpmError> {
        self.time()
    }

    fn random(&self) -> Result<[u8; 32], TpmError> {
        self.random()
    }

    fn run_idle_work(&self) {
        self.run_idle_work();
    }

    fn is_served(&self) -> bool {
        self.is_served()
    }

    fn with_owner(&self, owner: Option<HierarchyAuth>) -> Arc<dyn Chip> {
        Arc::new(self.with_owner(owner))
    }

    fn is_owner_on(&self) -> Result<bool, TpmError> {
        self.is_owner_on()
    }

    fn is_set(&self, hierarchy: Hierarchy) -> Result<bool, TpmError> {
        self.is_set(hierarchy)
    }

    fn set_hierarchy_auth(
        &self,
        hierarchy: Hierarchy,
        old: &HierarchyAuth,
        new: &HierarchyAuth,
    ) -> Result<HierarchyPolicy, TpmError> {
        self.set_hierarchy_auth(hierarchy, old, new)
    }

    fn empty_policy(&self, hierarchy: Hierarchy, auth: &HierarchyAuth) -> Result<(), TpmError> {
        self.empty_policy(hierarchy, auth)
    }

    fn reset_lockout(&self, auth: &HierarchyAuth) -> Result<(), TpmError> {
        self.reset_lockout(auth)
    }

    fn set_lockout_parameters(
        &self,
        auth: &HierarchyAuth,
        parameters: LockoutParameters,
    ) -> Result<(), TpmError> {
        self.set_lockout_parameters(auth, parameters)
    }

    fn room_for_card(&self, taken: &[u32]) -> Result<(), TpmError> {
        self.room_for_card(taken)
    }

    fn remove_leftovers(&self, taken: &[u32]) -> Result<usize, TpmError> {
        self.remove_leftovers(taken)
    }

    fn examine(&self, taken: &[u32]) -> Result<Examination, TpmError> {
        self.examine(taken)
    }

    fn keep_examination(&self, examination: &Examination) -> Result<Vec<u8>, TpmError> {
        self.keep_examination(examination)
    }

    fn recall_examination(&self, kept: &[u8]) -> Result<Option<Examination>, TpmError> {
        self.recall_examination(kept)
    }

    fn prepare_card(&self, taken: &[u32], new: NewCard) -> Result<PreparedCard, TpmError> {
        self.prepare_card(taken, new)
    }

    fn create_card(
        &self,
        prepared: PreparedCard,
        progress: &mut dyn FnMut(Step),
    ) -> Result<TpmRecord, TpmError> {
        self.create_card(prepared, progress)
    }

    fn make_attestation_key(&self, record: &CardRecord) -> Result<ObjectBlob, CardFault> {
        self.make_attestation_key(record)
    }

    fn storage_root_key(&self, record: &CardRecord) -> Result<Vec<u8>, CardFault> {
        self.storage_root_key(record)
    }

    fn certify_own_keys(
        &self,
        record: &CardRecord,
        qualifying: [u8; 32],
    ) -> Result<CertifiedKeys, CardFault> {
        self.certify_own_keys(record, qualifying)
    }

    fn activate(
        &self,
        record: &CardRecord,
        challenge: Challenge,
    ) -> Result<Zeroizing<Vec<u8>>, CardFault> {
        self.activate(record, challenge)
    }

    fn evidence(
        &self,
        record: &CardRecord,
        qualifying: [u8; 32],
        references: &[u8],
    ) -> Result<Evidence, CardFault> {
        self.evidence(record, qualifying, references)
    }

    fn certify_key(
        &self,
        record: &CardRecord,
        qualifying: Vec<u8>,
        reference: u8,
    ) -> Result<CertifiedKey, CardFault> {
        self.certify_key(record, qualifying, reference)
    }

    fn destroy_card(&self, record: &TpmRecord) -> Result<(), TpmError> {
        self.destroy_card(record)
    }

    fn undo_intent(&self, indices: &[IntentIndex]) -> Result<(), TpmError> {
        self.undo_intent(indices)
    }

    fn check_card(&self, record: &CardRecord) -> Result<(), CardFault> {
        self.check_card(record)
    }

    fn check_presence(&self, record: &CardRecord) -> Result<(), CardFault> {
        self.check_presence(record)
    }

    fn lost_parts(&self, record: &TpmRecord) -> Result<Vec<IndexRole>, CardFault> {
        self.lost_parts(record)
    }

    fn has_root(&self, srk: &SrkRecord) -> Result<bool, TpmError> {
        self.has_root(srk)
    }

    fn token(&self, record: &CardRecord) -> Result<Box<dyn Token>, CardFault> {
        Ok(Box::new(self.token(record)?))
    }

    fn indices(&self) -> Result<Vec<DefinedIndex>, TpmError> {
        self.indices()
    }

    fn undefine_index(&self, handle: u32) -> Result<bool, TpmError> {
        self.undefine_index(handle)
    }
}
