//! A drive card is its owner's, whoever has the drive.

use super::Computer;
use cardea_testkit::stick::{PLACE, unplug};
use serde_json::Value;

const ALICE: u32 = 12_001;
const BOB: u32 = 12_002;

/// Names of the cards that a user sees.
fn seen(computer: &Computer, uid: u32) -> Vec<String> {
    let listed = computer.cardea_as(uid, &["card", "list", "--json"]);
    let cards: Vec<Value> = super::json(&listed.text);
    let names = cards
        .iter()
        .map(|card| card["name"].as_str().unwrap().to_owned());
    names.collect()
}

/// Bob's command about somebody else's card is answered as one about a card that does not exist.
fn assert_is_as_absent(computer: &Computer, words: &[&str]) {
    let refused = computer.cardea_as(BOB, words);
    assert!(!refused.success, "{words:?} {}", refused.text);
    let mut absent = words.to_vec();
    absent[2] = "Nobody's";
    let absent = computer.cardea_as(BOB, &absent);
    let answers = [refused, absent].map(|answer| (answer.code, answer.text));
    assert_eq!(answers[0], answers[1], "{words:?}");
}

#[test]
fn drive_card_is_its_owners_and_nobody_elses() {
    let computer = Computer::new();
    let stick = computer.stick("stick");
    computer.make_card("Alice's", &["--owner", "12001"]);
    computer.sh(&format!(
        "chown {ALICE} {PLACE}/Cardea && chmod 755 {PLACE}/Cardea"
    ));
    // The administrator's own attachment goes with the drive.
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Alice's", "drive-away");
    stick.plug(&computer.namespace);

    let attach = ["card", "attach", PLACE];
    let refused = computer.cardea_as(BOB, &attach);
    assert_eq!(refused.code, Some(6), "{}", refused.text);
    assert!(
        refused.text.contains("belongs to another user"),
        "{}",
        refused.text
    );
    assert_eq!(computer.state("Alice's"), "drive-away");

    let attached = computer.cardea_as(ALICE, &attach);
    assert!(attached.success, "{}", attached.text);
    assert_eq!(computer.state("Alice's"), "ready");
    assert_eq!(seen(&computer, ALICE), ["Alice's"]);
    assert!(seen(&computer, BOB).is_empty());
    let pin = computer.workplace.text("pin");
    computer.sh(&format!("chmod 644 {pin}"));
    for words in [
        &["card", "show", "Alice's"][..],
        &["card", "detach", "Alice's"],
        &["pin", "verify", "Alice's", "--pin-file", &pin],
        &["card", "adopt", "Alice's"],
        &["card", "destroy", "Alice's", "--yes"],
    ] {
        assert_is_as_absent(&computer, words);
    }
    let verified = computer.cardea_as(ALICE, &["pin", "verify", "Alice's", "--pin-file", &pin]);
    assert!(verified.success, "{}", verified.text);
    let made = computer.cardea_as(
        ALICE,
        &[
            "key",
            "generate",
            "Alice's",
            "--algorithm",
            "p-256",
            "--label",
            "own",
            "--pin-file",
            &pin,
        ],
    );
    assert!(made.success, "{}", made.text);
    // Making cards and adopting them is the administrator's.
    for words in [
        &["card", "adopt", "Alice's"][..],
        &["card", "destroy", "Alice's", "--yes"],
        &[
            "card",
            "create",
            "--name",
            "x",
            "--store",
            "/tmp",
            "--pin-file",
            &pin,
        ],
    ] {
        let refused = computer.cardea_as(ALICE, words);
        assert!(!refused.success, "{words:?} {}", refused.text);
    }

    // Bob's card comes onto the same drive: each gets the own one.
    computer.make_card("Bob's", &["--owner", "12002"]);
    let detached = computer.cardea_as(ALICE, &["card", "detach", "Alice's"]);
    assert_eq!(detached.code, Some(6), "{}", detached.text);
    assert!(
        detached.text.contains("cards of other users"),
        "{}",
        detached.text
    );
    computer.ok(&["card", "detach", "Alice's"]);
    for name in ["Alice's", "Bob's"] {
        assert_eq!(computer.state(name), "drive-away");
    }
    let attached = computer.cardea_as(BOB, &attach);
    assert!(attached.success, "{}", attached.text);
    assert_eq!(computer.state("Bob's"), "ready");
    assert_eq!(computer.state("Alice's"), "drive-away");
    assert_eq!(seen(&computer, BOB), ["Bob's"]);
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Bob's", "drive-away");
    // A card whose drive is away is its owner's to see, too.
    assert_eq!(seen(&computer, ALICE), ["Alice's"]);
}
