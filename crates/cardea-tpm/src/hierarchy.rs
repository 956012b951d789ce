//! Hierarchies and their authorisation values (TPM 2.0 Part 1 §14).

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// TPM_RH_OWNER.
pub(crate) const OWNER: u32 = 0x4000_0001;
/// TPM_RH_ENDORSEMENT.
pub(crate) const ENDORSEMENT: u32 = 0x4000_000B;
/// TPM_RH_NULL.
pub(crate) const NULL: u32 = 0x4000_0007;
/// TPM_RH_LOCKOUT.
pub(crate) const LOCKOUT: u32 = 0x4000_000A;

/// Authorisation value of a hierarchy: at most 32 bytes, erased on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct HierarchyAuth(pub(crate) Vec<u8>);

/// A value that no hierarchy can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an authorisation of the TPM has at most 32 bytes, not {0}")]
pub struct HierarchyAuthLengthError(pub usize);

impl HierarchyAuth {
    /// Takes the bytes; empty = none is set.
    ///
    /// # Errors
    ///
    /// [`HierarchyAuthLengthError`] for more than 32 bytes: every TPM takes that many.
    pub fn new(bytes: &[u8]) -> Result<Self, HierarchyAuthLengthError> {
        if bytes.len() > 32 {
            return Err(HierarchyAuthLengthError(bytes.len()));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for HierarchyAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HierarchyAuth")
    }
}

/// A hierarchy whose authorisation can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Endorsement keys. Cards do not use it.
    Endorsement,
    /// Resets the lockout, clears the TPM.
    Lockout,
    /// Defines and deletes indices, makes storage root keys.
    Owner,
}

impl Hierarchy {
    pub(crate) fn handle(self) -> u32 {
        match self {
            Self::Endorsement => ENDORSEMENT,
            Self::Lockout => LOCKOUT,
            Self::Owner => OWNER,
        }
    }

    /// Its bit in TPMA_PERMANENT (TPM 2.0 Part 2 §8.6).
    pub(crate) fn is_set_in(self, permanent: u32) -> bool {
        let bit = match self {
            Self::Endorsement => 2,
            Self::Lockout => 4,
            Self::Owner => 1,
        };
        permanent & bit != 0
    }
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endorsement => "endorsement",
            Self::Lockout => "lockout",
            Self::Owner => "owner",
        })
    }
}
