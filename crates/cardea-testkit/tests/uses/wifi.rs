//! EAP-TLS: `docs/uses/wifi.md` with wpa_supplicant and its `eapol_test` against hostapd, over RADIUS and at a wired
//! port, and what must be refused.

use std::fs;

use cardea_testkit::process::{Outcome, Running};
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::WRONG;

use crate::network::{Computer, said};

const FOLDERS: [&str; 2] = ["wpa_supplicant", "hostapd"];
const WIFI: &str = "/etc/wpa_supplicant/office.conf";
const WIRED: &str = "/etc/wpa_supplicant/wired.conf";

/// What wpa_supplicant says when it wants another PIN.
const QUESTION: &str = "CTRL-REQ-PASSPHRASE-0";

/// What the port says when it opens.
const OPEN: &str = "IEEE 802.1X: authenticated";

/// Both ends of a cable; the server's end is the port of a switch.
const CABLE: &str = "ip link add port type veth peer name eth0\nip link set port up\nip link set eth0 up\n\
    sed -e 's/driver=none/driver=wired\\ninterface=port\\nieee8021x=1\\nuse_pae_group_addr=1/' -e '/radius/d' \
    /etc/hostapd/radius.conf > /etc/hostapd/port.conf";

fn ready() -> (Computer, Running) {
    let computer = Computer::with_card("wifi", &FOLDERS);
    computer.follow("Wi-Fi");
    let mut server = computer.start(&computer.prepare("Try it without a network"));
    said(&mut server, "AP-ENABLED");
    (computer, server)
}

fn tries(computer: &Computer) -> Outcome {
    computer.runs(&computer.line("eapol_test"))
}

fn is_let_in(computer: &Computer) -> String {
    let Outcome { success, text, .. } = tries(computer);
    assert!(success && text.trim_end().ends_with("SUCCESS"), "{text}");
    text
}

/// Not let in, for a reason that the page has.
fn is_refused(computer: &Computer, reason: &str) {
    let Outcome { success, text, .. } = tries(computer);
    assert!(!success && text.contains(reason), "{text}");
    assert!(text.trim_end().ends_with("FAILURE"), "{text}");
    assert!(computer.says(&format!("`{reason}`")), "{reason}");
}

/// The key cannot be used, for a reason that the page has: it waits for another PIN.
fn asks_again(computer: &Computer, reason: &str) {
    // It writes whole blocks into a file otherwise.
    let mut program = computer.start(&format!("stdbuf -oL {}", computer.line("eapol_test")));
    said(&mut program, QUESTION);
    program.terminate();
    let text = program.log();
    assert!(text.contains(reason), "{reason} is not in\n{text}");
    assert!(computer.says(&format!("`{reason}`")), "{reason}");
}

#[test]
fn network_admits_the_certificate_of_the_card() {
    let (computer, _server) = ready();
    is_let_in(&computer);
    let change = |from: &str, to: &str| computer.change(WIFI, from, to);
    let latest = "    phase1=\"tls_disable_tlsv1_3=0\"\n}";
    change("}", latest);
    assert!(computer.says("`phase1=\"tls_disable_tlsv1_3=0\"`"));
    let text = is_let_in(&computer);
    assert!(text.contains("Using TLS version TLSv1.3"), "{text}");
    change(latest, "}");

    // A wrong PIN costs one try, a correct one restores it; without one, nothing is tried.
    change(PIN, WRONG);
    asks_again(&computer, "PIN incorrect");
    assert_eq!(computer.workplace.tries_left(), 4);
    change(&format!("    pin=\"{WRONG}\"\n"), "");
    asks_again(&computer, "No PIN code was entered");
    assert_eq!(computer.workplace.tries_left(), 4);
    let line = computer.line("eapol_test");
    let asked = computer.machine.converse(&line, &[("PIN for Alice", PIN)]);
    assert!(asked.outcome.success, "{}", asked.outcome.text);
    assert_eq!(asked.answers, 1);
    assert!(computer.says("`Enter PKCS#11 token PIN for Alice:`"));
    change("}", &format!("    pin=\"{PIN}\"\n}}"));
    is_let_in(&computer);
    assert_eq!(computer.workplace.tries_left(), 5);

    // A server that is not the network's gets no signature.
    let signatures = computer.signatures();
    computer.another_authority();
    computer.machine.does("cp other.pem /etc/wpa_supplicant");
    change("/ca.pem", "/other.pem");
    is_refused(&computer, "certificate verify failed");
    change("/other.pem", "/ca.pem");
    change("=\"radius.", "=\"another.");
    is_refused(&computer, "Domain mismatch");
    change("=\"another.", "=\"radius.");
    assert_eq!(computer.signatures(), signatures);

    computer.certify_by("other");
    is_refused(&computer, "EAP authentication failed");
    assert!(computer.signatures() > signatures);
    computer.certify_by("ca");
    is_let_in(&computer);

    computer.workplace.block();
    asks_again(&computer, "PIN locked");
    computer.workplace.unblock();
    change("token=Alice", "token=Bob");
    asks_again(&computer, "object not found");
    change("token=Bob", "token=Alice");

    computer.change_to_p256("network");
    let text = is_let_in(&computer);
    assert!(text.contains("Using TLS version TLSv1.2"), "{text}");
    change("}", latest);
    is_let_in(&computer);
    shown("Wi-Fi (EAP-TLS)", "wpa_supplicant", "RSA-2048, P-256");
    keyfile_is_valid(&computer);
}

