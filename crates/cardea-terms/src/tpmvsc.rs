//! Numbers of MS-TPMVSC, the protocol of Windows' virtual smart cards.

use crate::step::Step;

/// The admin key that `default` stands for in Microsoft's tool: everybody knows it.
pub const DEFAULT_ADMIN_KEY: [u8; 24] = [
    1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
];

/// The PIN that `default` stands for there.
pub const DEFAULT_PIN: &[u8] = b"12345678";

/// TPMVSCMGR_STATUS: what is reported to a listener while a card is created or destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The card is prepared.
    CardInitializing = 0,
    /// Its objects are made.
    CardCreating = 1,
    /// Its objects are deleted.
    CardDestroying = 2,
    /// Its content is deleted.
    SimulatorDestroying = 5,
    /// Its reader is made.
    ReaderCreating = 7,
    /// Its reader is removed.
    ReaderDestroying = 8,
    /// Its content is made.
    GenerateRunning = 11,
    /// It is made.
    CardCreated = 12,
    /// It is gone.
    CardDestroyed = 13,
}

impl Status {
    /// The name of the number.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CardInitializing => "VTPMSMARTCARD_INITIALIZING",
            Self::CardCreating => "VTPMSMARTCARD_CREATING",
            Self::CardDestroying => "VTPMSMARTCARD_DESTROYING",
            Self::SimulatorDestroying => "VGIDSSIMULATOR_DESTROYING",
            Self::ReaderCreating => "VREADER_CREATING",
            Self::ReaderDestroying => "VREADER_DESTROYING",
            Self::GenerateRunning => "GENERATE_RUNNING",
            Self::CardCreated => "CARD_CREATED",
            Self::CardDestroyed => "CARD_DESTROYED",
        }
    }

    /// The status of a step while a card is created.
    #[must_use]
    pub fn while_creating(step: Step) -> Self {
        match step {
            Step::PrepareCard => Self::CardInitializing,
            Step::WriteFile => Self::GenerateRunning,
            Step::ApprovePolicies
            | Step::DefineCounter(_)
            | Step::DeleteObjects
            | Step::LoadBirthKey
            | Step::MakeAttestationKey
            | Step::RemoveFile
            | Step::SealAdminKey
            | Step::WaitForCard
            | Step::WaitForTurn => Self::CardCreating,
        }
    }

    /// The status of a step while a card is destroyed.
    #[must_use]
    pub fn while_destroying(step: Step) -> Self {
        match step {
            Step::DeleteObjects => Self::CardDestroying,
            Step::RemoveFile => Self::SimulatorDestroying,
            Step::ApprovePolicies
            | Step::DefineCounter(_)
            | Step::LoadBirthKey
            | Step::MakeAttestationKey
            | Step::PrepareCard
            | Step::SealAdminKey
            | Step::WaitForCard
            | Step::WaitForTurn
            | Step::WriteFile => Self::ReaderDestroying,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_creation_and_of_a_destruction_have_their_numbers() {
        let created = [
            Step::PrepareCard,
            Step::LoadBirthKey,
            Step::SealAdminKey,
            Step::WriteFile,
        ];
        assert_eq!(
            created.map(|step| Status::while_creating(step) as u32),
            [0, 1, 1, 11]
        );
        let destroyed = [Step::WaitForCard, Step::DeleteObjects, Step::RemoveFile];
        assert_eq!(
            destroyed.map(|step| Status::while_destroying(step) as u32),
            [8, 2, 5]
        );
    }
}
