//! The TPM's clock (TPM 2.0 Part 1 §36).

/// The time by which sessions and tickets end: since the TPM was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TpmTime {
    /// Milliseconds of the TPM's own clock.
    pub milliseconds: u64,
    /// How often the TPM was reset.
    pub resets: u32,
    /// How often it was restarted or resumed since then.
    pub restarts: u32,
}

impl TpmTime {
    /// Whether the TPM has run from one to the other.
    #[must_use]
    pub fn same_boot_as(self, later: Self) -> bool {
        (self.resets, self.restarts) == (later.resets, later.restarts)
            && self.milliseconds <= later.milliseconds
    }
}
