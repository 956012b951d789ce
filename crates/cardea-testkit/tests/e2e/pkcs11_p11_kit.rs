//! p11-kit 0.24 with our module: by its file, through its proxy, and from afar.

use std::fs;
use std::os::unix::net::UnixStream;

use cardea_testkit::process::Running;
use cardea_testkit::rig::PIN;

use crate::p11_kit::{self, KIT, urls};
use cardea_testkit::workplace::{KEYS, MESSAGE, WRONG, Workplace, module};

/// One of p11-kit's own modules.
fn module_of_p11_kit(name: &str) -> String {
    format!("/usr/lib/{}-linux-gnu/{name}", std::env::consts::ARCH)
}

#[test]
fn p11_kit_brings_the_cards_to_programs_that_are_not_told_of_the_module() {
    let mut workplace = Workplace::with_keys();
    p11_kit::configure(&workplace.path(""));
    let listed = workplace.does(&format!("{KIT} p11-kit list-modules"));
    // Version 0.25 has the path in a line of its own.
    let named = [
        format!("cardea: {}", module()),
        format!("module: cardea\n    path: {}", module()),
    ];
    assert!(named.iter().any(|words| listed.contains(words)), "{listed}");
    assert!(listed.contains("token: Alice"), "{listed}");

    let tokens = workplace.does(&format!("{KIT} p11tool --list-tokens"));
    assert_eq!(urls(&tokens), [workplace.uri("Alice")], "{tokens}");
    for key in KEYS {
        let uri = workplace.key_uri(key);
        let found = workplace.does(&format!(
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
        workplace.does(&format!(
            "{KIT} pkcs11-tool --module {proxy} --token-label Alice --login --pin {PIN} --sign --id {id} \
             --mechanism {mechanism} --signature-format openssl --input-file message \
             --output-file signature"
        ));
        workplace.check(key, "-sha256", "signature");
    }

    // The administrator's file is read after ours.
    let local = workplace.path("etc/pkcs11/modules/cardea.module");
    for (setting, cards) in [
        ("enable-in: nothing", 0),
        ("disable-in: p11tool", 0),
        ("disable-in: another", 1),
    ] {
        fs::write(&local, setting).unwrap();
        let tokens = workplace.run(&format!("{KIT} p11tool --list-tokens"));
        assert_eq!(
            urls(&tokens.text).len(),
            cards,
            "{setting}: {}",
            tokens.text
        );
    }

    // Programs live on without the daemon, and without the module.
    fs::remove_file(&local).unwrap();
    workplace.daemon.stop();
    let listed = workplace.does(&format!("{KIT} p11-kit list-modules"));
    assert!(
        listed.contains("cardea") && !listed.contains("token: "),
        "{listed}"
    );
    fs::write(&local, "module: /nonexistent/module.so").unwrap();
    let listed = workplace.does(&format!("{KIT} p11-kit list-modules"));
    assert!(!listed.contains("token: "), "{listed}");
}

#[test]
fn p11_kit_serves_a_card_to_programs_elsewhere() {
    let workplace = Workplace::with_keys();
    workplace.create("Bob");
    let card = workplace.uri("Alice");
    let mut command = workplace.client("p11-kit server --foreground --name served --provider");
    command.arg(module()).arg(&card);
    let mut server = Running::start(&mut command, &workplace.path("server.log"));
    let socket = workplace.path("served");
    server.wait_ready(|_| UnixStream::connect(&socket).is_ok());

    let client = module_of_p11_kit("pkcs11/p11-kit-client.so");
    let remote = format!(
        "env P11_KIT_SERVER_ADDRESS=unix:path={} pkcs11-tool --module {client}",
        socket.display()
    );
    let login = format!("{remote} --login --pin {PIN}");
    let slots = workplace.does(&format!("{remote} --list-slots"));
    assert!(slots.contains("token label        : Alice"), "{slots}");
    assert!(!slots.contains("Bob"), "{slots}");

    // The mechanisms of ECDSA that hash are unknown to p11-kit's protocol.
    workplace.does("openssl dgst -sha256 -binary -out digest message");
    for (key, mechanism, input) in [
        ("rsa", "SHA256-RSA-PKCS", "message"),
        ("ec", "ECDSA", "digest"),
    ] {
        let uri = workplace.key_uri(key);
        let id = uri.split_once(";id=%").unwrap().1.get(..2).unwrap();
        workplace.does(&format!(
            "{login} --sign --id {id} --mechanism {mechanism} --signature-format openssl \
             --input-file {input} --output-file signature"
        ));
        workplace.check(key, "-sha256", "signature");
    }
    let public = workplace.public("rsa");
    workplace.does(&format!(
        "openssl pkeyutl -encrypt -pubin -inkey {public} -in message -out sealed"
    ));
    workplace.does(&format!(
        "{login} --decrypt --id 00 --mechanism RSA-PKCS --input-file sealed --output-file opened"
    ));
    let opened = fs::read_to_string(workplace.path("opened")).unwrap();
    assert_eq!(opened, MESSAGE);

    // p11-kit 0.24 makes an error of a request for no bytes, whatever the module says.
    let tested = workplace.does(&format!("{login} --test"));
    let errors: Vec<&str> = tested.lines().filter(|line| line.contains("ERR")).collect();
    let known = "ERR: C_GenerateRandom(buf1,0) failed: CKR_BUFFER_TOO_SMALL";
    assert!(errors.iter().all(|line| line.contains(known)), "{tested}");
    assert!(
        tested.contains("all 4 signature functions seem to work"),
        "{tested}"
    );

    let refused = workplace.refuses(&format!("{remote} --login --pin {WRONG} --list-objects"));
    assert!(refused.contains("CKR_PIN_INCORRECT"), "{refused}");
    assert_eq!(workplace.tries_left(), 4);
    server.kill();
    let refused = workplace.refuses(&format!("{remote} --list-slots"));
    assert!(refused.contains("No slots"), "{refused}");
}
