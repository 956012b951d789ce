//! A card in object mode, on a TPM without counters for PINs, by every door, on a drive and redirected.

use std::fs;
use std::process::Command;

use cardea_testkit::bus::{BusClient, ROOT, secret};
use cardea_testkit::multiplexer::Profile;
use cardea_testkit::namespace::Namespace;
use cardea_testkit::pcscd::Pcscd;
use cardea_testkit::process::{Outcome, run, wait_for};
use cardea_testkit::redirection::Redirection;
use cardea_testkit::rig::{PIN, bin_dir, opensc_module};
use cardea_testkit::stick::{MEDIA, PLACE, Stick, unplug};
use cardea_testkit::workplace::{WRONG, Workplace};
use serde_json::Value;

/// Identifier of the first elliptic key on a card.
const EC: &str = "1d";

const NEW_PIN: &str = "161803";
const ADMIN_KEY: &str = "404142434445464748494A4B4C4D4E4F5051525354555657";

#[test]
fn card_in_object_mode_does_by_every_door_what_others_do() {
    let machines = Redirection::in_object_mode(Profile::named("slb9665"));
    let here = &machines.here;
    let reader = Reader::start(here);
    signs_by_every_door(here, &reader);
    is_blocked_by_wrong_pins_of_every_door(&machines, &reader);
    is_unblocked_and_changed(here);
    is_redirected(&machines);
    let drive = Drive::new(here);
    is_on_a_drive(here, &drive);
    older_copy_of_the_drive_brings_the_older_count_and_pin_back(here, &drive);
    is_foreign_on_another_computer(&machines.there, &drive);
    ten_cards_come_and_go(here);
}

/// pcscd and OpenSC's module.
struct Reader<'a> {
    here: &'a Workplace,
    pcscd: Pcscd,
}

impl<'a> Reader<'a> {
    fn start(here: &'a Workplace) -> Self {
        let library = bin_dir().join("libifdcardea.so").display().to_string();
        let entry = here.cardea(&["reader-conf", "--library", &library]);
        let reader = Self {
            here,
            pcscd: Pcscd::start(&here.path(""), &entry),
        };
        wait_for("the card is in the reader", || {
            run(&mut reader.client("opensc-tool --reader 0 --atr")).success
        });
        reader
    }

    fn client(&self, line: &str) -> Command {
        let mut command = self.here.client(line);
        command.env("PCSCLITE_CSOCK_NAME", self.pcscd.socket());
        command
    }

    fn sign(&self, pin: &str) -> Outcome {
        let sign = [
            "--login",
            "--pin",
            pin,
            "--sign",
            "--mechanism",
            "SHA256-RSA-PKCS",
        ];
        let files = ["-i", "message", "-o", "reader.sig"];
        run(self
            .client("pkcs11-tool --module")
            .arg(opensc_module())
            .args(sign)
            .args(files))
    }
}

fn sign_by_pkcs11(here: &Workplace, card: &str, pin: &str) -> Outcome {
    let sign = ["--token-label", card, "--login", "--pin", pin, "--sign"];
    let what = ["--id", EC, "--mechanism", "ECDSA-SHA256"];
    let files = ["--signature-format", "openssl", "-i", "message"];
    here.tool(&[&sign[..], &what, &files, &["-o", "pkcs11.sig"]].concat())
}

fn signs(here: &Workplace, card: &str, pin: &str) {
    let signed = sign_by_pkcs11(here, card, pin);
    assert!(signed.success, "{}", signed.text);
}

fn show(here: &Workplace, card: &str) -> Value {
    let shown = here.daemon.printed(&["card", "show", card, "--json"]);
    serde_json::from_str(&shown).unwrap()
}

/// A member of printed JSON, by its pointer; null if there is none.
fn member(json: &Value, pointer: &str) -> Value {
    json.pointer(pointer).cloned().unwrap_or_default()
}

fn bus_path(here: &Workplace) -> String {
    let card = show(here, "Alice");
    format!(
        "{ROOT}/cards/{}",
        member(&card, "/card_id").as_str().unwrap()
    )
}

fn signs_by_every_door(here: &Workplace, reader: &Reader<'_>) {
    let signed = sign_by_pkcs11(here, "Alice", PIN);
    assert!(signed.success, "{}", signed.text);
    here.check("ec", "-sha256", "pkcs11.sig");
    let signed = reader.sign(PIN);
    assert!(signed.success, "{}", signed.text);
    here.check("rsa", "-sha256", "reader.sig");
    // Each door that can tell the mode does.
    let tokens = here.ok(&["--list-token-slots"]);
    assert!(tokens.contains("TPM object card"), "{tokens}");
    assert!(here.uri("Alice").contains("model=TPM%20object%20card"));
    assert_eq!(member(&show(here, "Alice"), "/counter_mode"), "object");
    let card = here.cardea(&["card", "show", "Alice"]);
    assert!(
        card.contains("30 of 30 wrong PINs of all such cards"),
        "{card}"
    );
}

