//! Intent records: what is about to happen to the TPM's NV, written before it happens.
//!
//! CBOR and the host's HMAC, so that a planted file cannot have another card's index undefined.

use cardea_card::record::CardId;
use hmac::Mac;
use minicbor::{Decode, Encode};

use crate::format::{HostKey, mac};
use crate::validate::{INDEX_HANDLES, MAX_HANDLES};

/// Largest intent in bytes.
pub(crate) const MAX_INTENT: usize = 4096;
const TAG: usize = 32;

/// What is about to happen to a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum IntentKind {
    /// Its indices are going to be defined.
    #[n(0)]
    Create,
    /// Its indices are going to be undefined.
    #[n(1)]
    Destroy,
}

/// An intent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Intent {
    /// Whose indices.
    #[n(0)]
    pub card: CardId,
    /// What.
    #[n(1)]
    pub kind: IntentKind,
    /// Handle and authPolicy of each; at most four, within the cards' range.
    #[n(2)]
    pub indices: Vec<(u32, [u8; 32])>,
}

/// None for an intent that [`decode`] would refuse.
pub(crate) fn encode(key: &HostKey, intent: &Intent) -> Option<Vec<u8>> {
    if !is_possible(intent) {
        return None;
    }
    let mut bytes = minicbor::to_vec(intent).ok()?;
    let tag = mac(key, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&tag);
    Some(bytes)
}

/// None for anything that this host did not write.
pub(crate) fn decode(key: &HostKey, bytes: &[u8]) -> Option<Intent> {
    let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
    mac(key, body).verify_slice(tag).ok()?;
    minicbor::decode(body).ok().filter(is_possible)
}

fn is_possible(intent: &Intent) -> bool {
    intent.indices.len() <= MAX_HANDLES
        && intent
            .indices
            .iter()
            .all(|(handle, _)| INDEX_HANDLES.contains(handle))
}
