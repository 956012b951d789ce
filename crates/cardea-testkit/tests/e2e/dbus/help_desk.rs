//! The help desk, from a blocked PIN to the next signature: the admin key is on the administrator's machine only.

use std::fs;
use std::process::Command;

use cardea_testkit::bus::Dictionary;
use cardea_testkit::pcscd::Pcscd;
use cardea_testkit::process::{Outcome, run, wait_for};
use cardea_testkit::rig::{bin_dir, opensc_module};

use super::Bench;
use super::bench::OWNER;
use super::pinentry::{Terminal, agent, challenge_on, type_new, with_key};

/// OpenSC's module on the first card in pcscd.
fn opensc(pcscd: &Pcscd, arguments: &[&str]) -> Outcome {
    run(Command::new("pkcs11-tool")
        .args(["--module", opensc_module(), "--login"])
        .args(arguments)
        .env("PCSCLITE_CSOCK_NAME", pcscd.socket()))
}

/// The administrator's own machine: no daemon, no TPM, nothing of this test's environment.
fn help_desk(arguments: &[&str]) -> Outcome {
    run(Command::new(bin_dir().join("cardea"))
        .arg("helpdesk")
        .args(arguments)
        .env_clear()
        .env("CARDEA_SOCKET", "/nonexistent"))
}

/// Makes the card and gives its id. At creation, and never again, the key is on the user's machine.
fn create(bench: &Bench, pin: &str, master: &str) -> String {
    fs::write(pin, "271828").unwrap();
    let owner = OWNER.to_string();
    let create = [
        "card", "create", "--name", "card", "--owner", &owner, "--json",
    ];
    let key = format!("derived:{master}");
    let secrets = ["--pin-file", pin, "--admin-key", &key];
    let created = bench.daemon.printed(&[&create[..], &secrets].concat());
    let card: serde_json::Value = serde_json::from_str(&created).unwrap();
    let id = card.get("card_id").and_then(serde_json::Value::as_str);
    id.unwrap().to_owned()
}

#[test]
fn blocked_card_signs_again_after_a_telephone_call() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("administrator");
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let master = path("master");
    let made = help_desk(&["master", "--out", &master]);
    assert!(made.success, "{}", made.text);
    let check = help_desk(&["check", "--master-file", &master])
        .text
        .trim()
        .to_owned();

    let id = create(&bench, &path("pin"), &master);
    with_key(&bench);

    let library = bin_dir().join("libifdcardea.so").display().to_string();
    let entry = bench.daemon.cardea(&["reader-conf", "--library", &library]);
    let pcscd = Pcscd::start(bench.folder.path(), &entry.text);
    fs::write(path("data"), "signed").unwrap();
    let (data, signature) = (path("data"), path("signature"));
    let sign = |pin: &str| {
        let sign = ["--pin", pin, "--sign", "--mechanism", "SHA256-RSA-PKCS"];
        let files = ["-i", &data, "-o", &signature];
        opensc(&pcscd, &[&sign[..], &files].concat())
    };
    wait_for("OpenSC signs", || sign("271828").success);
    for _ in 0..5 {
        assert!(!sign("999999").success);
    }
    let blocked = sign("271828");
    assert!(!blocked.success, "{}", blocked.text);

    // The CLI shows a challenge, the dialog another one: each is good until it is answered.
    let shown = bench.daemon.cardea(&["admin", "challenge", "card"]);
    assert!(shown.success, "{}", shown.text);
    let terminal = Terminal::new();
    let _agent = agent(&bench, OWNER, &terminal);
    let owner = bench.client(OWNER);
    let card = format!("{}/cards/{id}", cardea_testkit::bus::ROOT);
    let asking = std::thread::spawn(move || {
        let options = Dictionary::new();
        owner.get::<bool, _>(&card, "Provisioning.RequestPinChange", &options)
    });
    wait_for("a challenge", || challenge_on(&terminal).is_some());
    let block: [u8; 8] = challenge_on(&terminal).unwrap().try_into().unwrap();
    let challenge = cardea_client::dictation::to_dictation(&block);

    // Over the telephone: card id and challenge there, the answer back.
    let respond = |challenge: &str, further: &[&str]| {
        let respond = ["respond", "--card-id", &id, "--master-file", &master];
        help_desk(&[&respond[..], &["--challenge", challenge], further].concat())
    };
    let other = respond(shown.text.trim(), &["--check", "000000"]);
    assert!(
        !other.success && other.text.contains(&check),
        "{}",
        other.text
    );
    let misheard = shown
        .text
        .trim()
        .replacen(|digit: char| digit.is_ascii_digit(), "X", 1);
    assert!(!respond(&misheard, &[]).success);
    let answer = respond(&challenge, &["--check", &check]);
    assert!(answer.success, "{}", answer.text);
    terminal.enter(answer.text.trim().as_bytes());
    type_new(&terminal, b"314159");
    // The change that was asked for goes on with the new one.
    type_new(&terminal, b"161803");
    assert_eq!(asking.join().unwrap(), Ok(true));
    wait_for("OpenSC signs again", || sign("161803").success);
}
