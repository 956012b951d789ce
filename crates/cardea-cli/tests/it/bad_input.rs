//! Names, disks and pipes that are not as they should be: said clearly, and nothing is half done.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::support::{Place, Run};

const KEY: &str = "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123";

fn pin(place: &Place) -> String {
    place.path("pin").to_str().unwrap().to_owned()
}

fn cards(place: &Place) -> usize {
    let listed = place.run(&["card", "list", "--json"]).json();
    listed.as_array().unwrap().len()
}

#[test]
fn unreadable_names_make_no_card() {
    let place = Place::new();
    let pin = pin(&place);
    for name in [
        "",
        "line\nbreak",
        "\u{1b}[31mred",
        "bell\u{7}",
        &"x".repeat(4096),
    ] {
        let run = place.run(&["card", "create", "--name", name, "--pin-file", &pin]);
        assert_eq!(run.code, 2, "{name:?}: {run:?}");
        assert!(run.err.contains("name"), "{name:?}: {run:?}");
        assert!(
            !run.err.contains('\u{1b}'),
            "a terminal would obey: {run:?}"
        );
    }
    assert_eq!(cards(&place), 0);
}

/// A file system without room, as far as a file's size limit is one: writing fails with EFBIG.
fn without_room(place: &Place, words: &[&str]) -> Run {
    let program = place.program().display().to_string();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "trap '' XFSZ; ulimit -f 0; exec {program} {}",
        quoted.join(" ")
    );
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("CARDEA_SOCKET", place.path("socket"))
        .stdin(Stdio::null())
        .output();
    Run::of(output.unwrap())
}

#[test]
fn full_disk_changes_no_card_and_leaves_no_file() {
    let place = Place::new();
    let key = place.file("admin-key", KEY);
    let card = place.create("work", &["--admin-key", &format!("file:{key}")]);
    let out = place.path("out");
    let out = out.to_str().unwrap();
    let pin = pin(&place);
    let passphrase = place.file("passphrase", "correct horse battery");
    let escrowed = format!("escrowed:{out}");
    let commands: [&[&str]; 3] = [
        &[
            "admin",
            "change-key",
            "work",
            "--admin-key-file",
            &key,
            "--new-key-random",
            "--out",
            out,
        ],
        &[
            "card",
            "create",
            "--name",
            "more",
            "--pin-file",
            &pin,
            "--admin-key",
            &escrowed,
            "--escrow-passphrase-file",
            &passphrase,
        ],
        &["helpdesk", "master", "--out", out],
    ];
    for words in commands {
        let run = without_room(&place, words);
        assert_eq!(run.code, 1, "{words:?}: {run:?}");
        assert!(run.err.contains("cannot be written"), "{words:?}: {run:?}");
        assert!(!place.path("out").exists(), "{words:?}");
    }
    assert_eq!(cards(&place), 1);
    let id = card["card_id"].as_str().unwrap();
    let verified = place.run(&["admin", "verify", id, "--admin-key-file", &key]);
    assert_eq!(verified.code, 0, "the key is the old one: {verified:?}");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let place = Place::new();
    place.create("work", &[]);
    for words in [
        &["card", "list"][..],
        &["card", "show", "work", "--json"],
        &["tpm", "status"],
        &["audit"],
        &["doctor"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = place.command(words).stdout(full).output().unwrap();
        let run = Run::of(output);
        assert_eq!(run.code, 1, "{words:?}: {run:?}");
        assert!(run.err.contains("No space left"), "{words:?}: {run:?}");
    }
}

/// Also a terminal that is gone: writing to one that was hung up fails.
#[test]
fn notes_that_cannot_be_written_stop_nothing() {
    let place = Place::new();
    let pin = pin(&place);
    let puk = place.file("puk", "12345678");
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let code = |words: &[&str]| {
        let status = place.command(words).stderr(full()).status().unwrap();
        status.code().unwrap()
    };
    let made = ["card", "create", "--name", "work", "--pin-file", &pin];
    assert_eq!(code(&[&made[..], &["--puk-file", &puk]].concat()), 0);
    let wrong = place.file("wrong", "000000");
    for left in (0..5).rev() {
        assert_eq!(code(&["pin", "verify", "work", "--pin-file", &wrong]), {
            if left == 0 { 5 } else { 4 }
        });
    }
    let new = place.file("new", "654321");
    for (words, files) in [
        (
            &["pin", "unblock", "work"][..],
            &["--puk-file", &puk, "--new-pin-file", &new][..],
        ),
        (
            &["pin", "change", "work"],
            &["--pin-file", &new, "--new-pin-file", &pin],
        ),
        (&["pin", "verify", "work"], &["--pin-file", &pin]),
        (
            &["key", "generate", "work", "--algorithm", "p-256"],
            &["--label", "mail", "--pin-file", &pin],
        ),
        (&["card", "set", "work", "--reader", "always"], &[]),
        (&["card", "rename", "work", "home"], &[]),
        (&["card", "destroy", "home", "--yes"], &[]),
    ] {
        assert_eq!(code(&[words, files].concat()), 0, "{words:?}");
    }
    assert_eq!(cards(&place), 0);
}

#[test]
fn pipe_that_is_closed_early_ends_quietly() {
    let place = Place::new();
    place.create("work", &[]);
    for words in [
        &["card", "show", "work"][..],
        &["audit"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(words).stdout(writer).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!err.contains("panicked"), "{words:?}: {err}");
        assert_ne!(output.status.code(), Some(101), "{words:?}");
    }
}
