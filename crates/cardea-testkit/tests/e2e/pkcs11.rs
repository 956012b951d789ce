//! The PKCS#11 module in a program that we did not write: no pcscd, one round trip to the daemon for each
//! private operation.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use cardea_testkit::process::{self, Outcome};
use cardea_testkit::rig::{Daemon, PIN, bin_dir};
use cardea_testkit::swtpm::Swtpm;
use tempfile::TempDir;

const PUK: &str = "57721566";

/// A daemon without a reader.
struct Desk {
    daemon: Daemon,
    _tpm: Swtpm,
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let daemon = Daemon::start(&folder.path().join("daemon"), &tpm.address(), "");
        fs::write(folder.path().join("pin"), PIN).unwrap();
        fs::write(folder.path().join("puk"), PUK).unwrap();
        Self {
            daemon,
            _tpm: tpm,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn create(&self, name: &str) {
        let (pin, puk) = (self.text("pin"), self.text("puk"));
        let made = self.daemon.cardea(&[
            "card",
            "create",
            "--name",
            name,
            "--pin-file",
            &pin,
            "--puk-file",
            &puk,
        ]);
        assert!(made.success, "{}", made.text);
    }

    fn tool(&self, further: &[&str]) -> Outcome {
        let module = bin_dir().join("libcardea_pkcs11.so");
        let mut command = Command::new("pkcs11-tool");
        command
            .current_dir(self.folder.path())
            .env("CARDEA_SOCKET", self.daemon.socket())
            .arg("--module")
            .arg(module)
            .args(further);
        process::run(&mut command)
    }

    fn ok(&self, further: &[&str]) -> String {
        let outcome = self.tool(further);
        assert!(outcome.success, "{further:?}\n{}", outcome.text);
        outcome.text
    }

    fn fails(&self, further: &[&str], why: &str) {
        let outcome = self.tool(further);
        assert!(
            !outcome.success && outcome.text.contains(why),
            "{further:?}: {why} is not in\n{}",
            outcome.text
        );
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.current_dir(self.folder.path()).args(arguments);
        let outcome = process::run(&mut command);
        assert!(outcome.success, "{arguments:?}\n{}", outcome.text);
        outcome.text
    }
}

const LOGIN: [&str; 5] = ["--token-label", "Alice", "--login", "--pin", PIN];

fn login<'a>(further: &[&'a str]) -> Vec<&'a str> {
    [&LOGIN[..], further].concat()
}

