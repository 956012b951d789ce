//! What runs in the virtual machine of the test `removable_drive::fat`: a card on a FAT drive, in a machine whose
//! power is cut. It tells facts, `name=value`, and judges nothing; what fails makes it panic.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for one test tells on standard output and fails by panicking"
)]

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cardea_testkit::machine::DISK;
use cardea_testkit::process::{Outcome, run};
use cardea_testkit::rig::{Daemon, PIN};

/// Where the drive is mounted.
const PLACE: &str = "/media/stick";

/// A PIN of another length than the usual one.
const OTHER: &str = "31415926535";

/// Rounds that are done for certain before the power goes.
const ROUNDS: u32 = 3;

const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let scenario = std::env::args().nth(1).expect("a scenario");
    for (name, pin) in [("/tmp/pin", PIN), ("/tmp/other", OTHER)] {
        std::fs::write(name, pin).expect("a PIN is written");
    }
    std::fs::create_dir_all(PLACE).expect("a place for the drive");
    mount();
    let mut daemon = Daemon::start(&Path::new(DISK).join("daemon"), "device:/dev/tpmrm0", "");
    match scenario.as_str() {
        "made" => made(&daemon),
        "back" => back(&daemon),
        "stranger" => stranger(&daemon),
        other => panic!("no scenario {other}"),
    }
    if scenario == "made" {
        // The power is cut from outside, in the middle of this.
        for round in ROUNDS.. {
            change(&daemon, round);
        }
    }
    daemon.stop();
    fact("end", &scenario);
}

/// A card is made on the drive and changed; it goes on changing when the report is there.
fn made(daemon: &Daemon) {
    done(
        daemon,
        &[
            "card",
            "create",
            "--name",
            "Travel",
            "--store",
            PLACE,
            "--pin-file",
            "/tmp/pin",
        ],
    );
    done(
        daemon,
        &[
            "key",
            "generate",
            "Travel",
            "--algorithm",
            "p-256",
            "--label",
            "kept",
            "--pin-file",
            "/tmp/pin",
        ],
    );
    fact("state", state(daemon));
    // Nothing keeps the drive busy, and it comes back.
    umount();
    wait(daemon, "drive-away");
    fact("unmounted", state(daemon));
    mount();
    done(daemon, &["card", "attach", PLACE]);
    for round in 0..ROUNDS {
        change(daemon, round);
    }
    fact("end", "made");
}

/// One change of the PIN, to the other one and back, and one key; each is told when it was acknowledged.
fn change(daemon: &Daemon, round: u32) {
    let pins = ["/tmp/pin", "/tmp/other"];
    let (old, new) = match round % 2 {
        0 => (pins[0], pins[1]),
        _ => (pins[1], pins[0]),
    };
    done(
        daemon,
        &[
            "pin",
            "change",
            "Travel",
            "--pin-file",
            old,
            "--new-pin-file",
            new,
        ],
    );
    fact("pin", new);
    // 30 keys are a card's limit.
    if round < 20 {
        let label = format!("key-{round:02}");
        done(
            daemon,
            &[
                "key",
                "generate",
                "Travel",
                "--algorithm",
                "p-256",
                "--label",
                &label,
                "--pin-file",
                new,
            ],
        );
        fact(&label, "made");
    }
}

/// After the power cut, without any repair of the file system.
fn back(daemon: &Daemon) {
    fact("before", state(daemon));
    done(daemon, &["card", "attach", PLACE]);
    fact("state", state(daemon));
    let mut present = None;
    for pin in ["/tmp/pin", "/tmp/other"] {
        if daemon
            .cardea(&["pin", "verify", "Travel", "--pin-file", pin])
            .success
        {
            present = Some(pin);
        }
    }
    let pin = present.expect("one of the PINs is right");
    fact("pin", pin);
    let keys = done(daemon, &["key", "list", "Travel"]).text;
    for round in 0..20 {
        let label = format!("key-{round:02}");
        fact(&label, keys.contains(&label));
    }
    done(
        daemon,
        &[
            "key",
            "generate",
            "Travel",
            "--algorithm",
            "p-256",
            "--label",
            "after",
            "--pin-file",
            pin,
        ],
    );
    fact(
        "tries",
        done(daemon, &["card", "show", "Travel"])
            .text
            .contains("5 of 5 tries left"),
    );
    done(daemon, &["card", "detach", "Travel"]);
    umount();
}

/// In a machine with another TPM.
fn stranger(daemon: &Daemon) {
    let attached = done(daemon, &["card", "attach", PLACE]);
    fact("told", attached.text.replace('\n', " "));
    fact("state", state(daemon));
    let adopted = daemon.cardea(&["card", "adopt", "Travel"]);
    fact("adopted", adopted.success);
    umount();
}

fn mount() {
    let options = ["-t", "vfat", "-o", "nodev,nosuid", "/dev/vdb", PLACE];
    let mounted = run(Command::new("mount").args(options));
    assert!(mounted.success, "{}", mounted.text);
}

fn umount() {
    let done = run(Command::new("umount").arg(PLACE));
    assert!(done.success, "{}", done.text);
}

fn done(daemon: &Daemon, arguments: &[&str]) -> Outcome {
    let outcome = daemon.cardea(arguments);
    assert!(
        outcome.success,
        "{arguments:?}\n{}\n{}",
        outcome.text,
        daemon.log()
    );
    outcome
}

/// The word that the list has for the card.
fn state(daemon: &Daemon) -> String {
    let listed = done(daemon, &["card", "list", "--json"]).text;
    let line = listed
        .lines()
        .find_map(|line| line.trim().strip_prefix("\"state\": \""));
    let word = line.and_then(|line| line.split('"').next());
    word.unwrap_or("none").to_owned()
}

fn wait(daemon: &Daemon, wanted: &str) {
    let deadline = Instant::now() + LIMIT;
    while state(daemon) != wanted {
        assert!(Instant::now() < deadline, "not {wanted} in {LIMIT:?}");
    }
}

fn fact(name: &str, value: impl Display) {
    println!("{name}={value}");
    std::io::stdout().flush().expect("the report is told");
}
