//! Cards on drives that this host has made or adopted, whether their drive is there or not: whose NV indices
//! theirs are.
//!
//! CBOR and the host's HMAC, as intents have it: these records say what an administrator may have undefined.

use cardea_card::record::{CardId, CardRecord, CounterMode, IndexRole};
use hmac::Mac;
use minicbor::{Decode, Encode};

use crate::format::{HostKey, mac};
use crate::validate::{INDEX_HANDLES, MAX_INDICES};

/// Largest record in bytes.
pub(crate) const MAX_KNOWN: usize = 4096;
const TAG: usize = 32;

/// What the HMAC covers begins so, and nothing else does.
const MAGIC: &str = "card on a drive";

/// A card whose file is on a drive.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KnownCard {
    /// Its id.
    #[n(0)]
    pub card: CardId,
    /// Its name when it was last there.
    #[n(1)]
    pub name: String,
    /// Owner's user id.
    #[n(2)]
    pub owner: u32,
    /// Seconds since 1970.
    #[n(3)]
    pub created: u64,
    /// Its indices; at most three, within the cards' range.
    #[n(4)]
    pub indices: Vec<KnownIndex>,
    /// The index with its sealed policies, if it has them.
    #[n(5)]
    pub sealed: Option<KnownPolicies>,
}

/// The index with the sealed policies of such a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KnownPolicies {
    /// NV handle.
    #[n(0)]
    pub handle: u32,
    /// Its authPolicy.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub policy: [u8; 32],
}

/// One index of such a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KnownIndex {
    /// NV handle.
    #[n(0)]
    pub handle: u32,
    /// Whose secret it counts.
    #[n(1)]
    pub role: IndexRole,
    /// Its authPolicy.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub policy: [u8; 32],
}

impl KnownCard {
    /// Where its wrong PINs are counted: a card in object mode has no indices, any other has its PIN's.
    #[must_use]
    pub fn mode(&self) -> CounterMode {
        match self.indices.is_empty() {
            true => CounterMode::Object,
            false => CounterMode::Nv,
        }
    }

    /// Whether a record is of this card: what never changes is the same.
    #[must_use]
    pub fn is_of(&self, record: &CardRecord) -> bool {
        let handles = |index: &KnownIndex| (index.handle, index.role);
        let own = record.tpm.indices.iter();
        self.card == record.id
            && self.owner == record.owner
            && self.created == record.created
            && self
                .indices
                .iter()
                .map(handles)
                .eq(own.map(|index| (index.handle, index.role)))
            && self.handles().eq(record.tpm.handles())
    }

    /// Handles of all of its indices.
    pub fn handles(&self) -> impl Iterator<Item = u32> {
        let indices = self.indices.iter().map(|index| index.handle);
        indices.chain(self.sealed.iter().map(|sealed| sealed.handle))
    }
}

#[derive(Encode, Decode)]
struct Tagged(#[n(0)] String, #[n(1)] KnownCard);

/// None for a record that [`decode`] would refuse.
pub(crate) fn encode(key: &HostKey, known: &KnownCard) -> Option<Vec<u8>> {
    if !is_possible(known) {
        return None;
    }
    let mut bytes = minicbor::to_vec(Tagged(MAGIC.to_owned(), known.clone())).ok()?;
    let tag = mac(key, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&tag);
    (bytes.len() <= MAX_KNOWN).then_some(bytes)
}

/// None for anything that this host did not write.
pub(crate) fn decode(key: &HostKey, bytes: &[u8]) -> Option<KnownCard> {
    let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
    mac(key, body).verify_slice(tag).ok()?;
    let Tagged(magic, known) = minicbor::decode(body).ok()?;
    (magic == MAGIC && is_possible(&known)).then_some(known)
}

fn is_possible(known: &KnownCard) -> bool {
    known.indices.len() <= MAX_INDICES
        && known
            .handles()
            .all(|handle| INDEX_HANDLES.contains(&handle))
}
