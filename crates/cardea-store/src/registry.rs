//! Instance numbers: the host's own small names for cards (`ROOT\SMARTCARDREADER\NNNN`).

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
    pub(crate) fn number(&self, card: CardId) -> Option<u32> {
        self.numbers
            .iter()
            .find(|(known, _)| *known == card)
            .map(|(_, number)| *number)
    }

    /// The lowest free number.
    pub(crate) fn assign(&mut self, card: CardId) -> u32 {
        let free = (0..u32::MAX)
            .find(|number| self.numbers.iter().all(|(_, taken)| taken != number))
            .unwrap_or(u32::MAX);
        self.numbers.push((card, free));
        free
    }

    pub(crate) fn release(&mut self, card: CardId) {
        self.numbers.retain(|(known, _)| *known != card);
    }
}