/// NetworkManager's library reads the page's file without a warning, and takes its certificate and key from the card.
fn keyfile_is_valid(computer: &Computer) {
    let keyfile = computer.block("ini");
    fs::write(computer.workplace.path("office.nmconnection"), keyfile).unwrap();
    let read = "import gi\n\
        gi.require_version('NM', '1.0')\n\
        from gi.repository import GLib, NM\n\
        file = GLib.KeyFile()\n\
        file.load_from_file('office.nmconnection', GLib.KeyFileFlags.NONE)\n\
        warned = []\n\
        handle = lambda file, connection, kind, data, *rest: warned.append(kind)\n\
        folder = '/etc/NetworkManager/system-connections'\n\
        connection = NM.keyfile_read(file, folder, NM.KeyfileHandlerFlags.NONE, handle, None)\n\
        connection.normalize(None)\n\
        assert connection.verify() and not warned, warned\n\
        eap = connection.get_setting_802_1x()\n\
        print(eap.get_client_cert_uri(), eap.get_private_key_uri(), eap.get_ca_cert_path())\n\
        print(connection.need_secrets())\n";
    fs::write(computer.workplace.path("read.py"), read).unwrap();
    let parsed = computer.machine.does("/usr/bin/python3 read.py");
    assert_eq!(
        parsed,
        "pkcs11:token=Alice;object=network;type=cert pkcs11:token=Alice;object=network;type=private \
         /etc/wpa_supplicant/ca.pem\n('802-1x', hints=['private-key-password'])\n"
    );
}

#[test]
fn wired_port_opens_for_the_card() {
    let (computer, mut radius) = ready();
    radius.terminate();
    computer.machine.does(CABLE);
    let mut port = computer.start("hostapd /etc/hostapd/port.conf");
    said(&mut port, "AP-ENABLED");

    // It asks, without a try, and is answered; a wrong answer costs one try, and is asked for again.
    let command = computer.prepare("A wired port");
    let mut client = computer.start(&command);
    said(&mut client, QUESTION);
    assert_eq!(computer.workplace.tries_left(), 5);
    assert!(!port.log().contains(OPEN), "{}", port.log());
    let answer = computer.line("wpa_cli -i eth0 pin");
    computer.machine.does(&answer.replace(PIN, WRONG));
    client.wait_ready(|client| client.log().matches(QUESTION).count() == 2);
    assert_eq!(computer.workplace.tries_left(), 4);
    computer.machine.does(&answer);
    said(&mut client, "CTRL-EVENT-CONNECTED");
    let status = computer
        .machine
        .does(&computer.line("wpa_cli -i eth0 status"));
    assert!(status.contains("suppPortStatus=Authorized"), "{status}");
    assert!(computer.says("`suppPortStatus=Authorized`"));
    said(&mut port, OPEN);
    assert_eq!(computer.workplace.tries_left(), 5);
    computer.machine.does(&end_of(&computer));
    assert!(client.wait().success());

    // With the PIN in the file, and the other kind of key.
    computer.change_to_p256("network");
    computer.change(WIRED, "}", &format!("    pin=\"{PIN}\"\n}}"));
    let mut client = computer.start(&command);
    said(&mut client, "CTRL-EVENT-CONNECTED");
    client.terminate();

    computer.workplace.block();
    let mut client = computer.start(&command);
    said(&mut client, QUESTION);
    assert!(client.log().contains("PIN locked"), "{}", client.log());
    assert_eq!(port.log().matches(OPEN).count(), 2);
    shown(
        "Wired networks (802.1X)",
        "wpa_supplicant",
        "RSA-2048, P-256",
    );
}

/// How the page says that it is ended.
fn end_of(computer: &Computer) -> String {
    let command = "wpa_cli -i eth0 terminate";
    assert!(computer.says(command));
    command.to_owned()
}

fn shown(title: &str, program: &str, keys: &str) {
    Use {
        page: "wifi",
        title,
        program,
        package: "wpasupplicant",
        interface: Interface::Pkcs11,
        keys,
    }
    .shown();
}
