//! What was found out about a TPM: by trying what no property tells, and by asking for the rest.
//!
//! It holds for one TPM with one firmware, so that it is kept over restarts and found out again when either is
//! another one.

use std::fmt;

use cardea_card::record::CounterMode;
use cardea_card::token::KeyAlgorithm;
use minicbor::{Decode, Encode};

use crate::error::ResponseCode;

/// What was found out about a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Examination {
    /// Which TPM, as it reports itself.
    #[n(0)]
    pub model: Model,
    /// Whether it counts wrong PINs.
    #[n(1)]
    pub counters: CounterFinding,
    /// Commands that it lacks, of those that not every TPM has.
    #[n(2)]
    pub lacking: Vec<OptionalCommand>,
    /// Keys that cards can have.
    #[n(3)]
    pub algorithms: Vec<KeyAlgorithm>,
    /// Whether it has AES.
    #[n(4)]
    pub aes: bool,
    /// Whether it has SHA-384.
    #[n(5)]
    pub sha384: bool,
    /// What there is room for.
    #[n(6)]
    pub capacity: Capacity,
}

/// Maker, firmware and specification of a TPM (TPM 2.0 Part 2 §6.13). Another firmware is another model.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Model {
    /// TPM_PT_MANUFACTURER.
    #[n(0)]
    pub manufacturer: u32,
    /// TPM_PT_VENDOR_STRING_1 to 4.
    #[n(1)]
    pub vendor: [u32; 4],
    /// TPM_PT_FIRMWARE_VERSION_1 and 2.
    #[n(2)]
    pub firmware: [u32; 2],
    /// TPM_PT_REVISION: the specification's, times 100.
    #[n(3)]
    pub revision: u32,
    /// TPM_PT_YEAR and TPM_PT_DAY_OF_YEAR of the specification.
    #[n(4)]
    pub date: [u32; 2],
}

/// How a TPM counts wrong values of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum CounterFinding {
    /// There are no indices that count: their definition is refused with this response code.
    #[n(0)]
    Absent(#[n(0)] u32),
    /// Every policy of an index sets its count back, so that whoever may read it by one can guess without end.
    #[n(1)]
    Resets,
    /// It counts, blocks, and nothing but the correct value sets the count back.
    #[n(2)]
    Sound,
}

/// A command that parts of TPMs in use lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum OptionalCommand {
    /// TPM2_NV_Certify.
    #[n(0)]
    NvCertify,
    /// TPM2_PolicyAuthorizeNV.
    #[n(1)]
    PolicyAuthorizeNv,
    /// TPM2_PolicyCounterTimer.
    #[n(2)]
    PolicyCounterTimer,
    /// TPM2_PolicyTicket.
    #[n(3)]
    PolicyTicket,
}

/// What a TPM has room for (TPM 2.0 Part 2 §6.13); 0 where it does not report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Capacity {
    /// TPM_PT_HR_TRANSIENT_MIN: loaded objects.
    #[n(0)]
    pub objects: u32,
    /// TPM_PT_HR_LOADED_MIN: loaded sessions.
    #[n(1)]
    pub loaded_sessions: u32,
    /// TPM_PT_ACTIVE_SESSIONS_MAX: sessions, loaded or saved.
    #[n(2)]
    pub active_sessions: u32,
    /// TPM_PT_CONTEXT_GAP_MAX: saves of other sessions that a saved session survives.
    #[n(3)]
    pub context_gap: u32,
    /// TPM_PT_NV_INDEX_MAX: bytes of the largest index.
    #[n(4)]
    pub index_size: u32,
}

impl Examination {
    /// What counts wrong PINs of the best cards that it takes; none: it takes no cards.
    #[must_use]
    pub fn best_mode(&self) -> Option<CounterMode> {
        match (self.why_no_card(), self.why_not_nv(), self.why_not_open()) {
            (Some(_), ..) => None,
            (None, Some(_), _) => Some(CounterMode::Object),
            (None, None, Some(_)) => Some(CounterMode::NvOwner),
            (None, None, None) => Some(CounterMode::Nv),
        }
    }

    /// Whether it has a command that not every TPM has.
    #[must_use]
    pub fn has(&self, command: OptionalCommand) -> bool {
        !self.lacking.contains(&command)
    }

    /// Why no card can have counters that anybody may read; none: a card can.
    #[must_use]
    pub fn why_not_open(&self) -> Option<Obstacle> {
        match self.counters {
            CounterFinding::Resets => self.why_no_card().or(Some(Obstacle::CountReset)),
            CounterFinding::Absent(_) | CounterFinding::Sound => self.why_not_nv(),
        }
    }

    /// Why no card can have its counters in NV; none: a card can, though perhaps its counters are for the owner to read.
    #[must_use]
    pub fn why_not_nv(&self) -> Option<Obstacle> {
        match self.counters {
            CounterFinding::Absent(code) => {
                let none = Obstacle::NoCounters(ResponseCode(code));
                self.why_no_card().or(Some(none))
            }
            CounterFinding::Resets | CounterFinding::Sound => self.why_no_card(),
        }
    }

    /// Why no card can be made at all; none: a card can, with objects as its counters.
    #[must_use]
    pub fn why_no_card(&self) -> Option<Obstacle> {
        let ticket = OptionalCommand::PolicyTicket;
        (!self.has(ticket)).then_some(Obstacle::Lacks(ticket))
    }
}

/// What a TPM lacks that cards need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// See [`CounterFinding::Resets`].
    CountReset,
    /// A command.
    Lacks(OptionalCommand),
    /// See [`CounterFinding::Absent`].
    NoCounters(ResponseCode),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CountReset => f.write_str(
                "its firmware sets the count of wrong PINs back whenever a counter is read",
            ),
            Self::Lacks(OptionalCommand::PolicyTicket) => f.write_str(
                "it has no PolicyTicket, so that each use of a key would need the PIN; newer firmware may have it",
            ),
            Self::Lacks(command) => write!(f, "it has no {}", command.name()),
            Self::NoCounters(code) => write!(f, "it has no indices that count wrong PINs: {code}"),
        }
    }
}

impl OptionalCommand {
    /// All, in alphabetical order.
    pub const ALL: [Self; 4] = [
        Self::NvCertify,
        Self::PolicyAuthorizeNv,
        Self::PolicyCounterTimer,
        Self::PolicyTicket,
    ];

    /// In the specification's words, without `TPM2_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NvCertify => "NV_Certify",
            Self::PolicyAuthorizeNv => "PolicyAuthorizeNV",
            Self::PolicyCounterTimer => "PolicyCounterTimer",
            Self::PolicyTicket => "PolicyTicket",
        }
    }
}
