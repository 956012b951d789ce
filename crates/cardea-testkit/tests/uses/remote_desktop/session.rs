//! Programs of a remote session: a pcscd of its own there, whose one reader is vsmartcard's, and in it the card
//! that the client redirects.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{Outcome, Running, run, wait_for};
use cardea_testkit::rdp::Relay;
use cardea_testkit::rig::{PIN, Rig, opensc_module};
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::PUK;

use super::{ENDED, Place, on_page};

#[test]
fn programs_of_the_remote_session_use_the_card() {
    let mut rig = Rig::new();
    rig.administered("Alice", Some(PUK));
    let place = Place::new(rig);
    let (mut client, mut session) = place.open();
    let remote = Remote::new(&place.rig);
    let none = remote.run("opensc-tool --reader 0 --atr");
    assert!(!none.success, "{}", none.text);
    session.started();
    let relay = Relay::start(&remote.namespace, session, &Place::reader(0));
    wait_for("the card in the remote reader", || {
        remote.run("opensc-tool --reader 0 --atr").success
    });
    let listed = remote.does(on_page("opensc-tool --list-readers"));
    assert!(
        listed.contains("Yes") && listed.contains("Virtual PCD"),
        "{listed}"
    );
    let name = remote.does(on_page("opensc-tool --reader 0 --name"));
    assert!(name.contains("GIDS"), "{name}");

    programs_take_turns(&place.rig, &remote);
    wrong_pin_costs_one_try(&place.rig, &remote);
    card_is_used_there(&place.rig, &remote);
    blocked_card_is_unblocked_there(&place.rig, &remote);

    // Destroyed at home, it leaves the remote reader.
    let card = place.rig.card_id();
    let destroyed = place
        .rig
        .daemon
        .cardea(&["card", "destroy", &card, "--yes"]);
    assert!(destroyed.success, "{}", destroyed.text);
    wait_for("the removal from the remote reader", || {
        !remote.run("opensc-tool --reader 0 --name").success
    });
    relay.stop().end();
    assert_eq!(client.wait().code(), ENDED, "{}", client.log());

    for (program, keys) in [("opensc-tool", "none is used"), ("pkcs11-tool", "RSA-2048")] {
        Use {
            page: "remote-desktop",
            title: "Remote desktop: programs of the session, over xfreerdp",
            program,
            package: "opensc",
            interface: Interface::PcSc,
            keys,
        }
        .shown();
    }
}

const SIGN: &str = "--sign --id 00 --mechanism SHA256-RSA-PKCS --input-file message \
                    --output-file signature";
const VERIFY: &str = "openssl dgst -sha256 -verify remote.der -keyform DER -signature signature";

/// `pkcs11-tool` with OpenSC's module, up to the PIN.
fn login() -> String {
    format!("pkcs11-tool --module {} --login --pin", opensc_module())
}

/// Programs in the session and at home take turns.
fn programs_take_turns(rig: &Rig, remote: &Remote) {
    let commands = " --send-apdu 00CBA010045C02DF2200".repeat(50);
    let many = format!("opensc-tool --reader 0{commands}");
    let words: Vec<&str> = many.split(' ').skip(1).collect();
    std::thread::scope(|scope| {
        let far = scope.spawn(|| remote.does(&many));
        for _ in 0..3 {
            rig.ok("opensc-tool", &words);
        }
        let answers = far.join().unwrap();
        assert_eq!(answers.matches("SW1=0x90").count(), 50, "{answers}");
    });
}

/// Here as there.
fn wrong_pin_costs_one_try(rig: &Rig, remote: &Remote) {
    let login = login();
    let wrong = remote.run(&format!("{login} 000000 --list-objects"));
    assert!(
        !wrong.success && wrong.text.contains("CKR_PIN_INCORRECT"),
        "{}",
        wrong.text
    );
    assert_eq!(rig.tries_left(), 4);
}

