//! Time limits and policy of the card's settings.

use std::time::Duration;

use cardea_card::Card;
use cardea_testkit::suite::SoftwareCard;
use cardea_testkit::transcript::CardKind;

use crate::{CHANGE, GET, PUT, QUERY, VERIFY, send};

fn card(change: impl FnOnce(&mut cardea_card::record::Settings)) -> (Card, SoftwareCard) {
    let (card, parts) = SoftwareCard::new(CardKind::Created);
    let mut record = card.record().clone();
    change(&mut record.settings);
    (parts.open(record).unwrap(), parts)
}

#[test]
fn sleep_ends_every_verification() {
    let (mut card, parts) = card(|_| {});
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    parts.clock.advance(Duration::from_secs(5));
    assert_eq!(send(&mut card, &mut connection, QUERY), "9000");
    parts.clock.sleep(Duration::from_secs(5));
    card.expire();
    assert!(!parts.token.is_verified(), "the token has forgotten it too");
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
}

#[test]
fn verification_ends_with_the_session_limit() {
    let (mut card, parts) = card(|settings| settings.session_limit = 60);
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    for _ in 0..6 {
        parts.clock.advance(Duration::from_secs(10));
        assert_eq!(send(&mut card, &mut connection, PUT), "9000");
    }
    parts.clock.advance(Duration::from_secs(1));
    assert_eq!(send(&mut card, &mut connection, PUT), "6982");
    assert!(!parts.token.is_verified());
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
}

#[test]
fn verification_ends_without_use_and_polling_is_no_use() {
    let (mut card, parts) = card(|settings| settings.idle_limit = 60);
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    for _ in 0..5 {
        parts.clock.advance(Duration::from_secs(50));
        assert_eq!(send(&mut card, &mut connection, PUT), "9000");
    }
    for _ in 0..6 {
        parts.clock.advance(Duration::from_secs(10));
        assert_eq!(send(&mut card, &mut connection, QUERY), "9000");
        assert!(send(&mut card, &mut connection, GET).ends_with("9000"));
        let poll = "00 CB 3F FF 04 5C 02 7F 71 00";
        assert!(send(&mut card, &mut connection, poll).ends_with("9000"));
    }
    parts.clock.advance(Duration::from_secs(1));
    assert!(parts.token.is_verified());
    card.expire();
    assert!(!parts.token.is_verified(), "the host's timer is enough");
    assert_eq!(send(&mut card, &mut connection, PUT), "6982");
}

/// A role that is used goes on for longer than the proof behind it.
#[test]
fn timer_and_every_command_have_the_token_look_at_its_administrator() {
    let (mut card, parts) = card(|_| {});
    let looks = || parts.token.tally().administration_looks;
    let before = looks();
    card.expire();
    assert_eq!(looks(), before + 1);
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
    assert!(looks() > before + 1);
}

#[test]
fn new_pins_obey_the_recorded_policy() {
    // 6 to 8 digits, nothing else.
    let policy: Vec<u8> = [1u32, 6, 8, 2, 2, 1, 2, 2]
        .iter()
        .flat_map(|field| field.to_le_bytes())
        .collect();
    let (mut card, _parts) = card(|s| s.pin_policy = Some(policy.try_into().unwrap()));
    let mut connection = card.connect();
    for new in [
        "31 32 33 34 35",
        "31 32 33 34 35 36 37 38 39",
        "31 32 33 34 35 41",
    ] {
        let length = 6 + new.split(' ').count();
        let change = format!("00 24 00 80 {length:02X} 31 32 33 34 35 36 {new}");
        assert_eq!(send(&mut card, &mut connection, &change), "6A80", "{new}");
    }
    assert_eq!(send(&mut card, &mut connection, CHANGE), "9000");
}
