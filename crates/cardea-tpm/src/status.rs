//! What a TPM says of itself (TPM 2.0 Part 2 §6.13).

use cardea_card::token::KeyAlgorithm;

use crate::clock::TpmTime;
use crate::core::Core;
use crate::error::TpmError;
use crate::hierarchy::Hierarchy;
use crate::intent::NV_RANGE;

/// State of the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Maker, four characters.
    pub manufacturer: String,
    /// Vendor's text.
    pub vendor: String,
    /// Firmware version, two 32-bit halves.
    pub firmware: u64,
    /// Specification revision times 100.
    pub revision: u32,
    /// Slots for loaded objects at least available.
    pub transient_slots: u32,
    /// Slots for loaded sessions at least available.
    pub session_slots: u32,
    /// NV indices defined, whoever made them.
    pub nv_indices: u32,
    /// NV indices among them in the range of cards, by their handles.
    ///
    /// How many more fit is not among the properties. TPM_PT_NV_COUNTERS_AVAIL is about another type of index:
    /// a software TPM with room for 947 of ours says 25, and says so still when ten of them are there.
    pub card_indices: Vec<u32>,
    /// Failures that count towards the TPM-wide lockout.
    pub lockout_count: u32,
    /// Failures at which the TPM locks.
    pub lockout_max: u32,
    /// Seconds after which one failure is forgotten.
    pub lockout_recovery: u32,
    /// Seconds for which a wrong lockout authorisation shuts that authorisation itself.
    pub lockout_auth_recovery: u32,
    /// Whether the TPM is locked out.
    pub in_lockout: bool,
    /// Whether an owner authorisation is set.
    pub owner_auth_set: bool,
    /// Whether an endorsement authorisation is set.
    pub endorsement_auth_set: bool,
    /// Whether a lockout authorisation is set.
    pub lockout_auth_set: bool,
    /// Handles of the hierarchies that a policy opens without their authorisation; none: the TPM does not tell.
    pub hierarchy_policies: Option<Vec<u32>>,
    /// Whether the owner hierarchy is switched on. Switched off, it hides everything of cards until the TPM restarts.
    pub owner_enabled: bool,
    /// Keys that cards can have.
    pub algorithms: Vec<KeyAlgorithm>,
    /// Saves of other sessions that a saved session survives; 0: the TPM does not tell.
    pub context_gap: u32,
    /// Persistent objects that there is still room for, if the TPM tells.
    pub persistent_left: Option<u32>,
    /// Year and day of the year of the specification.
    pub date: (u32, u32),
    /// Its time after everything else was asked.
    pub time: TpmTime,
}

const REVISION: u32 = 0x102;
const DAY_OF_YEAR: u32 = 0x103;
const YEAR: u32 = 0x104;
const MANUFACTURER: u32 = 0x105;
const VENDOR: std::ops::RangeInclusive<u32> = 0x106..=0x109;
const FIRMWARE_1: u32 = 0x10B;
const FIRMWARE_2: u32 = 0x10C;
const TRANSIENT_MIN: u32 = 0x10E;
const LOADED_MIN: u32 = 0x110;
const CONTEXT_GAP: u32 = 0x114;
const PERSISTENT_LEFT: u32 = 0x209;
pub(crate) const PERMANENT: u32 = 0x200;
pub(crate) const STARTUP_CLEAR: u32 = 0x201;
const NV_INDICES: u32 = 0x202;
const LOCKOUT_COUNTER: u32 = 0x20E;
const MAX_AUTH_FAIL: u32 = 0x20F;
const LOCKOUT_INTERVAL: u32 = 0x210;
const LOCKOUT_RECOVERY: u32 = 0x211;

/// Protection against dictionary attacks (TPM 2.0 Part 1 §19.8).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lockout {
    /// Failures that count at the moment.
    pub(crate) count: u32,
    /// Failures that lock the TPM.
    pub(crate) max: u32,
    /// Seconds after which one failure is forgotten; 0: never.
    recovery: u32,
}

impl Lockout {
    pub(crate) fn read(core: &mut Core) -> Result<Self, TpmError> {
        let properties = core.link()?.tpm.properties(LOCKOUT_COUNTER)?;
        let get = |wanted| {
            let mut properties = properties.iter();
            let found = properties.find(|(property, _)| *property == wanted);
            found.map(|(_, value)| *value).ok_or(NO_STATE)
        };
        Ok(Self {
            count: get(LOCKOUT_COUNTER)?,
            max: get(MAX_AUTH_FAIL)?,
            recovery: get(LOCKOUT_INTERVAL)?,
        })
    }

