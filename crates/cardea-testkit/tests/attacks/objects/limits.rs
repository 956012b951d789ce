//! What succeeds against cards in object mode by design, and that users are told exactly this.

use std::fs;
use std::process::Command;

use cardea_card::record::CardRecord;
use cardea_card::token::{PinReference, TokenErrorKind};
use cardea_card::{Card, CardError};
use cardea_testkit::process::run;
use cardea_testkit::rig::bin_dir;
use cardea_tpm::HierarchyAuth;

use crate::bench::{Bench, Kind, Outcome, PIN, WRONG_PIN, in_object_mode, pin, succeeds_if};
use crate::{rollback, vault};

type Attack = (&'static str, fn() -> Outcome, &'static str);

/// Attacks that succeed, and how; those of one limit follow one another, in the order of the table in
/// docs/threat-model.md.
const BY_DESIGN: [Attack; 6] = [
    (
        "older_card_file",
        rollback::older_card_file,
        "an old PIN works again",
    ),
    (
        "card_file_of_the_initialisation",
        rollback::card_file_of_the_initialisation,
        "the old file takes a new PIN",
    ),
    (
        "used_answer",
        vault::used_answer,
        "accepted again with the card file of before",
    ),
    (
        "guesses_past_the_count",
        guesses_past_the_count,
        "after 28 wrong ones",
    ),
    (
        "guesses_past_the_lockout",
        guesses_past_the_lockout,
        "after 60 wrong ones",
    ),
    (
        "failures_of_another_card",
        failures_of_another_card,
        "has to wait",
    ),
];

#[test]
fn attacks_that_object_mode_does_not_stop_succeed() {
    for (name, attack, how) in BY_DESIGN {
        let outcome = in_object_mode(attack);
        let gain = outcome.expect_err(&format!("{name} is stopped: the limit is none"));
        assert!(gain.contains(how), "{name}: {gain}");
    }
}

/// The cells of the table of limits.
fn table() -> Vec<[String; 4]> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/threat-model.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\n## Cards in object mode\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| "));
    let cells = |line: &str| {
        let cells: Vec<String> = line
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect();
        <[String; 4]>::try_from(cells).unwrap()
    };
    // The head is not a limit.
    lines.skip(1).map(cells).collect()
}

#[test]
fn what_is_printed_at_creation_is_what_succeeds_and_what_the_threat_model_lists() {
    let table = table();
    let listed: Vec<&str> = table
        .iter()
        .flat_map(|[.., attacks]| attacks.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(listed, BY_DESIGN.map(|(name, ..)| name));

    let mut create = Command::new(bin_dir().join("cardea"));
    create
        .args(["card", "create", "--name", "x", "--counter-mode", "object"])
        .args(["--pin-file", "/dev/null"])
        .env("CARDEA_SOCKET", "/nonexistent/socket");
    let printed = run(&mut create).text;
    let printed: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- "))
        .collect();
    let told: Vec<String> = table
        .iter()
        .map(|[who, can, ..]| format!("{who}, can {can}"))
        .collect();
    assert_eq!(printed, told);
}

/// Wrong PINs on the card as its file says it is.
fn guess(bench: &Bench, record: &CardRecord, times: u32) {
    let mut card = bench.open(record);
    for _ in 0..times {
        let refused = verify(&mut card, WRONG_PIN).unwrap_err();
        assert!(
            matches!(
                refused,
                CardError::Pin(cardea_card::token::PinError::Wrong { .. })
            ),
            "{refused}"
        );
    }
}

fn verify(card: &mut Card, typed: &[u8]) -> Result<(), CardError> {
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(typed))
}

/// The card file is put back before its tries are spent.
fn guesses_past_the_count() -> Outcome {
    let bench = Bench::new();
    let record = bench.record(Kind::Plain);
    for _ in 0..7 {
        guess(&bench, &record, 4);
    }
    let mut card = bench.open(&record);
    succeeds_if!(
        verify(&mut card, PIN).is_ok(),
        "a PIN is compared after 28 wrong ones"
    );
    Ok(())
}

/// The same, and the lockout is reset where nobody has set its authorisation.
fn guesses_past_the_lockout() -> Outcome {
    let bench = Bench::new();
    let record = bench.record(Kind::Plain);
    for _ in 0..3 {
        for _ in 0..5 {
            guess(&bench, &record, 4);
        }
        let nothing = HierarchyAuth::new(&[]).unwrap();
        bench.service.reset_lockout(&nothing).unwrap();
    }
    let mut card = bench.open(&record);
    succeeds_if!(
        verify(&mut card, PIN).is_ok(),
        "a PIN is compared after 60 wrong ones"
    );
    Ok(())
}

/// The owner of another card keeps this one waiting.
fn failures_of_another_card() -> Outcome {
    let bench = Bench::new();
    let victim = bench.numbered(Kind::Plain, 1);
    let other = bench.numbered(Kind::Plain, 2);
    for times in [4; 7] {
        guess(&bench, &other, times);
    }
    guess(&bench, &other, 2);
    let mut card = bench.open(&victim);
    let refused = verify(&mut card, PIN);
    let waits = matches!(
        &refused,
        Err(CardError::Token(error)) if error.kind() == TokenErrorKind::Lockout
    );
    succeeds_if!(waits, "the card has to wait for failures of another one");
    refused.unwrap();
    Ok(())
}
