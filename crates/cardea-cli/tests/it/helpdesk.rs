//! The administrator's own machine: no daemon, no TPM.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::Place;

const MASTER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const ID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn response_is_that_of_the_derived_key() {
    let place = Place::without_daemon();
    let master = place.file("master", MASTER);
    let key = place.file("key", "536B74B4844285DE4D14548620E26319BCB2CF269A347ACF");
    let respond = |more: &[&str]| {
        let mut words = vec![
            "helpdesk",
            "respond",
            "--challenge",
            "1122 3344 5566 7788-3",
        ];
        words.extend(more);
        place.run(&words)
    };
    let derived = respond(&[
        "--card-id",
        ID,
        "--master-file",
        &master,
        "--check",
        "b64a64",
    ]);
    assert_eq!(derived.code, 0, "{derived:?}");
    assert_eq!(derived.out.trim().len(), "88BE 354D 2E0B 2869-1".len());
    let own = respond(&["--admin-key-file", &key]);
    assert_eq!(own.out, derived.out);
    let json = respond(&["--card-id", ID, "--master-file", &master, "--json"]).json();
    assert_eq!(json["check_value"], "B64A64");
    assert_eq!(json["challenge"], "1122334455667788");
    let digits = derived
        .out
        .trim()
        .split('-')
        .next()
        .unwrap()
        .replace(' ', "");
    assert_eq!(json["response"], digits);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let place = Place::without_daemon();
    let master = place.file("master", MASTER);
    let odd = place.file("odd", &MASTER[1..]);
    let respond = ["helpdesk", "respond", "--challenge"];
    for (words, text) in [
        (
            vec![
                "1122 3344 5566 7788-4",
                "--card-id",
                ID,
                "--master-file",
                &master,
            ],
            "misheard",
        ),
        (
            vec![
                "1122 3344 5566 778",
                "--card-id",
                ID,
                "--master-file",
                &master,
            ],
            "16 hexadecimal digits",
        ),
        (
            vec!["1122334455667788", "--master-file", &master],
            "--card-id",
        ),
        (
            vec![
                "1122334455667788",
                "--card-id",
                "0123",
                "--master-file",
                &master,
            ],
            "card id",
        ),
        (
            vec!["1122334455667788", "--card-id", ID, "--master-file", &odd],
            "64 hexadecimal digits",
        ),
        (
            vec![
                "1122334455667788",
                "--card-id",
                ID,
                "--master-file",
                "/nonexistent",
            ],
            "master secret",
        ),
        (vec!["1122334455667788", "--card-id", ID], "--master-file"),
        (
            vec![
                "1122334455667788",
                "--card-id",
                ID,
                "--master-file",
                &master,
                "--check",
                "000000",
            ],
            "B64A64",
        ),
    ] {
        let run = place.run(&[&respond[..], &words].concat());
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.err.contains(text), "{text}: {run:?}");
        assert_eq!(run.out, "");
    }
}

