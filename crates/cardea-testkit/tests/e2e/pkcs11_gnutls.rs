//! GnuTLS with our module: `p11tool`, `certtool`, `gnutls-cli` and `gnutls-serv` 3.7.9.

use std::fs;

use cardea_testkit::played;
use cardea_testkit::process::Running;
use cardea_testkit::rig::PIN;

use crate::p11_kit::urls;
use cardea_testkit::workplace::{KEYS, WRONG, Workplace, module};

/// A program of GnuTLS with our module and a PIN. It takes the PIN from the environment, and once.
fn gnutls(program: &str, pin: &str) -> String {
    let module = module();
    format!("env GNUTLS_PIN={pin} {program} --provider={module}")
}

#[test]
fn p11tool_lists_tokens_and_objects_by_the_uris_that_cardea_prints() {
    // What has to be escaped, and a label that is cut in the middle of a character.
    let name = "50% of Ada's; Köln = 1/2 + x&yä end";
    let workplace = Workplace::with_certificates();
    workplace.create(name);
    let tool = gnutls("p11tool", PIN);
    let tokens = workplace.does(&format!("{tool} --list-tokens"));
    let listed = urls(&tokens);
    let (alice, other) = (workplace.uri("Alice"), workplace.uri(name));
    assert_eq!(listed.len(), 2, "{tokens}");
    assert!(listed.contains(&alice.as_str()), "{alice}: {tokens}");
    assert!(listed.contains(&other.as_str()), "{other}: {tokens}");
    assert!(other.ends_with("%20x%26y"), "{other} is cut");

    let objects = workplace.does(&format!("{tool} --login --list-all {alice}"));
    let listed = urls(&objects);
    assert_eq!(listed.len(), 6, "{objects}");
    for key in KEYS {
        let uri = workplace.key_uri(key);
        assert!(listed.contains(&uri.as_str()), "{uri}: {objects}");
        // The URI of a key finds that key and nothing else.
        let found = workplace.does(&format!("{tool} --login --list-all {uri}"));
        assert_eq!(urls(&found), [uri.as_str()]);
    }
    // Without a login there is no private key, and the other card has nothing.
    let objects = workplace.does(&format!("{tool} --list-all {alice}"));
    assert_eq!(urls(&objects).len(), 4, "{objects}");
    assert!(!objects.contains("type=private"), "{objects}");
    let nothing = workplace.run(&format!("{tool} --login --list-all {other}"));
    assert!(!nothing.text.contains("Object 0"), "{}", nothing.text);
}

#[test]
fn p11tool_makes_keys_and_stores_their_certificates() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    let card = workplace.uri("Alice");
    let tool = gnutls("p11tool", PIN) + " --login";
    for (label, make, is_there) in [
        ("r2", "--generate-rsa --bits 2048", true),
        (
            "r3",
            "--generate-privkey rsa --bits 3072",
            played::has_rsa(3072),
        ),
        ("e2", "--generate-privkey ecdsa --curve secp256r1", true),
        (
            "e3",
            "--generate-privkey ecdsa --curve secp384r1",
            played::has_curve("P-384"),
        ),
    ] {
        let make = format!("{tool} {make} --label {label} --outfile made {card}");
        if !is_there {
            workplace.refuses(&make);
            continue;
        }
        workplace.does(&make);
        let made = fs::read(workplace.path("made")).unwrap();
        assert_eq!(made, fs::read(workplace.public(label)).unwrap(), "{label}");
        let key = workplace.key_uri(label);
        workplace.does(&format!("{tool} --export-pubkey --outfile made {key}"));
        let exported = fs::read_to_string(workplace.path("made")).unwrap();
        let pem = exported.get(exported.find("-----BEGIN").unwrap()..);
        assert_eq!(pem, Some(String::from_utf8(made).unwrap().as_str()));

        // It signs, and checks with its own software.
        let tested = workplace.does(&format!("{tool} --test-sign {key}"));
        assert_eq!(tested.matches("... ok").count(), 3, "{tested}");

        let certificate = workplace.issue(&workplace.public(label), label);
        workplace.does(&format!(
            "{tool} --write --load-certificate {certificate} --label {label} {card}"
        ));
        let stored = key.replace("type=private", "type=cert");
        workplace.does(&format!("{tool} --export --outfile stored {stored}"));
        let compare = |file: &str| workplace.does(&format!("openssl x509 -in {file} -outform DER"));
        assert_eq!(compare("stored"), compare(&certificate));
    }
    let pss = "--test-sign --sign-params rsa-pss";
    let tested = workplace.does(&format!("{tool} {pss} {}", workplace.key_uri("r2")));
    assert!(tested.contains("RSA-PSS-SHA256... ok"), "{tested}");
}

