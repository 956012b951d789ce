//! Numbers of MS-TPMVSC: interfaces, classes, methods, reports, results.

use crate::Guid;

/// The manager, as clients on other machines ask for it.
pub const CLSID_REMOTE_MANAGER: Guid = Guid::from_u128(0x152E_A2A8_70DC_4C59_8B2A_32AA_3CA0_DCAC);
/// The manager, as programs on the same machine ask for it.
pub const CLSID_LOCAL_MANAGER: Guid = Guid::from_u128(0x16A1_8E86_7F6E_4C20_AD89_4FFC_0DB7_A96A);
/// Create and destroy.
pub const IID_MANAGER: Guid = Guid::from_u128(0x112B_1DFF_D9DC_41F7_869F_D67F_EE7C_B591);
/// And create with a PIN policy.
pub const IID_MANAGER2: Guid = Guid::from_u128(0xFDF8_A2B9_02DE_47F4_BC26_AA85_AB5E_5267);
/// And create with attestation.
pub const IID_MANAGER3: Guid = Guid::from_u128(0x3C74_5A97_F375_4150_BE17_5950_F694_C699);
/// What reports are sent to.
pub const IID_CALLBACK: Guid = Guid::from_u128(0x1A1B_B35F_ABB8_451C_A1AE_33D9_8F1B_EF4A);

/// Methods of the manager.
pub mod manager {
    /// [`crate::tpmvsc::CreateMethod::Plain`].
    pub const CREATE: u16 = 3;
    /// [`crate::tpmvsc::DestroyCard`].
    pub const DESTROY: u16 = 4;
    /// [`crate::tpmvsc::CreateMethod::PinPolicy`].
    pub const CREATE_WITH_PIN_POLICY: u16 = 5;
    /// [`crate::tpmvsc::CreateMethod::Attestation`].
    pub const CREATE_WITH_ATTESTATION: u16 = 6;
}

/// Methods of the callback.
pub mod callback {
    /// [`crate::tpmvsc::Report`] of a status.
    pub const REPORT_PROGRESS: u16 = 3;
    /// [`crate::tpmvsc::Report`] of an error.
    pub const REPORT_ERROR: u16 = 4;
}

/// The interfaces of a manager object, the base first.
#[must_use]
pub const fn interfaces_of_manager() -> [Guid; 3] {
    [IID_MANAGER, IID_MANAGER2, IID_MANAGER3]
}

/// The last method of an interface; the first is 3 in all of them. `None`: it is another interface.
#[must_use]
pub fn last_opnum(iid: &Guid) -> Option<u16> {
    match *iid {
        IID_MANAGER => Some(manager::DESTROY),
        IID_MANAGER2 => Some(manager::CREATE_WITH_PIN_POLICY),
        IID_MANAGER3 => Some(manager::CREATE_WITH_ATTESTATION),
        IID_CALLBACK => Some(callback::REPORT_ERROR),
        _ => None,
    }
}

/// The name of a TPMVSCMGR_STATUS. Those that are sent from here are in [`cardea_terms::tpmvsc::Status`].
#[must_use]
pub fn status_name(number: u32) -> Option<&'static str> {
    let names = [
        "VTPMSMARTCARD_INITIALIZING",
        "VTPMSMARTCARD_CREATING",
        "VTPMSMARTCARD_DESTROYING",
        "VGIDSSIMULATOR_INITIALIZING",
        "VGIDSSIMULATOR_CREATING",
        "VGIDSSIMULATOR_DESTROYING",
        "VREADER_INITIALIZING",
        "VREADER_CREATING",
        "VREADER_DESTROYING",
        "GENERATE_WAITING",
        "GENERATE_AUTHENTICATING",
        "GENERATE_RUNNING",
        "CARD_CREATED",
        "CARD_DESTROYED",
    ];
    names.get(usize::try_from(number).ok()?).copied()
}

/// TPMVSCMGR_ERROR: what went wrong while a card was created or destroyed. In the order of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorReport {
    /// The caller could not be impersonated.
    Impersonation = 0,
    /// The PIN or PUK is too short or long, or breaks a rule.
    PinComplexity = 1,
    /// There is no room for another reader.
    ReaderCountLimit = 2,
    /// Not allowed from a remote desktop.
    TerminalServicesSession = 3,
    /// The card could not be prepared.
    CardInitialize = 4,
    /// Its objects could not be made.
    CardCreate = 5,
    /// Its objects could not be deleted.
    CardDestroyObjects = 6,
    /// Its content could not be prepared.
    SimulatorInitialize = 7,
    /// Its content could not be made.
    SimulatorCreate = 8,
    /// Its content could not be deleted.
    SimulatorDestroy = 9,
    /// Its content could not be set up.
    SimulatorWriteProperty = 10,
    /// Its content could not be found.
    SimulatorReadProperty = 11,
    /// Its reader could not be prepared.
    ReaderInitialize = 12,
    /// Its reader could not be made.
    ReaderCreate = 13,
    /// Its reader could not be removed.
    ReaderDestroy = 14,
    /// It did not appear in its reader.
    GenerateLocateReader = 15,
    /// Its files could not be written.
    GenerateFilesystem = 16,
    /// It was not created.
    Create = 17,
    /// It was not destroyed.
    Destroy = 18,
}

impl ErrorReport {
    /// All of them, in their order.
    pub const ALL: [Self; 19] = [
        Self::Impersonation,
        Self::PinComplexity,
        Self::ReaderCountLimit,
        Self::TerminalServicesSession,
        Self::CardInitialize,
        Self::CardCreate,
        Self::CardDestroyObjects,
        Self::SimulatorInitialize,
        Self::SimulatorCreate,
        Self::SimulatorDestroy,
        Self::SimulatorWriteProperty,
        Self::SimulatorReadProperty,
        Self::ReaderInitialize,
        Self::ReaderCreate,
        Self::ReaderDestroy,
        Self::GenerateLocateReader,
        Self::GenerateFilesystem,
        Self::Create,
        Self::Destroy,
    ];

    /// The error of a number on the wire.
    #[must_use]
    pub fn from_wire(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The name of the number.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Impersonation => "IMPERSONATION",
            Self::PinComplexity => "PIN_COMPLEXITY",
            Self::ReaderCountLimit => "READER_COUNT_LIMIT",
            Self::TerminalServicesSession => "TERMINAL_SERVICES_SESSION",
            Self::CardInitialize => "VTPMSMARTCARD_INITIALIZE",
            Self::CardCreate => "VTPMSMARTCARD_CREATE",
            Self::CardDestroyObjects => "VTPMSMARTCARD_DESTROY",
            Self::SimulatorInitialize => "VGIDSSIMULATOR_INITIALIZE",
            Self::SimulatorCreate => "VGIDSSIMULATOR_CREATE",
            Self::SimulatorDestroy => "VGIDSSIMULATOR_DESTROY",
            Self::SimulatorWriteProperty => "VGIDSSIMULATOR_WRITE_PROPERTY",
            Self::SimulatorReadProperty => "VGIDSSIMULATOR_READ_PROPERTY",
            Self::ReaderInitialize => "VREADER_INITIALIZE",
            Self::ReaderCreate => "VREADER_CREATE",
            Self::ReaderDestroy => "VREADER_DESTROY",
            Self::GenerateLocateReader => "GENERATE_LOCATE_READER",
            Self::GenerateFilesystem => "GENERATE_FILESYSTEM",
            Self::Create => "CARD_CREATE",
            Self::Destroy => "CARD_DESTROY",
        }
    }
}
