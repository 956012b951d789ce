//! Operations that were begun and not finished: what they name in the TPM is undefined, and nothing else.

use std::sync::Arc;

use cardea_card::record::{CardId, CardRecord, TpmRecord};
use cardea_client::message::CardState;
use cardea_store::{Intent, IntentKind, KnownCard, StoreError};
use cardea_tpm::{Chip, IntentIndex, own_indices};

use crate::host::Host;
use crate::host::hosted::{Body, View};
use crate::sync::lock;

/// Undefines what interrupted creations and destructions left, and only what they named. False: the TPM or the
/// folder may do better soon. What waits for the owner's authorisation does not come of itself, and is looked at
/// again with the usual rounds, or as soon as somebody gives it.
pub(crate) fn finish_intents(host: &Host, chip: &Arc<dyn Chip>) -> bool {
    let open = std::mem::take(&mut *lock(&host.intents));
    let mut left = Vec::new();
    let mut settled = true;
    for intent in open {
        match finish_intent(host, chip, &intent) {
            Ok(()) => {
                lock(&host.told).remove(&intent.card);
            }
            Err(why) => {
                let text = match &why {
                    Unfinished::OwnerNeeded => OWNER_NEEDED.to_owned(),
                    Unfinished::SwitchedOff => crate::failure::SWITCHED_OFF.to_owned(),
                    Unfinished::Other(error) => {
                        settled = false;
                        error.clone()
                    }
                };
                // Once, and again when it is something else.
                let told = lock(&host.told).insert(intent.card, text.clone());
                if told.as_ref() != Some(&text) {
                    tracing::warn!(card = %intent.card, kind = ?intent.kind, error = text, "interrupted operation not finished, to be retried");
                }
                if matches!(
                    (&why, intent.kind),
                    (Unfinished::OwnerNeeded, IntentKind::Destroy)
                ) && let Some(card) = host.own_card(intent.card)
                {
                    let reason = "being destroyed; waiting for the TPM's owner authorisation: finish it with `cardea card destroy` and --owner-auth-file";
                    card.set_view(View::new(CardState::TpmAway, reason));
                }
                left.push(intent);
            }
        }
    }
    lock(&host.intents).extend(left);
    settled
}

/// What the log says of that.
const OWNER_NEEDED: &str = "the TPM's owner authorisation is set, and none or a wrong one is available: keep it as the service credential `owner-auth`, or pass it to the next `cardea card create` or `card destroy`";

/// Why an interrupted operation could not be ended.
enum Unfinished {
    OwnerNeeded,
    Other(String),
    SwitchedOff,
}

fn finish_intent(host: &Host, chip: &Arc<dyn Chip>, intent: &Intent) -> Result<(), Unfinished> {
    let text = |error: &dyn std::error::Error| Unfinished::Other(crate::failure::chain(error));
    // What is hidden is not gone.
    if !chip.is_owner_on().map_err(|error| text(&error))? {
        return Err(Unfinished::SwitchedOff);
    }
    // Of a creation that was refused: while its file is there, so are its indices, and whoever starts next has a whole
    // card.
    if intent.kind == IntentKind::Create {
        remove_made(host, intent).map_err(|error| text(&error))?;
    }
    chip.undo_intent(&indices(intent))
        .map_err(|error| match error.refuses_owner() {
            true => Unfinished::OwnerNeeded,
            false => text(&error),
        })?;
    let card = host.own_card(intent.card);
    if intent.kind == IntentKind::Destroy {
        if let Some(card) = &card {
            host.slots.remove(card);
            *card.body() = Body::Gone;
        }
        remove_files(host, intent.card).map_err(|error| text(&error))?;
        if let Some(card) = &card {
            host.forget(card);
        }
    }
    host.store
        .remove_intent(intent.card)
        .map_err(|error| text(&error))?;
    // A card that is there in spite of its refused creation has come from elsewhere.
    if intent.kind == IntentKind::Destroy || card.is_none() {
        host.store
            .release_instance(intent.card)
            .map_err(|error| text(&error))?;
    }
    tracing::info!(card = %intent.card, kind = ?intent.kind, "interrupted operation undone");
    Ok(())
}

/// Removes what a creation has left in the state folder, and nothing that it has not made.
pub(crate) fn remove_made(host: &Host, intent: &Intent) -> Result<(), StoreError> {
    host.store
        .remove_made(intent.card, &|record| is_made(intent, record))?;
    match host.store.known_card(intent.card)? {
        Some(known) if is_known_made(intent, &known) => host.store.remove_known(intent.card),
        _ => Ok(()),
    }
}

