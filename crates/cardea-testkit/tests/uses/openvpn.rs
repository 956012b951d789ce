//! OpenVPN: `docs/uses/openvpn.md` against a server on another network, and what must be refused.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use cardea_testkit::process::{PATIENCE, Running, wait_for};
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;

use crate::network::{Computer, Gateway, said};

const PROFILE: &str = "/etc/openvpn/client/office.conf";

/// The question for the PIN, on the management interface.
const QUESTION: &str = ">PASSWORD:Need 'Alice token' password";

/// Runs when the client is connected: reaches the server through the tunnel, and ends the client. OpenVPN waits for
/// it, so the work is done behind it.
const UP: &str = "#!/bin/sh\n\
    (busybox ping -c 1 -W 30 10.8.0.1 > reached 2>&1; kill $(cat openvpn.pid)) > /dev/null 2>&1 &\n";

/// Connects at a terminal by the page's command.
fn connects(computer: &Computer, command: &str, further: &str) {
    let up = computer.workplace.path("up");
    fs::write(&up, UP).unwrap();
    fs::set_permissions(&up, fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!(
        "rm -f reached\n{}--config {PROFILE} --writepid openvpn.pid --script-security 2 --route-up {} {further}",
        command.strip_suffix(PROFILE).unwrap(),
        up.display()
    );
    let done = computer.machine.converse(&script, &[("Password", PIN)]);
    let text = done.outcome.text;
    assert!(text.contains("Enter Alice token Password:"), "{text}");
    assert!(text.contains("Initialization Sequence Completed"), "{text}");
    assert_eq!(done.answers, 1, "{text}");
    let reached = fs::read_to_string(computer.workplace.path("reached")).unwrap();
    assert!(reached.contains("1 packets received"), "{reached}");
}

/// A program that has started OpenVPN, and answers for its user.
struct Manager {
    lines: BufReader<UnixStream>,
    openvpn: Running,
}

impl Manager {
    fn start(computer: &Computer, command: &str) -> Self {
        let openvpn = computer.start(command);
        let socket = computer.machine.path("/run/openvpn-office.sock");
        let mut stream = None;
        wait_for("the management interface", || {
            stream = UnixStream::connect(&socket).ok();
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut manager = Self {
            lines: BufReader::new(stream),
            openvpn,
        };
        manager.says("state on");
        manager
    }

    fn says(&mut self, line: &str) {
        writeln!(self.lines.get_mut(), "{line}").unwrap();
    }

    fn answers(&mut self, pin: &str) {
        self.says(&format!("password \"Alice token\" {pin}"));
    }

    /// Reads until one of these comes, and returns it.
    fn reads(&mut self, words: &[&'static str]) -> &'static str {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line);
            assert!(
                read.is_ok_and(|count| count > 0),
                "{words:?} is not in\n{all}{}",
                self.openvpn.log()
            );
            if let Some(found) = words.iter().find(|words| line.contains(**words)) {
                return found;
            }
            all.push_str(&line);
        }
    }

    /// Its log.
    fn end(mut self) -> String {
        self.says("signal SIGTERM");
        self.openvpn.wait();
        self.openvpn.log()
    }
}

/// It does not get as far as a connection, for a reason that the page has; the PIN is not asked for.
fn is_refused(computer: &Computer, command: &str, reason: &str) {
    let mut manager = Manager::start(computer, command);
    assert_eq!(manager.reads(&[QUESTION, "tls-error"]), "tls-error");
    let log = manager.end();
    assert!(log.contains(reason), "{reason} is not in\n{log}");
    assert!(computer.says(&format!("`{reason}`")), "{reason}");
}

#[test]
fn openvpn_connects_with_the_card() {
    let computer = Computer::with_card("openvpn", &["openvpn"]);
    let gateway = Gateway::beside(&computer);
    let mut server = gateway.start(&computer.prepare("A server for a trial"));
    said(&mut server, "Initialization Sequence Completed");
    let command = computer.prepare("Connect");
    for (key, shown) in [
        ("rsa-2048", "2048 bits RSA"),
        ("p-256", "256 bits ECprime256v1"),
    ] {
        if key == "p-256" {
            computer.change_to_p256("vpn");
            computer.prepare("Connect");
        }
        for (version, option) in [("TLSv1.3", ""), ("TLSv1.2", "--tls-version-max 1.2")] {
            connects(&computer, &command, option);
            let log = server.log();
            let last = log.lines().rfind(|line| line.contains("Control Channel:"));
            let last = last.unwrap();
            assert!(last.contains(version) && last.contains(shown), "{last}");
        }
    }
    let log = server.log();
    assert!(log.contains("VERIFY OK: depth=0, CN=Alice"), "{log}");
    refuses(&computer, &command, &mut server);
    Use {
        page: "openvpn",
        title: "Virtual private network (TLS)",
        program: "OpenVPN",
        package: "openvpn",
        interface: Interface::Pkcs11,
        keys: "RSA-2048, P-256",
    }
    .shown();
}

/// What must be refused, through the management interface.
fn refuses(computer: &Computer, command: &str, server: &mut Running) {
    let lines = "management /run/openvpn-office.sock unix\nmanagement-query-passwords\n";
    assert!(computer.says(lines));
    computer.change(PROFILE, "client\n", &format!("client\n{lines}"));
    let change = |from: &str, to: &str| computer.change(PROFILE, from, to);

    // A wrong PIN costs one try, and is not repeated.
    let mut manager = Manager::start(computer, command);
    manager.reads(&[QUESTION]);
    manager.answers(WRONG);
    manager.reads(&[QUESTION]);
    assert_eq!(computer.workplace.tries_left(), 4);
    manager.answers(PIN);
    manager.reads(&["CONNECTED,SUCCESS"]);
    assert_eq!(computer.workplace.tries_left(), 5);
    manager.end();

    computer.workplace.block();
    let mut manager = Manager::start(computer, command);
    manager.reads(&[QUESTION]);
    manager.answers(PIN);
    manager.reads(&["tls-error"]);
    let log = manager.end();
    assert!(log.contains("SSL routines::EVP lib"), "{log}");
    computer.workplace.unblock();

    // A server that is not the network's gets no signature.
    let signatures = computer.signatures();
    computer.another_authority();
    computer.machine.does("cp other.pem /etc/openvpn/client");
    change("/ca.pem", "/other.pem");
    is_refused(computer, command, "certificate verify failed");
    change("/other.pem", "/ca.pem");
    change("verify-x509-name vpn.", "verify-x509-name another.");
    is_refused(computer, command, "VERIFY X509NAME ERROR");
    change("verify-x509-name another.", "verify-x509-name vpn.");
    assert_eq!(computer.signatures(), signatures);

    let refusals = |server: &Running| server.log().matches("VERIFY ERROR").count();
    let before = refusals(server);
    computer.certify_by("other");
    let mut manager = Manager::start(computer, command);
    manager.reads(&[QUESTION]);
    manager.answers(PIN);
    server.wait_ready(|server| refusals(server) > before);
    assert!(!manager.end().contains("Initialization Sequence Completed"));
    computer.certify_by("ca");

    computer
        .workplace
        .cardea(&["card", "destroy", "Alice", "--yes"]);
    let mut manager = Manager::start(computer, command);
    manager.reads(&["Please insert Alice token"]);
    manager.end();
}
