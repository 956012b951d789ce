//! The two doors of a card, our module and pcscd with OpenSC 0.23: they show one truth, and with the rule of
//! `docs/pkcs11.md` each card once.

use std::fs;
use std::process::Command;

use cardea_terms::token_model;
use cardea_testkit::played;
use cardea_testkit::process::{self, Outcome};
use cardea_testkit::rig::{PIN, Rig};

use crate::p11_kit::{self, KIT, urls};
use cardea_testkit::workplace::module;

/// A program that reaches the card through both doors.
fn client(rig: &Rig, line: &str) -> Command {
    let mut words = line.split_ascii_whitespace();
    let mut command = rig.client(words.next().unwrap());
    command
        .args(words)
        .env("CARDEA_SOCKET", rig.daemon.socket())
        .env("LC_ALL", "C");
    command
}

fn run(rig: &Rig, line: &str) -> Outcome {
    process::run(&mut client(rig, line))
}

fn does(rig: &Rig, line: &str) -> String {
    let outcome = run(rig, line);
    assert!(outcome.success, "{line}\nfailed:\n{}", outcome.text);
    outcome.text
}

/// `pkcs11-tool` with a module, logged in.
fn tool(module: &str) -> String {
    format!("pkcs11-tool --module {module} --login --pin {PIN}")
}

/// Label and ID of each object of a kind, in order.
fn objects(rig: &Rig, module: &str, kind: &str) -> Vec<(String, String)> {
    let listed = does(
        rig,
        &format!("{} --list-objects --type {kind}", tool(module)),
    );
    let values = |name: &str| -> Vec<String> {
        listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix(name))
            .map(|value| value.trim().to_owned())
            .collect()
    };
    let mut found: Vec<_> = values("label:").into_iter().zip(values("ID:")).collect();
    found.sort();
    found
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted
        .iter()
        .map(|(label, id)| ((*label).to_owned(), (*id).to_owned()))
        .collect()
}

#[test]
fn what_is_made_through_one_door_is_there_through_the_other() {
    let rig = Rig::with_card("Alice");
    let (ours, opensc) = (&*module(), cardea_testkit::rig::opensc_module());
    keys_are_shown_by_both(&rig, ours, opensc);
    certificates_are_read_by_the_other(&rig, ours, opensc);
    curves_are_ours_alone(&rig, ours, opensc);
    both_sign(&rig, ours, opensc);
    deleted_is_gone_for_both(&rig, ours, opensc);
}

const MAKE: &str = "--keypairgen --key-type";

/// The keys that OpenSC and our module have made.
fn both_keys() -> Vec<(String, String)> {
    pairs(&[("mine", "01"), ("theirs", "00")])
}

/// OpenSC makes a key, ours the next, and both show the same.
fn keys_are_shown_by_both(rig: &Rig, ours: &str, opensc: &str) {
    does(
        rig,
        &format!("{} {MAKE} rsa:2048 --label theirs", tool(opensc)),
    );
    assert_eq!(objects(rig, ours, "privkey"), pairs(&[("theirs", "00")]));
    does(rig, &format!("{} {MAKE} rsa:2048 --label mine", tool(ours)));
    for module in [ours, opensc] {
        assert_eq!(objects(rig, module, "privkey"), both_keys(), "{module}");
    }
}

/// A certificate stored through either is there through the other, byte for byte.
fn certificates_are_read_by_the_other(rig: &Rig, ours: &str, opensc: &str) {
    for (id, label, from, to) in [("00", "theirs", opensc, ours), ("01", "mine", ours, opensc)] {
        for module in [from, to] {
            does(
                rig,
                &format!(
                    "{} --read-object --type pubkey --id {id} --output-file {id}.der",
                    tool(module)
                ),
            );
            does(
                rig,
                &format!("openssl pkey -pubin -inform DER -in {id}.der -out {id}.pub"),
            );
        }
        rig.issue_certificate(&format!("{id}.pub"), &format!("{id}.pem"), "/CN=Alice");
        let der = rig.der(&format!("{id}.pem"));
        fs::write(rig.folder().join("certificate"), &der).unwrap();
        does(
            rig,
            &format!(
                "{} --write-object certificate --type cert --id {id} --label {label}",
                tool(from)
            ),
        );
        for module in [from, to] {
            let certificates = objects(rig, module, "cert");
            let wanted = pairs(&[(label, id)]);
            assert!(
                wanted.iter().all(|wanted| certificates.contains(wanted)),
                "{module}: {certificates:?}"
            );
            does(
                rig,
                &format!(
                    "{} --read-object --type cert --id {id} --output-file back",
                    tool(module)
                ),
            );
            assert_eq!(
                fs::read(rig.folder().join("back")).unwrap(),
                der,
                "{module}"
            );
        }
    }
}

/// GIDS cards have no EC keys: OpenSC does not see ours, and works on.
fn curves_are_ours_alone(rig: &Rig, ours: &str, opensc: &str) {
    does(
        rig,
        &format!("{} {MAKE} EC:prime256v1 --label curve", tool(ours)),
    );
    assert_eq!(objects(rig, ours, "privkey").len(), 3);
    assert_eq!(objects(rig, opensc, "privkey"), both_keys());
}

