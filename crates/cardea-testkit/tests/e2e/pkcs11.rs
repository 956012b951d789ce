//! The PKCS#11 module in a program that we did not write: no pcscd, one round trip to the daemon for each
//! private operation.

use cardea_testkit::rig::PIN;
use cardea_testkit::swtpm::Swtpm;

use cardea_testkit::desk::{Desk, PUK, module};

const LOGIN: [&str; 5] = ["--token-label", "Alice", "--login", "--pin", PIN];

fn login<'a>(further: &[&'a str]) -> Vec<&'a str> {
    [&LOGIN[..], further].concat()
}

#[test]
fn pkcs11_tool_makes_keys_signs_and_deciphers() {
    let desk = Desk::new();
    desk.create("Alice");
    desk.create("Bob");
    let slots = desk.ok(&["--list-slots"]);
    assert!(slots.contains("token label        : Alice"), "{slots}");
    assert!(slots.contains("token label        : Bob"), "{slots}");

    desk.ok(&login(&[
        "--keypairgen",
        "--key-type",
        "rsa:2048",
        "--label",
        "r",
    ]));
    desk.ok(&login(&[
        "--keypairgen",
        "--key-type",
        "EC:prime256v1",
        "--label",
        "e",
    ]));
    let test = desk.ok(&login(&["--test"]));
    // Its exit status is 0 whatever it finds, so the text is read.
    assert!(test.contains("\nNo errors\n"), "{test}");
    assert!(!test.contains("ERR"), "{test}");

    // Without the PIN the keys are not there, and Bob's card has none.
    let listed = desk.ok(&["--token-label", "Alice", "--list-objects"]);
    assert!(listed.contains("Public Key Object; RSA 2048"), "{listed}");
    assert!(!listed.contains("Private Key Object"), "{listed}");
    let listed = desk.ok(&[
        "--token-label",
        "Bob",
        "--login",
        "--pin",
        PIN,
        "--list-objects",
    ]);
    assert!(!listed.contains("Key Object"), "{listed}");
    let listed = desk.ok(&login(&["--list-objects"]));
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
        desk.ok(&login(&[
            "--sign",
            "--mechanism",
            mechanism,
            "--id",
            id,
            "--input-file",
            "message",
            "--output-file",
            "signature",
            "--signature-format",
            "openssl",
        ]));
        desk.ok(&[
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
        desk.openssl(&[
            "pkey", "-pubin", "-inform", "DER", "-in", "key.der", "-out", "key.pem",
        ]);
        let verify = [
            &["dgst", "-verify", "key.pem", "-signature", "signature"],
            further,
            &["message"],
        ];
        let verified = desk.openssl(&verify.concat());
        assert!(verified.contains("Verified OK"), "{mechanism}: {verified}");
    }

    // One truth: what came in here is what the command line shows.
    let shown = desk.daemon.cardea(&["key", "list", "Alice"]);
    assert!(
        shown.success && shown.text.contains("rsa-2048"),
        "{}",
        shown.text
    );
    desk.ok(&login(&[
        "--delete-object",
        "--type",
        "privkey",
        "--label",
        "r",
    ]));
    let shown = desk.daemon.cardea(&["key", "list", "Alice"]);
    assert!(
        shown.success && !shown.text.contains("rsa-2048") && shown.text.contains("p-256"),
        "{}",
        shown.text
    );
}

#[test]
fn wrong_pins_are_counted_told_and_unblocked_by_the_security_officer() {
    let desk = Desk::new();
    desk.create("Alice");
    desk.create("Bob");
    let alice = ["--token-label", "Alice", "--login", "--pin"];
    let with_pin = |pin: &'static str| [&alice[..], &[pin, "--list-objects"]].concat();
    desk.fails(&with_pin("000000"), "CKR_PIN_INCORRECT");
    let slots = desk.ok(&["--list-slots"]);
    assert_eq!(slots.matches("user PIN count low").count(), 1, "{slots}");
    for _ in 0..3 {
        desk.fails(&with_pin("000000"), "CKR_PIN_INCORRECT");
    }
    let slots = desk.ok(&["--list-slots"]);
    assert_eq!(slots.matches("final user PIN try").count(), 1, "{slots}");
    desk.tool(&with_pin("000000"));
    desk.fails(&with_pin(PIN), "CKR_PIN_LOCKED");
    let slots = desk.ok(&["--list-slots"]);
    assert_eq!(slots.matches("user PIN locked").count(), 1, "{slots}");
    // The other card has nothing to do with it.
    desk.ok(&[
        "--token-label",
        "Bob",
        "--login",
        "--pin",
        PIN,
        "--list-objects",
    ]);

    desk.ok(&[
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
    desk.ok(&with_pin("141421"));
    desk.ok(&[
        "--token-label",
        "Alice",
        "--login",
        "--pin",
        "141421",
        "--change-pin",
        "--new-pin",
        "173205",
    ]);
    desk.ok(&with_pin("173205"));
    desk.fails(&with_pin("141421"), "CKR_PIN_INCORRECT");
}

/// `pkcs11-tool` 0.23 makes its key for `--test-ec` with these options only; `--test` alone has EC keys skipped.
#[test]
fn pkcs11_tool_finds_no_errors_and_leaves_no_key_of_its_own() {
    let desk = Desk::with_keys();
    let keys = desk.cardea(&["key", "list", "Alice"]);
    let test = [
        "--session-rw",
        "--test",
        "--test-ec",
        "--key-type",
        "EC:prime256v1",
        "--id",
        "55",
        "--label",
        "temporary",
    ];
    let tested = desk.ok(&login(&test));
    assert!(tested.contains("*** Doing a signature ***"), "{tested}");
    assert!(tested.contains("\nNo errors\n"), "{tested}");
    // Of attributes that it cannot set it only warns.
    assert!(
        !tested.contains("ERR") && !tested.contains("failed"),
        "{tested}"
    );
    assert_eq!(desk.cardea(&["key", "list", "Alice"]), keys);
    // `--test` opens sessions of its own, which are read-write.
    let read_only = desk.tool(&login(&test[2..]));
    assert!(
        read_only.text.contains("CKR_SESSION_READ_ONLY"),
        "{}",
        read_only.text
    );
}

/// A version script would say the same; nothing else must be found in a program that loads the module.
#[test]
fn module_exports_the_functions_of_the_standard_and_nothing_else() {
    let desk = Desk::new();
    let listed = desk.does(&format!("nm -D --defined-only --format=posix {}", module()));
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
    let mut desk = Desk::new();
    desk.create("Alice");
    let other = Swtpm::start(&desk.path("other"));
    desk.move_to(&other);
    let listed = desk.ok(&["--list-slots"]);
    assert!(
        listed.contains("Cardea Alice (made by another TPM"),
        "{listed}"
    );
    assert!(listed.contains("(empty)"), "{listed}");
    assert!(!listed.contains("token label"), "{listed}");
}

#[test]
fn without_a_daemon_there_is_no_slot() {
    let mut desk = Desk::new();
    desk.create("Alice");
    desk.daemon.stop();
    // Its exit status without a slot is 1.
    desk.fails(&["--list-slots"], "No slots");
}
