//! A chip that never answers, in place of a TPM.

use std::sync::Arc;

use cardea_card::record::{CardRecord, IndexRole, ObjectBlob, SrkRecord, TpmRecord};
use cardea_card::token::Token;
use cardea_terms::Step;
use cardea_tpm::{
    Address, CardFault, CertifiedKey, CertifiedKeys, Challenge, Chip, DefinedIndex, EndorsementKey,
    Evidence, Examination, Hierarchy, HierarchyAuth, HierarchyPolicy, IntentIndex,
    LockoutParameters, LockoutRoom, NewCard, PreparedCard, Status, TpmError, TpmTime,
};
use zeroize::Zeroizing;

/// It is there, and every request to it fails.
pub(crate) struct AlwaysAway(pub(crate) Address);

impl Chip for AlwaysAway {
    fn address(&self) -> &Address {
        &self.0
    }

    fn status(&self) -> Result<Status, TpmError> {
        Err(TpmError::Stopped)
    }

    fn endorsement_keys(&self) -> Result<Vec<EndorsementKey>, TpmError> {
        Err(TpmError::Stopped)
    }

    fn lockout_room(&self) -> Result<LockoutRoom, TpmError> {
        Err(TpmError::Stopped)
    }

    fn time(&self) -> Result<TpmTime, TpmError> {
        Err(TpmError::Stopped)
    }

    fn random(&self) -> Result<[u8; 32], TpmError> {
        Err(TpmError::Stopped)
    }

    fn run_idle_work(&self) {}

    fn is_served(&self) -> bool {
        true
    }

    fn with_owner(&self, _owner: Option<HierarchyAuth>) -> Arc<dyn Chip> {
        Arc::new(Self(self.0.clone()))
    }

    fn is_owner_on(&self) -> Result<bool, TpmError> {
        Err(TpmError::Stopped)
    }

    fn is_set(&self, _hierarchy: Hierarchy) -> Result<bool, TpmError> {
        Err(TpmError::Stopped)
    }

    fn set_hierarchy_auth(
        &self,
        _hierarchy: Hierarchy,
        _old: &HierarchyAuth,
        _new: &HierarchyAuth,
    ) -> Result<HierarchyPolicy, TpmError> {
        Err(TpmError::Stopped)
    }

    fn empty_policy(&self, _hierarchy: Hierarchy, _auth: &HierarchyAuth) -> Result<(), TpmError> {
        Err(TpmError::Stopped)
    }

    fn reset_lockout(&self, _auth: &HierarchyAuth) -> Result<(), TpmError> {
        Err(TpmError::Stopped)
    }

    fn set_lockout_parameters(
        &self,
        _auth: &HierarchyAuth,
        _parameters: LockoutParameters,
    ) -> Result<(), TpmError> {
        Err(TpmError::Stopped)
    }

    fn remove_leftovers(&self, _taken: &[u32]) -> Result<usize, TpmError> {
        Err(TpmError::Stopped)
    }

    fn room_for_card(&self, _taken: &[u32]) -> Result<(), TpmError> {
        Err(TpmError::Stopped)
    }

    fn examine(&self, _taken: &[u32]) -> Result<Examination, TpmError> {
        Err(TpmError::Stopped)
    }

    fn prepare_card(&self, _taken: &[u32], _new: NewCard) -> Result<PreparedCard, TpmError> {
        Err(TpmError::Stopped)
    }

    fn create_card(
        &self,
        _prepared: PreparedCard,
        _progress: &mut dyn FnMut(Step),
    ) -> Result<TpmRecord, TpmError> {
        Err(TpmError::Stopped)
    }

    fn make_attestation_key(&self, _record: &CardRecord) -> Result<ObjectBlob, CardFault> {
        Err(CardFault::Tpm(TpmError::Stopped))
    }

    fn storage_root_key(&self, _record: &CardRecord) -> Result<Vec<u8>, CardFault> {
        Err(CardFault::Tpm(TpmError::Stopped))
    }

    fn certify_own_keys(
        &self,
        _record: &CardRecord,
        _qualifying: [u8; 32],
    ) -> Result<CertifiedKeys, CardFault> {
        Err(CardFault::Tpm(TpmError::Stopped))
    }

    fn activate(
        &self,
        _record: &CardRecord,
        _challenge: Challenge,
    ) -> Result<Zeroizing<Vec<u8>>, CardFault> {
        Err(CardFault::Tpm(TpmError::Stopped))
    }

    fn evidence(
        &self,
        _record: &CardRecord,
        _qualifying: [u8; 32],
        _references: &[u8],
    ) -> Result<Evidence, CardFault> {
        Err(CardFault::Tpm(TpmError::Stopped))
    }

    fn certify_key(
        &self,
        _record: &CardRecord,
        _qualifying: Vec<u8>,
        _reference: u8,
    ) -> Result<CertifiedKey, CardFault> {
        Err(CardFault::Tpm(TpmError::Stopped))
    }

    fn destroy_card(&self, _record: &TpmRecord) -> Result<(), TpmError> {
        Err(TpmError::Stopped)
    }

    fn undo_intent(&self, _indices: &[IntentIndex]) -> Result<(), TpmError> {
        Err(TpmError::Stopped)
    }

    fn keep_examination(&self, _examination: &Examination) -> Result<Vec<u8>, TpmError> {
        Err(TpmError::Stopped)
    }

    fn recall_examination(&self, _kept: &[u8]) -> Result<Option<Examination>, TpmError> {
        Err(TpmError::Stopped)
    }

    fn check_presence(&self, _record: &CardRecord) -> Result<(), CardFault> {
        Err(CardFault::Tpm(TpmError::Stopped))
    }

    fn check_card(&self, _record: &CardRecord) -> Result<(), CardFault> {
        Err(TpmError::Stopped.into())
    }

    fn lost_parts(&self, _record: &TpmRecord) -> Result<Vec<IndexRole>, CardFault> {
        Err(TpmError::Stopped.into())
    }

    fn has_root(&self, _srk: &SrkRecord) -> Result<bool, TpmError> {
        Err(TpmError::Stopped)
    }

    fn token(&self, _record: &CardRecord) -> Result<Box<dyn Token>, CardFault> {
        Err(TpmError::Stopped.into())
    }

    fn indices(&self) -> Result<Vec<DefinedIndex>, TpmError> {
        Err(TpmError::Stopped)
    }

    fn undefine_index(&self, _handle: u32) -> Result<bool, TpmError> {
        Err(TpmError::Stopped)
    }
}
