//! The other doors: a PC/SC reader has the card, and D-Bus an object of it, while the drive is there.

use std::path::Path;

use cardea_testkit::bus::{BusClient, ROOT, SystemBus};
use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{run, wait_for};
use cardea_testkit::rig::{Daemon, PIN, Rig, bin_dir};
use cardea_testkit::stick::{MEDIA, PLACE, Stick, unplug};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::uses::{Interface, Use};

/// `cardea` where the drive is.
fn cardea(namespace: &Namespace, daemon: &Daemon, arguments: &[&str]) -> String {
    let program = bin_dir().join("cardea").display().to_string();
    let done = run(namespace
        .command(&program)
        .args(arguments)
        .env("CARDEA_SOCKET", daemon.socket()));
    assert!(done.success, "{arguments:?}\n{}", done.text);
    done.text
}

fn plugged(folder: &Path) -> (Namespace, Stick, String) {
    let namespace = Namespace::new(folder, MEDIA);
    let stick = Stick::new(&folder.join("stick"), 16);
    stick.plug(&namespace);
    let pin = folder.join("the-pin");
    std::fs::write(&pin, PIN).unwrap();
    (namespace, stick, pin.display().to_string())
}

#[test]
fn reader_has_the_card_while_the_drive_is_there() {
    let rig = Rig::new();
    let (namespace, stick, pin) = plugged(rig.folder());
    let create = ["card", "create", "--name", "Travel", "--reader", "always"];
    let create = [&create[..], &["--store", PLACE, "--pin-file", &pin]].concat();
    cardea(&namespace, &rig.daemon, &create);
    let generate = ["key", "generate", "Travel", "--algorithm", "rsa-2048"];
    cardea(
        &namespace,
        &rig.daemon,
        &[&generate[..], &["--label", "travel", "--pin-file", &pin]].concat(),
    );
    std::fs::write(rig.folder().join("message"), "a message").unwrap();
    let is_there = || rig.run("opensc-tool", &["--reader", "0", "--atr"]).success;
    let signs = |pin: &str| {
        let sign = [
            "--module",
            cardea_testkit::rig::opensc_module(),
            "--login",
            "--pin",
            pin,
            "--sign",
            "--mechanism",
            "SHA256-RSA-PKCS",
            "--label",
            "travel",
            "--input-file",
            "message",
            "--output-file",
            "signature",
        ];
        rig.run("pkcs11-tool", &sign).success
    };
    wait_for("the card is in the reader", is_there);
    assert!(signs(PIN));
    assert!(!signs("000000"));
    unplug(&namespace, PLACE);
    wait_for("the card has left the reader", || !is_there());
    assert!(!signs(PIN));
    stick.plug(&namespace);
    cardea(&namespace, &rig.daemon, &["card", "attach", PLACE]);
    wait_for("the card is in the reader", is_there);
    assert!(signs(PIN));
    unplug(&namespace, PLACE);
    Use {
        page: "removable-drive",
        title: "A card on a removable drive",
        program: "OpenSC pkcs11-tool",
        package: "opensc",
        interface: Interface::PcSc,
        keys: "RSA-2048",
    }
    .shown();
}

#[test]
fn bus_has_the_card_while_the_drive_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let bus = SystemBus::start(&folder.path().join("bus"), "");
    let address = bus.address();
    let daemon = Daemon::start_on_bus(&folder.path().join("daemon"), &tpm.address(), "", &address);
    let client = BusClient::connect(&address, 0);
    bus.await_service();
    let (namespace, stick, pin) = plugged(folder.path());
    let create = [
        "card",
        "create",
        "--name",
        "Travel",
        "--store",
        PLACE,
        "--pin-file",
        &pin,
    ];
    let made = cardea(&namespace, &daemon, &create);
    let id = made
        .lines()
        .find_map(|line| line.strip_prefix("card id:"))
        .unwrap();
    let card = format!("{ROOT}/cards/{}", id.trim());
    let status = || client.property(&card, "Card", "Status").ok();
    assert_eq!(client.text(&card, "Card", "Status"), "ready");
    unplug(&namespace, PLACE);
    wait_for("the card has left the bus", || status().is_none());
    stick.plug(&namespace);
    cardea(&namespace, &daemon, &["card", "attach", PLACE]);
    assert_eq!(client.text(&card, "Card", "Status"), "ready");
    unplug(&namespace, PLACE);
    wait_for("the card has left the bus", || status().is_none());
}
