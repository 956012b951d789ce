//! Recoverable keys: the machine is lost, and its card's file and a recovery key bring them back on another one.

mod elsewhere;

use std::fs;

use cardea_testkit::rig::PIN;
use cardea_testkit::workplace::{MESSAGE, Workplace};
use serde_json::Value;

/// Exit codes.
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 7;

#[test]
fn lost_machines_recoverable_keys_come_back_and_the_others_are_listed_with_their_certificates() {
    let (kept, public) = lost_machine();
    let there = Workplace::new();
    kept.put_into(&there);
    let restored = there.cardea(&words(&restore(&there, "escrow.key")));
    assert!(
        restored.contains("key 82 \"logon\" is lost: it is not recoverable")
            && restored.contains("of CN=logon revoked"),
        "{restored}"
    );
    let keys = keys(&there);
    let member = |name: &str| keys.iter().map(|key| key[name].clone()).collect::<Vec<_>>();
    assert_eq!(member("label"), ["mail", "chat"]);
    assert_eq!(member("reference"), ["81", "9E"]);
    assert_eq!(member("origin"), ["imported", "imported"]);
    assert_eq!(keys[0]["certificate"]["subject"], "CN=mail");
    for (name, expected) in [("mail", &public[0]), ("chat", &public[1])] {
        let exported = fs::read_to_string(there.public(name)).unwrap();
        assert_eq!(&exported, expected, "{name}");
    }
    fs::write(there.path("cryptogram"), &kept.cryptogram).unwrap();
    use_key(
        &there,
        &["--decrypt", "--mechanism", "RSA-PKCS", "--id", "00"],
        ["cryptogram", "plain"],
    );
    assert_eq!(
        fs::read_to_string(there.path("plain")).unwrap(),
        MESSAGE,
        "what was encrypted before the loss"
    );
    let sign = ["--sign", "--mechanism", "ECDSA-SHA256", "--id", "1D"];
    let format = ["--signature-format", "openssl"];
    use_key(
        &there,
        &[&sign[..], &format].concat(),
        ["message", "signature"],
    );
    there.check("chat", "-sha256", "signature");
}

#[test]
fn restore_makes_no_card_when_it_has_nothing_to_put_on_it() {
    let (kept, _) = lost_machine();
    let there = Workplace::new();
    kept.put_into(&there);
    escrow(&there, "other", "prime256v1");
    there.does("openssl genpkey -quiet -algorithm RSA -out rsa.key");
    fs::write(there.path("cut.card"), &kept.card[..kept.card.len() / 2]).unwrap();
    let refused = |arguments: &[String], code: i32, why: &str| {
        let outcome = there.daemon.cardea(&words(arguments));
        assert_eq!(outcome.code, Some(code), "{}", outcome.text);
        assert!(outcome.text.contains(why), "{}", outcome.text);
    };
    let by_other = restore(&there, "other.key");
    refused(
        &by_other,
        NOT_FOUND,
        "recoverable by other keys than this one",
    );
    refused(&by_other, NOT_FOUND, "no card created");
    refused(
        &restore(&there, "rsa.key"),
        USAGE,
        "a recovery key is on P-256",
    );
    let mut cut = restore(&there, "escrow.key");
    cut[2] = there.text("cut.card");
    refused(&cut, USAGE, "the card file is truncated");
    let mut blank = restore(&there, "escrow.key");
    blank.push("--blank".to_owned());
    refused(&blank, USAGE, "leave out --uninitialised and --blank");
    assert!(!there.cardea(&["card", "list", "--json"]).contains("Alice"));
}

#[test]
fn recoverable_key_says_so_everywhere_and_bad_recovery_keys_are_refused() {
    let here = Workplace::new();
    here.create("Alice");
    escrow(&here, "escrow", "prime256v1");
    escrow(&here, "large", "secp384r1");
    let generate = [
        "key",
        "generate",
        "Alice",
        "--label",
        "mail",
        "--algorithm",
        "p-256",
    ];
    let generate = |by: &[&str]| {
        let pin = here.text("pin");
        let mut arguments = Vec::from(generate.map(str::to_owned));
        arguments.extend(["--pin-file".to_owned(), pin]);
        for name in by {
            arguments.extend(["--recoverable-by".to_owned(), here.text(name)]);
        }
        here.daemon.cardea(&words(&arguments))
    };
    let cases: [(&[&str], &str); 4] = [
        (&["large.pem"], "must be on P-256"),
        (&["escrow.pem", "escrow.pem"], "the same recovery key"),
        (&["escrow.key"], "no certificate in the file"),
        (&["escrow.pem"; 8], "7 others at most"),
    ];
    for (by, why) in cases {
        let refused = generate(by);
        assert_eq!(refused.code, Some(USAGE), "{}", refused.text);
        assert!(refused.text.contains(why), "{}", refused.text);
    }
    // A key of another card in the same TPM is of little use.
    here.create("Spare");
    let spare = ["Spare", "--label", "spare", "--algorithm", "p-256"];
    here.with_pin(&[&["key", "generate"][..], &spare].concat());
    let sign = ["cert", "self-sign", "Spare", "--key", "spare"];
    here.with_pin(&[&sign[..], &["--subject", "CN=spare", "--days", "2"]].concat());
    let file = here.text("spare.pem");
    here.cardea(&["cert", "export", "Spare", "spare", "--out", &file]);
    let warned = generate(&["spare.pem"]);
    assert!(warned.success, "{}", warned.text);
    let warning = "of card Spare, which is lost with this computer as well";
    assert!(warned.text.contains(warning), "{}", warned.text);
    here.delete("mail");

    let made = generate(&["escrow.pem"]);
    assert!(made.success, "{}", made.text);
    assert!(!made.text.contains("warning"), "{}", made.text);
    assert!(
        made.text.contains("recoverable by CN=escrow") && made.text.contains("without the PIN"),
        "{}",
        made.text
    );
    let key = &keys(&here)[0];
    assert_eq!(key["origin"], "generated");
    assert_eq!(key["recoverable_by"][0]["subject"], "CN=escrow");
    for arguments in [["key", "list", "Alice"], ["card", "show", "Alice"]] {
        let shown = here.cardea(&arguments);
        assert!(shown.contains("recoverable by CN=escrow"), "{shown}");
    }
    let seen = here.ok(&[
        "--login",
        "--pin",
        PIN,
        "--list-objects",
        "--type",
        "privkey",
    ]);
    assert!(
        seen.contains("sensitive") && !seen.contains("never extractable"),
        "{seen}"
    );
}

