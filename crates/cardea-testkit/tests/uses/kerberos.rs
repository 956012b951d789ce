//! MIT Kerberos 1.20: a ticket for the card, through our module and through OpenSC's over PC/SC.

use std::fs;
use std::path::Path;

use cardea_testkit::process::{Outcome, Running};
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;
use cardea_testkit::workstation::{Workstation, commands, page};

const PAGE: &str = "kerberos";

/// The interfaces, and the section of the page with each one's commands.
const INTERFACES: [(Interface, &str); 2] = [
    (Interface::Pkcs11, "Sign-in"),
    (Interface::PcSc, "Sign-in through OpenSC and PC/SC"),
];

/// The realm of the page, all on one computer.
struct Realm {
    kdc: Running,
    at: Workstation,
}

impl Realm {
    fn new() -> Self {
        let at = Workstation::new(&["kdc.test.local"], &["/var/lib/krb5kdc"]);
        for section in ["Certificates", "The workstation", "The KDC"] {
            at.follow(PAGE, section);
        }
        at.wait_for_card();
        let kdc = start_kdc(&at);
        Self { kdc, at }
    }

    /// The KDC gets a certificate of another authority.
    fn pretend(&mut self) {
        self.at.does(
            "openssl x509 -req -in kdc.csr -CA other.pem -CAkey other.key -CAcreateserial -extfile kdc.ext \
             -out /etc/krb5kdc/kdc.pem\n\
             cp both.pem /etc/krb5kdc/ca.pem",
        );
        self.kdc.kill();
        self.kdc = start_kdc(&self.at);
    }

    /// Somebody follows a section of the page, typing this PIN; with the client's trace where it fails.
    fn sign_in(&self, user: &str, pin: &str, script: &str) -> Outcome {
        let script =
            format!("rm -f trace tickets\ntrap '[ $? = 0 ] || grep PKINIT trace' EXIT\n{script}");
        self.at.types(user, pin, &script)
    }

    fn succeeds(&self, section: &str) -> String {
        let outcome = self.sign_in("alice", PIN, &commands(PAGE, section));
        let text = outcome.text;
        assert!(outcome.success, "{section}: {text}");
        for expected in [
            "krbtgt/TEST.LOCAL@TEST.LOCAL",
            "host/kdc.test.local@TEST.LOCAL: kvno = 1",
        ] {
            assert!(text.contains(expected), "{section}: {text}");
        }
        text
    }

    /// No ticket; all of this is told, the first part to the person and on the page.
    fn refuses(&self, who: (&str, &str), section: &str, reasons: &[&str]) -> String {
        self.refuses_script(who, &commands(PAGE, section), reasons)
    }

    fn refuses_script(&self, (user, pin): (&str, &str), script: &str, reasons: &[&str]) -> String {
        let outcome = self.sign_in(user, pin, script);
        let text = outcome.text;
        assert!(!outcome.success, "{script}\n{text}");
        for reason in reasons {
            assert!(
                text.contains(reason),
                "{script}: {reason} is not in\n{text}"
            );
        }
        let told = reasons.first().unwrap();
        assert!(page(PAGE).contains(told), "{told} is not on the page");
        let ticket = self.at.types(user, "", "klist -s -c tickets");
        assert!(!ticket.success, "{script}");
        text
    }

    /// Puts a certificate of another kind on the card: by this CA, valid for so many days.
    fn certify(&self, ca: &str, days: &str) {
        self.at.does(&format!(
            "openssl x509 -req -in alice.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days {days} \
             -extfile alice.ext -out other-alice.pem\n\
             cardea cert import Alice other-alice.pem --pin-file pin"
        ));
    }
}

fn start_kdc(at: &Workstation) -> Running {
    let log = at.workplace.path("krb5kdc.log");
    drop(fs::remove_file(&log));
    at.start("krb5kdc -n", |kdc| kdc.log().contains("starting..."))
}

const FAILED: &str = "Pre-authentication failed";

