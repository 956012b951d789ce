//! The PKCS#11 module in a program that we did not write: no pcscd, one round trip to the daemon for each
//! private operation.

use cardea_testkit::rig::PIN;
use cardea_testkit::swtpm::Swtpm;

use cardea_testkit::workplace::{PUK, Workplace, module};

const LOGIN: [&str; 5] = ["--token-label", "Alice", "--login", "--pin", PIN];

/// Arguments of `pkcs11-tool`, with blanks between, after those of a login.
fn login(line: &str) -> Vec<&str> {
    LOGIN
        .into_iter()
        .chain(line.split_ascii_whitespace())
        .collect()
}

#[test]
fn pkcs11_tool_makes_keys_signs_and_deciphers() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    workplace.create("Bob");
    let slots = workplace.ok(&["--list-slots"]);
    assert!(slots.contains("token label        : Alice"), "{slots}");
    assert!(slots.contains("token label        : Bob"), "{slots}");

    workplace.ok(&login("--keypairgen --key-type rsa:2048 --label r"));
    workplace.ok(&login("--keypairgen --key-type EC:prime256v1 --label e"));
    let test = workplace.ok(&login("--test"));
    // Its exit status is 0 whatever it finds, so the text is read.
    assert!(test.contains("\nNo errors\n"), "{test}");
    assert!(!test.contains("ERR"), "{test}");

    // Without the PIN the keys are not there, and Bob's card has none.
    let listed = workplace.ok(&["--token-label", "Alice", "--list-objects"]);
    assert!(listed.contains("Public Key Object; RSA 2048"), "{listed}");
    assert!(!listed.contains("Private Key Object"), "{listed}");
    let listed = workplace.ok(&[
        "--token-label",
        "Bob",
        "--login",
        "--pin",
        PIN,
        "--list-objects",
    ]);
    assert!(!listed.contains("Key Object"), "{listed}");
    let listed = workplace.ok(&login("--list-objects"));
    assert!(
        listed.contains("sensitive, always sensitive, never extractable, local"),
        "{listed}"
    );

    for (id, mechanism, further) in [
        ("00", "SHA256-RSA-PKCS", &["-sha256"][..]),
        ("00", "SHA384-RSA-PKCS", &["-sha384"]),
        (
            "00",
            "SHA256-RSA-PKCS-PSS",
            &["-sha256", "-sigopt", "rsa_padding_mode:pss"],
        ),
        ("1d", "ECDSA-SHA256", &["-sha256"]),
        ("1d", "ECDSA-SHA384", &["-sha384"]),
    ] {
        workplace.ok(&login(&format!(
            "--sign --mechanism {mechanism} --id {id} --input-file message --output-file \
             signature --signature-format openssl"
        )));
        workplace.ok(&[
            "--token-label",
            "Alice",
            "--read-object",
            "--type",
            "pubkey",
            "--id",
            id,
            "--output-file",
            "key.der",
        ]);
        workplace.openssl(&[
            "pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem",
        ]);
        let verify = [
            &["dgst", "-verify", "key.pem", "-signature", "signature"],
            further,
            &["message"],
        ];
        let verified = workplace.openssl(&verify.concat());
        assert!(verified.contains("Verified OK"), "{mechanism}: {verified}");
    }

    // One truth: what came in here is what the command line shows.
    let shown = workplace.daemon.cardea(&["key", "list", "Alice"]);
    assert!(
        shown.success && shown.text.contains("rsa-2048"),
        "{}",
        shown.text
    );
    workplace.ok(&login("--delete-object --type privkey --label r"));
    let shown = workplace.daemon.cardea(&["key", "list", "Alice"]);
    assert!(
        shown.success && !shown.text.contains("rsa-2048") && shown.text.contains("p-256"),
        "{}",
        shown.text
    );
}

#[test]
fn wrong_pins_are_counted_told_and_unblocked_by_the_security_officer() {
    let workplace = Workplace::new();
    workplace.create("Alice");
    workplace.create("Bob");
    let alice = ["--token-label", "Alice", "--login", "--pin"];
    let with_pin = |pin: &'static str| [&alice[..], &[pin, "--list-objects"]].concat();
    workplace.fails(&with_pin("000000"), "CKR_PIN_INCORRECT");
    let slots = workplace.ok(&["--list-slots"]);
    assert_eq!(slots.matches("user PIN count low").count(), 1, "{slots}");
    for _ in 0..3 {
        workplace.fails(&with_pin("000000"), "CKR_PIN_INCORRECT");
    }
    let slots = workplace.ok(&["--list-slots"]);
    assert_eq!(slots.matches("final user PIN try").count(), 1, "{slots}");
    workplace.tool(&with_pin("000000"));
    workplace.fails(&with_pin(PIN), "CKR_PIN_LOCKED");
    let slots = workplace.ok(&["--list-slots"]);
    assert_eq!(slots.matches("user PIN locked").count(), 1, "{slots}");
    // The other card has nothing to do with it.
    workplace.ok(&[
        "--token-label",
        "Bob",
        "--login",
        "--pin",
        PIN,
        "--list-objects",
    ]);

    workplace.ok(&[
        "--token-label",
        "Alice",
        "--login",
        "--login-type",
        "so",
        "--so-pin",
        PUK,
        "--init-pin",
        "--new-pin",
        "141421",
    ]);
    workplace.ok(&with_pin("141421"));
    workplace.ok(&[
        "--token-label",
        "Alice",
        "--login",
        "--pin",
        "141421",
        "--change-pin",
        "--new-pin",
        "173205",
    ]);
    workplace.ok(&with_pin("173205"));
    workplace.fails(&with_pin("141421"), "CKR_PIN_INCORRECT");
}