    /// At most so many seconds until fewer failures count than these. None: they do not go by themselves.
    pub(crate) fn seconds_until_below(self, failures: u32) -> Option<u32> {
        let excess = self.count.saturating_sub(failures).saturating_add(1);
        (self.recovery > 0 && failures > 0).then(|| self.recovery.saturating_mul(excess))
    }
}

impl Status {
    pub(crate) fn read(core: &mut Core) -> Result<Self, TpmError> {
        let mut properties = core.link()?.tpm.properties(0x100)?;
        properties.extend(core.link()?.tpm.properties(0x200)?);
        let mut card_indices = core.link()?.tpm.handles(*NV_RANGE.start())?;
        card_indices.retain(|handle| NV_RANGE.contains(handle));
        let find = |wanted| {
            let mut properties = properties.iter();
            let found = properties.find(|(property, _)| *property == wanted);
            found.map(|(_, value)| *value)
        };
        let get = |wanted| find(wanted).unwrap_or(0);
        let text = |value: u32| {
            value
                .to_be_bytes()
                .into_iter()
                .filter(u8::is_ascii_graphic)
                .map(char::from)
                .collect::<String>()
        };
        let permanent = get(PERMANENT);
        let mut status = Self {
            manufacturer: text(get(MANUFACTURER)),
            vendor: VENDOR.map(|part| text(get(part))).collect(),
            firmware: u64::from(get(FIRMWARE_1)) << 32 | u64::from(get(FIRMWARE_2)),
            revision: get(REVISION),
            transient_slots: get(TRANSIENT_MIN),
            session_slots: get(LOADED_MIN),
            nv_indices: get(NV_INDICES),
            card_indices,
            lockout_count: get(LOCKOUT_COUNTER),
            lockout_max: get(MAX_AUTH_FAIL),
            lockout_recovery: get(LOCKOUT_INTERVAL),
            lockout_auth_recovery: get(LOCKOUT_RECOVERY),
            in_lockout: permanent & 0x200 != 0,
            owner_auth_set: permanent & 1 != 0,
            endorsement_auth_set: permanent & 2 != 0,
            lockout_auth_set: permanent & 4 != 0,
            hierarchy_policies: None,
            owner_enabled: is_owner_enabled(get(STARTUP_CLEAR)),
            algorithms: Vec::new(),
            context_gap: get(CONTEXT_GAP),
            persistent_left: find(PERSISTENT_LEFT),
            date: (get(YEAR), get(DAY_OF_YEAR)),
            time: TpmTime::default(),
        };
        for algorithm in [
            KeyAlgorithm::Rsa2048,
            KeyAlgorithm::Rsa3072,
            KeyAlgorithm::P256,
            KeyAlgorithm::P384,
        ] {
            if core.supports(algorithm)? {
                status.algorithms.push(algorithm);
            }
        }
        status.hierarchy_policies = core.link()?.tpm.hierarchies_with_policy()?;
        status.time = core.link()?.tpm.read_clock()?;
        Ok(status)
    }
}

/// shEnable of TPMA_STARTUP_CLEAR (TPM 2.0 Part 2 §8.7).
pub(crate) fn is_owner_enabled(startup_clear: u32) -> bool {
    startup_clear & 2 != 0
}

pub(crate) const NO_STATE: TpmError = TpmError::Protocol {
    command: "GetCapability",
    what: "the TPM does not tell its state",
};

/// Whether a hierarchy has an authorisation.
pub(crate) fn is_set(core: &mut Core, hierarchy: Hierarchy) -> Result<bool, TpmError> {
    let permanent = core.link()?.tpm.property(PERMANENT)?.ok_or(NO_STATE)?;
    Ok(hierarchy.is_set_in(permanent))
}

/// Whether the owner hierarchy is switched on.
pub(crate) fn is_owner_on(core: &mut Core) -> Result<bool, TpmError> {
    let state = core.link()?.tpm.property(STARTUP_CLEAR)?.ok_or(NO_STATE)?;
    Ok(is_owner_enabled(state))
}
