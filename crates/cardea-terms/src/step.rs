//! Steps of long work.

use minicbor::{Decode, Encode};

use crate::card::IndexRole;

/// What is being done, while a card is created or destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Step {
    /// The policies of the counters are approved.
    #[n(0)]
    ApprovePolicies,
    /// The counter of one secret is defined.
    #[n(1)]
    DefineCounter(#[n(0)] IndexRole),
    /// The card's objects in the TPM are deleted.
    #[n(2)]
    DeleteObjects,
    /// The key that approves the card's policies is loaded.
    #[n(3)]
    LoadBirthKey,
    /// What the card is made of is chosen.
    #[n(4)]
    PrepareCard,
    /// The card file is removed.
    #[n(5)]
    RemoveFile,
    /// The admin key is sealed.
    #[n(6)]
    SealAdminKey,
    /// Waits until the card is not in use.
    #[n(7)]
    WaitForCard,
    /// Waits until no other card is created or destroyed.
    #[n(8)]
    WaitForTurn,
    /// The card file is written.
    #[n(9)]
    WriteFile,
    /// The keys are made that sign what the TPM says of the card.
    #[n(10)]
    MakeAttestationKey,
}
