//! Operations that were begun and not finished: what they name in the TPM is undefined, and nothing else.

use std::sync::Arc;

use cardea_card::record::{CardId, TpmRecord};
use cardea_client::message::CardState;
use cardea_store::{Intent, IntentKind, StoreError};
use cardea_tpm::{Chip, IntentIndex, own_indices};

use crate::host::Host;
use crate::host::hosted::{Body, HostedCard, View};
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
                if let (Unfinished::OwnerNeeded, Some(card)) = (&why, card_of(host, &intent)) {
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

fn card_of(host: &Host, intent: &Intent) -> Option<Arc<HostedCard>> {
    host.own_card(intent.card)
}

fn finish_intent(host: &Host, chip: &Arc<dyn Chip>, intent: &Intent) -> Result<(), Unfinished> {
    let text = |error: &dyn std::error::Error| Unfinished::Other(crate::failure::chain(error));
    // What is hidden is not gone.
    if !chip.is_owner_on().map_err(|error| text(&error))? {
        return Err(Unfinished::SwitchedOff);
    }
    // Of a creation that was refused: while it is there, so are its indices, and whoever starts next has a whole card.
    if intent.kind == IntentKind::Create && card_of(host, intent).is_none() {
        host.store
            .remove(&host.store.path(intent.card))
            .map_err(|error| text(&error))?;
    }
    chip.undo_intent(&indices(intent))
        .map_err(|error| match error.refuses_owner() {
            true => Unfinished::OwnerNeeded,
            false => text(&error),
        })?;
    if let Some(card) = card_of(host, intent) {
        host.slots.remove(&card);
        *card.body() = Body::Gone;
        remove_files(host, intent.card).map_err(|error| text(&error))?;
        host.forget(&card);
    } else {
        // Of a destruction that was reported as done.
        remove_files(host, intent.card).map_err(|error| text(&error))?;
    }
    host.store
        .remove_intent(intent.card)
        .map_err(|error| text(&error))?;
    host.store
        .release_instance(intent.card)
        .map_err(|error| text(&error))?;
    tracing::info!(card = %intent.card, kind = ?intent.kind, "interrupted operation undone");
    Ok(())
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
