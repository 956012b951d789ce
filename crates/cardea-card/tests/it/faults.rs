//! Failing stores and tokens: memory and file stay as they were, and the wire says so.

use cardea_card::secret::Pin;
use cardea_card::token::TokenErrorKind;

use crate::{
    ACTIVATE, CHANGE, CHOOSE, CREATE, GENERATE, GET, PUBLIC_KEY, PUT, QUERY, SIGN, VERIFY,
    VERIFY_NEW, WRONG, send, verified, with_key,
};

#[test]
fn failed_save_leaves_memory_and_file_as_they_were() {
    let (mut card, mut connection, parts) = with_key();
    let before = card.record().clone();
    assert_eq!(parts.store.record().as_ref(), Some(&before));
    parts.store.fail_after(Some(0));
    for command in [
        PUT,
        GENERATE,
        "00 E0 00 00 0E 62 0C 82 01 39 83 02 A0 20 8C 03 03 30 00",
        CHANGE,
    ] {
        assert_eq!(
            send(&mut card, &mut connection, command),
            "6581",
            "{command}"
        );
        assert_eq!(*card.record(), before, "{command}");
    }
    assert_eq!(
        send(&mut card, &mut connection, "00 A4 00 0C 02 B0 81"),
        "9000"
    );
    assert_eq!(send(&mut card, &mut connection, "00 E4 00 00"), "6581");
    assert_eq!(*card.record(), before);
    assert_eq!(parts.store.record().as_ref(), Some(&before));
    // Everything still works: reading, the key, the old PIN.
    assert_eq!(send(&mut card, &mut connection, GET), "6A88");
    assert!(send(&mut card, &mut connection, SIGN).ends_with("9000"));
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    parts.store.fail_after(None);
    assert_eq!(send(&mut card, &mut connection, PUT), "9000");
    assert_eq!(parts.store.record().as_ref(), Some(card.record()));
}

#[test]
fn replaced_key_is_forgotten_only_after_the_new_one_is_saved() {
    let (mut card, mut connection, parts) = with_key();
    let public = send(&mut card, &mut connection, PUBLIC_KEY);
    parts.store.fail_after(Some(0));
    assert_eq!(send(&mut card, &mut connection, GENERATE), "6581");
    assert_eq!(parts.token.tally().forgotten, 1, "the new one is dropped");
    assert_eq!(send(&mut card, &mut connection, PUBLIC_KEY), public);
    parts.store.fail_after(None);
    assert_eq!(send(&mut card, &mut connection, GENERATE), "9000");
    assert_eq!(parts.token.tally().forgotten, 2, "the old one is dropped");
    assert_ne!(send(&mut card, &mut connection, PUBLIC_KEY), public);
    assert_eq!(card.record().keys.len(), 1);
}

#[test]
fn deleted_key_is_forgotten() {
    let (mut card, mut connection, parts) = with_key();
    assert_eq!(
        send(&mut card, &mut connection, "00 A4 00 0C 02 B0 81"),
        "9000"
    );
    assert_eq!(send(&mut card, &mut connection, "00 E4 00 00"), "9000");
    assert_eq!(parts.token.tally().forgotten, 1);
    assert!(card.record().keys.is_empty());
}

#[test]
fn a_verification_that_the_token_lost_ends_on_all_connections() {
    let (mut card, mut connection, parts) = with_key();
    let mut other = card.connect();
    assert_eq!(send(&mut card, &mut other, VERIFY), "9000");
    parts.token.lose_verification();
    assert_eq!(send(&mut card, &mut connection, SIGN), "6982");
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
    assert_eq!(send(&mut card, &mut other, QUERY), "63C5");
    assert_eq!(send(&mut card, &mut other, PUT), "6982");
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    assert!(send(&mut card, &mut connection, SIGN).ends_with("9000"));
}