/// A key and a certificate are made in the session, and are on the card at home.
fn card_is_used_there(rig: &Rig, remote: &Remote) {
    let login = login();
    let key = "--keypairgen --key-type rsa:2048 --label remote";
    remote.does(&format!("{login} {PIN} {key}"));
    let read = format!("pkcs11-tool --module {}", opensc_module());
    remote.does(&format!(
        "{read} --read-object --type pubkey --id 00 --output-file remote.der"
    ));
    let convert = "openssl pkey -pubin -inform DER -in remote.der -out remote.pub";
    remote.does(convert);
    rig.issue_certificate("remote.pub", "remote.pem", "/CN=Alice");
    let certificate = rig.der("remote.pem");
    fs::write(rig.folder().join("remote.cer"), &certificate).unwrap();
    let write = "--write-object remote.cer --type cert --id 00 --label remote";
    remote.does(&format!("{login} {PIN} {write}"));
    // It is on the card at home.
    let home = [
        "--module",
        opensc_module(),
        "--read-object",
        "--type",
        "cert",
    ];
    let object = ["--id", "00", "--output-file", "home.cer"];
    rig.ok("pkcs11-tool", &[&home[..], &object].concat());
    let home = fs::read(rig.folder().join("home.cer")).unwrap();
    assert_eq!(home, certificate);
    fs::write(rig.folder().join("message"), "from far away").unwrap();
    remote.does(&format!("{login} {PIN} {SIGN}"));
    remote.does(&format!("{VERIFY} message"));
    fs::write(rig.folder().join("another"), "from nowhere").unwrap();
    let other = remote.run(&format!("{VERIFY} another"));
    assert!(!other.success, "{}", other.text);
    assert_eq!(rig.tries_left(), 5);
}

/// A blocked card is blocked there too; unblocked, it works again.
fn blocked_card_is_unblocked_there(rig: &Rig, remote: &Remote) {
    let login = login();
    for left in (0..5).rev() {
        let refused = remote.run(&format!("{login} 000000 --list-objects"));
        assert!(!refused.success, "{}", refused.text);
        assert_eq!(rig.tries_left(), left);
    }
    let blocked = remote.run(&format!("{login} {PIN} {SIGN}"));
    assert!(
        !blocked.success && blocked.text.contains("CKR_PIN_LOCKED"),
        "{}",
        blocked.text
    );

    let unblock = format!("pkcs15-tool --unblock-pin --puk {PUK} --new-pin {PIN}");
    remote.does(&unblock);
    assert_eq!(rig.tries_left(), 5);
    remote.does(&format!("{login} {PIN} {SIGN}"));
    remote.does(&format!("{VERIFY} message"));
}

/// A remote machine with a pcscd of its own, whose reader is vsmartcard's.
struct Remote {
    namespace: Namespace,
    folder: PathBuf,
    _pcscd: Running,
}

impl Remote {
    fn new(rig: &Rig) -> Self {
        let folder = rig.folder().join("remote");
        let readers = folder.join("readers");
        fs::create_dir_all(&readers).unwrap();
        let entry = "FRIENDLYNAME \"Virtual PCD\"\nDEVICENAME /dev/null:0x8C7B\n\
                     LIBPATH /usr/lib/pcsc/drivers/serial/libifdvpcd.so\nCHANNELID 0x8C7B\n";
        fs::write(readers.join("vpcd"), entry).unwrap();
        let script = "mkdir -p /run/pcscd && mount -t tmpfs pcscd /run/pcscd";
        let namespace = Namespace::new(&folder, script);
        let mut pcscd = namespace.command("pcscd");
        pcscd.args(["--foreground", "--debug", "-c"]).arg(&readers);
        let mut pcscd = Running::start(&mut pcscd, &folder.join("pcscd.log"));
        let socket = namespace.path("/run/pcscd/pcscd.comm");
        pcscd.wait_ready(|_| UnixStream::connect(&socket).is_ok());
        Self {
            namespace,
            folder: rig.folder().to_owned(),
            _pcscd: pcscd,
        }
    }

    /// A program of the remote session, which knows nothing but the pcscd that is there.
    fn run(&self, line: &str) -> Outcome {
        let mut words = line.split(' ');
        let mut command = self.namespace.command("env");
        command.arg("-C").arg(&self.folder).args(words.by_ref());
        command.env("HOME", &self.folder);
        run(&mut command)
    }

    fn does(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert!(outcome.success, "{line}\nfailed:\n{}", outcome.text);
        outcome.text
    }
}
