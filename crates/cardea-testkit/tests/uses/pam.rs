//! libpam-pkcs11 0.6: let in by the card, through our module and through OpenSC's over PC/SC.

use cardea_testkit::process::Outcome;
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;
use cardea_testkit::workstation::{Workstation, commands, page};

const PAGE: &str = "pam";

/// `pamtester` as in the page, for this account.
fn trial(at: &Workstation, account: &str, pin: &str) -> Outcome {
    let section = commands(PAGE, "Try it");
    let line = section
        .lines()
        .last()
        .unwrap()
        .replace(" alice ", &format!(" {account} "));
    assert!(line.starts_with("pamtester"), "{line}");
    at.types("root", pin, &line)
}

/// What must not be let in; the reason is on the page too.
fn refused(outcome: Outcome, reason: &str) {
    let text = outcome.text;
    assert!(
        !outcome.success && text.contains(reason),
        "{reason}: {text}"
    );
    assert!(page(PAGE).contains(reason), "{reason} is not on the page");
}

/// Puts a certificate of another kind on the card: by this CA, valid for so many days.
fn certify(at: &Workstation, ca: &str, days: &str) {
    at.does(&format!(
        "openssl x509 -req -in alice.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days {days} \
         -extfile alice.ext -out other-alice.pem\n\
         cardea cert import Alice other-alice.pem --pin-file pin"
    ));
}

#[test]
fn pam_lets_in_who_has_the_card_and_knows_its_pin() {
    let at = Workstation::new(&[], &[]);
    let trying = commands(PAGE, "Try it");
    // A P-256 key does as well; OpenSC shows only the RSA keys of a GIDS card.
    at.does(&commands("kerberos", "Certificates").replace("rsa-2048", "p-256"));
    at.follow(PAGE, "Set up");
    let entered = at.types("root", PIN, &trying);
    assert!(entered.success, "{}", entered.text);
    refused(
        trial(&at, "alice", WRONG),
        "Error 2320: Wrong smartcard PIN",
    );
    at.workplace.cardea(&["card", "destroy", "Alice", "--yes"]);

    at.follow("kerberos", "Certificates");
    at.wait_for_card();
    at.does("openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=Other");
    at.follow(PAGE, "Set up");
    at.follow(PAGE, "Use it");

    for (interface, keys) in [
        (Interface::Pkcs11, "RSA-2048, P-256"),
        (Interface::PcSc, "RSA-2048"),
    ] {
        if interface == Interface::PcSc {
            at.follow(PAGE, "Through OpenSC and PC/SC");
        }
        let enters = || {
            let outcome = trial(&at, "alice", PIN);
            let text = outcome.text;
            assert!(
                outcome.success && text.contains("successfully authenticated"),
                "{text}"
            );
        };
        enters();

        // A real program, started by somebody else.
        let su = "su alice -c 'id --user --name'";
        let became = at.types("bob", PIN, su);
        assert!(
            became.success && became.text.contains("\nalice\n"),
            "{}",
            became.text
        );
        let stayed = at.types("bob", WRONG, su);
        assert!(
            !stayed.success && !stayed.text.contains("\nalice\n"),
            "{}",
            stayed.text
        );
        assert_eq!(at.workplace.tries_left(), 4);

        refused(
            trial(&at, "alice", WRONG),
            "Error 2320: Wrong smartcard PIN",
        );
        assert_eq!(at.workplace.tries_left(), 3);
        enters();
        assert_eq!(at.workplace.tries_left(), 5);

        // Her card is not his.
        refused(
            trial(&at, "bob", PIN),
            "Error 2336: No matching certificate found",
        );
        for (ca, days, reason) in [
            ("other", "1", "Error 2328: Certificate signature invalid"),
            ("ca", "-1", "Error 2324: Certificate has expired"),
        ] {
            certify(&at, ca, days);
            refused(trial(&at, "alice", PIN), reason);
        }
        certify(&at, "ca", "1");
        enters();

        at.workplace.block();
        refused(trial(&at, "alice", PIN), "Error 2320: Wrong smartcard PIN");
        at.follow("kerberos", "When the PIN is blocked");
        enters();
        Use {
            page: PAGE,
            title: "Sign-in to the computer with PAM",
            program: "pam_pkcs11",
            package: "libpam-pkcs11",
            interface,
            keys,
        }
        .shown();
    }

    at.workplace.cardea(&["card", "destroy", "Alice", "--yes"]);
    for _ in 0..2 {
        refused(trial(&at, "alice", PIN), "Error 2308: No smart card found");
        at.follow(PAGE, "Set up");
    }
}

#[test]
fn pam_finds_each_persons_card_among_several() {
    let at = Workstation::new(&[], &[]);
    // The first card in the computer is another's.
    let pin = at.workplace.text("pin");
    let create = [
        "card",
        "create",
        "--name",
        "Bob",
        "--owner",
        "0",
        "--pin-file",
        &pin,
    ];
    at.workplace.cardea(&create);
    at.follow("kerberos", "Certificates");
    at.follow(PAGE, "Set up");
    let first = at.types("root", PIN, &commands(PAGE, "Try it"));
    assert!(!first.success, "{}", first.text);
    at.follow(PAGE, "Cards of several people");
    let outcome = trial(&at, "alice", PIN);
    assert!(outcome.success, "{}", outcome.text);
    for (account, pin) in [("alice", WRONG), ("bob", PIN)] {
        let outcome = trial(&at, account, pin);
        assert!(!outcome.success, "{account}: {}", outcome.text);
    }
    assert_eq!(at.workplace.tries_left(), 4);
}
