//! Instance numbers: the host's own small names for cards (`ROOT\SMARTCARDREADER\NNNN`).

use std::collections::BTreeSet;

use cardea_card::record::CardId;
use minicbor::{Decode, Encode};

/// Largest registry in bytes.
pub(crate) const MAX_REGISTRY: usize = 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Registry {
    #[n(0)]
    numbers: Vec<(CardId, u32)>,
}

impl Registry {
    /// None unless the bytes are exactly a registry in which nothing is there twice.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let registry: Self = minicbor::decode(bytes).ok()?;
        let cards: BTreeSet<_> = registry.numbers.iter().map(|(card, _)| card).collect();
        let numbers: BTreeSet<_> = registry.numbers.iter().map(|(_, number)| number).collect();
        let count = registry.numbers.len();
        let whole = cards.len() == count && numbers.len() == count;
        (whole && registry.to_bytes()? == bytes).then_some(registry)
    }

    /// None when it would be too large to be read again.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        let bytes = minicbor::to_vec(self).ok()?;
        (bytes.len() <= MAX_REGISTRY).then_some(bytes)
    }

    pub(crate) fn number(&self, card: CardId) -> Option<u32> {
        self.numbers
            .iter()
            .find(|(known, _)| *known == card)
            .map(|(_, number)| *number)
    }

    /// The lowest free number.
    pub(crate) fn assign(&mut self, card: CardId) -> u32 {
        let taken: BTreeSet<u32> = self.numbers.iter().map(|(_, number)| *number).collect();
        let free = (0..u32::MAX)
            .find(|number| !taken.contains(number))
            .unwrap_or(u32::MAX);
        self.numbers.push((card, free));
        free
    }

    pub(crate) fn release(&mut self, card: CardId) {
        self.numbers.retain(|(known, _)| *known != card);
    }
}
