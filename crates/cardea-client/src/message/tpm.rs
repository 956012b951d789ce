//! Requests about the TPM, and what describes it.

use cardea_terms::{CounterMode, IndexRole, KeyAlgorithm};
use minicbor::{Decode, Encode};

#[cfg(doc)]
use super::Reply;

use super::{Cursor, SecretBytes};

/// What a client may ask about the TPM.
#[derive(Debug, Encode, Decode)]
pub enum TpmRequest {
    /// State of the TPM: [`Reply::Tpm`].
    #[n(0)]
    Status,
    /// Every NV index in the cards' range: [`Reply::Indices`].
    #[n(1)]
    ListIndices {
        /// Where the page begins; absent = at the first index.
        #[n(0)]
        from: Option<Cursor>,
    },
    /// 32 bytes of the TPM's random number generator: [`Reply::Result`].
    #[n(2)]
    Random,
    /// Removes an index that no known card or unfinished operation claims.
    #[n(3)]
    RemoveIndex {
        /// Its handle.
        #[n(0)]
        handle: u32,
        /// The TPM's owner authorisation, where one is set.
        #[n(1)]
        owner_auth: Option<SecretBytes>,
    },
    /// Forgets all failures that count towards the TPM-wide lockout, and ends it.
    #[n(4)]
    ResetLockout {
        /// Lockout authorisation; empty = none is set.
        #[n(0)]
        auth: SecretBytes,
    },
    /// Sets an authorisation of the TPM, and empties the policy of its hierarchy and that of the endorsement hierarchy:
    /// what was set before would open them all the same. Answer: [`Reply::AuthorisationSet`].
    #[n(5)]
    SetHierarchyAuth {
        /// Which one.
        #[n(0)]
        hierarchy: Hierarchy,
        /// Present value; empty = none is set.
        #[n(1)]
        old: SecretBytes,
        /// New value, at most 32 bytes.
        #[n(2)]
        new: SecretBytes,
    },
    /// Sets when the TPM locks, and for how long.
    #[n(6)]
    SetLockoutParameters {
        /// Lockout authorisation; empty = none is set.
        #[n(0)]
        auth: SecretBytes,
        /// Failures at which it locks.
        #[n(1)]
        max_tries: u32,
        /// Seconds after which one failure is forgotten.
        #[n(2)]
        recovery: u32,
        /// Seconds for which a wrong lockout authorisation locks that authorisation itself.
        #[n(3)]
        lockout_recovery: u32,
    },
    /// Whether the TPM has room for one more card: indices are defined and undefined again. `Done`, or
    /// `Failed` with kind `Full`.
    #[n(7)]
    TryRoom,
    /// The keys by which the TPM is known, with the maker's certificates: [`Reply::EndorsementKeys`].
    #[n(8)]
    EndorsementKeys,
}

impl TpmRequest {
    /// Whether sending it twice does the same as sending it once.
    pub(crate) fn only_asks(&self) -> bool {
        match self {
            Self::EndorsementKeys
            | Self::ListIndices { .. }
            | Self::Random
            | Self::Status
            | Self::TryRoom => true,
            Self::RemoveIndex { .. }
            | Self::ResetLockout { .. }
            | Self::SetHierarchyAuth { .. }
            | Self::SetLockoutParameters { .. } => false,
        }
    }
}

/// An authorisation of the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Hierarchy {
    /// Resets the lockout, clears the TPM.
    #[n(0)]
    Lockout,
    /// Defines and deletes indices.
    #[n(1)]
    Owner,
}

impl Hierarchy {
    /// Its word in messages and files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lockout => "lockout",
            Self::Owner => "owner",
        }
    }
}

/// Whether a TPM counts wrong PINs as cards need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CounterCheck {
    /// Not tried: there was no card yet.
    #[n(0)]
    Unknown,
    /// It does.
    #[n(1)]
    Good,
    /// It could not be tried; cards are used.
    #[n(2)]
    Outstanding,
    /// It does not; cards are neither made nor used.
    #[n(3)]
    Unsafe,
    /// It has no indices that count; cards have objects as their counters.
    #[n(4)]
    Absent,
    /// It does, and sets counts back whenever a policy of the index is used. New cards have counters that only the owner
    /// reads, and those that anybody may read are counted by the daemon.
    #[n(5)]
    Resets,
}

impl CounterCheck {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Good => "good",
            Self::Resets => "resets",
            Self::Outstanding => "outstanding",
            Self::Unknown => "unknown",
            Self::Unsafe => "unsafe",
        }
    }
}