#[test]
fn pkcs11_tool_makes_keys_signs_and_deciphers() {
    let desk = Desk::new();
    desk.create("Alice");
    desk.create("Bob");
    let slots = desk.ok(&["--list-slots"]);
    assert!(slots.contains("token label        : Alice"), "{slots}");
    assert!(slots.contains("token label        : Bob"), "{slots}");

    desk.ok(&login(&[
        "--keypairgen",
        "--key-type",
        "rsa:2048",
        "--label",
        "r",
    ]));
    desk.ok(&login(&[
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--label",
        "e",
    ]));
    let test = desk.ok(&login(&["--test"]));
    assert!(test.contains("No errors"), "{test}");
    assert!(!test.contains("ERR"), "{test}");

    // Without the PIN the keys are not there, and Bob's card has none.
    let listed = desk.ok(&["--token-label", "Alice", "--list-objects"]);
    assert!(listed.contains("Public Key Object; RSA 2048"), "{listed}");
    assert!(!listed.contains("Private Key Object"), "{listed}");
    let listed = desk.ok(&[
        "--token-label",
        "Bob",
        "--login",
        "--pin",
        PIN,
        "--list-objects",
    ]);
    assert!(!listed.contains("Key Object"), "{listed}");
    let listed = desk.ok(&login(&["--list-objects"]));
    assert!(
        listed.contains("sensitive, always sensitive, never extractable, local"),
        "{listed}"
    );

    fs::write(desk.path("message"), "a message of some length").unwrap();
    for (id, mechanism, further) in [
        ("00", "SHA256-RSA-PKCS", &["-sha256"][..]),
        ("00", "SHA384-RSA-PKCS", &["-sha384"]),
        (
            "00",
            "SHA256-RSA-PKCS-PSS",
            &["-sha256", "-sigopt", "rsa_padding_mode:pss"],
        ),
        ("1d", "ECDSA-SHA256", &["-sha256"]),
        ("1d", "ECDSA-SHA384", &["-sha384"]),
    ] {
        desk.ok(&login(&[
            "--sign",
            "--mechanism",
            mechanism,
            "--id",
            id,
            "--input-file",
            "message",
            "--output-file",
            "signature",
            "--signature-format",
            "openssl",
        ]));
        desk.ok(&[
            "--token-label",
            "Alice",
            "--read-object",
            "--type",
            "pubkey",
            "--id",
            id,
            "--output-file",
            "key.der",
        ]);
        desk.openssl(&[
            "pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem",
        ]);
        let verify = [
            &["dgst", "-verify", "key.pem", "-signature", "signature"],
            further,
            &["message"],
        ];
        let verified = desk.openssl(&verify.concat());
        assert!(verified.contains("Verified OK"), "{mechanism}: {verified}");
    }

    // One truth: what came in here is what the command line shows.
    let shown = desk.daemon.cardea(&["key", "list", "Alice"]);
    assert!(
        shown.success && shown.text.contains("rsa-2048"),
        "{}",
        shown.text
    );
    desk.ok(&login(&[
        "--delete-object",
        "--type",
        "privkey",
        "--label",
        "r",
    ]));
    let shown = desk.daemon.cardea(&["key", "list", "Alice"]);
    assert!(
        shown.success && !shown.text.contains("rsa-2048") && shown.text.contains("p-256"),
        "{}",
        shown.text
    );
}

#[test]
fn wrong_pins_are_counted_told_and_unblocked_by_the_security_officer() {
    let desk = Desk::new();
    desk.create("Alice");
    desk.create("Bob");
    let alice = ["--token-label", "Alice", "--login", "--pin"];
    let with_pin = |pin: &'static str| [&alice[..], &[pin, "--list-objects"]].concat();
    desk.fails(&with_pin("000000"), "CKR_PIN_INCORRECT");
    let slots = desk.ok(&["--list-slots"]);
    assert_eq!(slots.matches("user PIN count low").count(), 1, "{slots}");
    for _ in 0..3 {
        desk.fails(&with_pin("000000"), "CKR_PIN_INCORRECT");
    }
    let slots = desk.ok(&["--list-slots"]);
    assert_eq!(slots.matches("final user PIN try").count(), 1, "{slots}");
    desk.tool(&with_pin("000000"));
    desk.fails(&with_pin(PIN), "CKR_PIN_LOCKED");
    let slots = desk.ok(&["--list-slots"]);
    assert_eq!(slots.matches("user PIN locked").count(), 1, "{slots}");
    // The other card has nothing to do with it.
    desk.ok(&[
        "--token-label",
        "Bob",
        "--login",
        "--pin",
        PIN,
        "--list-objects",
    ]);

    desk.ok(&[
        "--token-label",
        "Alice",
        "--login",
        "--login-type",
        "so",
        "--so-pin",
        PUK,
        "--init-pin",
        "--new-pin",
        "141421",
    ]);
    desk.ok(&with_pin("141421"));
    desk.ok(&[
        "--token-label",
        "Alice",
        "--login",
        "--pin",
        "141421",
        "--change-pin",
        "--new-pin",
        "173205",
    ]);
    desk.ok(&with_pin("173205"));
    desk.fails(&with_pin("141421"), "CKR_PIN_INCORRECT");
}

#[test]
fn without_a_daemon_there_is_no_slot() {
    let mut desk = Desk::new();
    desk.create("Alice");
    desk.daemon.stop();
    // Its exit status without a slot is 1.
    desk.fails(&["--list-slots"], "No slots");
}
