//! Cards that earlier versions have made: they open, sign, change their PIN and are unblocked.
//! `tests/old_state/README.md` says what there is.

use std::fs;
use std::path::{Path, PathBuf};

use cardea_testkit::rig::PIN;
use cardea_testkit::workplace::Workplace;
use serde_json::Value;

const NEW_PIN: &str = "314159";

/// Exit codes.
const WRONG_PIN: i32 = 4;
const BLOCKED: i32 = 5;

/// Card, key, and the mechanism that it signs with.
const KEYS: [(&str, &str, &str); 7] = [
    ("puk", "rsa", "SHA256-RSA-PKCS"),
    ("puk", "ec", "ECDSA-SHA256"),
    ("puk", "every-time", "ECDSA-SHA256"),
    ("puk", "imported-rsa", "SHA256-RSA-PKCS"),
    ("puk", "imported-ec", "ECDSA-SHA256"),
    ("admin", "ec", "ECDSA-SHA256"),
    ("policy", "ec", "ECDSA-SHA256"),
];

#[test]
fn cards_from_before_imported_keys_were_noted_as_wrapped_work_on() {
    cards_work_on("6da86aa", true);
}

#[test]
fn cards_with_imported_keys_noted_as_wrapped_work_on() {
    cards_work_on("f620269", false);
}

#[test]
fn cards_from_before_format_2_work_on_and_stay_in_format_1() {
    let workplace = cards_work_on("a75aa18", false);
    let cards = workplace.path("daemon/state/cards");
    for entry in fs::read_dir(cards).unwrap() {
        let path = entry.unwrap().path();
        let file = fs::read(&path).unwrap();
        assert_eq!(file[8..10], [0, 1], "{}", path.display());
    }
}

/// All of it with one start: the steps build on each other. What is said of imported keys depends on the version.
fn cards_work_on(version: &str, imported_is_exposed: bool) -> Workplace {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_state");
    let old = OldState::open(kept.join(version));
    old.contents_are_there(imported_is_exposed);
    for (card, key, mechanism) in KEYS {
        old.signs(card, key, mechanism, PIN);
    }
    old.policy_holds();
    old.changes_its_pin();
    old.is_unblocked("puk", &["--puk-file", "puk"]);
    old.is_unblocked("admin", &["--admin-key-file", "admin-key"]);
    for (card, key, mechanism) in KEYS {
        let pin = if card == "policy" { PIN } else { NEW_PIN };
        old.signs(card, key, mechanism, pin);
    }
    old.workplace
}

struct OldState {
    kept: PathBuf,
    workplace: Workplace,
}

impl OldState {
    fn open(kept: PathBuf) -> Self {
        let workplace = Workplace::from_kept(&kept);
        for (name, content) in [
            ("new", NEW_PIN),
            ("letters", "abcdef"),
            (
                "admin-key",
                "010203040506070801020304050607080102030405060708",
            ),
        ] {
            fs::write(workplace.path(name), content).unwrap();
        }
        Self { kept, workplace }
    }

    /// `cardea` with files of the workplace's folder as the values of options that end in `-file`.
    fn arguments(&self, words: &[&str]) -> Vec<String> {
        let mut is_file = false;
        let mut arguments = Vec::new();
        for word in words {
            arguments.push(match is_file {
                true => self.workplace.text(word),
                false => (*word).to_owned(),
            });
            is_file = word.ends_with("-file");
        }
        arguments
    }

    fn cardea(&self, words: &[&str]) -> String {
        let arguments = self.arguments(words);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.workplace.cardea(&words)
    }

    /// `cardea`, which must fail with an exit code of `docs/cli.md`.
    fn refused(&self, words: &[&str], code: i32) {
        let arguments = self.arguments(words);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let outcome = self.workplace.daemon.cardea(&words);
        assert_eq!(outcome.code, Some(code), "{words:?}\n{}", outcome.text);
    }

