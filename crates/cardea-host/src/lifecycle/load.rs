//! From card files to cards, before the TPM is asked: which files are believed at all
//! (docs/formats/card-file.md; each check names what it protects).

use std::collections::HashMap;
use std::sync::Arc;

use cardea_card::record::{CardId, CardRecord};
use cardea_client::message::CardState;
use cardea_store::{Intent, IntentKind, KnownCard, StoreError, StoredCard};

use crate::host::Host;
use crate::host::hosted::{Body, HostedCard, Indices, Place, Refused, View};
use crate::lifecycle::intents;
use crate::sync::lock;

/// Reads the state folder. Sends no TPM command.
pub fn load(host: &Host) -> Result<(), StoreError> {
    let stored = host.store.cards()?;
    let known = host.store.known_cards()?;
    let mut open = Vec::new();
    for intent in host.store.intents()? {
        match standing(&intent, &stored, &known) {
            // The file is written after the last index: creation was complete.
            Standing::Complete => host.store.remove_intent(intent.card)?,
            Standing::Open => open.push(intent),
            Standing::Undecided => {
                tracing::warn!(card = %intent.card, "not known whether the card's creation was complete: its file cannot be read or is not this system's");
            }
        }
    }
    let mut refusals = refusals(&stored);
    refuse_for_drives(&stored, &known, &mut refusals);
    for known in known {
        if stored.iter().any(|card| card.id == Some(known.card)) {
            tracing::warn!(card = %known.card, "in the state folder and on a drive; the one on the drive is not used");
            continue;
        }
        let instance = host.store.instance(known.card)?;
        let path = host.store.path(known.card);
        host.add(Arc::new(HostedCard::on_drive(known, path, Some(instance))));
    }
    for card in stored {
        let doomed = card
            .id
            .is_some_and(|id| open.iter().any(|intent| dooms(intent, id)));
        host.add(Arc::new(host_card(host, card, &refusals, doomed)?));
    }
    *lock(&host.intents) = open;
    Ok(())
}

/// What became of an operation that has an intent.
enum Standing {
    /// A creation that has made its card.
    Complete,
    /// To be finished or undone.
    Open,
    /// Not to be seen from the file that is there. Undoing would destroy a card whose file comes back, so the intent
    /// stays: it is the only thing that says which indices are the card's.
    Undecided,
}

fn standing(intent: &Intent, stored: &[StoredCard], known: &[KnownCard]) -> Standing {
    if intent.kind != IntentKind::Create {
        return Standing::Open;
    }
    let is_known =
        |known: &KnownCard| known.card == intent.card && intents::is_known_made(intent, known);
    if known.iter().any(is_known) {
        return Standing::Complete;
    }
    match stored.iter().find(|card| card.id == Some(intent.card)) {
        None => Standing::Open,
        Some(card) => match &card.content {
            Err(_) => Standing::Undecided,
            // One with other indices is of another card.
            Ok(record) if !intents::is_made(intent, record) => Standing::Open,
            Ok(_) if card.trusted => Standing::Complete,
            Ok(_) => Standing::Undecided,
        },
    }
}

/// Whether a card is being destroyed. What a creation has not made only has the same id.
fn dooms(intent: &Intent, card: CardId) -> bool {
    intent.kind == IntentKind::Destroy && intent.card == card
}

/// Cards that may not be used whatever the TPM says, and why.
///
/// A card file can copy handle, Name and birth key of another card, and then passes every check of the TPM.
/// So an index belongs to one card only: the trusted file wins over the others, the older over the younger.
fn refusals(stored: &[StoredCard]) -> HashMap<CardId, String> {
    let mut refused = HashMap::new();
    let mut known: HashMap<CardId, (bool, &CardRecord)> = HashMap::new();
    for card in stored {
        let (Some(id), Ok(record)) = (card.id, &card.content) else {
            continue;
        };
        if id != record.id {
            // Not compared any further: it is refused, and must not speak for the card it names.
            refused.insert(id, "the card file has the id of another card".to_owned());
            continue;
        }
        known.insert(id, (card.trusted, record));
        if !card.trusted {
            refused.insert(id, "the card file was not written on this host".to_owned());
        }
    }
    let records: Vec<&CardRecord> = known.values().map(|(_, record)| *record).collect();
    // Smaller is stronger.
    let rank = |id: &CardId| {
        known
            .get(id)
            .map(|(trusted, record)| (!trusted, record.created, record.id))
    };
    for (one, other, claim) in cardea_store::conflicts(&records) {
        let (winner, loser) = if rank(&one) <= rank(&other) {
            (one, other)
        } else {
            (other, one)
        };
        refused.insert(
            loser,
            format!("the card file claims {claim}, which belongs to card {winner}"),
        );
    }
    refused
}

/// Refuses files whose index belongs to an older card on a drive, there or not.
fn refuse_for_drives(
    stored: &[StoredCard],
    known: &[KnownCard],
    refused: &mut HashMap<CardId, String>,
) {
    for record in stored.iter().filter_map(|card| card.content.as_ref().ok()) {
        let claims = |handle| record.tpm.handles().any(|own| own == handle);
        let older = known
            .iter()
            .filter(|known| (known.created, known.card) < (record.created, record.id))
            .find_map(|known| {
                let handle = known.handles().find(|handle| claims(*handle))?;
                Some((known.card, handle))
            });
        if let Some((winner, handle)) = older {
            refused.entry(record.id).or_insert_with(|| {
                format!("the card file claims index {handle:#010x}, which belongs to card {winner}")
            });
        }
    }
}

