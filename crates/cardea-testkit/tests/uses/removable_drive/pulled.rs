//! The drive is pulled, or the power goes, in the middle of a write.

use super::Computer;
use cardea_testkit::process::wait_for;
use cardea_testkit::rig::PIN;
use cardea_testkit::stick::{Hand, PLACE, unplug};
use serde_json::Value;

/// Between the beginnings of an operation and of the pull, from one round to the next.
const STEP: f64 = 0.008;

/// After so many operations in a row that were done before the pull, it comes too late.
const LATE: usize = 2;

/// Labels of the keys of a card.
fn keys(computer: &Computer, card: &str) -> Vec<String> {
    let listed = computer.ok(&["key", "list", card, "--json"]);
    let keys: Vec<Value> = super::json(&listed);
    let labels = keys
        .iter()
        .map(|key| key["label"].as_str().unwrap().to_owned());
    labels.collect()
}

#[test]
fn drive_pulled_at_any_moment_leaves_a_usable_card() {
    let computer = Computer::new();
    let stick = computer.stick("stick");
    let mut hand = Hand::new(&computer.namespace);
    computer.make_card("Travel", &[]);
    let pins = [("pin", PIN), ("long-pin", "31415926535")];
    std::fs::write(computer.workplace.path("long-pin"), pins[1].1).unwrap();
    let file = |name: &str| computer.workplace.text(name);
    let (mut present, mut other) = (file("pin"), file("long-pin"));
    let (mut failed, mut late, mut round) = (0, 0, 0_u32);
    while late < LATE {
        assert!(round < 60, "the operation never ends before the pull");
        let wait = STEP * f64::from(round / 2);
        hand.pull(PLACE, wait);
        let label = format!("key {round}");
        let changes_pin = round % 2 == 0;
        let outcome = if changes_pin {
            let change = ["pin", "change", "Travel", "--pin-file", &present];
            computer.cardea(&[&change[..], &["--new-pin-file", &other]].concat())
        } else {
            let generate = ["key", "generate", "Travel", "--algorithm", "p-256"];
            let further = ["--label", &label, "--pin-file", &present];
            computer.cardea(&[&generate[..], &further].concat())
        };
        hand.take_away(&computer.namespace, PLACE);
        computer.wait_for_state("Travel", "drive-away");
        stick.plug(&computer.namespace);
        computer.attach();
        assert_eq!(computer.state("Travel"), "ready", "{}", outcome.text);

        let works = |pin: &str| {
            let verify = ["pin", "verify", "Travel", "--pin-file", pin];
            computer.cardea(&verify).success
        };
        if changes_pin {
            if works(&other) {
                std::mem::swap(&mut present, &mut other);
            } else {
                assert!(!outcome.success, "the new PIN was acknowledged");
                assert!(works(&present));
            }
        } else if outcome.success {
            assert!(
                keys(&computer, "Travel").contains(&label),
                "it was acknowledged"
            );
        }
        if outcome.success {
            late += 1;
        } else {
            late = 0;
            failed += 1;
            let told = outcome.text.to_lowercase();
            let clear = ["drive", "card file", "input/output", "cannot"];
            assert!(clear.iter().any(|word| told.contains(word)), "{told}");
        }
        round += 1;
    }
    assert!(failed > 0, "no pull came in time");
    println!("{round} pulls, {failed} operations failed");
    // The TPM and the file agree on everything: both lengths of the PIN were never needed twice.
    let verify = ["pin", "verify", "Travel", "--pin-file", &present];
    computer.ok(&verify);
    let shown = computer.ok(&["card", "show", "Travel"]);
    assert!(shown.contains("5 of 5 tries left"), "{shown}");
    unplug(&computer.namespace, PLACE);
}

/// Ends the daemon at a place, pulls the drive, and starts everything again.
fn interrupted(point: &str, work: impl FnOnce(&Computer, &dyn Fn(&[&str]))) -> Computer {
    let mut computer = Computer::new();
    let stick = computer.stick("stick");
    let mut hand = Hand::new(&computer.namespace);
    if !point.starts_with("create") {
        computer.make_card("Travel", &[]);
        let fault = format!("CARDEA_FAULT_POINT={point}");
        computer.workplace.daemon.wrap(&["env", &fault]);
        computer.workplace.daemon.restart();
        computer.wait_for_state("Travel", "ready");
    } else {
        let fault = format!("CARDEA_FAULT_POINT={point}");
        computer.workplace.daemon.wrap(&["env", &fault]);
        computer.workplace.daemon.restart();
    }
    work(&computer, &|words| {
        let outcome = computer.cardea(words);
        assert!(!outcome.success, "{point}: {}", outcome.text);
    });
    wait_for("the daemon has ended", || {
        !computer.workplace.daemon.running()
    });
    hand.pull(PLACE, 0.0);
    hand.take_away(&computer.namespace, PLACE);
    computer.workplace.daemon.wrap(&[]);
    computer.workplace.daemon.restart();
    stick.plug(&computer.namespace);
    computer
}

fn indices(computer: &Computer) -> usize {
    let listed = computer.ok(&["tpm", "indices", "--json"]);
    super::json::<Vec<Value>>(&listed).len()
}

#[test]
fn creation_that_was_interrupted_leaves_a_card_or_none() {
    for (point, whole) in [
        ("create-intent", false),
        ("create-tpm", false),
        ("create-on-drive", false),
        ("create-file", true),
        ("create-intent-removed", true),
    ] {
        let computer = interrupted(point, |computer, fails| {
            let pin = computer.workplace.text("pin");
            fails(&[
                "card",
                "create",
                "--name",
                "Travel",
                "--store",
                PLACE,
                "--pin-file",
                &pin,
            ]);
        });
        if whole {
            computer.attach();
            assert_eq!(computer.state("Travel"), "ready", "{point}");
            computer.generate("Travel", "first");
        } else {
            wait_for("the indices are undefined", || indices(&computer) == 0);
            // A file without indices is worth nothing, and says so.
            let attached = computer.cardea(&["card", "attach", PLACE]);
            let state = computer.state("Travel");
            assert_eq!(
                attached.success,
                state == "lost",
                "{point} {}",
                attached.text
            );
            assert!(["lost", "none"].contains(&&*state), "{point} {state}");
        }
    }
}

#[test]
fn change_and_destruction_that_were_interrupted_are_done_or_not() {
    for point in ["drive-folder", "drive-saved"] {
        let computer = interrupted(point, |computer, fails| {
            std::fs::write(computer.workplace.path("new"), "31415926535").unwrap();
            let (pin, new) = (
                computer.workplace.text("pin"),
                computer.workplace.text("new"),
            );
            fails(&[
                "pin",
                "change",
                "Travel",
                "--pin-file",
                &pin,
                "--new-pin-file",
                &new,
            ]);
        });
        computer.attach();
        assert!(computer.signs("Travel", "first"), "{point}");
        computer.generate("Travel", "second");
    }
    for point in ["destroy-intent", "destroy-tpm", "destroy-file"] {
        let computer = interrupted(point, |_, fails| {
            fails(&["card", "destroy", "Travel", "--yes"]);
        });
        wait_for("the indices are undefined", || indices(&computer) == 0);
        drop(computer.cardea(&["card", "attach", PLACE]));
        let state = computer.state("Travel");
        assert!(["lost", "none"].contains(&&*state), "{point} {state}");
    }
}