    fn contents_are_there(&self, imported_is_exposed: bool) {
        let listed = self.cardea(&["card", "list", "--json"]);
        assert_eq!(listed.matches("\"ready\"").count(), 4, "{listed}");
        for (card, key, _) in KEYS {
            let name = format!("{card}.{key}.pub");
            let expected = fs::read_to_string(self.kept.join(&name)).unwrap();
            let exported = self.cardea(&["key", "export-public", card, key]);
            assert_eq!(exported, expected, "{name}");
            let exposed = key.starts_with("imported") && imported_is_exposed;
            assert_eq!(self.of_key(card, key, "import_exposed"), exposed, "{name}");
        }
        let expected = fs::read_to_string(self.kept.join("puk.rsa.pem")).unwrap();
        assert_eq!(self.cardea(&["cert", "export", "puk", "rsa"]), expected);
        let note = self.workplace.ok(&[
            "--token-label",
            "puk",
            "--login",
            "--pin",
            PIN,
            "--read-object",
            "--type",
            "data",
            "--label",
            "note",
        ]);
        assert!(note.contains("kept since then"), "{note}");
        let audit = self.cardea(&["audit", "--verify"]);
        assert!(audit.contains("none changed"), "{audit}");
    }

    /// What the command line lists of a key.
    fn of_key(&self, card: &str, label: &str, member: &str) -> Value {
        let arguments = ["key", "list", card, "--json"];
        let listed = self.workplace.daemon.printed(&arguments);
        let keys: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let found = keys
            .iter()
            .find(|key| key.get("label") == Some(&label.into()));
        found.and_then(|key| key.get(member)).unwrap().clone()
    }

    fn signs(&self, card: &str, key: &str, mechanism: &str, pin: &str) {
        let id = self.of_key(card, key, "id");
        self.workplace.ok(&[
            "--token-label",
            card,
            "--login",
            "--pin",
            pin,
            "--sign",
            "--id",
            id.as_str().unwrap(),
            "--mechanism",
            mechanism,
            "--signature-format",
            "openssl",
            "--input-file",
            "message",
            "--output-file",
            "signature",
        ]);
        let public = self.kept.join(format!("{card}.{key}.pub"));
        self.workplace.does(&format!(
            "openssl dgst -sha256 -verify {} -signature signature message",
            public.display()
        ));
    }

    fn policy_holds(&self) {
        let change = [
            "pin",
            "change",
            "policy",
            "--pin-file",
            "pin",
            "--new-pin-file",
        ];
        self.refused(&[&change[..], &["letters"]].concat(), 2);
        self.cardea(&[&change[..], &["new"]].concat());
        let back = ["--pin-file", "new", "--new-pin-file", "pin"];
        self.cardea(&[&["pin", "change", "policy"][..], &back].concat());
    }

    fn changes_its_pin(&self) {
        for card in ["puk", "admin"] {
            let change = [
                "pin",
                "change",
                card,
                "--pin-file",
                "pin",
                "--new-pin-file",
                "new",
            ];
            self.cardea(&change);
            self.refused(&["pin", "verify", card, "--pin-file", "pin"], WRONG_PIN);
            self.cardea(&["pin", "verify", card, "--pin-file", "new"]);
        }
    }

    fn is_unblocked(&self, card: &str, by: &[&str]) {
        let wrong = ["pin", "verify", card, "--pin-file", "wrong"];
        for code in [WRONG_PIN, WRONG_PIN, WRONG_PIN, WRONG_PIN, BLOCKED] {
            self.refused(&wrong, code);
        }
        self.refused(&["pin", "verify", card, "--pin-file", "new"], BLOCKED);
        let unblock = ["pin", "unblock", card, "--new-pin-file", "new"];
        self.cardea(&[&unblock[..], by].concat());
        self.cardea(&["pin", "verify", card, "--pin-file", "new"]);
    }
}
