//! A disk that takes no more, at each place of each operation: what is answered is what is true.

use cardea_card::secret::Pin;
use cardea_card::token::{AdminForm, PinReference};
use cardea_card::{Card, CardError, Connection};
use cardea_testkit::suite::SoftwareCard;
use cardea_testkit::transcript::{ADMIN_KEY, CardKind, PIN, PUK};
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

use crate::{PUT, VERIFY, send};

const SAME_LENGTH: &[u8] = b"654321";
const LONGER: &[u8] = b"7654321";
const NEW_PUK: &[u8] = b"123456789";
const NEW_ADMIN_KEY: [u8; 24] = *b"another admin key, 24 by";

type Step = fn(&mut Card, &mut Connection) -> bool;

/// An operation: the card that it is tried on, whether it is acknowledged, and whether it has happened.
struct Operation {
    name: &'static str,
    kind: CardKind,
    acknowledged: Step,
    happened: Step,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "PIN changed to one of the same length",
        kind: CardKind::Created,
        acknowledged: |card, connection| change(card, connection, PIN, SAME_LENGTH),
        happened: |card, connection| verifies(card, connection, SAME_LENGTH),
    },
    Operation {
        name: "PIN changed to one of another length",
        kind: CardKind::Created,
        acknowledged: |card, connection| change(card, connection, PIN, LONGER),
        happened: |card, connection| verifies(card, connection, LONGER),
    },
    Operation {
        name: "PIN changed by CHANGE REFERENCE DATA",
        kind: CardKind::Created,
        acknowledged: |card, connection| {
            let command = "00 24 00 80 0C 31 32 33 34 35 36 36 35 34 33 32 31";
            send(card, connection, command) == "9000"
        },
        happened: |card, connection| verifies(card, connection, SAME_LENGTH),
    },
    Operation {
        name: "PUK changed",
        kind: CardKind::WithPuk,
        acknowledged: |card, connection| {
            let (old, new) = (pin(PUK), pin(NEW_PUK));
            card.change_pin(connection, PinReference::Puk, &old, &new)
                .is_ok()
        },
        happened: |card, connection| {
            card.verify_pin(connection, PinReference::Puk, &pin(NEW_PUK))
                .is_ok()
        },
    },
    Operation {
        name: "PIN unblocked by PUK",
        kind: CardKind::WithPuk,
        acknowledged: |card, connection| {
            card.unblock_by_puk(connection, &pin(PUK), &pin(SAME_LENGTH))
                .is_ok()
        },
        happened: |card, connection| verifies(card, connection, SAME_LENGTH),
    },
    Operation {
        name: "PIN unblocked by RESET RETRY COUNTER",
        kind: CardKind::WithPuk,
        acknowledged: |card, connection| {
            let command = "00 2C 00 80 0E 31 32 33 34 35 36 37 38 36 35 34 33 32 31";
            send(card, connection, command) == "9000"
        },
        happened: |card, connection| verifies(card, connection, SAME_LENGTH),
    },
    Operation {
        name: "PIN unblocked by the administrator",
        kind: CardKind::Admin,
        acknowledged: |card, connection| {
            authenticate(card, connection, ADMIN_KEY).is_ok()
                && card.unblock_by_admin(connection, &pin(SAME_LENGTH)).is_ok()
        },
        happened: |card, connection| verifies(card, connection, SAME_LENGTH),
    },
    Operation {
        name: "admin key changed",
        kind: CardKind::Admin,
        acknowledged: |card, connection| {
            authenticate(card, connection, ADMIN_KEY).is_ok()
                && card
                    .change_admin_key(connection, &Zeroizing::new(NEW_ADMIN_KEY))
                    .is_ok()
        },
        happened: |card, connection| authenticate(card, connection, &NEW_ADMIN_KEY).is_ok(),
    },
    Operation {
        name: "first PIN set",
        kind: CardKind::Uninitialised,
        acknowledged: |card, connection| {
            send(card, connection, "00 24 01 80 06 36 35 34 33 32 31") == "9000"
        },
        happened: |card, connection| verifies(card, connection, SAME_LENGTH),
    },
    Operation {
        name: "data object stored",
        kind: CardKind::Created,
        acknowledged: |card, connection| {
            send(card, connection, VERIFY) == "9000" && send(card, connection, PUT) == "9000"
        },
        happened: |card, connection| {
            send(card, connection, "00 CB A0 10 04 5C 02 DF 24 00") == "DF2402ABCD9000"
        },
    },
];

#[test]
fn what_is_acknowledged_has_happened_and_what_is_refused_has_not() {
    for operation in OPERATIONS {
        let mut acknowledged = 0;
        for saves in 0..6 {
            let (mut card, parts) = SoftwareCard::new(operation.kind);
            let mut connection = card.connect();
            parts.store.fail_after(Some(saves));
            let answer = (operation.acknowledged)(&mut card, &mut connection);
            parts.store.fail_after(None);
            let truth = (operation.happened)(&mut card, &mut connection);
            assert_eq!(answer, truth, "{}, after {saves} saves", operation.name);
            acknowledged += u32::from(answer);
        }
        assert!(acknowledged > 0, "{}", operation.name);
    }
}

#[test]
fn what_could_not_be_saved_is_saved_with_the_next_change() {
    let (mut card, parts) = SoftwareCard::new(CardKind::UninitialisedWithPuk);
    let mut connection = card.connect();
    // The lengths are saved, and that the first value is gone is not.
    parts.store.fail_after(Some(1));
    assert_eq!(
        send(
            &mut card,
            &mut connection,
            "00 24 01 80 06 36 35 34 33 32 31"
        ),
        "9000"
    );
    let first_pin = |card: &Card| card.record().provisional.as_ref().unwrap().pin;
    assert_eq!(first_pin(&card), None);
    let saved = |parts: &SoftwareCard| parts.store.record().unwrap().provisional.unwrap().pin;
    assert!(saved(&parts).is_some());
    parts.store.fail_after(None);
    assert_eq!(
        send(
            &mut card,
            &mut connection,
            "00 24 01 81 08 31 32 33 34 35 36 37 38"
        ),
        "9000"
    );
    assert_eq!(saved(&parts), None);
}

fn pin(value: &[u8]) -> Pin {
    Pin::new(value).unwrap()
}

fn change(card: &mut Card, connection: &mut Connection, old: &[u8], new: &[u8]) -> bool {
    card.change_pin(connection, PinReference::Pin, &pin(old), &pin(new))
        .is_ok()
}

fn verifies(card: &mut Card, connection: &mut Connection, value: &[u8]) -> bool {
    card.verify_pin(connection, PinReference::Pin, &pin(value))
        .is_ok()
}

fn authenticate(
    card: &mut Card,
    connection: &mut Connection,
    key: &[u8; 24],
) -> Result<(), CardError> {
    let challenge = card.admin_challenge(AdminForm::External)?;
    let mut block: [u8; 8] = challenge.as_slice().try_into().unwrap();
    TdesEde3::new(key.into()).encrypt_block((&mut block).into());
    let answer = cardea_card::token::AdminAnswer::External(&block);
    card.admin_answer(connection, &challenge, answer).map(drop)
}
