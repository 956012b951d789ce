//! Violations that are known. An entry that no longer holds fails the check, so the lists only shrink.

/// The known violations, for the checks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Edges that the direction of rooms forbids: the crate, the file that uses, the file that is used.
    pub(super) edges: &'static [(&'static str, &'static str, &'static str)],
    /// The files of each cycle, by crate.
    pub(super) cycles: &'static [(&'static str, &'static [&'static str])],
}

impl Known {
    /// The crates that it names.
    pub(super) fn crates(&self) -> impl Iterator<Item = &'static str> {
        let edges = self.edges.iter().map(|(name, ..)| *name);
        edges.chain(self.cycles.iter().map(|(name, _)| *name))
    }
}

pub(super) const KNOWN: Known = Known {
    edges: &[],
    cycles: &[],
};