fn host_card(
    host: &Host,
    card: StoredCard,
    refusals: &HashMap<CardId, String>,
    doomed: bool,
) -> Result<HostedCard, StoreError> {
    let instance = card.id.map(|id| host.store.instance(id)).transpose()?;
    let place = Place {
        id: card.id,
        path: card.path,
        instance,
    };
    if card.previous {
        tracing::warn!(path = %place.path.display(), "card file damaged or gone, the previous one is used");
    }
    let record = match card.content {
        Ok(record) => Box::new(record),
        Err(error) => {
            let reason = crate::failure::chain(&error);
            tracing::warn!(path = %place.path.display(), error = reason, "card file not readable");
            return Ok(HostedCard::unreadable(place, reason));
        }
    };
    if let Some(reason) = place.id.and_then(|id| refusals.get(&id)) {
        tracing::warn!(card = ?place.id, reason, "card file not trusted");
        let body = Body::Refused(Refused {
            record: Some(record.clone()),
            indices: Indices::NotOurs,
            again: false,
        });
        let view = View::new(CardState::NotTrusted, reason);
        return Ok(HostedCard::new(place, &record, body, view));
    }
    let (body, view) = if doomed {
        let body = Body::Refused(Refused {
            record: Some(record.clone()),
            indices: Indices::Own,
            again: false,
        });
        let reason = "being destroyed; waiting for the TPM";
        (body, View::new(CardState::TpmAway, reason))
    } else {
        (Body::Waiting(record.clone()), View::away())
    };
    Ok(HostedCard::new(place, &record, body, view))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use cardea_card::record::{
        CounterMode, GidsRecord, IndexRecord, IndexRole, SecretLengths, Settings, SrkRecord,
        TpmRecord,
    };
    use cardea_store::Store;

    use super::*;
    use crate::host::audit::Audit;
    use crate::host::permission::Roles;
    use crate::host::tpm::Connect;

    const BASE: u32 = 0x01C2_0000;

    /// A host with its state in this folder, which has one slot.
    pub(crate) fn host_with(folder: &Path, connect: Connect) -> Host {
        let roles = Roles {
            admin_group: "cardea-admin".into(),
            pcscd_uid: 0,
            pcscd_user: None,
        };
        let store = Store::open(folder).unwrap();
        let audit = Audit::open(folder).unwrap();
        Host::new(roles, store, audit, connect, 1, false, "random".into())
    }

    pub(crate) fn stored(id: u8, created: u64, handle: u32, trusted: bool) -> StoredCard {
        let id = CardId::new([id; 16]);
        let record = CardRecord {
            id,
            name: "card".into(),
            owner: 0,
            created,
            settings: Settings::default(),
            lengths: SecretLengths::default(),
            tpm: TpmRecord {
                mode: CounterMode::Nv,
                srk: SrkRecord {
                    handle: 0x8100_0001,
                    name: Vec::new(),
                    template: Vec::new(),
                },
                salt: [0; 16],
                birth_public: Vec::new(),
                indices: vec![IndexRecord {
                    role: IndexRole::Pin,
                    handle,
                    name: Vec::new(),
                    limit: 5,
                }],
                approvals: Vec::new(),
                vault: None,
                previous_vault: None,
                sealed_key: None,
                attestation_key: None,
                previous_sealed_key: None,
                counter_objects: None,
                sealed_policies: None,
                attestation_chain: None,
            },
            keys: Vec::new(),
            gids: GidsRecord {
                life_cycle: 5,
                files: Vec::new(),
            },
            certificates_written: 0,
            objects: None,
            provisional: None,
        };
        StoredCard {
            id: Some(id),
            path: format!("{id}.card").into(),
            content: Ok(record),
            trusted,
            previous: false,
        }
    }

    fn refused(cards: &[StoredCard]) -> Vec<u8> {
        let mut refused: Vec<u8> = refusals(cards)
            .keys()
            .filter_map(|id| id.as_bytes().first().copied())
            .collect();
        refused.sort_unstable();
        refused
    }

    #[test]
    fn trusted_cards_with_indices_of_their_own_are_not_refused() {
        let cards = [stored(1, 9, BASE, true), stored(2, 9, BASE + 3, true)];
        assert!(refused(&cards).is_empty());
    }

    #[test]
    fn file_that_this_host_did_not_write_is_refused_even_alone() {
        assert_eq!(refused(&[stored(1, 9, BASE, false)]), [1]);
    }

    #[test]
    fn untrusted_claimant_never_pushes_a_trusted_one_out() {
        // Older, smaller id, first in the folder: nothing helps it.
        let cards = [stored(1, 1, BASE, false), stored(2, 9, BASE, true)];
        assert_eq!(refused(&cards), [1]);
    }

    #[test]
    fn of_two_trusted_claimants_the_older_one_keeps_the_index() {
        let cards = [stored(1, 9, BASE, true), stored(2, 8, BASE, true)];
        assert_eq!(refused(&cards), [1]);
        let cards = [stored(1, 9, BASE, true), stored(2, 9, BASE, true)];
        assert_eq!(refused(&cards), [2], "same age: always the same one");
    }

    #[test]
    fn copy_under_another_name_does_not_speak_for_the_card_it_names() {
        let mut copy = stored(1, 1, BASE, true);
        copy.id = Some(CardId::new([7; 16]));
        for cards in [[stored(1, 9, BASE, true), copy], {
            let mut copy = stored(1, 1, BASE, true);
            copy.id = Some(CardId::new([7; 16]));
            [copy, stored(1, 9, BASE, true)]
        }] {
            assert_eq!(refused(&cards), [7]);
        }
    }
}
