//! Older card files put back.

use cardea_card::record::{CardRecord, Provisional};
use cardea_card::token::{AdminForm, KeyClass, PinReference};
use cardea_card::{Card, KeyNumber};
use cardea_testkit::bare::BarePins as _;

use crate::bench::{
    Bench, Kind, Outcome, PIN, PUK, SECOND_PIN, THIRD_PIN, WRONG_PIN, pin, signs_with, succeeds_if,
};
use crate::vault::Said;

/// A card that has lived: its files in the order in which they were written, and how it ended.
struct Life {
    files: Vec<CardRecord>,
    answers: Vec<Said>,
    old_pins: Vec<&'static [u8]>,
    pin: &'static [u8],
    deleted: u8,
}

fn live(bench: &Bench, kind: Kind) -> Life {
    let mut files = Vec::new();
    let mut answers = Vec::new();
    let record = bench.with_keys(&bench.record(kind), &[KeyClass::Session, KeyClass::Session]);
    let deleted = record.keys[1].reference;
    let mut card = bench.open(&record);
    files.push(card.record().clone());
    let mut connection = card.connect();
    if kind == Kind::Admin {
        for form in [AdminForm::External, AdminForm::Mutual] {
            // Each sets the second PIN, as an administrator does for a user who forgot his.
            let said = Said::new(&mut card, form);
            assert!(said.say(&mut card));
            answers.push(said);
            files.push(card.record().clone());
        }
    } else {
        let done = card.unblock_by_puk(&mut connection, &pin(PUK), &pin(SECOND_PIN));
        done.unwrap();
        files.push(card.record().clone());
    }
    card.change_pin(
        &mut connection,
        PinReference::Pin,
        &pin(SECOND_PIN),
        &pin(THIRD_PIN),
    )
    .unwrap();
    files.push(card.record().clone());
    card.delete_key(&mut connection, KeyNumber::new(deleted))
        .unwrap();
    Life {
        files,
        answers,
        old_pins: vec![PIN, SECOND_PIN],
        pin: THIRD_PIN,
        deleted,
    }
}

/// Of all that was changed, an older card file brings back a deleted key (under the present PIN) and nothing
/// else.
pub(crate) fn older_card_file() -> Outcome {
    for kind in [Kind::Admin, Kind::Puk] {
        let bench = Bench::new();
        let life = live(&bench, kind);
        for (age, file) in life.files.iter().enumerate() {
            for old in &life.old_pins {
                succeeds_if!(
                    bench.accepts(file, old),
                    "file {age}: an old PIN works again"
                );
            }
            let failures = bench.failures(file);
            succeeds_if!(
                failures != 2,
                "file {age}: the tries are back ({failures} are counted)"
            );
            succeeds_if!(
                signs_with(&bench, file, PIN, life.deleted),
                "file {age}: the deleted key signs under an old PIN"
            );
            assert!(
                signs_with(&bench, file, life.pin, life.deleted),
                "file {age}: the deleted key is back under the present PIN, as the threat model says"
            );
            let mut card = bench.open(file);
            for said in &life.answers {
                succeeds_if!(said.say(&mut card), "file {age}: an old answer works again");
            }
            assert!(bench.accepts(file, life.pin), "file {age}");
        }
    }
    Ok(())
}

/// A card file from before the card was personalised has the first values: they must be worth nothing.
pub(crate) fn card_file_of_the_initialisation() -> Outcome {
    for puk in [false, true] {
        let bench = Bench::new();
        let fresh = bench.uninitialised(puk);
        let first = fresh.provisional.clone().unwrap();
        let mut card = bench.open(&fresh);
        let mut connection = card.connect();
        let ok = |card: &mut Card, connection: &mut _, apdu: &[u8]| {
            let answer = card.transmit(connection, apdu);
            assert_eq!(answer[..], [0x90, 0], "{apdu:02x?}");
        };
        let set = |p2: u8, value: &[u8]| {
            let length = u8::try_from(value.len()).unwrap();
            [&[0, 0x24, 1, p2, length][..], value].concat()
        };
        ok(&mut card, &mut connection, &set(0x80, THIRD_PIN));
        if puk {
            ok(&mut card, &mut connection, &set(0x81, PUK));
        }
        // ACTIVATE of the DF, which is selected.
        ok(
            &mut card,
            &mut connection,
            &[0, 0xA4, 0, 0x0C, 2, 0x3F, 0xFF],
        );
        ok(&mut card, &mut connection, &[0, 0x44, 0, 0]);
        let mut record = card.record().clone();
        assert!(record.provisional.is_none() && card.is_operational());
        drop(card);
        record.lengths = fresh.lengths.clone();

        let attempts = [
            first.clone(),
            Provisional {
                pin: None,
                ..first.clone()
            },
            Provisional {
                adm: None,
                ..first.clone()
            },
        ];
        // In object mode the engine's own way is enough, below.
        let bare = fresh.tpm.counter_objects.is_none();
        for provisional in attempts.into_iter().filter(|_| bare) {
            for reference in [PinReference::Pin, PinReference::Puk] {
                let mut token = bench.service.token(&fresh).unwrap();
                let set = token.initialise(reference, &provisional, Some(&pin(WRONG_PIN)));
                succeeds_if!(set.is_ok(), "the first values reset {reference:?}");
            }
        }
        let mut card = bench.open(&fresh);
        let mut connection = card.connect();
        let answer = card.transmit(&mut connection, &set(0x80, WRONG_PIN));
        succeeds_if!(answer[..] == [0x90, 0], "the old file takes a new PIN");
        drop(card);
        succeeds_if!(bench.accepts(&record, WRONG_PIN), "root's PIN works");
        assert!(bench.failures(&record) <= 4, "and the PIN is not blocked");
        assert!(bench.accepts(&record, THIRD_PIN));
    }
    Ok(())
}