/// Whether a creation with this intent has made a card. Its policies follow from its birth key, which no other card
/// has.
pub(crate) fn is_made(intent: &Intent, record: &CardRecord) -> bool {
    are_named(intent, &named(&record.tpm))
}

/// Like [`is_made`], for the record of a card on a drive.
pub(crate) fn is_known_made(intent: &Intent, known: &KnownCard) -> bool {
    are_named(intent, &known_indices(known))
}

/// Handle and policy of each index of a card on a drive.
pub(crate) fn known_indices(known: &KnownCard) -> Vec<(u32, [u8; 32])> {
    let indices = known.indices.iter();
    let indices = indices.map(|index| (index.handle, index.policy));
    let sealed = known.sealed.iter();
    indices
        .chain(sealed.map(|sealed| (sealed.handle, sealed.policy)))
        .collect()
}

/// A card whose counters are objects has no index, and so has its intent.
fn are_named(intent: &Intent, indices: &[(u32, [u8; 32])]) -> bool {
    indices.is_empty() == intent.indices.is_empty()
        && indices.iter().all(|index| intent.indices.contains(index))
}

fn remove_files(host: &Host, card: CardId) -> Result<(), StoreError> {
    host.store.remove(&host.store.path(card))?;
    host.store.remove_known(card)
}

pub(crate) fn indices(intent: &Intent) -> Vec<IntentIndex> {
    intent
        .indices
        .iter()
        .map(|&(handle, policy)| IntentIndex { handle, policy })
        .collect()
}

/// Handle and policy of each index of a card: what its destruction names. The policy is computed from the birth key
/// and not taken from the file (docs/design/tpm.md section 3: Authorize(Name of the birth key, role)).
pub(crate) fn named(record: &TpmRecord) -> Vec<(u32, [u8; 32])> {
    let own = own_indices(record).into_iter();
    own.map(|index| (index.handle, index.policy)).collect()
}

#[cfg(test)]
mod tests {
    use cardea_card::record::CardRecord;
    use cardea_store::Store;
    use cardea_tpm::{Address, Service};

    use super::*;
    use crate::lifecycle::load::load;
    use crate::lifecycle::load::tests::{host_with, stored};

    fn host(folder: &std::path::Path) -> Host {
        let connect = Box::new(|| {
            let service = Service::start(&Address::Simulator(None))?;
            Ok(Arc::new(service) as Arc<_>)
        });
        host_with(folder, connect)
    }

    fn record() -> CardRecord {
        let mut record = stored(1, 1, 0x01C2_0000, true).content.unwrap();
        let mut name = vec![0x00, 0x0B];
        name.resize(34, 7);
        record.tpm.srk.name.clone_from(&name);
        record.tpm.srk.template = vec![1];
        record.tpm.birth_public = vec![2; 88];
        for index in &mut record.tpm.indices {
            index.name.clone_from(&name);
        }
        record
    }

    #[test]
    fn unfinished_creation_removes_no_file_that_it_has_not_made() {
        let record = record();
        let intent = Intent {
            card: record.id,
            kind: IntentKind::Create,
            indices: vec![(0x01C2_0005, [7; 32])],
        };
        // Brought before a start or after it, from another host or of this one, from a time before.
        for (is_listed, is_own) in [(true, true), (true, false), (false, true), (false, false)] {
            let folder = tempfile::tempdir().unwrap();
            let other = tempfile::tempdir().unwrap();
            let host = host(folder.path());
            let path = host.store.path(record.id);
            if is_own {
                host.store.create(&record).unwrap();
            } else {
                let other = Store::open(other.path()).unwrap();
                other.create(&record).unwrap();
                std::fs::copy(other.path(record.id), &path).unwrap();
            }
            let before = std::fs::read(&path).unwrap();
            host.store.write_intent(&intent).unwrap();
            if is_listed {
                load(&host).unwrap();
                let card = host.own_card(record.id).unwrap();
                let reason = card.view().reason.clone();
                assert!(!reason.contains("destroyed"), "{reason}");
            } else {
                lock(&host.intents).push(intent.clone());
            }
            assert_eq!(lock(&host.intents).len(), 1);
            assert!(finish_intents(&host, &host.tpm.chip().unwrap()));
            assert!(lock(&host.intents).is_empty());
            assert!(host.store.intents().unwrap().is_empty());
            let after = std::fs::read(&path).unwrap();
            assert!(after == before, "{is_listed} {is_own}");
            assert_eq!(host.own_card(record.id).is_some(), is_listed);
        }
    }
}
