//! p11-kit 0.24 with our module: by its file, through its proxy, and from afar.

use std::fs;

use cardea_testkit::process::Running;
use cardea_testkit::rig::PIN;

use crate::p11_kit::{self, KIT, urls};
use cardea_testkit::desk::{Desk, KEYS, MESSAGE, WRONG, module};

/// One of p11-kit's own modules.
fn module_of_p11_kit(name: &str) -> String {
    format!("/usr/lib/{}-linux-gnu/{name}", std::env::consts::ARCH)
}

#[test]
fn p11_kit_brings_the_cards_to_programs_that_are_not_told_of_the_module() {
    let mut desk = Desk::with_keys();
    p11_kit::configure(&desk.path(""));
    let listed = desk.does(&format!("{KIT} p11-kit list-modules"));
    assert!(
        listed.contains(&format!("cardea: {}", module())),
        "{listed}"
    );
    assert!(listed.contains("token: Alice"), "{listed}");

    let tokens = desk.does(&format!("{KIT} p11tool --list-tokens"));
    assert_eq!(urls(&tokens), [desk.uri("Alice")], "{tokens}");
    for key in KEYS {
        let uri = desk.key_uri(key);
        let found = desk.does(&format!(
            "{KIT} env GNUTLS_PIN={PIN} p11tool --login --list-all {uri}"
        ));
        assert_eq!(urls(&found), [uri.as_str()]);
        let id = uri.split_once(";id=%").unwrap().1.get(..2).unwrap();
        let proxy = module_of_p11_kit("p11-kit-proxy.so");
        let mechanism = if key == "rsa" {
            "SHA256-RSA-PKCS"
        } else {
            "ECDSA-SHA256"
        };
        desk.does(&format!(
            "{KIT} pkcs11-tool --module {proxy} --token-label Alice --login --pin {PIN} --sign --id {id} \
             --mechanism {mechanism} --signature-format openssl --input-file message \
             --output-file signature"
        ));
        desk.check(key, "-sha256", "signature");
    }

    // The administrator's file is read after ours.
    let local = desk.path("etc/pkcs11/modules/cardea.module");
    for (setting, cards) in [
        ("enable-in: nothing", 0),
        ("disable-in: p11tool", 0),
        ("disable-in: another", 1),
    ] {
        fs::write(&local, setting).unwrap();
        let tokens = desk.run(&format!("{KIT} p11tool --list-tokens"));
        assert_eq!(
            urls(&tokens.text).len(),
            cards,
            "{setting}: {}",
            tokens.text
        );
    }

    // Programs live on without the daemon, and without the module.
    fs::remove_file(&local).unwrap();
    desk.daemon.stop();
    let listed = desk.does(&format!("{KIT} p11-kit list-modules"));
    assert!(
        listed.contains("cardea: ") && !listed.contains("token: "),
        "{listed}"
    );
    fs::write(&local, "module: /nonexistent/module.so").unwrap();
    let listed = desk.does(&format!("{KIT} p11-kit list-modules"));
    assert!(!listed.contains("token: "), "{listed}");
}

#[test]
fn p11_kit_serves_a_card_to_programs_elsewhere() {
    let desk = Desk::with_keys();
    desk.create("Bob");
    let card = desk.uri("Alice");
    let mut command = desk.client("p11-kit server --foreground --name served --provider");
    command.arg(module()).arg(&card);
    let mut server = Running::start(&mut command, &desk.path("server.log"));
    let socket = desk.path("served");
    server.wait_ready(|_| socket.exists());

    let client = module_of_p11_kit("pkcs11/p11-kit-client.so");
    let remote = format!(
        "env P11_KIT_SERVER_ADDRESS=unix:path={} pkcs11-tool --module {client}",
        socket.display()
    );
    let login = format!("{remote} --login --pin {PIN}");
    let slots = desk.does(&format!("{remote} --list-slots"));
    assert!(slots.contains("token label        : Alice"), "{slots}");
    assert!(!slots.contains("Bob"), "{slots}");

    // The mechanisms of ECDSA that hash are unknown to p11-kit's protocol.
    desk.does("openssl dgst -sha256 -binary -out digest message");
    for (key, mechanism, input) in [
        ("rsa", "SHA256-RSA-PKCS", "message"),
        ("ec", "ECDSA", "digest"),
    ] {
        let uri = desk.key_uri(key);
        let id = uri.split_once(";id=%").unwrap().1.get(..2).unwrap();
        desk.does(&format!(
            "{login} --sign --id {id} --mechanism {mechanism} --signature-format openssl \
             --input-file {input} --output-file signature"
        ));
        desk.check(key, "-sha256", "signature");
    }
    let public = desk.public("rsa");
    desk.does(&format!(
        "openssl pkeyutl -encrypt -pubin -inkey {public} -in message -out sealed"
    ));
    desk.does(&format!(
        "{login} --decrypt --id 00 --mechanism RSA-PKCS --input-file sealed --output-file opened"
    ));
    let opened = fs::read_to_string(desk.path("opened")).unwrap();
    assert_eq!(opened, MESSAGE);

    // p11-kit 0.24 makes an error of a request for no bytes, whatever the module says.
    let tested = desk.does(&format!("{login} --test"));
    let errors: Vec<&str> = tested.lines().filter(|line| line.contains("ERR")).collect();
    let known = "ERR: C_GenerateRandom(buf1,0) failed: CKR_BUFFER_TOO_SMALL";
    assert!(errors.iter().all(|line| line.contains(known)), "{tested}");
    assert!(
        tested.contains("all 4 signature functions seem to work"),
        "{tested}"
    );

    let refused = desk.refuses(&format!("{remote} --login --pin {WRONG} --list-objects"));
    assert!(refused.contains("CKR_PIN_INCORRECT"), "{refused}");
    assert_eq!(desk.tries_left(), 4);
    server.kill();
    let refused = desk.refuses(&format!("{remote} --list-slots"));
    assert!(refused.contains("No slots"), "{refused}");
}