#[test]
fn master_secret_is_made_once_and_for_its_owner_only() {
    let place = Place::without_daemon();
    let path = place.path("new");
    let out = path.to_str().unwrap();
    let made = place.run(&["helpdesk", "master", "--out", out]);
    assert_eq!(made.code, 0, "{made:?}");
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(content.trim().len(), 64);
    assert!(!made.out.contains(content.trim()) && !made.err.contains(content.trim()));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let check = place
        .run(&["helpdesk", "check", "--master-file", out, "--json"])
        .json();
    assert!(made.err.contains(check["check_value"].as_str().unwrap()));
    let again = place.run(&["helpdesk", "master", "--out", out]);
    assert_ne!(again.code, 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn card_with_a_derived_key_is_unblocked_by_it() {
    let place = Place::new();
    let master = place.file("master", MASTER);
    let card = place.create("derived", &["--admin-key", &format!("derived:{master}")]);
    assert_eq!(card["administrator"], true);
    let id = card["card_id"].as_str().unwrap();
    let answered = |code: i32, master: &str| {
        let challenge = place.run(&["admin", "challenge", "derived"]).out;
        let words = [
            "helpdesk",
            "respond",
            "--card-id",
            id,
            "--challenge",
            challenge.trim(),
            "--master-file",
            master,
        ];
        let response = place.run(&words).out;
        let words = [
            "admin",
            "verify",
            "derived",
            "--challenge",
            challenge.trim(),
            "--response",
            response.trim(),
        ];
        assert_eq!(place.run(&words).code, code);
    };
    answered(0, &master);
    // From one master secret to the next.
    let next = place.file("next", &MASTER.replace("0001", "0100"));
    let challenge = place.run(&["admin", "challenge", "derived"]).out;
    let words = [
        "helpdesk",
        "respond",
        "--card-id",
        id,
        "--challenge",
        challenge.trim(),
        "--master-file",
        &master,
    ];
    let response = place.run(&words).out;
    let change = place.run(&[
        "admin",
        "change-key",
        "derived",
        "--challenge",
        challenge.trim(),
        "--response",
        response.trim(),
        "--new-key-master-file",
        &next,
    ]);
    assert_eq!(change.code, 0, "{change:?}");
    answered(4, &master);
    answered(0, &next);
}

#[test]
fn random_key_is_kept_under_a_passphrase_and_answers() {
    let place = Place::new();
    let passphrase = place.file("passphrase", "correct horse battery\n");
    let wrong = place.file("wrong", "correct horse batter\n");
    let short = place.file("short", "horse\n");
    let kept = place.path("kept");
    let kept = kept.to_str().unwrap();
    let source = format!("escrowed:{kept}");
    let with = |passphrase: &str, name: &str| {
        let pin = place.path("pin");
        place.run(&[
            "card",
            "create",
            "--json",
            "--name",
            name,
            "--pin-file",
            pin.to_str().unwrap(),
            "--admin-key",
            &source,
            "--escrow-passphrase-file",
            passphrase,
        ])
    };
    let refused = with(&short, "card");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(!std::path::Path::new(kept).exists());
    // What the daemon refuses leaves no file.
    let long = "x".repeat(200);
    assert_eq!(with(&passphrase, &long).code, 2);
    assert!(!std::path::Path::new(kept).exists());
    let card = with(&passphrase, "card").json();
    let id = card["card_id"].as_str().unwrap();
    assert_ne!(
        with(&passphrase, "again").code,
        0,
        "a file that is there is kept"
    );
    let challenge = place.run(&["admin", "challenge", "card"]).out;
    let respond = |passphrase: &str, id: &str| {
        place.run(&[
            "helpdesk",
            "respond",
            "--challenge",
            challenge.trim(),
            "--card-id",
            id,
            "--escrow-file",
            kept,
            "--passphrase-file",
            passphrase,
        ])
    };
    assert_eq!(respond(&wrong, id).code, 2);
    assert_eq!(respond(&passphrase, ID).code, 2, "another card's");
    let response = respond(&passphrase, id).out;
    let verified = place.run(&[
        "admin",
        "verify",
        "card",
        "--challenge",
        challenge.trim(),
        "--response",
        response.trim(),
    ]);
    assert_eq!(verified.code, 0, "{verified:?}");
    // It can be opened without this program.
    let opened = std::process::Command::new("openssl")
        .args([
            "enc",
            "-d",
            "-aes-256-cbc",
            "-pbkdf2",
            "-iter",
            "600000",
            "-md",
            "sha256",
            "-in",
            kept,
        ])
        .args(["-pass", &format!("file:{passphrase}")])
        .output()
        .unwrap();
    let text = String::from_utf8(opened.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        (lines[0], lines[1].to_lowercase().as_str()),
        ("cardea admin key", id)
    );
    assert_eq!(lines[2].len(), 48);
}