/// State of the TPM.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TpmStatus {
    /// Where it is, as given to `--tpm`.
    #[n(0)]
    pub address: String,
    /// Maker, four characters.
    #[n(1)]
    pub manufacturer: String,
    /// Vendor's text.
    #[n(2)]
    pub vendor: String,
    /// Firmware version, two 32-bit halves.
    #[n(3)]
    pub firmware: u64,
    /// Specification revision times 100.
    #[n(4)]
    pub revision: u32,
    /// Slots for loaded objects at least available.
    #[n(5)]
    pub transient_slots: u32,
    /// Failures that count towards the TPM-wide lockout.
    #[n(6)]
    pub lockout_count: u32,
    /// Failures at which the TPM locks.
    #[n(7)]
    pub lockout_max: u32,
    /// Seconds after which one failure is forgotten.
    #[n(8)]
    pub lockout_recovery: u32,
    /// Whether the TPM is locked out.
    #[n(9)]
    pub in_lockout: bool,
    /// Whether an owner authorisation is set.
    #[n(10)]
    pub owner_auth_set: bool,
    /// Whether a lockout authorisation is set.
    #[n(11)]
    pub lockout_auth_set: bool,
    /// Algorithms of keys that cards can have.
    #[n(12)]
    pub algorithms: Vec<KeyAlgorithm>,
    /// Slots for loaded sessions at least available.
    #[n(13)]
    pub session_slots: u32,
    /// NV indices defined, whoever made them.
    #[n(14)]
    pub nv_indices: u32,
    /// NV indices among them in the range of cards.
    #[n(15)]
    pub card_indices: u32,
    /// Seconds for which a wrong lockout authorisation shuts that authorisation itself.
    #[n(16)]
    pub lockout_auth_recovery: u32,
    /// Whether an endorsement authorisation is set.
    #[n(17)]
    pub endorsement_auth_set: bool,
    /// NV indices of cards that the daemon knows.
    #[n(18)]
    pub known_indices: u32,
    /// How much faster (or slower, below 0) the TPM's clock runs than the host's, in thousandths, by which sessions
    /// end too soon (too late); absent while the daemon has not run long enough to tell.
    #[n(19)]
    pub clock_deviation: Option<i32>,
    /// Handles of the hierarchies that a policy opens without their authorisation; absent = the TPM does not report
    /// them.
    #[n(20)]
    pub hierarchy_policies: Option<Vec<u32>>,
    /// Whether the owner hierarchy is switched on; switched off, it hides everything of cards until the TPM restarts.
    #[n(21)]
    pub owner_enabled: bool,
    /// Whether it counts wrong PINs as cards need it.
    #[n(22)]
    pub counters: CounterCheck,
    /// Why that is not known, or what is wrong; empty otherwise.
    #[n(23)]
    pub counters_reason: String,
    /// Commands that it lacks, of those that not every TPM has; absent while it was not examined.
    #[n(24)]
    pub lacking: Option<Vec<String>>,
    /// Saves of other sessions that a saved session survives (TPM_PT_CONTEXT_GAP_MAX); 0 = not reported.
    #[n(25)]
    pub context_gap: u32,
    /// Persistent objects that there is still room for; absent = not reported.
    #[n(26)]
    pub persistent_left: Option<u32>,
    /// Year and day of the year of the specification that it follows; 0 = not reported.
    #[n(27)]
    pub date: (u32, u32),
    /// What cards it takes; absent while it was not examined.
    #[n(28)]
    pub cards: Option<CardsTaken>,
}

/// A key by which a TPM is known.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EndorsementKey {
    /// TPMT_PUBLIC.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub public: Vec<u8>,
    /// What the index of its certificate holds: the certificate, others perhaps, and what the index has behind them;
    /// absent = none.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub certificate: Option<Vec<u8>>,
}

/// What cards a TPM takes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CardsTaken {
    /// What counts wrong PINs of the best that it takes; absent: it takes none.
    #[n(0)]
    pub mode: Option<CounterMode>,
    /// Why it takes none that promise more; empty: these promise most.
    #[n(1)]
    pub reason: String,
}

/// An NV index in the cards' range.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct IndexSummary {
    /// Its handle.
    #[n(0)]
    pub handle: u32,
    /// Whether it was written; one that was not is left from an interrupted creation.
    #[n(1)]
    pub written: bool,
    /// Id of the card that claims it.
    #[n(2)]
    pub card: Option<String>,
    /// Name of that card.
    #[n(3)]
    pub name: Option<String>,
    /// Whose secret it counts, if a card claims it for that; otherwise it holds the card's policies.
    #[n(4)]
    pub role: Option<IndexRole>,
    /// Whether an unfinished operation names it.
    #[n(5)]
    pub unfinished: bool,
    /// Whether it has the form of a card's index; else other software made it.
    #[n(6)]
    pub card_form: bool,
}