#[test]
fn other_failures_of_the_token_keep_the_verification() {
    let (mut card, mut connection, parts) = with_key();
    for (kind, status) in [
        (TokenErrorKind::BadData, "6A80"),
        (TokenErrorKind::Busy, "6400"),
        (TokenErrorKind::Internal, "6F00"),
        (TokenErrorKind::KeyUse, "6985"),
        (TokenErrorKind::Lockout, "6985"),
        (TokenErrorKind::Lost, "6F00"),
        (TokenErrorKind::Unavailable, "6400"),
    ] {
        parts.token.fail_next(kind);
        assert_eq!(send(&mut card, &mut connection, SIGN), status);
        assert_eq!(send(&mut card, &mut connection, QUERY), "9000");
    }
    assert!(send(&mut card, &mut connection, SIGN).ends_with("9000"));
}

#[test]
fn a_token_failure_during_verify_is_not_a_wrong_pin() {
    let (mut card, mut connection, parts) = verified();
    parts.token.fail_next(TokenErrorKind::Lockout);
    assert_eq!(send(&mut card, &mut connection, VERIFY), "6985");
    assert_eq!(send(&mut card, &mut connection, QUERY), "9000");
    parts.token.fail_next(TokenErrorKind::Full);
    for command in [CREATE, ACTIVATE] {
        assert_eq!(send(&mut card, &mut connection, command), "9000");
    }
    assert_eq!(send(&mut card, &mut connection, GENERATE), "6A84");
    assert!(card.record().keys.is_empty());
    assert_eq!(send(&mut card, &mut connection, PUBLIC_KEY), "6985");
}

#[test]
fn token_is_logged_out_with_the_last_verified_connection() {
    let (mut card, mut a, parts) = verified();
    let mut b = card.connect();
    assert_eq!(send(&mut card, &mut b, VERIFY), "9000");
    card.reset(&mut a);
    assert!(parts.token.is_verified());
    assert_eq!(send(&mut card, &mut b, WRONG), "63C4");
    assert!(!parts.token.is_verified(), "wrong PIN on the last one");

    assert_eq!(send(&mut card, &mut b, VERIFY), "9000");
    assert!(parts.token.is_verified());
    card.disconnect(b);
    assert!(!parts.token.is_verified(), "disconnected");

    assert_eq!(send(&mut card, &mut a, VERIFY), "9000");
    assert_eq!(send(&mut card, &mut a, "00 20 00 82"), "9000");
    assert!(!parts.token.is_verified(), "P2 = 82");

    assert_eq!(send(&mut card, &mut a, VERIFY), "9000");
    drop(a);
    card.expire();
    assert!(!parts.token.is_verified(), "dropped without a word");
}

#[test]
fn interrupted_change_leaves_both_lengths_and_the_next_verification_decides() {
    let (mut card, mut connection, parts) = verified();
    // The save before the TPM's change succeeds, the one after it fails.
    parts.store.fail_after(Some(1));
    assert_eq!(send(&mut card, &mut connection, CHANGE), "9000");
    assert_eq!(card.record().lengths.pin, [7, 6]);
    assert_eq!(parts.store.record().unwrap().lengths.pin, [7, 6]);
    assert_eq!(send(&mut card, &mut connection, QUERY), "9000");
    parts.store.fail_after(None);
    assert_eq!(send(&mut card, &mut connection, VERIFY_NEW), "9000");
    assert_eq!(parts.store.record().unwrap().lengths.pin, [7]);
}

#[test]
fn change_with_two_recorded_lengths_finds_the_right_one() {
    let (mut card, mut connection, parts) = verified();
    parts.store.fail_after(Some(1));
    assert_eq!(send(&mut card, &mut connection, CHANGE), "9000");
    parts.store.fail_after(None);
    // The TPM has the old PIN after all, as after a crash before its change.
    parts.token.set_pin(Pin::new(b"123456").unwrap());
    // Cut at 7 it is a wrong PIN, cut at 6 the right one.
    assert_eq!(send(&mut card, &mut connection, CHANGE), "9000");
    assert_eq!(card.record().lengths.pin, [7]);
    assert_eq!(send(&mut card, &mut connection, VERIFY_NEW), "9000");
}

