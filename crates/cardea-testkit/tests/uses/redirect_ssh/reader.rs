//! A redirected card in the card reader of the other machine, where its administrator has allowed that.

use std::fs;
use std::process::Command;

use cardea_testkit::pcscd::Pcscd;
use cardea_testkit::process::{Outcome, run, wait_for};
use cardea_testkit::redirection::Redirection;
use cardea_testkit::rig::{PIN, bin_dir, opensc_module};
use cardea_testkit::uses::{Interface, Use};

use super::{end, gone};

/// pcscd there, and its clients.
struct Reader<'a> {
    machines: &'a Redirection,
    pcscd: Pcscd,
}

impl<'a> Reader<'a> {
    fn start(machines: &'a Redirection) -> Self {
        let library = bin_dir().join("libifdcardea.so").display().to_string();
        let entry = machines
            .there
            .cardea(&["reader-conf", "--library", &library]);
        Self {
            machines,
            pcscd: Pcscd::start(&machines.there.path(""), &entry),
        }
    }

    fn client(&self, program: &str) -> Command {
        let mut command = self.machines.there.client(program);
        command.env("PCSCLITE_CSOCK_NAME", self.pcscd.socket());
        command
    }

    fn run(&self, line: &str) -> Outcome {
        run(&mut self.client(line))
    }

    fn has_card(&self) -> bool {
        self.run("opensc-tool --reader 0 --atr").success
    }

    /// OpenSC's module, which asks the reader's PIN pad.
    fn sign(&self) -> Outcome {
        let configuration = self.machines.there.path("opensc.conf");
        let text = "app default {\n  reader_driver pcsc { enable_pinpad = true; }\n}\n";
        fs::write(&configuration, text).unwrap();
        drop(fs::remove_file(self.machines.there.path("rsa.sig")));
        let mut command = self.client("pkcs11-tool --module");
        command
            .arg(opensc_module())
            .args(["--login", "--sign", "--mechanism", "SHA256-RSA-PKCS"])
            .args(["-i", "message", "-o", "rsa.sig"])
            .env("OPENSC_CONF", configuration);
        run(&mut command)
    }
}

#[test]
fn card_is_in_the_reader_there_where_that_is_allowed() {
    let machines = Redirection::new("redirect_to_reader = true\nslots = 2\n");
    let reader = Reader::start(&machines);
    assert!(!reader.has_card());

    // Not if the person here does not want it.
    let redirect = machines.start(&["--no-reader"]);
    assert!(
        !redirect.log().contains("its card reader"),
        "{}",
        redirect.log()
    );
    assert!(machines.sign("rsa").success);
    assert!(!reader.has_card());
    end(redirect);
    gone(&machines);

    let redirect = machines.start(&[]);
    assert!(
        redirect
            .log()
            .contains("its card reader shows them to all its users"),
        "{}",
        redirect.log()
    );
    wait_for("the card is in the reader", || reader.has_card());
    let name = reader.run("opensc-tool --reader 0 --name");
    assert!(name.text.contains("GIDS"), "{}", name.text);
    let signed = reader.sign();
    assert!(signed.success, "{}", signed.text);
    machines.check("rsa");
    let asked = machines.person().asked();
    assert!(asked.contains(", for dev1, asks for the PIN"), "{asked}");

    // A PIN in a command stays there, right or wrong: refused, and no try is spent.
    for pin in ["32:37:31:38:32:38", "30:30:30:30:30:30"] {
        let sent = reader.run(&format!(
            "opensc-tool --reader 0 -s 00:A4:04:00:0B:A0:00:00:03:97:42:54:46:59:02:01:00 -s 00:20:00:80:06:{pin}"
        ));
        assert!(sent.text.contains("SW1=0x69, SW2=0x82"), "{}", sent.text);
    }
    // Nor are changes made by it.
    let changed =
        reader.run("opensc-tool --reader 0 -s 00:E4:00:00 -s 00:87:00:00:04:7C:02:81:00:00");
    assert_eq!(
        changed.text.matches("SW1=0x69, SW2=0x82").count(),
        2,
        "{}",
        changed.text
    );
    assert_eq!(machines.here.tries_left(), 5);

    // Who says no is no PIN; who types a wrong one has spent it.
    machines.person().types("");
    let refused = reader.sign();
    assert!(!refused.success, "{}", refused.text);
    assert_eq!(machines.here.tries_left(), 5);
    machines.person().types("000000");
    let refused = reader.sign();
    assert!(!refused.success, "{}", refused.text);
    assert_eq!(machines.here.tries_left(), 4);
    machines.person().types(PIN);
    assert!(reader.sign().success);
    machines.check("rsa");

    end(redirect);
    wait_for("the reader is empty", || !reader.has_card());
    // The card here goes on.
    machines
        .here
        .ok(&["--login", "--pin", PIN, "--list-objects"]);
    Use {
        page: "redirect-ssh",
        title: "Redirection over SSH into the reader",
        program: "OpenSC",
        package: "opensc",
        interface: Interface::PcSc,
        keys: "RSA-2048",
    }
    .shown();
}

#[test]
fn each_use_by_the_reader_can_be_asked_for_and_by_default_there_is_none() {
    let mut machines = Redirection::new("");
    let reader = Reader::start(&machines);
    let redirect = machines.start(&[]);
    assert!(machines.sign("rsa").success);
    assert!(!reader.has_card());
    let listed = machines.there.cardea(&["card", "list"]);
    assert!(listed.contains("no reader"), "{listed}");
    end(redirect);
    gone(&machines);
    drop(reader);

    machines
        .there
        .daemon
        .configure("redirect_to_reader = true\n");
    let reader = Reader::start(&machines);
    let redirect = machines.start(&["--consent"]);
    wait_for("the card is in the reader", || reader.has_card());
    machines.person().consents(false);
    let refused = reader.sign();
    assert!(!refused.success, "{}", refused.text);
    let asked = machines.person().asked();
    let questions = asked
        .matches("sign or decrypt through its card reader")
        .count();
    assert_eq!(
        questions, 1,
        "OpenSC tries more than once, the person is asked once"
    );
    machines.person().consents(true);
    // What was just refused stays so for a moment; this is something else.
    for workplace in [&machines.here, &machines.there] {
        fs::write(workplace.path("message"), "a later message").unwrap();
    }
    let signed = reader.sign();
    assert!(signed.success, "{}", signed.text);
    machines.check("rsa");
    end(redirect);
}
