//! Cards over a real token on a software TPM, in process.

use cardea_card::Card;
use cardea_card::record::{CardRecord, GidsRecord};
use cardea_card::secret::Pin;
use cardea_tpm::{AdminKey, NewCard, Service};

use crate::software::{ManualClock, MemoryStore, SeededRng, card_record};

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
    let secret = |typed: &[u8]| Pin::new(typed).expect("a PIN");
    let new = NewCard {
        pin: secret(pin),
        puk: puk.map(secret),
        admin_key: admin_key.map(|key| AdminKey::new(key).expect("24 bytes")),
    };
    let prepared = service
        .prepare_card(&[], new)
        .expect("the TPM is fit for cards");
    let tpm = service
        .create_card(prepared, &mut |_| {})
        .expect("the card is made");
    let length = |typed: &[u8]| u8::try_from(typed.len()).expect("at most 127");
    let mut record = card_record(gids, length(pin), puk.map(length));
    record.tpm = tpm;
    record
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