fn both_sign(rig: &Rig, ours: &str, opensc: &str) {
    fs::write(rig.folder().join("message"), "signed by both").unwrap();
    for (id, key) in [("00", "theirs"), ("01", "mine")] {
        for (module, other) in [(ours, opensc), (opensc, ours)] {
            does(
                rig,
                &format!(
                    "{} --sign --id {id} --mechanism SHA256-RSA-PKCS --input-file message \
                     --output-file signature",
                    tool(module)
                ),
            );
            does(
                rig,
                &format!("openssl dgst -sha256 -verify {id}.pub -signature signature message"),
            );
            // The other's login is its own.
            let refused = run(
                rig,
                &format!(
                    "pkcs11-tool --module {other} --sign --id {id} --mechanism SHA256-RSA-PKCS \
                     --input-file message"
                ),
            );
            assert!(!refused.success, "{key}: {}", refused.text);
        }
    }
}

/// What one deletes is gone for the other.
fn deleted_is_gone_for_both(rig: &Rig, ours: &str, opensc: &str) {
    does(
        rig,
        &format!("{} --delete-object --type privkey --id 00", tool(ours)),
    );
    let left = objects(rig, ours, "privkey");
    assert!(!left.iter().any(|(_, id)| id == "00"), "{left:?}");
    // OpenSC shows the place as a key without name and use, also when it deleted the key itself.
    let left = objects(rig, opensc, "privkey");
    assert_eq!(left, pairs(&[("", "00"), ("mine", "01")]));
    let sign = "--sign --mechanism SHA256-RSA-PKCS --input-file message --id";
    does(rig, &format!("{} {sign} 01", tool(opensc)));
    for module in [ours, opensc] {
        let refused = run(rig, &format!("{} {sign} 00", tool(module)));
        assert!(!refused.success, "{module}: {}", refused.text);
    }
}

#[test]
fn wrong_pins_count_for_both_doors() {
    let rig = Rig::with_card("Alice");
    let wrong = |module: &str| {
        let line = format!("pkcs11-tool --module {module} --login --pin 000000 --list-objects");
        let refused = run(&rig, &line);
        assert!(!refused.success, "{}", refused.text);
    };
    wrong(&module());
    wrong(cardea_testkit::rig::opensc_module());
    assert_eq!(rig.tries_left(), 3);
    while rig.tries_left() > 0 {
        wrong(&module());
    }
    for module in [&*module(), cardea_testkit::rig::opensc_module()] {
        let slots = does(&rig, &format!("pkcs11-tool --module {module} --list-slots"));
        assert!(slots.contains("user PIN locked"), "{slots}");
    }
}

/// The commands of the first block of code in a section of a page.
fn commands(page: &str, section: &str) -> String {
    let text =
        fs::read_to_string(format!("{}/../../docs/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, section) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn each_card_is_shown_once_when_opensc_ignores_our_readers() {
    let mut rig = Rig::with_card("Alice");
    rig.create("Bob", &[]);
    p11_kit::configure(rig.folder());
    fs::write(
        rig.folder().join("modules/opensc-pkcs11.module"),
        format!("module: {}\n", cardea_testkit::rig::opensc_module()),
    )
    .unwrap();
    let tokens = |program: &str| does(&rig, &format!("{KIT} {program} --list-tokens"));
    let models = |text: &str, model: &str| {
        urls(text)
            .iter()
            .filter(|url| url.contains(&format!("model={model};")))
            .count()
    };
    let our_model = token_model(Some(played::counter_mode())).replace(' ', "%20");
    let both = tokens("p11tool");
    assert_eq!(models(&both, &our_model), 2, "{both}");
    assert_eq!(models(&both, "PKCS%2315%20emulated"), 2, "{both}");

    let rule = commands("pkcs11.md", "OpenSC's module beside ours");
    assert!(rule.contains("/etc/opensc/opensc.conf"), "{rule}");
    fs::write(rig.folder().join("rule"), rule).unwrap();
    does(&rig, &format!("{KIT} sh -e rule"));
    let once = tokens("p11tool");
    assert_eq!(urls(&once).len(), 2, "{once}");
    assert_eq!(models(&once, &our_model), 2, "{once}");

    // Both of OpenSC's modules, but none of its tools.
    let onepin =
        cardea_testkit::rig::opensc_module().replace("opensc-pkcs11", "onepin-opensc-pkcs11");
    for module in [cardea_testkit::rig::opensc_module(), &onepin] {
        let line = format!("{KIT} pkcs11-tool --module {module} --list-slots");
        let slots = run(&rig, &line);
        assert!(slots.text.contains("No slots"), "{}", slots.text);
        let slots = does(&rig, line.strip_prefix(KIT).unwrap());
        assert!(slots.contains("Cardea Virtual Smart Card"), "{slots}");
    }
    let readers = does(&rig, &format!("{KIT} opensc-tool --list-readers"));
    assert!(
        readers.contains("Cardea Virtual Smart Card 00 00"),
        "{readers}"
    );
    does(
        &rig,
        &format!("{KIT} pkcs15-tool --reader 0 --verify-pin --pin {PIN}"),
    );
}
