//! What the documentation says of the commands' output is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Place, redact};

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

/// Names of all members, at any depth.
fn members(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| members(value, found)),
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                members(value, found);
            }
        }
        _ => {}
    }
}

/// A card with a key, a certificate, a PUK and an administrator.
fn scene() -> (Place, Value) {
    let place = Place::new();
    let puk = place.file("puk", "87654321");
    let key = place.file(
        "admin-key",
        "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123",
    );
    let card = place.create(
        "work",
        &["--puk-file", &puk, "--admin-key", &format!("file:{key}")],
    );
    let pin = place.path("pin");
    let pin = pin.to_str().unwrap();
    for words in [
        &[
            "key",
            "generate",
            "work",
            "--algorithm",
            "rsa-2048",
            "--label",
            "mail",
        ][..],
        &[
            "cert",
            "self-sign",
            "work",
            "--key",
            "mail",
            "--subject",
            "CN=Alice",
        ],
    ] {
        let run = place.run(&[words, &["--pin-file", pin]].concat());
        assert_eq!(run.code, 0, "{run:?}");
    }
    (place, card)
}

#[test]
fn every_member_of_json_is_documented() {
    let (place, _) = scene();
    let text = fs::read_to_string(docs("cli.md")).unwrap();
    let master = place.file("master", &"01".repeat(32));
    let key = place.path("admin-key");
    let mut commands = vec![
        vec!["admin", "challenge", "work"],
        vec!["card", "list"],
        vec!["card", "show", "work"],
        vec!["cert", "list", "work"],
        vec!["doctor"],
        vec!["helpdesk", "check", "--master-file", &master],
        vec!["key", "list", "work"],
        vec!["tpm", "indices"],
        vec!["tpm", "status"],
        vec!["audit", "--verify"],
    ];
    let respond = [
        "helpdesk",
        "respond",
        "--challenge",
        "1122334455667788",
        "--admin-key-file",
    ];
    commands.push([&respond[..], &[key.to_str().unwrap()]].concat());
    for words in commands {
        let run = place.run(&[&words[..], &["--json"]].concat());
        let mut found = BTreeSet::new();
        members(&run.json(), &mut found);
        assert!(!found.is_empty(), "{words:?}");
        for name in found {
            let known =
                text.contains(&format!("`{name}`")) || text.contains(&format!("\"{name}\""));
            assert!(known, "{words:?} has {name}, and docs/cli.md has not");
        }
    }
    let audit = fs::read_to_string(docs("formats/audit.md")).unwrap();
    for line in place.run(&["audit", "--json"]).out.lines() {
        let mut found = BTreeSet::new();
        members(&serde_json::from_str(line).unwrap(), &mut found);
        for name in found {
            assert!(
                audit.contains(&format!("`{name}`")),
                "docs/formats/audit.md has no {name}"
            );
        }
    }
}

/// `docs/recording.txt` is made by this test with `CARDEA_RECORD=1`, and must be what the commands say.
#[test]
fn recording_is_what_the_commands_say() {
    let (place, card) = scene();
    let mut recorded = String::from(
        "A card's main commands and what they say; what differs from card to card is in brackets.\n",
    );
    for line in [
        "card list",
        "card show work",
        "key list work",
        "cert list work",
        "pin verify work --pin-file pin",
        "pin change work --pin-file pin --new-pin-file puk",
        "pin verify work --pin-file pin",
        "pin unblock work --puk-file puk --new-pin-file pin",
        "admin verify work --admin-key-file admin-key",
        "card set work --pin-pad on",
        "card destroy work --yes",
        "card list",
    ] {
        let mut command = place.command(&line.split(' ').collect::<Vec<_>>());
        let run = crate::support::Run::of(command.current_dir(place.path("")).output().unwrap());
        recorded += &format!("\n$ cardea {line}\n{}{}", run.out, run.notes());
        if run.code != 0 {
            recorded += &format!("[exit code {}]\n", run.code);
        }
    }
    let recorded = stable(&redact(&recorded, &card));
    let path = docs("recording.txt");
    if std::env::var_os("CARDEA_RECORD").is_some() {
        fs::write(&path, &recorded).unwrap();
    }
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        recorded,
        "CARDEA_RECORD=1 makes it anew"
    );
}

/// Without what is random or of the day.
fn stable(text: &str) -> String {
    let words = |line: &str| {
        line.split(' ')
            .map(|word| {
                let long = word.len() >= 16 && word.chars().all(|digit| digit.is_ascii_hexdigit());
                let of_time = |digit: char| digit.is_ascii_digit() || digit == '-' || digit == ':';
                let day = matches!(word.len(), 8 | 10) && word.chars().all(of_time);
                match (long, day) {
                    (true, _) => "[digits]",
                    (_, true) => "[time]",
                    _ => word,
                }
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines()
        .map(|line| words(line.trim_end()) + "\n")
        .collect()
}