#[test]
fn certtool_makes_requests_with_the_keys_of_the_card() {
    let workplace = Workplace::with_keys();
    fs::write(workplace.path("template"), "cn = \"Alice\"\nsigning_key\n").unwrap();
    let tool = gnutls("certtool", PIN);
    for key in KEYS {
        let private = workplace.key_uri(key);
        let public = private.replace("type=private", "type=public");
        workplace.does(&format!(
            "{tool} --generate-request --template template --load-privkey {private} \
             --load-pubkey {public} --outfile request.pem"
        ));
        let verified = workplace.does("openssl req -verify -noout -text -in request.pem");
        assert!(verified.contains("verify OK"), "{verified}");
        workplace.does("openssl req -noout -pubkey -in request.pem -out requested.pub");
        assert_eq!(
            fs::read(workplace.path("requested.pub")).unwrap(),
            fs::read(workplace.public(key)).unwrap()
        );
    }
}

#[test]
fn p11tool_is_refused_with_a_wrong_pin_a_blocked_one_and_without_the_key() {
    let workplace = Workplace::with_keys();
    let key = workplace.key_uri("rsa");
    let sign = |pin| format!("{} --login --test-sign {key}", gnutls("p11tool", pin));
    let said = workplace.refuses(&sign(WRONG));
    assert!(said.contains("Wrong PIN has been provided"), "{said}");
    assert_eq!(workplace.tries_left(), 4);
    workplace.does(&sign(PIN));
    workplace.block();
    let said = workplace.refuses(&sign(PIN));
    assert!(said.contains("PIN locked"), "{said}");
    workplace.unblock();
    workplace.does(&sign(PIN));
    workplace.delete("rsa");
    let said = workplace.refuses(&sign(PIN));
    assert!(said.contains("requested data"), "{said}");
}

/// `gnutls-serv` listens on every address and takes a port only: it is alone in its network namespace.
struct Server<'a> {
    workplace: &'a Workplace,
    process: Running,
}

impl<'a> Server<'a> {
    fn start(workplace: &'a Workplace) -> Self {
        workplace.does(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.pem -days 2 \
             -subj /CN=localhost -addext subjectAltName=DNS:localhost",
        );
        let script = "busybox ip link set lo up && exec \"$@\"";
        let mut command = workplace.client("unshare --net sh -c");
        command.args([script, "sh", "gnutls-serv", "--port=4433", "--http"]);
        command.args(["--x509certfile=server.pem", "--x509keyfile=server.key"]);
        command.args(["--x509cafile=ca.pem", "--require-client-cert"]);
        command.arg("--verify-client-cert");
        let mut process = Running::start(&mut command, &workplace.path("server.log"));
        process.wait_ready(|process| process.log().contains("listening on IPv4"));
        Self { workplace, process }
    }

    /// A client; its input ends after the handshake.
    fn connect(&self, pin: &str, options: &str) -> (bool, String) {
        let client = gnutls("gnutls-cli", pin);
        let pid = self.process.pid();
        let outcome = self.workplace.run(&format!(
            "nsenter --net --target {pid} {client} --x509cafile=server.pem {options} \
             --port=4433 localhost"
        ));
        (outcome.success, outcome.text)
    }
}

#[test]
fn gnutls_cli_is_let_in_with_a_key_of_the_card() {
    let workplace = Workplace::with_certificates();
    let server = Server::start(&workplace);
    let options = |key: &str| {
        let private = workplace.key_uri(key);
        let certificate = private.replace("type=private", "type=cert");
        format!("--x509certfile={certificate} --x509keyfile={private}")
    };
    for (key, signature) in [("rsa", "RSA-PSS-RSAE"), ("ec", "ECDSA-SECP256R1-SHA256")] {
        for (version, expected) in [("1.3", signature), ("1.2", "")] {
            let priority = format!("--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}");
            let before = server.process.log().len();
            let (success, said) = server.connect(PIN, &format!("{} {priority}", options(key)));
            assert!(
                success && said.contains("Handshake was completed"),
                "{said}"
            );
            let seen = server.process.log().split_off(before);
            assert!(seen.contains(&format!("CN={key}")), "{seen}");
            assert!(seen.contains("The certificate is trusted"), "{seen}");
            assert!(seen.contains(&format!("Version: TLS{version}")), "{seen}");
            assert!(
                seen.contains(&format!("Client Signature: {expected}")),
                "{seen}"
            );
        }
    }

    let (success, said) = server.connect(WRONG, &options("rsa"));
    assert!(!success && said.contains("PIN"), "{said}");
    assert_eq!(workplace.tries_left(), 4);
    // Another key's certificate does not help, and none either.
    let mixed = format!(
        "--x509certfile=ec.pem --x509keyfile={}",
        workplace.key_uri("rsa")
    );
    let (success, said) = server.connect(PIN, &mixed);
    assert!(!success, "{said}");
    let (success, said) = server.connect(PIN, "--priority=NORMAL:-VERS-TLS1.3");
    assert!(!success, "{said}");
}
