//! Samba 4.17 as domain controller, with its own Kerberos (Heimdal): an account that has no password gets in by
//! the card, through our module and through OpenSC's over PC/SC.

use cardea_testkit::process::{Outcome, Running};
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;
use cardea_testkit::workstation::{Workstation, commands, page};

const PAGE: &str = "active-directory";

/// The interfaces, and the section of the page with each one's commands.
const INTERFACES: [(Interface, &str); 2] = [
    (Interface::Pkcs11, "Sign-in"),
    (Interface::PcSc, "Sign-in through OpenSC and PC/SC"),
];

/// What `smbclient` lists of the share.
const LISTED: &str = "blocks available";

/// What `kinit` says when it cannot decrypt the reply to a right PIN, after it has asked for a password in vain.
/// One secret of 256 begins with a zero byte, of which Heimdal in Samba 4.17 makes another key than MIT's client
/// (its pull request 1177).
const SHORT_SECRET: &str = "Cannot read password while getting initial credentials";

/// Three short secrets in a row are one sign-in of sixteen million.
const SIGN_INS: usize = 3;

/// The domain of the page, its controller and the workstation in one computer.
struct Domain {
    _samba: Running,
    at: Workstation,
}

impl Domain {
    fn new() -> Self {
        let at = Workstation::new(
            &["dc1.test.local", "dc1"],
            &["/var/lib/samba", "/var/cache/samba"],
        );
        at.does("mkdir /run/samba /var/log/samba");
        at.follow("kerberos", "Certificates");
        at.wait_for_card();
        at.follow(PAGE, "A domain for a trial");
        at.follow(PAGE, "The workstation");
        at.follow(PAGE, "The domain controller");
        // As its unit starts it.
        let samba = at.start(
            "samba --foreground --no-process-group --debug-stdout",
            |_| at.has("/run/samba/winbindd/pipe"),
        );
        Self { _samba: samba, at }
    }

    fn sign_in(&self, pin: &str, script: &str) -> Outcome {
        let told = "trap '[ $? = 0 ] || grep -e PKINIT -e error.from.KDC trace' EXIT";
        let script = format!("rm -f tickets trace\n{told}\n{script}");
        self.at.types("alice", pin, &script)
    }

    fn succeeds(&self, section: &str) {
        let script = commands(PAGE, section);
        let mut outcome = self.sign_in(PIN, &script);
        for _ in 1..SIGN_INS {
            let proven = outcome.text.contains("PKINIT client verified DH reply");
            if !(proven && outcome.text.contains(SHORT_SECRET)) {
                break;
            }
            outcome = self.sign_in(PIN, &script);
        }
        let text = outcome.text;
        let complete = text.contains("krbtgt/TEST.LOCAL@TEST.LOCAL") && text.contains(LISTED);
        assert!(outcome.success && complete, "{section}: {text}");
    }

    /// No ticket, no list; the reason is on the page too.
    fn refuses(&self, pin: &str, script: &str, reason: &str) {
        let outcome = self.sign_in(pin, script);
        let text = outcome.text;
        assert!(
            !outcome.success && text.contains(reason),
            "{reason}: {text}"
        );
        assert!(page(PAGE).contains(reason), "{reason} is not on the page");
        let share =
            "smbclient --no-pass --use-kerberos=required --command=ls //dc1.test.local/sysvol";
        let outcome = self.at.types("alice", "", share);
        assert!(
            !outcome.success && !outcome.text.contains(LISTED),
            "{script}: {}",
            outcome.text
        );
    }

    /// Puts a certificate of another kind on the card.
    fn certify(&self, ca: &str) {
        self.at.does(&format!(
            "openssl x509 -req -in alice.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 1 \
             -extfile alice.ext -out other-alice.pem\n\
             cardea cert import Alice other-alice.pem --pin-file pin"
        ));
    }
}

#[test]
fn samba_lets_in_the_card_and_its_pin_where_smart_card_is_required() {
    let domain = Domain::new();
    let workplace = &domain.at.workplace;
    domain.at.does(
        "samba-tool user create bob --random-password\n\
         samba-tool user setpassword alice --newpassword=Only-a-password-1\n\
         openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=Other\n\
         cat ca.pem other.pem > both.pem\ninstall -m 644 both.pem /etc/krb5.both.pem\n\
         sed 's/krb5.ca.pem/krb5.both.pem/' /etc/krb5.conf > /etc/krb5.both.conf\n\
         sed '/pkinit_identities/d' /etc/krb5.conf > /etc/krb5.none.conf",
    );
    // The password is enough until the account is told to want a card.
    let by_password = "export KRB5_CONFIG=/etc/krb5.none.conf\nkinit alice";
    let outcome = domain.sign_in("Only-a-password-1", by_password);
    assert!(outcome.success, "{}", outcome.text);
    domain.at.follow(PAGE, "The user");
    domain.refuses("Only-a-password-1", by_password, "Password incorrect");

    for (interface, section) in INTERFACES {
        let script = commands(PAGE, section);
        domain.succeeds(section);
        domain.refuses(WRONG, &script, "Pre-authentication failed");
        assert_eq!(workplace.tries_left(), 4, "{section}");
        domain.succeeds(section);
        assert_eq!(workplace.tries_left(), 5, "{section}");

        // The certificate decides who it is.
        let other = script.replace(" alice\n", " bob\n");
        assert!(other.contains(" bob\n"), "{other}");
        domain.refuses(PIN, &other, "Client name mismatch");

        // Another authority's certificate is no use, also to a client that trusts it.
        domain.certify("other");
        let trusting = format!("export KRB5_CONFIG=/etc/krb5.both.conf\n{script}");
        domain.refuses(PIN, &trusting, "Password incorrect");
        domain.certify("ca");
        domain.succeeds(section);

        workplace.block();
        domain.refuses(PIN, &script, "PIN (Warning: PIN locked)");
        workplace.unblock();
        domain.succeeds(section);
        Use {
            page: PAGE,
            title: "Sign-in to an Active Directory domain",
            program: "Samba",
            package: "samba",
            interface,
            keys: "RSA-2048",
        }
        .shown();
    }

    workplace.cardea(&["card", "destroy", "Alice", "--yes"]);
    for (_, section) in INTERFACES {
        domain.refuses(
            PIN,
            &commands(PAGE, section),
            "Password for alice@TEST.LOCAL",
        );
    }
}