fn is_blocked_by_wrong_pins_of_every_door(machines: &Redirection, reader: &Reader<'_>) {
    let here = &machines.here;
    let bus = BusClient::connect(&machines.person().bus(), 0);
    let card = bus_path(here);
    assert_eq!(bus.text(&card, "Card", "CounterMode"), "object");
    assert_eq!(bus.number(&card, "Card", "LockoutSeconds"), 0);
    let refused = sign_by_pkcs11(here, "Alice", WRONG);
    assert!(
        refused.text.contains("CKR_PIN_INCORRECT"),
        "{}",
        refused.text
    );
    assert_eq!(here.tries_left(), 4);
    assert!(!reader.sign(WRONG).success);
    assert_eq!(here.tries_left(), 3);
    let values = (secret(WRONG.as_bytes()), secret(NEW_PIN.as_bytes()));
    let refused = bus.call(&card, "Provisioning.ChangePin", &values);
    assert_eq!(
        refused.map(drop).map_err(|refusal| refusal.0),
        Err("WrongPin".into())
    );
    assert_eq!(here.tries_left(), 2);
    here.block();
    let tokens = here.ok(&["--list-token-slots"]);
    assert!(tokens.contains("user PIN locked"), "{tokens}");
    assert!(!reader.sign(PIN).success);
    let refused = sign_by_pkcs11(here, "Alice", PIN);
    assert!(refused.text.contains("CKR_PIN_LOCKED"), "{}", refused.text);
    let status = here.daemon.printed(&["tpm", "status", "--json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(member(&status, "/lockout/count"), 5, "{status}");
    assert_eq!(member(&status, "/lockout/locked"), false, "{status}");
}

fn is_unblocked_and_changed(here: &Workplace) {
    here.unblock();
    signs(here, "Alice", PIN);
    fs::write(here.path("new"), NEW_PIN).unwrap();
    let (pin, new) = (here.text("pin"), here.text("new"));
    let change = |old: &str, new: &str| {
        let words = ["pin", "change", "Alice", "--pin-file", old];
        here.cardea(&[&words[..], &["--new-pin-file", new]].concat());
    };
    change(&pin, &new);
    assert!(!sign_by_pkcs11(here, "Alice", PIN).success);
    signs(here, "Alice", NEW_PIN);
    change(&new, &pin);

    // By the administrator, on a card of that kind.
    fs::write(here.path("key"), ADMIN_KEY).unwrap();
    let key = here.text("key");
    let create = [
        "card",
        "create",
        "--name",
        "Bob",
        "--counter-mode",
        "object",
    ];
    let secrets = ["--pin-file", &pin, "--admin-key", &format!("file:{key}")];
    let told = here.cardea(&[&create[..], &secrets].concat());
    for words in [
        "older copy of the card file",
        "guess past the card's own count",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let verify = |pin: &str| {
        here.daemon
            .cardea(&["pin", "verify", "Bob", "--pin-file", pin])
    };
    for _ in 0..5 {
        assert!(!verify(&here.text("wrong")).success);
    }
    assert_eq!(verify(&pin).code, Some(5), "blocked");
    let unblock = ["pin", "unblock", "Bob", "--admin-key-file", &key];
    here.cardea(&[&unblock[..], &["--new-pin-file", &new]].concat());
    assert!(!verify(&pin).success);
    assert!(verify(&new).success);
}

fn is_redirected(machines: &Redirection) {
    let mut redirect = machines.start(&["--card", "Alice"]);
    let signed = machines.sign("rsa");
    assert!(signed.success, "{}", signed.text);
    machines.check("rsa");
    let tokens = machines.there.ok(&["--list-token-slots"]);
    assert!(tokens.contains("TPM object card"), "{tokens}");
    // A wrong PIN is counted here; it is asked for three times.
    machines.person().types(WRONG);
    assert!(!machines.sign("rsa").success);
    assert_eq!(machines.here.tries_left(), 2);
    machines.person().types(PIN);
    assert!(machines.sign("ec").success);
    assert_eq!(machines.here.tries_left(), 5);
    redirect.terminate();
    wait_for("the card has left", || !machines.is_there());
}

/// A drive, and where it is put.
struct Drive {
    namespace: Namespace,
    stick: Stick,
}

impl Drive {
    fn new(here: &Workplace) -> Self {
        let namespace = Namespace::new(&here.path(""), MEDIA);
        let stick = Stick::new(&here.path("stick"), 16);
        stick.plug(&namespace);
        Self { namespace, stick }
    }

    /// `cardea` where drives are seen.
    fn cardea(&self, at: &Workplace, words: &[&str]) -> Outcome {
        run(self
            .namespace
            .command(&bin_dir().join("cardea").display().to_string())
            .args(words)
            .env("CARDEA_SOCKET", at.daemon.socket()))
    }

    fn attach(&self, at: &Workplace) {
        let attached = self.cardea(at, &["card", "attach", PLACE]);
        assert!(attached.success, "{}", attached.text);
    }

    fn pull(&self, at: &Workplace) {
        unplug(&self.namespace, PLACE);
        wait_for("the card has left", || {
            member(&show(at, "Travel"), "/state") == "drive-away"
        });
    }
}

fn tries(at: &Workplace) -> u64 {
    member(&show(at, "Travel"), "/pin/left").as_u64().unwrap()
}

fn guess(at: &Workplace, times: usize) {
    for _ in 0..times {
        let wrong = at.text("wrong");
        let refused = at
            .daemon
            .cardea(&["pin", "verify", "Travel", "--pin-file", &wrong]);
        assert_eq!(refused.code, Some(4), "{}", refused.text);
    }
}

fn is_on_a_drive(here: &Workplace, drive: &Drive) {
    let pin = here.text("pin");
    let create = ["card", "create", "--name", "Travel", "--store", PLACE];
    let create = [
        &create[..],
        &["--counter-mode", "object", "--pin-file", &pin],
    ]
    .concat();
    let made = drive.cardea(here, &create);
    assert!(made.success, "{}", made.text);
    let generate = [
        "key",
        "generate",
        "Travel",
        "--algorithm",
        "p-256",
        "--label",
        "travel",
    ];
    here.with_pin(&generate);
    signs(here, "Travel", PIN);
    // Its count travels with it.
    guess(here, 2);
    assert_eq!(tries(here), 3);
    drive.pull(here);
    assert!(!sign_by_pkcs11(here, "Travel", PIN).success);
    drive.stick.plug(&drive.namespace);
    drive.attach(here);
    assert_eq!(tries(here), 3);
    signs(here, "Travel", PIN);
    assert_eq!(tries(here), 5);
    drive.pull(here);
}

/// As the threat model says.
fn older_copy_of_the_drive_brings_the_older_count_and_pin_back(here: &Workplace, drive: &Drive) {
    let older = drive.stick.copy(&here.path("older"));
    drive.stick.plug(&drive.namespace);
    drive.attach(here);
    let (pin, new) = (here.text("pin"), here.text("new"));
    let change = [
        "pin",
        "change",
        "Travel",
        "--pin-file",
        &pin,
        "--new-pin-file",
        &new,
    ];
    here.cardea(&change);
    guess(here, 3);
    assert!(!sign_by_pkcs11(here, "Travel", PIN).success);
    assert_eq!(tries(here), 1);
    drive.pull(here);

    older.plug(&drive.namespace);
    drive.attach(here);
    assert_eq!(tries(here), 5);
    signs(here, "Travel", PIN);
    drive.pull(here);
    // Nor does its destruction end the copy.
    here.cardea(&["card", "destroy", "Travel", "--yes"]);
    older.plug(&drive.namespace);
    drive.attach(here);
    signs(here, "Travel", PIN);
    drive.pull(here);
}

fn is_foreign_on_another_computer(there: &Workplace, drive: &Drive) {
    drive.stick.plug(&drive.namespace);
    drive.attach(there);
    let card = show(there, "Travel");
    assert_eq!(member(&card, "/state"), "foreign", "{card}");
    assert!(
        member(&card, "/reason")
            .as_str()
            .unwrap()
            .contains("made by another TPM"),
        "{card}"
    );
    assert!(!sign_by_pkcs11(there, "Travel", NEW_PIN).success);
    unplug(&drive.namespace, PLACE);
    wait_for("the stranger is forgotten", || {
        !there.cardea(&["card", "list"]).contains("Travel")
    });
}

/// With "Alice" and "Bob" there are ten; the one on the drive is away.
fn ten_cards_come_and_go(here: &Workplace) {
    let pin = here.text("pin");
    for number in 3..=10 {
        let name = format!("card {number}");
        let create = [
            "card",
            "create",
            "--name",
            &name,
            "--counter-mode",
            "object",
        ];
        here.cardea(&[&create[..], &["--pin-file", &pin]].concat());
    }
    let names: Vec<String> = (3..=10).map(|number| format!("card {number}")).collect();
    for name in &names {
        here.cardea(&["pin", "verify", name, "--pin-file", &pin]);
    }
    signs(here, "Alice", PIN);
    for name in names
        .iter()
        .map(String::as_str)
        .chain(["Alice", "Bob", "Travel"])
    {
        here.cardea(&["card", "destroy", name, "--yes"]);
    }
    let files = fs::read_dir(here.daemon.state().join("cards")).unwrap();
    assert_eq!(files.count(), 0);
    assert_eq!(here.cardea(&["card", "list"]).trim(), "no cards");
}
