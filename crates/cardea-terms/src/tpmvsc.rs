//! Numbers of MS-TPMVSC, the protocol of Windows' virtual smart cards.

use std::fmt;

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
    /// Its content is prepared. Not sent by Cardea, like all that have no step.
    SimulatorInitializing = 3,
    /// Its content is made.
    SimulatorCreating = 4,
    /// Its content is deleted.
    SimulatorDestroying = 5,
    /// Its reader is prepared.
    ReaderInitializing = 6,
    /// Its reader is made.
    ReaderCreating = 7,
    /// Its reader is removed.
    ReaderDestroying = 8,
    /// It has to appear in its reader.
    GenerateWaiting = 9,
    /// The administrator authenticates to it.
    GenerateAuthenticating = 10,
    /// Its files are written.
    GenerateRunning = 11,
    /// It is made.
    CardCreated = 12,
    /// It is gone.
    CardDestroyed = 13,
}

impl Status {
    /// All of them, in their order.
    pub const ALL: [Self; 14] = [
        Self::CardInitializing,
        Self::CardCreating,
        Self::CardDestroying,
        Self::SimulatorInitializing,
        Self::SimulatorCreating,
        Self::SimulatorDestroying,
        Self::ReaderInitializing,
        Self::ReaderCreating,
        Self::ReaderDestroying,
        Self::GenerateWaiting,
        Self::GenerateAuthenticating,
        Self::GenerateRunning,
        Self::CardCreated,
        Self::CardDestroyed,
    ];

    /// The status of a number on the wire.
    #[must_use]
    pub fn from_wire(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The name of the number.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CardInitializing => "VTPMSMARTCARD_INITIALIZING",
            Self::CardCreating => "VTPMSMARTCARD_CREATING",
            Self::CardDestroying => "VTPMSMARTCARD_DESTROYING",
            Self::SimulatorInitializing => "VGIDSSIMULATOR_INITIALIZING",
            Self::SimulatorCreating => "VGIDSSIMULATOR_CREATING",
            Self::ReaderInitializing => "VREADER_INITIALIZING",
            Self::GenerateWaiting => "GENERATE_WAITING",
            Self::GenerateAuthenticating => "GENERATE_AUTHENTICATING",
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

/// An HRESULT: what a call of MS-TPMVSC returns. Its numbers are those of winerror.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hresult(pub u32);

impl Hresult {
    /// S_OK.
    pub const OK: Self = Self(0);
    /// E_ABORT.
    pub const ABORT: Self = Self(0x8000_4004);
    /// E_FAIL.
    pub const FAIL: Self = Self(0x8000_4005);
    /// ERROR_ACCESS_DENIED.
    pub const ACCESS_DENIED: Self = Self(0x8007_0005);
    /// ERROR_BAD_NETPATH.
    pub const UNREACHABLE: Self = Self(0x8007_0035);
    /// E_INVALIDARG.
    pub const INVALID_ARGUMENT: Self = Self(0x8007_0057);
    /// ERROR_BUSY.
    pub const BUSY: Self = Self(0x8007_00AA);
    /// ERROR_NETWORK_UNREACHABLE.
    pub const NO_AUTHORITY: Self = Self(0x8007_04CF);
    /// ERROR_NOT_FOUND.
    pub const NOT_FOUND: Self = Self(0x8007_0490);
    /// ERROR_NOT_ENOUGH_QUOTA.
    pub const FULL: Self = Self(0x8007_0718);
    /// NTE_NOT_SUPPORTED.
    pub const NOT_SUPPORTED: Self = Self(0x8009_0029);
    /// SCARD_E_INVALID_CHV.
    pub const PIN_POLICY: Self = Self(0x8010_002A);
    /// SCARD_W_WRONG_CHV.
    pub const WRONG_PIN: Self = Self(0x8010_006B);
    /// SCARD_W_CHV_BLOCKED.
    pub const PIN_BLOCKED: Self = Self(0x8010_006C);
    /// SCARD_W_CANCELLED_BY_USER.
    pub const NO_PERSON: Self = Self(0x8010_006E);
    /// TPM_20_E_HIERARCHY.
    pub const TPM_SWITCHED_OFF: Self = Self(0x8028_0085);
    /// TPM_20_E_FAILURE.
    pub const TPM_FAILURE: Self = Self(0x8028_0101);
    /// TPM_20_E_LOCKOUT.
    pub const TPM_LOCKOUT: Self = Self(0x8028_0921);
    /// TBS_E_TPM_NOT_FOUND.
    pub const TPM_NOT_FOUND: Self = Self(0x8028_400F);

    /// A sentence for it, Windows' own where it has one.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::OK => "The operation completed successfully.",
            Self::ABORT => "Operation aborted.",
            Self::ACCESS_DENIED => "Access is denied.",
            Self::UNREACHABLE => "The network path was not found.",
            Self::NO_AUTHORITY => "The network location cannot be reached.",
            Self::INVALID_ARGUMENT => "The parameter is incorrect.",
            Self::BUSY => "The requested resource is in use.",
            Self::NOT_FOUND => "Element not found.",
            Self::FULL => "Not enough quota is available to process this command.",
            Self::NOT_SUPPORTED => "The requested operation is not supported.",
            Self::PIN_POLICY => "The PIN does not meet the complexity rules.",
            Self::WRONG_PIN => "The card cannot be accessed because the wrong PIN was presented.",
            Self::PIN_BLOCKED => "The card cannot be accessed because the PIN is blocked.",
            Self::NO_PERSON => "The action was cancelled by the user.",
            Self::TPM_SWITCHED_OFF => "The hierarchy is not enabled.",
            Self::TPM_FAILURE => "The TPM has failed, or the card in it is lost.",
            Self::TPM_LOCKOUT => "The TPM is locked out.",
            Self::TPM_NOT_FOUND => "A compatible TPM device cannot be found.",
            _ => "Unspecified error.",
        }
    }
}

/// As Windows' tools write it.
impl fmt::Display for Hresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08X}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_their_numbers() {
        for (number, status) in (0..).zip(Status::ALL) {
            assert_eq!(status as u32, number);
            assert_eq!(Status::from_wire(number), Some(status));
        }
        assert_eq!(Status::from_wire(14), None);
    }

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
