//! From card files to cards: finishing what was interrupted, disbelief, and coming back of the TPM
//! (docs/formats/card-file.md; each check names what it protects).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardea_card::Card;
use cardea_card::record::{CardId, CardRecord};
use cardea_card::token::{CardStore, TokenErrorKind};
use cardea_client::message::CardState;
use cardea_store::{Intent, IntentKind, KnownCard, StoreError, StoredCard};
use cardea_tpm::{CardFault, IntentIndex, Service, TpmError};

use crate::ambient::{BootClock, SystemRng};
use crate::audit::{Actor, Door, Kind};
use crate::counters::Verdict;
use crate::drive::{self, DriveStore};
use crate::failure::unsafe_tpm;
use crate::host::{Host, lock};
use crate::hosted::{Body, HostedCard, Indices, Place, Refused, View};
use crate::partial::Partial;

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
    let mut round = Instant::now();
    loop {
        let rare = round.elapsed() >= EXPIRY_INTERVAL;
        if rare {
            round = Instant::now();
        }
        let settled = settle(host, rare);
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

/// One pass; true when nothing is left that waits for the TPM. In a rare one, cards that the TPM has disowned are
/// compared with it again.
fn settle(host: &Host, rare: bool) -> bool {
    drive::remove_absent(host);
    let _guard = host.provision(&mut |_| {});
    let mut settled = true;
    let waits = |card: &Arc<HostedCard>| {
        let waits = |body: &Body| match body {
            Body::Live(_) => card.is_doubted(),
            Body::Refused(refused) => rare && refused.again,
            Body::Waiting(_) => true,
            Body::Away | Body::Elsewhere | Body::Gone => false,
        };
        // Who holds a drive can keep a card on it at work for some time.
        if card.drive().is_none() {
            return waits(&card.body());
        }
        card.try_body().is_some_and(|body| waits(&body))
    };
    let waiting: Vec<_> = host.cards().into_iter().filter(waits).collect();
    let untried = rare && host.counters.is_outstanding();
    let idle = waiting.is_empty() && lock(&host.intents).is_empty() && !untried;
    if !idle {
        match host.tpm.service() {
            Ok(service) => {
                if untried {
                    host.counters.examine(host, &for_keeper(&service));
                }
                settled &= finish_intents(host, &for_keeper(&service));
                for card in waiting {
                    if card.take_doubt() {
                        recheck(host, &card, &mut card.body(), TokenErrorKind::Lost);
                    }
                    settled &= check(host, &card, &service);
                }
            }
            Err(error) => {
                let reason = crate::failure::chain(&error);
                tracing::debug!(error = reason, "TPM away");
                for card in waiting {
                    let text = format!("the TPM cannot be reached: {reason}");
                    if matches!(*card.body(), Body::Waiting(_)) {
                        card.set_view(View::new(CardState::TpmAway, text));
                    }
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
                    Unfinished::SwitchedOff => crate::failure::SWITCHED_OFF.to_owned(),
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
    SwitchedOff,
}

fn card_of(host: &Host, intent: &Intent) -> Option<Arc<HostedCard>> {
    host.cards()
        .into_iter()
        .find(|card| card.id == Some(intent.card))
}

fn finish_intent(host: &Host, service: &Service, intent: &Intent) -> Result<(), Unfinished> {
    let text = |error: &dyn std::error::Error| Unfinished::Other(crate::failure::chain(error));
    // What is hidden is not gone.
    if !service.is_owner_on().map_err(|error| text(&error))? {
        return Err(Unfinished::SwitchedOff);
    }
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

/// Compares a card that waits with its TPM and takes it into use; false when the TPM could not say.
pub(crate) fn check(host: &Host, card: &Arc<HostedCard>, service: &Service) -> bool {
    compare(host, card, &mut card.body(), service)
}

/// The same because somebody asks for the card, so that one whose TPM is itself again is back at once.
pub(crate) fn ask_again(host: &Host, card: &Arc<HostedCard>, body: &mut Body) {
    let state = card.view().state;
    // Those that wait for an absent TPM are the keeper's, who tries often enough.
    let hopeful = matches!(
        state,
        CardState::Foreign | CardState::Lost | CardState::SwitchedOff | CardState::UnsafeTpm
    );
    let waits = match body {
        Body::Refused(refused) => refused.again,
        Body::Waiting(_) => true,
        _ => false,
    };
    if !hopeful || !waits || !card.may_ask() {
        return;
    }
    if let Ok(service) = host.tpm.service() {
        compare(host, card, body, &service);
        if matches!(body, Body::Live(_)) {
            // It has a place in the reader again.
            host.wake_keeper();
        }
    }
}

fn compare(host: &Host, card: &Arc<HostedCard>, body: &mut Body, service: &Service) -> bool {
    let record = match body {
        Body::Waiting(record)
        | Body::Refused(Refused {
            record: Some(record),
            again: true,
            ..
        }) => record.clone(),
        _ => return true,
    };
    let examined = |service: &Service| {
        service.check_card(&record)?;
        service.lost_parts(&record.tpm)
    };
    let examined = match examined(service) {
        // The storage root key is gone, and only the owner makes it again.
        Err(CardFault::Tpm(error)) if error.refuses_owner() => examined(&for_keeper(service)),
        examined => examined,
    };
    let examined = match examined {
        // As a comparison or a creation has found.
        Err(CardFault::CountReset) => {
            host.counters.found(host, &TpmError::CountReset);
            Ok(Err(view_of_fault(&CardFault::CountReset)))
        }
        Err(fault) => Err(fault),
        Ok(gone) => match host.counters.examine(host, &for_keeper(service)) {
            Verdict::Usable => Ok(Ok(gone)),
            Verdict::Unsafe(reason) => Ok(Err(View::unsafe_tpm(reason))),
            Verdict::Away(error) => Err(CardFault::Tpm(error)),
        },
    };
    let fault = match examined {
        Ok(Err(view)) => {
            if card.view() != view {
                tracing::warn!(card = %card.selector(), reason = view.reason, "card not used");
            }
            *body = Body::Waiting(record);
            card.set_view(view);
            return true;
        }
        Ok(Ok(gone)) => match open(host, card, &record, service) {
            Ok(live) => {
                *body = Body::Live(Box::new(live));
                card.set_view(View::ready());
                card.gone().set(&gone);
                tracing::info!(card = %card.selector(), name = card.name(), "card ready");
                if !gone.is_empty() {
                    tracing::warn!(card = %card.selector(), ?gone, "indices of the card were deleted or replaced");
                }
                return true;
            }
            Err(reason) => View::new(CardState::Unreadable, reason),
        },
        Err(CardFault::SwitchedOff) => {
            if card.view().state != CardState::SwitchedOff {
                tracing::warn!(card = %card.selector(), reason = crate::failure::SWITCHED_OFF, "card waits");
            }
            *body = Body::Waiting(record);
            card.set_view(View::switched_off());
            return true;
        }
        Err(CardFault::Tpm(error)) if error.refuses_owner() => {
            let reason = "the TPM's storage root key was removed, and its owner authorisation is needed to make \
                          it again: keep it as the daemon's service credential `owner-auth`";
            if card.view().reason != reason {
                tracing::warn!(card = %card.selector(), reason, "card not checked");
            }
            *body = Body::Waiting(record);
            card.set_view(View::new(CardState::TpmAway, reason));
            return true;
        }
        Err(CardFault::Tpm(error)) => {
            let reason = crate::failure::chain(&error);
            tracing::debug!(card = %card.selector(), error = reason, "card not checked");
            let text = format!("the TPM cannot be reached: {reason}");
            *body = Body::Waiting(record);
            card.set_view(View::new(CardState::TpmAway, text));
            return false;
        }
        Err(fault) => view_of_fault(&fault),
    };
    if card.view() != fault {
        tracing::warn!(card = %card.selector(), name = card.name(), reason = fault.reason, "card refused");
    }
    *body = refused(record, &fault);
    card.set_view(fault);
    true
}

/// A card that the TPM has disowned. One that it may still turn out to have is asked for again.
fn refused(record: Box<CardRecord>, fault: &View) -> Body {
    Body::Refused(Refused {
        // A foreign card's handles may belong to anybody here.
        indices: match fault.state {
            CardState::Foreign => Indices::NotOurs,
            _ => Indices::Own,
        },
        record: Some(record),
        again: matches!(fault.state, CardState::Foreign | CardState::Lost),
    })
}

/// What a fault means for people.
fn view_of_fault(fault: &CardFault) -> View {
    match fault {
        CardFault::CountReset => View::unsafe_tpm(unsafe_tpm(&fault.to_string())),
        CardFault::Foreign => View::new(
            CardState::Foreign,
            "made by another TPM, or the TPM was cleared",
        ),
        CardFault::Lost(_) => View::new(CardState::Lost, fault.to_string()),
        CardFault::SwitchedOff => View::switched_off(),
        CardFault::Tpm(_) => View::away(),
        _ => View::new(CardState::Unreadable, fault.to_string()),
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
    let gone = Arc::clone(card.gone());
    let token = Partial::new(token, service.clone(), &record.tpm, gone);
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

/// Whether what a token says of a live card calls for a look at the card as a whole.
pub(crate) fn calls_for_recheck(kind: TokenErrorKind) -> bool {
    matches!(
        kind,
        TokenErrorKind::Damaged | TokenErrorKind::Lost | TokenErrorKind::Unsafe
    )
}

/// A live card said that something in the TPM is not as it should be: finds out what, and takes it out of use unless
/// it was nothing.
pub(crate) fn recheck(host: &Host, card: &Arc<HostedCard>, body: &mut Body, said: TokenErrorKind) {
    let Body::Live(live) = &*body else {
        return;
    };
    let Ok(service) = host.tpm.service() else {
        return;
    };
    let record = Box::new(live.record().clone());
    if said == TokenErrorKind::Unsafe {
        host.counters.found(host, &TpmError::CountReset);
    }
    let examined = service
        .check_card(&record)
        .and_then(|()| service.lost_parts(&record.tpm));
    if matches!(examined, Err(CardFault::CountReset)) {
        host.counters.found(host, &TpmError::CountReset);
    }
    let view = match (host.counters.unsafe_reason(), examined) {
        (Some(reason), _) => View::unsafe_tpm(reason),
        (None, Ok(gone)) => {
            card.gone().set(&gone);
            return;
        }
        (None, Err(CardFault::Tpm(_))) => return,
        (None, Err(fault)) => view_of_fault(&fault),
    };
    tracing::warn!(card = %card.selector(), reason = view.reason, "card out of use");
    let lost = !matches!(view.state, CardState::SwitchedOff | CardState::UnsafeTpm);
    *body = match lost {
        true => refused(record, &view),
        // Nothing is lost: the same card is back when the TPM has restarted, with other firmware.
        false => Body::Waiting(record),
    };
    card.set_view(view);
    host.slots.remove(card);
    if lost {
        let audit = &host.audit;
        audit.event(Some(card), &Actor::daemon(), Door::Daemon, Kind::CardLost);
    }
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
