//! Cards over a real token on a software TPM, in process.

use cardea_card::Card;
use cardea_card::record::{CardId, CardRecord, CounterMode, GidsRecord, Provisional};
use cardea_card::secret::Pin;
use cardea_tpm::{AdminKey, NewCard, NewSecrets, Service};

use crate::played;
use crate::software::{CARD_ID, ManualClock, MemoryStore, SeededRng, card_record};
use crate::transcript::{ADMIN_KEY, CardKind, PIN, PUK};

/// The record of a new card in this TPM.
///
/// # Panics
///
/// When the TPM does not make it.
#[must_use]
pub fn new_record(
    service: &Service,
    gids: GidsRecord,
    pin: &[u8],
    puk: Option<&[u8]>,
    admin_key: Option<&[u8; 24]>,
) -> CardRecord {
    let mode = played::counter_mode();
    given(service, (mode, false), gids, pin, puk, admin_key)
}

/// Like [`new_record`], with an attestation key and sealed policies.
///
/// # Panics
///
/// When the TPM does not make it.
#[must_use]
pub fn new_attested_record(
    service: &Service,
    gids: GidsRecord,
    pin: &[u8],
    puk: Option<&[u8]>,
    admin_key: Option<&[u8; 24]>,
) -> CardRecord {
    let form = (CounterMode::Nv, true);
    given(service, form, gids, pin, puk, admin_key)
}

/// Like [`new_record`], with objects as counters.
///
/// # Panics
///
/// When the TPM does not make it.
#[must_use]
pub fn new_record_in_objects(
    service: &Service,
    gids: GidsRecord,
    pin: &[u8],
    puk: Option<&[u8]>,
    admin_key: Option<&[u8; 24]>,
) -> CardRecord {
    let form = (CounterMode::Object, false);
    given(service, form, gids, pin, puk, admin_key)
}

/// In a counter mode, and attested or not.
fn given(
    service: &Service,
    form: (CounterMode, bool),
    gids: GidsRecord,
    pin: &[u8],
    puk: Option<&[u8]>,
    admin_key: Option<&[u8; 24]>,
) -> CardRecord {
    let secret = |typed: &[u8]| Pin::new(typed).expect("a PIN");
    let (mut record, _) = make(
        service,
        form,
        gids,
        NewSecrets::Given {
            pin: secret(pin),
            puk: puk.map(secret),
            admin_key: admin_key.map(|key| AdminKey::new(key).expect("24 bytes")),
        },
    );
    let length = |typed: &[u8]| u8::try_from(typed.len()).expect("at most 127");
    record.lengths.pin = vec![length(pin)];
    record.lengths.puk = puk.map(length).into_iter().collect();
    record
}

/// The record of a new card of one of the kinds that transcripts name, whose counters are objects.
///
/// # Panics
///
/// When the TPM does not make it.
#[must_use]
pub fn record_in_objects(service: &Service, kind: CardKind) -> CardRecord {
    of_kind(service, CounterMode::Object, kind)
}

/// The record of a new card in initialisation state, with an index for a PUK or without.
///
/// # Panics
///
/// When the TPM does not make it.
#[must_use]
pub fn uninitialised_record(service: &Service, puk: bool) -> CardRecord {
    uninitialised(service, played::counter_mode(), puk)
}

fn uninitialised(service: &Service, mode: CounterMode, puk: bool) -> CardRecord {
    let gids = cardea_card::gids::uninitialised_card();
    let (mut record, provisional) = make(service, (mode, false), gids, NewSecrets::Random { puk });
    record.provisional = provisional;
    record.lengths.pin.clear();
    record
}

/// The record of a new card of one of the kinds that transcripts name.
///
/// # Panics
///
/// When the TPM does not make it.
#[must_use]
pub fn record_of_kind(service: &Service, kind: CardKind) -> CardRecord {
    of_kind(service, played::counter_mode(), kind)
}

fn of_kind(service: &Service, mode: CounterMode, kind: CardKind) -> CardRecord {
    let created = || cardea_card::gids::created_card(CardId::new(CARD_ID));
    let form = (mode, false);
    match kind {
        CardKind::Admin => given(service, form, created(), PIN, None, Some(ADMIN_KEY)),
        CardKind::AdminAndPuk => given(service, form, created(), PIN, Some(PUK), Some(ADMIN_KEY)),
        CardKind::Blank => given(
            service,
            form,
            cardea_card::gids::blank_card(),
            PIN,
            None,
            None,
        ),
        CardKind::Created => given(service, form, created(), PIN, None, None),
        CardKind::Uninitialised => uninitialised(service, mode, false),
        CardKind::UninitialisedWithPuk => uninitialised(service, mode, true),
        CardKind::WithPuk => given(service, form, created(), PIN, Some(PUK), None),
    }
}

fn make(
    service: &Service,
    (mode, attests): (CounterMode, bool),
    gids: GidsRecord,
    secrets: NewSecrets,
) -> (CardRecord, Option<Provisional>) {
    let new = NewCard {
        mode,
        attests,
        ..NewCard::new(secrets)
    };
    let prepared = service
        .prepare_card(&[], new)
        .expect("the TPM is fit for cards");
    let provisional = prepared.provisional().cloned();
    let tpm = service
        .create_card(prepared, &mut |_| {})
        .expect("the card is made");
    let mut record = card_record(gids, 0, None);
    record.tpm = tpm;
    (record, provisional)
}

/// A card on its token, with a store in memory.
///
/// # Panics
///
/// When the record is refused.
#[must_use]
pub fn open(service: &Service, record: CardRecord) -> Card {
    service.check_card(&record).expect("the card is this TPM's");
    let token = service.token(&record).expect("the record fits itself");
    Card::open(
        record,
        Box::new(token),
        Box::new(MemoryStore::default()),
        Box::new(ManualClock::default()),
        Box::new(SeededRng::new(11)),
    )
    .expect("the engine takes the record")
}
