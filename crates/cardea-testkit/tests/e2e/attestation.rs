//! What a card proves to others, from its TPM's maker to the certification authority, on two machines.

use std::fs;

use cardea_testkit::multiplexer::Profile;
use cardea_testkit::swtpm::{Swtpm, deliver};
use cardea_testkit::workplace::Workplace;
use serde_json::{Value, json};

const NONCE: &str = "00112233445566778899aabbccddeeff";

/// A machine whose TPM has its maker's certificates, and whose folder has an attestation authority that knows the maker.
struct Place {
    machine: Workplace,
    tpm: Swtpm,
}

impl Place {
    fn new() -> Self {
        let mut machine = Workplace::new();
        let maker = machine.path("maker");
        let state = machine.path("delivered");
        let [root, intermediate] = deliver(&state, &maker);
        let tpm = Swtpm::start(&state);
        machine.move_to(&tpm);
        let place = Self { machine, tpm };
        place.cardea("attest authority init --folder ca --subject CN=Attestation");
        let copy = |from, to: &str| fs::copy(from, place.machine.path(to)).unwrap();
        copy(root, "ca/roots/maker.pem");
        copy(intermediate, "ca/intermediates/maker.pem");
        place
    }

    /// `cardea` with these words, in the folder.
    fn cardea(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert!(outcome.success, "{line}: {}", outcome.text);
        outcome.text
    }

    fn run(&self, line: &str) -> cardea_testkit::process::Outcome {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| self.placed(word))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.machine.daemon.cardea(&words)
    }

    /// A word with a dot or without: names of files are those of the folder.
    fn placed(&self, word: &str) -> String {
        let is_file = word.contains('.') || ["ca", "pin", "puk"].contains(&word);
        match is_file && !word.contains('=') {
            true => self.machine.text(word),
            false => word.to_owned(),
        }
    }

    fn refuses(&self, line: &str, why: &str) {
        let outcome = self.run(line);
        assert!(!outcome.success, "{line}: {}", outcome.text);
        assert!(outcome.text.contains(why), "{line}: {}", outcome.text);
    }

    fn json(&self, line: &str) -> Value {
        let text = self.cardea(&format!("{line} --json"));
        serde_json::from_str(&text).unwrap()
    }

    /// A card with a key of each kind, one of them recoverable.
    fn create(&self, name: &str, options: &str) {
        self.cardea(&format!(
            "card create --name {name} --pin-file pin --puk-file puk {options}"
        ));
        let generate = format!("key generate {name} --pin-file pin --label");
        self.cardea(&format!("{generate} rsa --algorithm rsa-2048"));
        self.cardea(&format!("{generate} ec --algorithm p-256"));
        self.machine.does(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout escrow.key -subj /CN=escrow -out escrow.pem",
        );
        self.cardea(&format!(
            "{generate} mail --algorithm rsa-2048 --recoverable-by escrow.pem"
        ));
    }

    /// The attestation key gets its certificate.
    fn certify(&self, card: &str) {
        let _ = fs::remove_file(self.machine.path("its.answer"));
        self.cardea(&format!("attest request {card} --out its.request"));
        self.cardea("attest authority challenge its.request --folder ca --out its.challenge");
        self.cardea(&format!(
            "attest answer {card} its.challenge --out its.answer"
        ));
        self.cardea("attest authority issue its.answer --folder ca --out its.issued");
        self.cardea(&format!("attest import {card} its.issued"));
    }

    /// The computer is restarted.
    fn restart(&mut self) {
        self.tpm.restart();
        self.machine.daemon.restart();
    }

    /// What a stranger says of evidence.
    fn verdict(&self, card: &str) -> Value {
        self.cardea(&format!(
            "attest evidence {card} --nonce {NONCE} --out its.evidence"
        ));
        self.json(&format!(
            "attest verify its.evidence --trust ca/authority.pem --nonce {NONCE}"
        ))
    }
}