#[test]
fn two_recorded_lengths_never_cost_the_last_try() {
    let (mut card, mut connection, parts) = verified();
    parts.store.fail_after(Some(1));
    assert_eq!(send(&mut card, &mut connection, CHANGE), "9000");
    parts.store.fail_after(None);
    let wrong_change = "00 24 00 80 0D 30 30 30 30 30 30 30 30 30 30 30 30 30";
    assert_eq!(send(&mut card, &mut connection, wrong_change), "63C3");
    assert_eq!(send(&mut card, &mut connection, WRONG), "63C2");
    // The first guess leaves one try: the second is not made.
    assert_eq!(send(&mut card, &mut connection, wrong_change), "63C1");
    assert_eq!(send(&mut card, &mut connection, VERIFY_NEW), "9000");
}

#[test]
fn change_that_fails_in_the_token_keeps_both_lengths_and_nobody_verified() {
    let (mut card, mut connection, parts) = verified();
    let mut other = card.connect();
    assert_eq!(send(&mut card, &mut other, VERIFY), "9000");
    // The comparison takes the first request; the fault must hit the change itself.
    parts.token.fail_next_change(TokenErrorKind::Unavailable);
    assert_eq!(send(&mut card, &mut connection, CHANGE), "6400");
    assert_eq!(card.record().lengths.pin, [7, 6]);
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
    assert_eq!(send(&mut card, &mut other, QUERY), "63C5");
    assert!(!parts.token.is_verified());
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    assert_eq!(card.record().lengths.pin, [6]);
}

#[test]
fn refused_new_pin_leaves_no_verification_behind() {
    let (mut card, mut connection, parts) = verified();
    assert_eq!(send(&mut card, &mut connection, "00 20 00 82"), "9000");
    let short = "00 24 00 80 09 31 32 33 34 35 36 31 32 33";
    assert_eq!(send(&mut card, &mut connection, short), "6A80");
    assert!(!parts.token.is_verified());
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
    assert_eq!(card.record().lengths.pin, [6]);
}

#[test]
fn counters_are_read_once_for_many_polls() {
    let (mut card, mut connection, parts) = verified();
    let poll = "00 CB 3F FF 04 5C 02 7F 71 00";
    let before = parts.token.tally().statuses;
    for _ in 0..50 {
        assert_eq!(
            send(&mut card, &mut connection, poll),
            "7F71069701059301059000"
        );
    }
    assert_eq!(parts.token.tally().statuses, before + 1);
    // A try is seen at once, and so is what happened elsewhere after a while.
    assert_eq!(send(&mut card, &mut connection, WRONG), "63C4");
    assert_eq!(
        send(&mut card, &mut connection, poll),
        "7F71069701049301059000"
    );
    parts.clock.advance(std::time::Duration::from_secs(3));
    let before = parts.token.tally().statuses;
    send(&mut card, &mut connection, poll);
    assert_eq!(parts.token.tally().statuses, before + 1);
}

#[test]
fn sizes_that_the_token_lacks_fail_at_create_file() {
    let (mut card, mut connection, parts) = verified();
    parts
        .token
        .support_only(&[cardea_card::token::KeyAlgorithm::Rsa2048]);
    assert_eq!(send(&mut card, &mut connection, CREATE), "6A81");
    assert_eq!(
        send(&mut card, &mut connection, "00 A4 00 0C 02 B0 81"),
        "6A82"
    );
}

#[test]
fn free_use_of_a_key_still_needs_the_pin_on_the_connection() {
    let (mut card, mut connection, _parts) = verified();
    // MSE is free, nothing else.
    let create = CREATE.replace("8F 10 10 10 00", "8F 10 00 10 00");
    for command in [create.as_str(), ACTIVATE, GENERATE] {
        assert_eq!(send(&mut card, &mut connection, command), "9000");
    }
    let mut stranger = card.connect();
    assert_eq!(send(&mut card, &mut stranger, CHOOSE), "9000");
    assert_eq!(send(&mut card, &mut stranger, SIGN), "6982");
    assert_eq!(send(&mut card, &mut connection, CHOOSE), "9000");
    assert!(send(&mut card, &mut connection, SIGN).ends_with("9000"));
}
