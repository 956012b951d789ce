//! strongSwan: `docs/uses/strongswan.md` against a server on another network, and what must be refused.

use std::fs;
use std::os::unix::net::UnixStream;

use cardea_testkit::process::{Outcome, Running};
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;

use crate::network::{Computer, Gateway, said};

const SETTINGS: &str = "/etc/swanctl/conf.d/office.conf";

/// The service, as its unit starts it.
const SERVICE: &str = "/usr/sbin/charon-systemd";

/// Where the kernel has no IPsec, strongSwan does it itself; it has a log, and does not mind so many attempts.
const TRIAL: &str = "charon {\n\
    dos_protection = no\n\
    plugins {\nkernel-libipsec {\nload = 10\nallow_peer_ts = yes\n}\n}\n\
    filelog {\nstderr {\ndefault = 1\nflush_line = yes\n}\n}\n}\n";

/// Starts the service, and loads what its unit loads then.
fn serve(computer: &Computer) -> (Running, Outcome) {
    let mut service = computer.start(SERVICE);
    let socket = computer.machine.path("/run/charon.vici");
    service.wait_ready(|_| UnixStream::connect(&socket).is_ok());
    let loaded = computer.runs("swanctl --load-all --noprompt");
    (service, loaded)
}

fn end(mut service: Running) -> String {
    service.terminate();
    service.log()
}

fn initiates(computer: &Computer) -> Outcome {
    let commands = computer.section("Connect");
    computer.runs(commands.lines().last().unwrap())
}

fn connects(computer: &Computer) {
    let done = initiates(computer);
    assert!(
        done.success && done.text.contains("initiate completed successfully"),
        "{}",
        done.text
    );
    let reached = computer.machine.does("busybox ping -c 1 -W 30 10.9.0.1");
    assert!(reached.contains("1 packets received"), "{reached}");
    computer.machine.does("swanctl --terminate --ike office");
}

/// Not connected, for a reason that the page has.
fn is_refused(computer: &Computer, reason: &str) {
    let done = initiates(computer);
    assert!(!done.success && done.text.contains(reason), "{}", done.text);
    assert!(computer.says(&format!("`{reason}`")), "{reason}");
}

/// The service started anew does not get the key, for a reason that the page has.
fn has_no_key(computer: &Computer, reason: &str) -> String {
    let (service, loaded) = serve(computer);
    let words = "loading private key from token failed";
    assert!(loaded.text.contains(words), "{}", loaded.text);
    assert!(computer.says(&format!("`{words}`")));
    assert!(!initiates(computer).success);
    let log = end(service);
    assert!(log.contains(reason), "{reason} is not in\n{log}");
    assert!(computer.says(&format!("`{reason}`")), "{reason}");
    log
}

fn prepare(computer: &Computer) -> Gateway<'_> {
    fs::write(computer.machine.path("/etc/strongswan.d/trial.conf"), TRIAL).unwrap();
    Gateway::beside(computer)
}

#[test]
fn strongswan_connects_with_the_card() {
    let computer = Computer::with_card("strongswan", &["strongswan.d", "swanctl"]);
    let gateway = prepare(&computer);
    computer.follow("A server for a trial");
    gateway.does("ip address add 10.9.0.1/24 dev lo");
    let mut server = gateway.start(SERVICE);
    said(&mut server, "spawning");
    gateway.does(
        "until swanctl --stats > loaded; do sleep 0.1; done 2> /dev/null\nswanctl --load-all --noprompt",
    );
    // The computer with the card has nothing of the server.
    computer.machine.does(
        "rm /etc/swanctl/conf.d/people.conf /etc/swanctl/x509/server.pem /etc/swanctl/private/server.key",
    );

    for key in ["rsa-2048", "p-256"] {
        if key == "p-256" {
            computer.change_to_p256("vpn");
        }
        computer.follow("The computer with the card");
        let (service, loaded) = serve(&computer);
        assert!(loaded.text.contains("token-card"), "{}", loaded.text);
        assert!(!initiates(&computer).success);
        let asked = computer
            .machine
            .converse(&computer.section("Connect"), &[("PIN for", PIN)]);
        let text = asked.outcome.text;
        assert!(asked.outcome.success && asked.answers == 1, "{text}");
        computer.machine.does("swanctl --terminate --ike office");
        connects(&computer);
        end(service);
    }
    let log = server.log();
    for signature in [
        "'CN=Alice' with RSA_EMSA_PKCS1",
        "'CN=Alice' with ECDSA_WITH",
    ] {
        assert!(log.contains(signature), "{signature} is not in\n{log}");
    }
    refuses(&computer, &gateway);
    Use {
        page: "strongswan",
        title: "Virtual private network (IPsec, IKEv2)",
        program: "strongSwan",
        package: "charon-systemd",
        interface: Interface::Pkcs11,
        keys: "RSA-2048, P-256",
    }
    .shown();
}

fn refuses(computer: &Computer, gateway: &Gateway<'_>) {
    let change = |from: &str, to: &str| computer.change(SETTINGS, from, to);
    has_no_key(computer, "no PIN found for PKCS#11 key");
    let pin = |pin: &str| format!("    token-card {{\n        pin = {pin}\n");
    assert!(computer.says("`pin = 123456`"));
    change("    token-card {\n", &pin(WRONG));
    let log = has_no_key(computer, "PIN_INCORRECT");
    assert_eq!(computer.workplace.tries_left(), 4, "{log}");
    change(&pin(WRONG), &pin(PIN));

    // The login ends, and the key is loaded again.
    let (service, loaded) = serve(computer);
    assert!(loaded.success, "{}", loaded.text);
    assert_eq!(computer.workplace.tries_left(), 5);
    connects(computer);
    computer
        .machine
        .does("cardea pin change Alice --pin-file pin --new-pin-file pin");
    is_refused(computer, "C_Sign() failed: USER_NOT_LOGGED_IN");
    computer.follow("After the login has ended");
    connects(computer);

    // Authorities. Both sides keep certificates that they have seen.
    computer.another_authority();
    computer.certify_by("other");
    let again = "swanctl --flush-certs\nswanctl --load-all --clear --noprompt";
    gateway.does("swanctl --flush-certs");
    computer.machine.does(again);
    is_refused(computer, "AUTHENTICATION_FAILED");
    computer.certify_by("ca");
    computer
        .machine
        .does("cp other.pem /etc/swanctl/x509ca\nrm /etc/swanctl/x509ca/ca.pem");
    change("= ca.pem", "= other.pem");
    computer.machine.does(again);
    is_refused(computer, "no trusted RSA public key found");
    end(service);
    change("= other.pem", "= ca.pem");
    computer.machine.does("cp ca.pem /etc/swanctl/x509ca");

    computer.workplace.block();
    has_no_key(computer, "PIN_LOCKED");
    computer.workplace.unblock();
    computer
        .workplace
        .cardea(&["card", "destroy", "Alice", "--yes"]);
    has_no_key(computer, "no PKCS#11 module found having a keyid");
}