#[test]
fn attested_card_proves_everything_after_the_restart_and_a_request_shows_it_to_a_ca() {
    let mut here = Place::new();
    here.create("Alice", "--attest");
    let shown = here.cardea("attest show Alice");
    assert!(
        shown.contains("level 2 after the next restart") && shown.contains("none: request one"),
        "{shown}"
    );
    let attestation = &here.json("card show Alice")["attestation"];
    let expected = json!({ "sealed": true, "level": 1, "certificate": false });
    assert_eq!(*attestation, expected);
    here.refuses(
        "csr create Alice --key ec --subject CN=Alice --attest --pin-file pin --out its.csr",
        "the attestation key has no certificate",
    );
    here.certify("Alice");
    let issued = fs::read(here.machine.path("ca/issued.jsonl")).unwrap();
    let issued: Value = serde_json::from_slice(&issued).unwrap();
    assert_eq!(issued["ek"], "certificate", "{issued}");

    let first = here.verdict("Alice");
    assert_eq!(first["level"], 1);
    assert_eq!(first["made_in_this_boot"], true);
    here.restart();
    let second = here.verdict("Alice");
    assert_eq!(second["level"], 2, "{second}");
    assert_eq!(second["ek"], "certificate");
    assert_eq!(second["fresh"], true);
    assert_eq!(second["pin"]["limit"], 5);
    assert_eq!(second["unblock"], serde_json::json!(["puk"]));
    let keys = second["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key["origin"] == "generated"));
    let recovery = |key: &Value| key["recovery"].as_array().unwrap().len();
    assert_eq!(keys.iter().map(recovery).collect::<Vec<_>>(), [0, 0, 1]);
    let public = fs::read_to_string(here.machine.public("ec")).unwrap();
    assert_eq!(keys[1]["spki"], public);
    // The relying party's own rules, and an old nonce.
    let verify = "attest verify its.evidence --trust ca/authority.pem";
    here.cardea(&format!("{verify} --policy level=2,pin-limit=5,generated"));
    here.refuses(&format!("{verify} --policy pin-limit=4"), "pin-limit");
    here.refuses(&format!("{verify} --policy no-recovery"), "key-recovery");
    here.refuses(&format!("{verify} --nonce 00"), "(nonce)");
    here.refuses(
        "attest verify its.evidence --trust maker/issuercert.pem",
        "(ak-chain)",
    );

    here.cardea(&format!(
        "csr create Alice --key ec --subject CN=Alice --attest --nonce {NONCE} --pin-file pin --out its.csr"
    ));
    let read = here
        .machine
        .does("openssl req -in its.csr -noout -verify -text");
    assert!(
        read.contains("1.2.840.113549.1.9.16.2.59"),
        "the attestation attribute: {read}"
    );
    // By the chain of the attestation key, with a verifier that we did not write.
    here.machine
        .does("openssl verify -CAfile ca/authority.pem -purpose any ca/authority.pem");
    let wrong = here.run(&format!(
        "csr create Alice --key ec --subject CN=Alice --attest --nonce {} --pin-file pin --out its.csr",
        "00".repeat(33)
    ));
    assert!(wrong.text.contains("at most 32 bytes"), "{}", wrong.text);
}

#[test]
fn card_that_exists_gets_an_attestation_key_and_another_tpm_cannot_answer_for_it() {
    let here = Place::new();
    here.create("Bob", "");
    here.refuses("attest request Bob --out its.request", "no attestation key");
    here.cardea("attest enable Bob");
    here.refuses("attest enable Bob", "has an attestation key already");
    here.certify("Bob");
    let verdict = here.verdict("Bob");
    assert_eq!(verdict["level"], 1);
    assert_eq!(verdict["puk"], Value::Null, "nothing is said of it");
    let shown = here.cardea("attest show Bob");
    assert!(
        shown.contains("never more") && shown.contains("by CN=Attestation"),
        "{shown}"
    );

    // What is for one card and one TPM is opened by no other.
    here.create("Carol", "--attest");
    here.cardea("attest authority challenge its.request --folder ca --out its.challenge");
    here.refuses(
        "attest answer Carol its.challenge --out other.answer",
        "ActivateCredential",
    );
    let there = Place::new();
    there.create("Bob", "--attest");
    for name in ["its.challenge", "its.issued"] {
        fs::copy(here.machine.path(name), there.machine.path(name)).unwrap();
    }
    there.refuses(
        "attest answer Bob its.challenge --out other.answer",
        "ActivateCredential",
    );
    there.refuses("attest import Bob its.issued", "not that of this card's");
    there.refuses(
        "attest answer Bob escrow.pem --out other.answer",
        "challenge",
    );
    assert!(!there.machine.path("other.answer").exists());
}

#[test]
fn endorsement_authorisation_that_is_set_is_named() {
    let mut here = Place::new();
    here.create("Alice", "--attest");
    here.cardea("attest request Alice --out its.request");
    here.cardea("attest authority challenge its.request --folder ca --out its.challenge");
    here.machine.daemon.kill();
    let set = here
        .tpm
        .tpm2("tpm2_changeauth", &["-c", "endorsement", "secret"]);
    assert!(set.success, "{}", set.text);
    here.machine.daemon.restart();
    here.refuses(
        "attest answer Alice its.challenge --out its.answer",
        "endorsement",
    );
    // Evidence takes no endorsement key.
    here.cardea("attest evidence Alice --out its.evidence");
}

/// What is asked of an authority is who somebody is, not a statement of theirs: a TPM that cannot make one answers too.
#[test]
fn request_to_an_authority_has_the_tpm_sign_nothing() {
    let machine = Workplace::playing(Profile {
        missing_commands: vec!["Certify".to_owned()],
        ..Profile::named("swtpm")
    });
    let (pin, out) = (machine.text("pin"), machine.text("its.request"));
    let create = [
        "card",
        "create",
        "--name",
        "Alice",
        "--no-puk",
        "--pin-file",
        &pin,
    ];
    for words in [
        &create[..],
        &["attest", "enable", "Alice"],
        &["attest", "request", "Alice", "--out", &out],
    ] {
        let done = machine.daemon.cardea(words);
        assert!(done.success, "{words:?}: {}", done.text);
    }
    assert!(machine.path("its.request").exists());
}

#[test]
fn tpm_that_lacks_a_command_makes_no_lesser_card_in_silence() {
    let lacking = |command: &str| Profile {
        missing_commands: vec![command.to_owned()],
        ..Profile::named("swtpm")
    };
    // A part that sets a count back where a policy reads it would not keep what is proven.
    let parts = [
        (
            lacking("PolicyAuthorizeNV"),
            "it has no PolicyAuthorizeNV",
            None,
        ),
        (
            lacking("NV_Certify"),
            "it has no NV_Certify",
            Some("it has no NV_Certify"),
        ),
        (
            Profile::named("ptt-403"),
            "sets the count of wrong PINs back",
            Some("by the TPM's owner only"),
        ),
    ];
    for (part, why, no_evidence) in parts {
        let machine = Workplace::playing(part);
        let create = |more: &[&str]| {
            let pin = machine.text("pin");
            let words = ["card", "create", "--name", "Alice", "--pin-file", &pin];
            machine
                .daemon
                .cardea(&[&words[..], &["--no-puk"], more].concat())
        };
        let refused = create(&["--attest"]);
        assert!(
            !refused.success && refused.text.contains(why),
            "{why}: {}",
            refused.text
        );
        assert!(
            refused.text.contains("cardea attest enable"),
            "{}",
            refused.text
        );
        assert_eq!(
            machine.daemon.printed(&["card", "list", "--json"]).trim(),
            "[]"
        );
        let made = create(&[]);
        assert!(made.success, "{why}: {}", made.text);
        let out = machine.text("its.evidence");
        let enabled = machine.daemon.cardea(&["attest", "enable", "Alice"]);
        let given = machine
            .daemon
            .cardea(&["attest", "evidence", "Alice", "--out", &out]);
        match no_evidence {
            None => assert!(enabled.success && given.success, "{}", given.text),
            Some(words) => assert!(
                !given.success && (given.text.contains(words) || enabled.text.contains(words)),
                "{}{}",
                enabled.text,
                given.text
            ),
        }
    }
}

#[test]
fn card_in_object_mode_says_why_it_proves_nothing() {
    let here = Place::new();
    here.cardea("card create --name Dan --pin-file pin --no-puk --counter-mode object");
    here.refuses("attest enable Dan", "by the TPM's lockout only");
    let both = here.run("card create --name Eve --pin-file pin --attest --counter-mode object");
    assert!(!both.success, "{}", both.text);
}
