//! Use of keys: what is recorded and what ends, whichever door it comes by.

use cardea_card::token::{KeyAlgorithm, KeyClass, PrivateOperation, TokenErrorKind};
use cardea_card::{Card, CardError, Connection, Event, KeyNumber, KeyUsage, NewKey};
use cardea_testkit::suite::SoftwareCard;

use crate::{QUERY, SIGN, VERIFY, send, verified};

const DIGEST: &[u8] = &[7; 20];
const OPERATION: PrivateOperation<'_> = PrivateOperation::SignEcdsa { digest: DIGEST };

/// Whether a signature was made.
type Door = fn(&mut Card, &mut Connection, KeyNumber) -> bool;

const DOORS: [(&str, Door); 3] = [
    ("APDU", |card, connection, key| {
        let choose = format!("00 22 41 B6 06 80 01 1C 84 01 {key}");
        let chosen = send(card, connection, &choose) == "9000";
        chosen && send(card, connection, SIGN).ends_with("9000")
    }),
    ("at once", |card, connection, key| {
        card.use_key(connection, key, OPERATION).is_ok()
    }),
    ("in two steps", |card, connection, key| {
        let result = card
            .begin_use(connection, key, OPERATION)
            .and_then(|pending| pending.run());
        if let Err(error) = &result {
            card.finish_use(key, error);
        }
        result.is_ok()
    }),
];

/// Failures of a token while it uses a key.
const FAILURES: [TokenErrorKind; 6] = [
    TokenErrorKind::BadData,
    TokenErrorKind::Busy,
    TokenErrorKind::Lockout,
    TokenErrorKind::Lost,
    TokenErrorKind::NotAuthenticated,
    TokenErrorKind::Unavailable,
];

/// A card with a key of this class, and two connections, both verified, the first one last.
fn with_key(class: KeyClass) -> (Card, [Connection; 2], SoftwareCard, KeyNumber) {
    let (mut card, mut connection, parts) = verified();
    let new = NewKey {
        label: None,
        usage: KeyUsage::Signature,
        class,
        id: None,
    };
    let made = card.generate_key(&mut connection, KeyAlgorithm::P256, &new);
    let key = made.unwrap();
    let mut other = card.connect();
    assert_eq!(send(&mut card, &mut other, VERIFY), "9000");
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    card.take_events();
    (card, [connection, other], parts, key)
}

#[test]
fn failed_use_with_the_pin_every_time_is_recorded_the_same_through_every_door() {
    for (name, door) in DOORS {
        for kind in FAILURES {
            let (mut card, [mut connection, mut other], parts, key) = with_key(KeyClass::Always);
            parts.token.fail_next(kind);
            assert!(!door(&mut card, &mut connection, key), "{name}: {kind:?}");
            let events = card.take_events();
            assert_eq!(events, [Event::KeyUsed(key)], "{name}: {kind:?}");
            // The one use is over; nobody's verification is.
            assert!(!door(&mut card, &mut connection, key), "{name}: {kind:?}");
            assert_eq!(card.take_events(), [], "{name}: {kind:?}");
            for connection in [&mut connection, &mut other] {
                let status = send(&mut card, connection, QUERY);
                assert_eq!(status, "9000", "{name}: {kind:?}");
            }
        }
    }
}

#[test]
fn failed_use_of_other_keys_is_recorded_the_same_through_every_door() {
    for (name, door) in DOORS {
        for kind in FAILURES {
            let (mut card, [mut connection, mut other], parts, key) = with_key(KeyClass::Session);
            parts.token.fail_next(kind);
            assert!(!door(&mut card, &mut connection, key), "{name}: {kind:?}");
            let events = card.take_events();
            assert_eq!(events, [Event::KeyUsed(key)], "{name}: {kind:?}");
            let lost = kind == TokenErrorKind::NotAuthenticated;
            let expected = if lost { "63C5" } else { "9000" };
            for connection in [&mut connection, &mut other] {
                let status = send(&mut card, connection, QUERY);
                assert_eq!(status, expected, "{name}: {kind:?}");
            }
        }
    }
}

#[test]
fn use_is_recorded_once_and_a_refused_one_not_at_all() {
    for class in [KeyClass::Always, KeyClass::Session] {
        for (name, door) in DOORS {
            let (mut card, [mut connection, _], _parts, key) = with_key(class);
            assert!(door(&mut card, &mut connection, key), "{name}");
            assert_eq!(card.take_events(), [Event::KeyUsed(key)], "{name}");
            let mut stranger = card.connect();
            assert!(!door(&mut card, &mut stranger, key), "{name}");
            let absent = KeyNumber::new(0x90);
            assert!(!door(&mut card, &mut connection, absent), "{name}");
            assert_eq!(card.take_events(), [], "{name}");
        }
    }
}

#[test]
fn absent_key_is_told_from_a_missing_pin() {
    let (mut card, [mut connection, _], _parts, key) = with_key(KeyClass::Session);
    let kind = |result: Result<_, CardError>| match result.map(drop) {
        Err(CardError::Token(error)) => Some(error.kind()),
        _ => None,
    };
    let absent = KeyNumber::new(0x90);
    let mut stranger = card.connect();
    assert_eq!(
        kind(card.begin_use(&mut stranger, absent, OPERATION)),
        Some(TokenErrorKind::NotConfigured)
    );
    assert_eq!(
        kind(card.begin_use(&mut stranger, key, OPERATION)),
        Some(TokenErrorKind::NotAuthenticated)
    );
    assert_eq!(kind(card.begin_use(&mut connection, key, OPERATION)), None);
}

#[test]
fn refused_unblocking_ends_nobodys_verification() {
    let (mut card, mut connection, _parts) = verified();
    let mut stranger = card.connect();
    // By an administrator who is none.
    let unblock = "00 2C 02 80 06 31 32 33 34 35 36";
    assert_eq!(send(&mut card, &mut stranger, unblock), "6982");
    assert_eq!(send(&mut card, &mut connection, QUERY), "9000");
}