#[test]
fn kinit_gets_a_ticket_by_the_card_and_its_pin_alone() {
    let mut realm = Realm::new();
    realm.at.does(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=Other\n\
         cat ca.pem other.pem > both.pem\ninstall -m 644 both.pem /etc/krb5.both.pem\n\
         sed 's/krb5.ca.pem/krb5.both.pem/' /etc/krb5.conf > /etc/krb5.both.conf",
    );
    for (interface, section) in INTERFACES {
        realm.succeeds(section);

        // A wrong PIN costs one try, which the prompt then tells.
        realm.refuses(
            ("alice", WRONG),
            section,
            &[FAILED, "C_Login failed: pin incorrect"],
        );
        assert_eq!(realm.at.workplace.tries_left(), 4, "{section}");
        let text = realm.succeeds(section);
        assert!(text.contains("PIN (Warning: PIN count low)"), "{text}");
        assert_eq!(realm.at.workplace.tries_left(), 5, "{section}");
        let text = realm.succeeds(section);
        assert!(!text.contains("Warning"), "{text}");

        // The card is Alice's: no ticket for another principal.
        let script = commands(PAGE, section).replace(" alice\n", " bob\n");
        assert!(script.contains(" bob\n"), "{script}");
        realm.refuses_script(("alice", PIN), &script, &["Client name mismatch"]);

        // An expired certificate is told before anything is sent.
        realm.certify("ca", "-1");
        realm.refuses(("alice", PIN), section, &["certificate has expired"]);
        // A certificate of another authority is no use, also to a client that trusts it.
        realm.certify("other", "1");
        realm.refuses(
            ("alice", PIN),
            section,
            &["Failed to verify own certificate"],
        );
        let trusting = format!(
            "export KRB5_CONFIG=/etc/krb5.both.conf\n{}",
            commands(PAGE, section)
        );
        realm.refuses_script(("alice", PIN), &trusting, &["Can't verify certificate"]);
        realm.certify("ca", "1");
        realm.succeeds(section);
        Use {
            page: PAGE,
            title: "Sign-in to a Kerberos realm",
            program: "MIT Kerberos",
            package: "krb5-user",
            interface,
            keys: "RSA-2048",
        }
        .shown();
    }

    // A KDC of another authority gets no ticket accepted.
    realm.pretend();
    let reasons = [
        "Password for alice@TEST.LOCAL",
        "PKINIT client could not verify DH reply",
    ];
    for (_, section) in INTERFACES {
        realm.refuses(("alice", PIN), section, &reasons);
    }
}

/// A certificate from the network, for whoever has the password, and the next one for whoever has the card.
#[test]
fn kinit_takes_a_certificate_from_an_enrolment_and_from_its_renewal() {
    let realm = Realm::new();
    let (_, section) = INTERFACES[0];
    realm.at.does(
        "mkdir est\ncp ca.pem ca.key est\n\
         openssl req -new -newkey rsa:2048 -nodes -keyout est/server.key -out est.csr -subj /CN=localhost\n\
         echo subjectAltName=DNS:localhost > est.ext\n\
         openssl x509 -req -in est.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile est.ext \
         -out est/server.pem\n\
         echo sesame > password",
    );
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/est_server.py");
    let log = realm.at.workplace.path("est/log");
    let sid = "sid=S-1-5-21-1-2-3-1104";
    let folder = realm.at.workplace.text("est");
    let _server = realm.at.start(
        &format!(
            "python3 -W ignore {} {folder} 8443 {sid}",
            program.display()
        ),
        |_| log.exists(),
    );
    let state = format!("export XDG_STATE_HOME={}", realm.at.workplace.text("state"));
    realm.at.does(&format!(
        "{state}\ncardea cert enrol Alice --est https://localhost:8443 --trust ca.pem --key logon \
         --subject CN=Alice --san pkinit:alice@TEST.LOCAL --san upn:alice@TEST.LOCAL --eku clientAuth \
         --eku pkinitClientAuth --eku smartcardLogon --key-usage digitalSignature --key-usage keyEncipherment \
         --user ada --password-file password --pin-file pin"
    ));
    realm.succeeds(section);
    let listed = |what: &str| {
        let listed = realm.at.does("cardea cert list Alice --json");
        assert!(listed.contains(what), "{listed}");
        listed
    };
    let first = listed("S-1-5-21-1-2-3-1104");
    realm.at.does(&format!(
        "{state}\ncardea cert renew Alice logon --same-key --now --pin-file pin"
    ));
    assert_ne!(listed("pkinit:alice@TEST.LOCAL"), first);
    realm.succeeds(section);
}

#[test]
fn kinit_tells_the_last_tries_and_needs_a_card_that_is_not_blocked() {
    let realm = Realm::new();
    let workplace = &realm.at.workplace;
    // The interfaces in turn: what one has spent, the other tells.
    let sections = INTERFACES.map(|(_, section)| section);
    let warnings = ["", "count low", "count low", "count low", "final try"];
    for (section, (warning, left)) in sections
        .iter()
        .cycle()
        .zip(warnings.iter().zip((0..5).rev()))
    {
        let text = realm.refuses(("alice", WRONG), section, &[FAILED]);
        let told = text.contains(&format!("PIN (Warning: PIN {warning})"));
        assert_eq!(told, !warning.is_empty(), "{left}: {text}");
        assert_eq!(workplace.tries_left(), left, "{section}");
    }
    for section in sections {
        realm.refuses(
            ("alice", PIN),
            section,
            &[FAILED, "PIN (Warning: PIN locked)"],
        );
    }
    realm.at.follow(PAGE, "When the PIN is blocked");
    assert_eq!(workplace.tries_left(), 5);
    for section in sections {
        realm.succeeds(section);
    }

    // Another account of the computer does not see her card.
    realm.refuses(("bob", PIN), sections[0], &[FAILED]);
    assert_eq!(workplace.tries_left(), 5);
    // Nor is there anything without it.
    workplace.cardea(&["card", "destroy", "Alice", "--yes"]);
    for section in sections {
        realm.refuses(("alice", PIN), section, &[FAILED]);
    }
}