/// `pkcs11-tool` 0.23 makes its key for `--test-ec` with these options only; `--test` alone has EC keys skipped.
#[test]
fn pkcs11_tool_finds_no_errors_and_leaves_no_key_of_its_own() {
    let workplace = Workplace::with_keys();
    let keys = workplace.cardea(&["key", "list", "Alice"]);
    let test = "--test-ec --key-type EC:prime256v1 --id 55 --label temporary";
    let tested = workplace.ok(&login(&format!("--session-rw --test {test}")));
    assert!(tested.contains("*** Doing a signature ***"), "{tested}");
    assert!(tested.contains("\nNo errors\n"), "{tested}");
    // Of attributes that it cannot set it only warns.
    assert!(
        !tested.contains("ERR") && !tested.contains("failed"),
        "{tested}"
    );
    assert_eq!(workplace.cardea(&["key", "list", "Alice"]), keys);
    // `--test` opens sessions of its own, which are read-write.
    let read_only = workplace.tool(&login(test));
    assert!(
        read_only.text.contains("CKR_SESSION_READ_ONLY"),
        "{}",
        read_only.text
    );
}

/// GIDS has room for one in the key's container: the newest valid one, or what `cert import` put there.
#[test]
fn second_certificate_of_a_key_is_kept_beside_the_first() {
    let workplace = Workplace::with_keys();
    let public = workplace.public("ec");
    let issue = |name: &str| {
        let certificate = workplace.issue(&public, name);
        workplace.does(&format!(
            "openssl x509 -in {certificate} -outform der -out {name}.der"
        ));
    };
    let store = |name: &str, id: &str| {
        issue(name);
        let write = format!("--write-object {name}.der --type cert --id {id} --label {name}");
        workplace.ok(&login(&write));
    };
    let has = |expected: &[(&str, &str)]| {
        let listed = ["--token-label", "Alice", "--list-objects", "--type", "cert"];
        let shown = workplace.ok(&listed);
        let count = shown.matches("Certificate Object").count();
        assert_eq!(count, expected.len(), "{shown}");
        for (name, id) in expected {
            let object = shown.split("Certificate Object").find(|object| {
                object.contains(&format!("label:      {name}\n"))
                    && object.contains(&format!("ID:         {id}\n"))
            });
            assert!(object.is_some(), "{name} in {shown}");
        }
    };
    // The key's own identifier is 1d.
    store("own", "1d");
    has(&[("own", "1d")]);
    store("first", "aa01");
    store("second", "aa02");
    has(&[("own", "1d"), ("first", "aa01"), ("second", "aa02")]);
    workplace.does("openssl x509 -in ca.pem -outform der -out ca.der");
    workplace.ok(&login("--write-object ca.der --type cert --label ca"));
    let headings = || -> Vec<String> {
        let listed = workplace.cardea(&["cert", "list", "Alice"]);
        let headings = listed.lines().filter(|line| !line.starts_with(' '));
        headings.map(str::to_owned).collect()
    };
    let of_key = headings()
        .into_iter()
        .filter(|line| line.contains("\"ec\""));
    let of_key: Vec<_> = of_key.collect();
    assert!(of_key[0].starts_with("key "), "{of_key:?}");
    assert!(of_key[1].starts_with("kept beside key "), "{of_key:?}");
    assert_eq!(of_key.len(), 3, "{of_key:?}");
    assert_eq!(headings().last().unwrap(), "kept, of no key on this card");
    workplace.ok(&login("--delete-object --type cert --label ca"));
    let exported = |name: &str| {
        let out = workplace.text(name);
        workplace.cardea(&["cert", "export", "Alice", "ec", "--out", &out]);
        workplace.does(&format!("openssl x509 -in {name} -noout -subject"))
    };
    assert!(exported("container").contains("second"));

    workplace.ok(&login("--delete-object --type cert --label second"));
    has(&[("own", "1d"), ("first", "aa01")]);
    assert!(!exported("container").contains("second"));
    // By hand.
    let own = workplace.text("own.pem");
    workplace.with_pin(&["cert", "import", "Alice", &own]);
    has(&[("own", "1d"), ("first", "aa01")]);
    assert!(exported("container").contains("own"));
    let first = workplace.does("openssl x509 -in first.pem -noout -fingerprint -sha256");
    let (_, first) = first.trim().split_once('=').unwrap();
    workplace.with_pin(&["cert", "delete", "Alice", "--yes", "--sha256", first]);
    has(&[("own", "1d")]);
}

/// A version script would say the same; nothing else must be found in a program that loads the module.
#[test]
fn module_exports_the_functions_of_the_standard_and_nothing_else() {
    let workplace = Workplace::new();
    let listed = workplace.does(&format!("nm -D --defined-only --format=posix {}", module()));
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    // 68 of version 2.40 and 24 of version 3.
    assert_eq!(names.len(), 92, "{listed}");
    assert!(names.iter().all(|name| name.starts_with("C_")), "{listed}");
}

#[test]
fn slot_of_a_card_that_cannot_be_used_has_no_token_and_says_why() {
    let mut workplace = Workplace::new();
    workplace.create("Alice");
    let other = Swtpm::start(&workplace.path("other"));
    workplace.move_to(&other);
    let listed = workplace.ok(&["--list-slots"]);
    assert!(
        listed.contains("Cardea Alice (made by another TPM"),
        "{listed}"
    );
    assert!(listed.contains("(empty)"), "{listed}");
    assert!(!listed.contains("token label"), "{listed}");
}

#[test]
fn without_a_daemon_there_is_no_slot() {
    let mut workplace = Workplace::new();
    workplace.create("Alice");
    workplace.daemon.stop();
    // Its exit status without a slot is 1.
    workplace.fails(&["--list-slots"], "No slots");
}
