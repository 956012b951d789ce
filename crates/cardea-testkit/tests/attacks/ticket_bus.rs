//! Recordings of the bus while the PUK is entered or the administrator responds, used by somebody with the device.

use cardea_card::record::CardRecord;
use cardea_card::token::{AdminForm, KeyClass, PinReference};
use cardea_testkit::bare::BarePins as _;

use crate::bench::{Bench, Kind, Outcome, PUK, pin, succeeds_if};
use crate::exploit;
use crate::interposer::{Adversary, Conversation, begin, end, gains_of_contexts, rules};
use crate::vault::Said;

const BOTH: [KeyClass; 2] = [KeyClass::Session, KeyClass::Always];

/// Tickets that a correct PUK yields: they would set PIN and tries.
pub(crate) fn tickets_of_the_puk() -> Outcome {
    let (bench, record, heard) = puk_entered();
    tickets(&bench, &record, &heard)
}

/// Sessions that a correct PUK has approved and the daemon has saved until they are used: anybody can load them.
pub(crate) fn sessions_saved_for_the_puk() -> Outcome {
    let (bench, record, heard) = puk_entered();
    assert!(!heard.contexts().is_empty(), "sessions are saved");
    let gains = gains_of_contexts(&bench, &record, &heard).join(", ");
    succeeds_if!(!gains.is_empty(), "the listener {gains}");
    Ok(())
}

fn puk_entered() -> (Bench, CardRecord, Conversation) {
    let mut bench = Bench::new();
    let record = bench.with_keys(&bench.record(Kind::Puk), &BOTH);
    bench.restart();
    let listener = Adversary::listening(bench.salt());
    begin(&bench, &listener);
    let mut token = bench.service.token(&record).unwrap();
    token.verify(PinReference::Puk, &pin(PUK)).unwrap();
    drop(token);
    let heard = end(&mut bench, &listener);
    (bench, record, heard)
}

fn tickets(bench: &Bench, record: &CardRecord, heard: &Conversation) -> Outcome {
    for ticket in rules::tickets(heard) {
        let gains = exploit::ticket(bench, record, &ticket).join(", ");
        succeeds_if!(!gains.is_empty(), "the listener {gains}");
    }
    Ok(())
}

/// Tickets that a correct response of the administrator yields: they would set PIN, tries and the admin value, and
/// unseal the masked admin key.
pub(crate) fn tickets_of_the_administrator() -> Outcome {
    for form in [AdminForm::External, AdminForm::Mutual] {
        let mut bench = Bench::new();
        let record = bench.with_keys(&bench.record(Kind::Admin), &BOTH);
        let mut card = bench.open(&record);
        let said = Said::new(&mut card, form);
        let listener = Adversary::listening(bench.salt());
        begin(&bench, &listener);
        assert!(said.answer(&mut card));
        let record = card.record().clone();
        drop(card);
        let heard = end(&mut bench, &listener);
        tickets(&bench, &record, &heard)?;
    }
    Ok(())
}
