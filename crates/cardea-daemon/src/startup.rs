//! From card files to cards: finishing what was interrupted, disbelief, and coming back of the TPM
//! (docs/formats/card-file.md; each check names what it protects).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cardea_card::Card;
use cardea_card::record::{CardId, CardRecord};
use cardea_card::token::CardStore;
use cardea_client::message::CardState;
use cardea_store::{Intent, IntentKind, KnownCard, StoreError, StoredCard};
use cardea_tpm::{CardFault, IntentIndex, Service};

use crate::ambient::{BootClock, SystemRng};
use crate::audit::{Actor, Door, Kind};
use crate::drive::{self, DriveStore};
use crate::host::{Host, lock};
use crate::hosted::{Body, HostedCard, Indices, Place, Refused, View};

/// Between two attempts to reach a TPM that is away.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Between two looks at verifications that may be too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

/// Reads the state folder. Sends no TPM command.
pub(crate) fn load(host: &Host) -> Result<(), StoreError> {
    let stored = host.store.cards()?;
    let known = host.store.known_cards()?;
    let mut open = Vec::new();
    for intent in host.store.intents()? {
        let has_file = stored.iter().any(|card| card.id == Some(intent.card))
            || known.iter().any(|known| known.card == intent.card);
        if intent.kind == IntentKind::Create && has_file {
            // The file is written after the last index: creation was complete.
            host.store.remove_intent(intent.card)?;
        } else {
            open.push(intent);
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
            .is_some_and(|id| open.iter().any(|intent| intent.card == id));
        host.add(Arc::new(host_card(host, card, &refusals, doomed)?));
    }
    *lock(&host.intents) = open;
    Ok(())
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
            refused.insert(id, "the card file bears the id of another card".to_owned());
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
    for (one, other, handle) in cardea_store::conflicts(&records) {
        let (winner, loser) = if rank(&one) <= rank(&other) {
            (one, other)
        } else {
            (other, one)
        };
        refused.insert(
            loser,
            format!("the card file claims index {handle:#010x}, which is card {winner}'s"),
        );
    }
    refused
}

/// The same between a file here and a card on a drive, there or not: the older one keeps the index.
fn refuse_for_drives(
    stored: &[StoredCard],
    known: &[KnownCard],
    refused: &mut HashMap<CardId, String>,
) {
    for record in stored.iter().filter_map(|card| card.content.as_ref().ok()) {
        let claims = |handle| record.tpm.indices.iter().any(|own| own.handle == handle);
        let older = known
            .iter()
            .filter(|known| (known.created, known.card) < (record.created, record.id))
            .find_map(|known| {
                let mut indices = known.indices.iter();
                let index = indices.find(|index| claims(index.handle))?;
                Some((known.card, index.handle))
            });
        if let Some((winner, handle)) = older {
            refused.entry(record.id).or_insert_with(|| {
                format!("the card file claims index {handle:#010x}, which is card {winner}'s")
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
        });
        let view = View::new(CardState::NotTrusted, reason);
        return Ok(HostedCard::new(place, &record, body, view));
    }
    let (body, view) = if doomed {
        let body = Body::Refused(Refused {
            record: Some(record.clone()),
            indices: Indices::Own,
        });
        let reason = "being destroyed; waits for the TPM";
        (body, View::new(CardState::TpmAway, reason))
    } else {
        (Body::Waiting(record.clone()), View::away())
    };
    Ok(HostedCard::new(place, &record, body, view))
}

/// The keeper thread: finishes and checks what needs the TPM, again and again while it is away, and ends
/// old PIN verifications where no command comes that would.
pub(crate) fn keep(host: &Host) {
    let mut retry = FIRST_RETRY;
    loop {
        let settled = settle(host);
        let limit = if settled {
            retry = FIRST_RETRY;
            EXPIRY_INTERVAL
        } else {
            let limit = retry;
            retry = LAST_RETRY.min(retry * 2);
            limit
        };
        if !host.await_duty(limit) {
            return;
        }
        host.expire();
    }
}

/// One pass; true when nothing is left that waits for the TPM.
fn settle(host: &Host) -> bool {
    drive::remove_absent(host);
    let _guard = host.provision(&mut |_| {});
    let mut settled = true;
    let waits = |card: &Arc<HostedCard>| {
        // Who holds a drive can keep a card on it at work for some time.
        if card.drive().is_none() {
            return matches!(*card.body(), Body::Waiting(_));
        }
        card.try_body()
            .is_some_and(|body| matches!(*body, Body::Waiting(_)))
    };
    let waiting: Vec<_> = host.cards().into_iter().filter(waits).collect();
    let idle = waiting.is_empty() && lock(&host.intents).is_empty();
    if !idle {
        match host.tpm.service() {
            Ok(service) => {
                settled &= finish_intents(host, &for_keeper(&service));
                for card in waiting {
                    settled &= check(host, &card, &service);
                }
            }
            Err(error) => {
                let reason = crate::failure::chain(&error);
                tracing::debug!(error = reason, "TPM away");
                for card in waiting {
                    let text = format!("the TPM cannot be reached: {reason}");
                    card.set_view(View::new(CardState::TpmAway, text));
                }
                settled = false;
            }
        }
    }
    host.seat_cards();
    settled
}

/// The TPM with the owner's authorisation from the service's credential, if both have one.
fn for_keeper(service: &Service) -> Service {
    let set = || {
        service
            .is_set(cardea_tpm::Hierarchy::Owner)
            .is_ok_and(|set| set)
    };
    service.with_owner(crate::care::credential().filter(|_| set()))
}

/// Undefines what interrupted creations and destructions left, and only what they named. False: the TPM or the
/// folder may do better soon. What waits for the owner's authorisation does not come of itself, and is looked at
/// again with the usual rounds, or as soon as somebody gives it.
pub(crate) fn finish_intents(host: &Host, service: &Service) -> bool {
    let open = std::mem::take(&mut *lock(&host.intents));
    let mut left = Vec::new();
    let mut settled = true;
    for intent in open {
        match finish_intent(host, service, &intent) {
            Ok(()) => {
                lock(&host.told).remove(&intent.card);
            }
            Err(why) => {
                let text = match &why {
                    Unfinished::OwnerNeeded => OWNER_NEEDED.to_owned(),
                    Unfinished::Other(error) => {
                        settled = false;
                        error.clone()
                    }
                };
                // Once, and again when it is something else.
                let told = lock(&host.told).insert(intent.card, text.clone());
                if told.as_ref() != Some(&text) {
                    tracing::warn!(card = %intent.card, kind = ?intent.kind, error = text, "interrupted operation not finished, it waits");
                }
                if let (Unfinished::OwnerNeeded, Some(card)) = (&why, card_of(host, &intent)) {
                    let reason = "being destroyed; waits for the TPM's owner authorisation: \
                                  `cardea card destroy` with --owner-auth-file ends it";
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
const OWNER_NEEDED: &str = "the TPM's owner authorisation is set, and none or a wrong one is at hand: keep it as the service credential \
     `owner-auth`, or give it to the next `cardea card create` or `card destroy`";

/// Why an interrupted operation could not be ended.
enum Unfinished {
    OwnerNeeded,
    Other(String),
}

fn card_of(host: &Host, intent: &Intent) -> Option<Arc<HostedCard>> {
    host.cards()
        .into_iter()
        .find(|card| card.id == Some(intent.card))
}

fn finish_intent(host: &Host, service: &Service, intent: &Intent) -> Result<(), Unfinished> {
    let text = |error: &dyn std::error::Error| Unfinished::Other(crate::failure::chain(error));
    service
        .undo_intent(&indices(intent))
        .map_err(|error| match error.refuses_owner() {
            true => Unfinished::OwnerNeeded,
            false => text(&error),
        })?;
    if let Some(card) = card_of(host, intent) {
        host.slots.remove(&card);
        *card.body() = Body::Gone;
        host.store
            .remove(&card.path)
            .and_then(|()| host.store.remove_known(intent.card))
            .map_err(|error| text(&error))?;
        host.forget(&card);
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

pub(crate) fn indices(intent: &Intent) -> Vec<IntentIndex> {
    intent
        .indices
        .iter()
        .map(|&(handle, policy)| IntentIndex { handle, policy })
        .collect()
}

/// Compares a waiting card with its TPM and takes it into use; false when the TPM could not say.
pub(crate) fn check(host: &Host, card: &Arc<HostedCard>, service: &Service) -> bool {
    let mut body = card.body();
    let Body::Waiting(record) = &*body else {
        return true;
    };
    let checked = match service.check_card(record) {
        // The storage root key is gone, and only the owner makes it again.
        Err(CardFault::Tpm(error)) if error.refuses_owner() => {
            for_keeper(service).check_card(record)
        }
        checked => checked,
    };
    let fault = match checked {
        Ok(()) => match open(host, card, record, service) {
            Ok(live) => {
                *body = Body::Live(Box::new(live));
                card.set_view(View::ready());
                tracing::info!(card = %card.selector(), name = card.name(), "card ready");
                return true;
            }
            Err(reason) => View::new(CardState::Unreadable, reason),
        },
        Err(CardFault::Tpm(error)) if error.refuses_owner() => {
            let reason = "the TPM's storage root key was removed, and its owner authorisation is needed to make \
                          it again: keep it as the daemon's service credential `owner-auth`";
            if card.view().reason != reason {
                tracing::warn!(card = %card.selector(), reason, "card not checked");
            }
            card.set_view(View::new(CardState::TpmAway, reason));
            return true;
        }
        Err(CardFault::Tpm(error)) => {
            let reason = crate::failure::chain(&error);
            tracing::debug!(card = %card.selector(), error = reason, "card not checked");
            let text = format!("the TPM cannot be reached: {reason}");
            card.set_view(View::new(CardState::TpmAway, text));
            return false;
        }
        Err(fault) => view_of_fault(&fault),
    };
    tracing::warn!(card = %card.selector(), name = card.name(), reason = fault.reason, "card refused");
    *body = Body::Refused(Refused {
        indices: indices_of(fault.state),
        record: Some(record.clone()),
    });
    card.set_view(fault);
    true
}

/// What a fault means for people.
fn view_of_fault(fault: &CardFault) -> View {
    match fault {
        CardFault::Foreign => View::new(
            CardState::Foreign,
            "made by another TPM, or the TPM was cleared",
        ),
        CardFault::Lost(_) => View::new(CardState::Lost, fault.to_string()),
        CardFault::Tpm(_) => View::away(),
        _ => View::new(CardState::Unreadable, fault.to_string()),
    }
}

/// A foreign card's handles may belong to anybody here.
fn indices_of(state: CardState) -> Indices {
    match state {
        CardState::Foreign => Indices::NotOurs,
        _ => Indices::Own,
    }
}

/// The card over its token and its file.
pub(crate) fn open(
    host: &Host,
    card: &HostedCard,
    record: &CardRecord,
    service: &Service,
) -> Result<Card, String> {
    let token = service
        .token(record)
        .map_err(|fault| crate::failure::chain(&fault))?;
    let store: Box<dyn CardStore> = match card.drive() {
        Some(drive) => Box::new(DriveStore(drive)),
        None if card.known().is_some() => return Err(View::drive_away().reason),
        None => Box::new(host.store.card(record.id)),
    };
    Card::open(
        record.clone(),
        Box::new(token),
        store,
        Box::new(BootClock),
        Box::new(SystemRng),
    )
    .map_err(|error| crate::failure::chain(&error))
}

/// A live card said that its TPM objects are gone: finds out why, and takes it out of use.
pub(crate) fn recheck(host: &Host, card: &Arc<HostedCard>, body: &mut Body) {
    let Body::Live(live) = &*body else {
        return;
    };
    let Ok(service) = host.tpm.service() else {
        return;
    };
    let record = Box::new(live.record().clone());
    let view = match service.check_card(&record) {
        Ok(()) | Err(CardFault::Tpm(_)) => return,
        Err(fault) => view_of_fault(&fault),
    };
    tracing::warn!(card = %card.selector(), reason = view.reason, "card out of use");
    *body = Body::Refused(Refused {
        indices: indices_of(view.state),
        record: Some(record),
    });
    card.set_view(view);
    host.slots.remove(card);
    let audit = &host.audit;
    audit.event(Some(card), &Actor::daemon(), Door::Daemon, Kind::CardLost);
    host.wake_keeper();
}

#[cfg(test)]
mod tests {
    use cardea_card::record::{
        CounterMode, GidsRecord, IndexRecord, IndexRole, SecretLengths, Settings, SrkRecord,
        TpmRecord,
    };

    use super::*;

    const BASE: u32 = 0x01C2_0000;

    fn stored(id: u8, created: u64, handle: u32, trusted: bool) -> StoredCard {
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
