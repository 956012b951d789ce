//! Cards: counters and readers. The numbers are those of the card file.

use minicbor::{Decode, Encode};

/// Where PIN tries are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CounterMode {
    /// PIN_FAIL NV index of the card, whose count anybody may read.
    #[n(0)]
    Nv,
    /// The TPM's global lockout.
    #[n(1)]
    Object,
    /// PIN_FAIL NV index of the card, whose count the TPM's owner may read: for TPMs on which a policy that reads it
    /// sets it back.
    #[n(2)]
    NvOwner,
}

impl CounterMode {
    /// Its word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nv => "nv",
            Self::NvOwner => "nv-owner",
            Self::Object => "object",
        }
    }

    /// Whether the card has NV indices.
    #[must_use]
    pub fn is_in_nv(self) -> bool {
        match self {
            Self::Nv | Self::NvOwner => true,
            Self::Object => false,
        }
    }
}

/// The session limit of a card that has none, in seconds: ten years, the longest that a card file takes.
/// Fits into a TPM's expiration, which is a signed 32-bit number.
pub const NO_SESSION_LIMIT: u32 = 10 * 365 * 24 * 60 * 60;

/// Whose secret an NV index counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum IndexRole {
    /// The user's PIN.
    #[n(0)]
    Pin,
    /// The admin value.
    #[n(1)]
    Adm,
    /// The PUK.
    #[n(2)]
    Puk,
}

impl IndexRole {
    /// Its word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Adm => "adm",
            Self::Puk => "puk",
        }
    }
}

/// When a card is in its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Visibility {
    /// As long as it can be used.
    #[n(0)]
    Always,
    /// While its owner has an active session.
    #[n(1)]
    OwnerSession,
}

impl Visibility {
    /// Its word in commands and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OwnerSession => "owner-session",
        }
    }
}