/// What is kept elsewhere when a machine is lost.
struct Kept {
    card: Vec<u8>,
    escrow: Vec<u8>,
    cryptogram: Vec<u8>,
}

impl Kept {
    fn put_into(&self, workplace: &Workplace) {
        fs::write(workplace.path("alice.card"), &self.card).unwrap();
        fs::write(workplace.path("escrow.key"), &self.escrow).unwrap();
    }
}

/// A card with the recoverable keys `mail` (RSA) and `chat`, and an ordinary one, `logon`. Its machine, TPM and state,
/// is gone when this returns. Public keys of the first two.
fn lost_machine() -> (Kept, [String; 2]) {
    let here = Workplace::new();
    here.create("Alice");
    escrow(&here, "escrow", "prime256v1");
    escrow(&here, "second", "prime256v1");
    let recoverable = |label: &str, algorithm: &str, by: &[&str]| {
        let by: Vec<String> = by.iter().map(|name| here.text(name)).collect();
        let mut arguments = vec!["key", "generate", "Alice", "--label", label];
        arguments.extend(["--algorithm", algorithm]);
        for name in &by {
            arguments.extend(["--recoverable-by", name]);
        }
        here.with_pin(&arguments);
    };
    recoverable("mail", "rsa-2048", &["escrow.pem"]);
    here.generate("logon", "rsa-2048");
    recoverable("chat", "p-256", &["second.pem", "escrow.pem"]);
    for key in ["mail", "logon"] {
        here.certify(key);
    }
    here.does("openssl pkeyutl -encrypt -certin -inkey mail.pem -in message -out cryptogram");
    let public = ["mail", "chat"].map(|key| fs::read_to_string(here.public(key)).unwrap());
    let cards = fs::read_dir(here.path("daemon/state/cards")).unwrap();
    let mut files = cards.map(|entry| entry.unwrap().path());
    let card = files.find(|path| path.extension().is_some_and(|it| it == "card"));
    let kept = Kept {
        card: fs::read(card.unwrap()).unwrap(),
        escrow: fs::read(here.path("escrow.key")).unwrap(),
        cryptogram: fs::read(here.path("cryptogram")).unwrap(),
    };
    assert_eq!(kept.card.get(8..10), Some(&[0, 2][..]), "format 2");
    (kept, public)
}

/// A key on a curve in `NAME.key`, and its certificate in `NAME.pem`.
fn escrow(workplace: &Workplace, name: &str, curve: &str) {
    workplace.does(&format!(
        "openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out {name}.key"
    ));
    workplace.does(&format!(
        "openssl req -x509 -key {name}.key -subj /CN={name} -days 30 -out {name}.pem"
    ));
}

/// The arguments that bring the card back with a key.
fn restore(workplace: &Workplace, with: &str) -> Vec<String> {
    let restore = ["card", "restore"].map(str::to_owned);
    let files = [
        ("", "alice.card"),
        ("--with", with),
        ("--pin-file", "pin"),
        ("--puk-file", "puk"),
    ];
    let files = files
        .into_iter()
        .flat_map(|(option, file)| [option.to_owned(), workplace.text(file)]);
    let name = ["--name", "Alice"].map(str::to_owned);
    let all = restore.into_iter().chain(files).chain(name);
    all.filter(|word| !word.is_empty()).collect()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn keys(workplace: &Workplace) -> Vec<Value> {
    let printed = workplace
        .daemon
        .printed(&["key", "list", "Alice", "--json"]);
    serde_json::from_str(&printed).unwrap()
}

/// An operation of `pkcs11-tool`, from one file to another.
fn use_key(workplace: &Workplace, operation: &[&str], [from, to]: [&str; 2]) {
    let login = ["--login", "--pin", PIN];
    let files = ["--input-file", from, "--output-file", to];
    workplace.ok(&[&login, operation, &files].concat());
}
