//! OpenSC's tools as administrator, over pcscd: the rows of the GIDS test plan that need an admin key, a PUK,
//! an import or a card in initialisation state.

use std::process::Command;

use cardea_client::message::{CreateCard, NewContent};
use cardea_testkit::rig::{PIN, Rig};
use cardea_testkit::transcript::ADMIN_KEY;

const ZERO_KEY: &str = "000000000000000000000000000000000000000000000000";
const DEFAULT_KEY: &str = "010203040506070801020304050607080102030405060708";

fn admin_key() -> String {
    ADMIN_KEY.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gids(rig: &Rig, arguments: &[&str]) -> String {
    rig.run("gids-tool", &[&["--reader", "0"], arguments].concat())
        .text
}

fn blocked(rig: &Rig) {
    for _ in 0..5 {
        rig.refuses("pkcs15-tool --reader 0 --verify-pin --pin 111111");
    }
    assert_eq!(rig.tries_left(), 0);
}

fn verify(rig: &Rig, pin: &str) -> bool {
    rig.run(
        "pkcs15-tool",
        &["--reader", "0", "--verify-pin", "--pin", pin],
    )
    .success
}

/// Rows 3 to 6, and 24 and 25 on the card so made.
#[test]
fn gids_tool_personalises_a_card_in_initialisation_state() {
    let mut rig = Rig::new();
    rig.order(CreateCard::new(
        "fresh",
        NewContent::Uninitialised { puk: false },
    ));
    let initialise = [
        "-X",
        "--pin",
        PIN,
        "--admin-key",
        DEFAULT_KEY,
        "--serial-number",
        "00000000000000000000000000000001",
    ];
    let text = gids(&rig, &initialise);
    assert!(!text.to_lowercase().contains("fail"), "{text}");
    assert!(
        gids(&rig, &[]).contains("no container found"),
        "the file system is there"
    );
    // Again: refused, with an exit status that lies (row 5).
    let again = rig.run("gids-tool", &[&["--reader", "0"][..], &initialise].concat());
    assert!(
        again.success && again.text.contains("Card is invalid or cannot be handled"),
        "{}",
        again.text
    );
    let serial = rig.does("opensc-tool --reader 0 --serial");
    assert!(
        serial.starts_with("00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01"),
        "{serial}"
    );
    let dump = rig.does("pkcs15-tool --reader 0 --dump");
    assert!(dump.contains("Tries left     : 5"), "{dump}");
    rig.does(&format!(
        "pkcs15-init --reader 0 --generate-key rsa/2048 --auth-id 80 --verify-pin --pin {PIN} \
         --label k1 --key-usage sign,decrypt"
    ));
    let test = rig.opensc("--test");
    // OpenSC offers no random numbers with any GIDS card.
    let random = test
        .lines()
        .filter(|line| line.contains("ERR: C_GenerateRandom"));
    let complaints = format!("{} errors", random.count());
    assert!(test.contains(&complaints), "{test}");

    blocked(&rig);
    let text = gids(&rig, &["-U", "--pin", "654321", "--admin-key", DEFAULT_KEY]);
    assert!(verify(&rig, "654321"), "{text}");
    let text = gids(
        &rig,
        &[
            "-C",
            "--admin-key",
            DEFAULT_KEY,
            "--new-admin-key",
            ZERO_KEY,
        ],
    );
    blocked(&rig);
    let refused = gids(&rig, &["-U", "--pin", PIN, "--admin-key", DEFAULT_KEY]);
    assert!(
        refused.contains("Security status not satisfied"),
        "{text}\n{refused}"
    );
    gids(&rig, &["-U", "--pin", PIN, "--admin-key", ZERO_KEY]);
    assert!(verify(&rig, PIN));
}

/// Rows 24 and 25 on a card made with an admin key of its own; the daemon restarts in between.
#[test]
fn gids_tool_unblocks_through_the_vault() {
    let mut rig = Rig::new();
    rig.administered("Alice", None);
    let key = admin_key();
    for (round, pin) in ["654321", "222222", "333333"].into_iter().enumerate() {
        blocked(&rig);
        let wrong = rig.run(
            "gids-tool",
            &["--reader", "0", "-U", "--pin", pin, "--admin-key", ZERO_KEY],
        );
        assert!(
            wrong.text.contains("Security status not satisfied"),
            "{}",
            wrong.text
        );
        assert_eq!(rig.tries_left(), 0, "a wrong key changes nothing");
        let text = gids(&rig, &["-U", "--pin", pin, "--admin-key", &key]);
        assert!(verify(&rig, pin), "{text}");
        if round == 1 {
            rig.daemon.restart();
            rig.wait_for_card(0);
        }
    }
    // Row 26, without PUK: an error, and the PIN is as it was.
    rig.refuses("pkcs15-tool --reader 0 --unblock-pin --puk 12345678 --new-pin 111111");
    assert!(verify(&rig, "333333"));
}

/// Row 26 with a PUK, which OpenSC shows as a second PIN.
#[test]
fn opensc_unblocks_with_the_puk() {
    let mut rig = Rig::new();
    rig.administered("Alice", Some("87654321"));
    let dump = rig.does("pkcs15-tool --reader 0 --dump");
    assert!(
        dump.contains("PUK") && dump.contains("Reference      : 129"),
        "{dump}"
    );
    blocked(&rig);
    let unblock = |puk: &str| {
        rig.run(
            "pkcs15-tool",
            &[
                "--reader",
                "0",
                "--unblock-pin",
                "--puk",
                puk,
                "--new-pin",
                "123456",
            ],
        )
    };
    assert!(!unblock("11111111").success);
    assert_eq!(rig.tries_left(), 0);
    let done = unblock("87654321");
    assert!(done.success && verify(&rig, "123456"), "{}", done.text);
    // The administrator cannot: the card has a PUK.
    let key = admin_key();
    let text = gids(&rig, &["-U", "--pin", PIN, "--admin-key", &key]);
    assert!(!verify(&rig, PIN) && verify(&rig, "123456"), "{text}");
}

/// Rows 16 and 17: keys from outside, with their certificates.
#[test]
fn opensc_imports_keys() {
    let mut rig = Rig::new();
    rig.administered("Alice", None);
    rig.does(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout s.pem -out s.crt -subj \
         /CN=escrowed -days 30",
    );
    rig.does("openssl pkcs12 -export -inkey s.pem -in s.crt -out s.p12 -passout pass:x");
    rig.does("openssl rsa -in s.pem -outform DER -out s.der");
    rig.does("openssl x509 -in s.crt -pubkey -noout -out s.pub");
    rig.does(&format!(
        "pkcs15-init --reader 0 --store-private-key s.p12 --format pkcs12 --passphrase x \
         --auth-id 80 --verify-pin --pin {PIN} --label imported"
    ));
    let dump = rig.does("pkcs15-tool --reader 0 --dump");
    assert!(
        dump.contains("imported") && dump.contains("X.509 Certificate"),
        "{dump}"
    );
    let shown = rig
        .daemon
        .cardea(&["card", "show", &rig.card_id(), "--json"]);
    assert!(shown.text.contains("\"imported\""), "{}", shown.text);

    // It signs, and decrypts what was encrypted before it came here.
    std::fs::write(rig.folder().join("text"), "for the escrowed key").unwrap();
    rig.does("openssl dgst -sha256 -binary -out digest text");
    rig.does(&format!(
        "pkcs15-crypt --reader 0 --sign --sha-256 --pkcs1 -i digest -o signature --key 00 \
         --pin {PIN}"
    ));
    rig.does(
        "openssl pkeyutl -verify -pubin -inkey s.pub -sigfile signature -in digest -pkeyopt \
         digest:sha256",
    );
    rig.does("openssl pkeyutl -encrypt -pubin -inkey s.pub -in text -out cryptogram");
    rig.does(&format!(
        "pkcs15-crypt --reader 0 --decipher --pkcs1 -i cryptogram -o plain --raw --key 00 \
         --pin {PIN}"
    ));
    assert_eq!(
        std::fs::read(rig.folder().join("plain")).unwrap(),
        b"for the escrowed key"
    );

    // Over PKCS#11: the identifier is the container's index, whatever was asked for.
    rig.does(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout t.pem -out t.crt -subj /CN=second \
         -days 30",
    );
    rig.does("openssl rsa -in t.pem -outform DER -out t.der");
    rig.does("openssl x509 -in t.crt -outform DER -out t.crt.der");
    rig.opensc("--write-object t.der --type privkey --id 42 --label second");
    rig.opensc_refuses("--write-object t.crt.der --type cert --id 42");
    rig.opensc("--write-object t.crt.der --type cert --id 01");
}

/// A key that wants the PIN every time, through a client that knows no such thing.
#[test]
fn opensc_uses_a_key_that_wants_the_pin_every_time() {
    use cardea_client::Client;
    use cardea_client::message::{CardRequest, NewKey, Reply, Request, SecretBytes};

    let rig = Rig::with_card("Alice");
    let mut client = Client::connect(&rig.daemon.socket()).unwrap();
    let reply = client
        .call_with_progress(
            &Request::card(
                rig.card_id(),
                CardRequest::GenerateKey {
                    pin: Some(SecretBytes::new(PIN.as_bytes().to_vec())),
                    key: NewKey {
                        label: Some("signing".into()),
                        class: cardea_client::message::KeyClass::Always,
                        sign_only: true,
                        id: None,
                    },
                    algorithm: cardea_terms::KeyAlgorithm::Rsa2048,
                },
            ),
            std::time::Duration::from_secs(60),
            &mut |_| {},
        )
        .unwrap();
    let Reply::Key(key) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (key.reference, key.class),
        (0x81, cardea_terms::KeyClass::Always)
    );
    rig.does("pkcs15-tool --reader 0 --read-public-key 00 --output pub.pem");
    std::fs::write(rig.folder().join("digest"), [0x5A; 32]).unwrap();
    for round in 0..2 {
        let name = format!("signature{round}");
        rig.does(&format!(
            "pkcs15-crypt --reader 0 --sign --sha-256 --pkcs1 -i digest -o {name} --key 00 --pin \
             {PIN}"
        ));
        let verified = Command::new("openssl")
            .args([
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                "pub.pem",
                "-sigfile",
                &name,
                "-in",
                "digest",
                "-pkeyopt",
                "digest:sha256",
            ])
            .current_dir(rig.folder())
            .status()
            .unwrap();
        assert!(verified.success());
    }
    // PKCS#11 logs in once; OpenSC presents the PIN that it has kept when the card asks again.
    let signed = rig.run(
        "pkcs11-tool",
        &rig.pkcs11(&[
            "--sign",
            "--mechanism",
            "SHA256-RSA-PKCS",
            "--input-file",
            "digest",
            "--output-file",
            "s2",
        ]),
    );
    assert!(signed.success, "{}", signed.text);
    assert_eq!(rig.tries_left(), 5);
}
