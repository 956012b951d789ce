//! OpenSC's own tools against a created card, over pcscd: the rows of the GIDS test plan that need
//! neither PUK nor administrator, in the plan's order, with the results measured there.

use cardea_testkit::rig::{PIN, Rig};

/// Session of one card from its first listing to the deletion of its key.
///
/// One test and not twenty: each step uses what the one before it made, as a person would.
#[test]
fn opensc_reads_and_writes_a_created_card() {
    let rig = Rig::with_card("Alice");
    let tmp = rig.folder().to_path_buf();
    let path = |name: &str| tmp.join(name).display().to_string();

    // 1, 2: the ATR and the driver that claims it.
    let atr = rig.ok("opensc-tool", &["--reader", "0", "--atr"]);
    assert!(
        atr.contains("3b:8d:01:80:fb:a0:00:00:03:97:42:54:46:59:02:01:c9"),
        "{atr}"
    );
    assert!(
        rig.ok("opensc-tool", &["--reader", "0", "--name"])
            .contains("GIDS Smart Card")
    );

    // 4: the directory of a fresh card.
    let listing = rig.ok("gids-tool", &["--reader", "0"]);
    assert!(listing.contains("no container found"), "{listing}");
    assert!(
        listing.contains("Contains 5 entries")
            || listing.matches("FileName").count() == 5
            || listing.contains("5 entr"),
        "{listing}"
    );

    // 6: OpenSC's serial number is the GIDS card id, which starts as the internal one.
    let serial = rig.ok("opensc-tool", &["--reader", "0", "--serial"]);
    let digits: String = serial
        .lines()
        .next()
        .unwrap()
        .chars()
        .take(47)
        .filter(char::is_ascii_hexdigit)
        .collect();
    assert_eq!(digits.to_lowercase(), rig.card_id());

    // 7: what a PKCS#15 client is told about the card and its PIN.
    let dump = rig.ok("pkcs15-tool", &["--reader", "0", "--dump"]);
    for expected in [
        "GIDS card",
        "Version        : 2",
        "www.mysmartlogon.com",
        "ID             : 80",
        "Reference      : 128",
        "min_len:4, max_len:15",
        "Tries left     : 5",
    ] {
        assert!(dump.contains(expected), "{expected} is not in\n{dump}");
    }
    assert!(!dump.contains("PUK"), "{dump}");

    // 8, 9: an exchange key, and a signature key with OpenSC's `83` in its templates.
    rig.ok(
        "pkcs15-init",
        &generate(&["--label", "k1", "--key-usage", "sign,decrypt"]),
    );
    rig.ok("pkcs15-init", &generate(&["--label", "k2"]));
    let dump = rig.ok("pkcs15-tool", &["--reader", "0", "--dump"]);
    assert!(
        dump.contains("3fffb081") && dump.contains("3fffb082"),
        "{dump}"
    );

    // 10, 11: key generation over PKCS#11; elliptic curves never reach the card.
    rig.ok(
        "pkcs11-tool",
        &rig.pkcs11(&["--keypairgen", "--key-type", "rsa:2048", "--label", "k3"]),
    );
    rig.fails(
        "pkcs11-tool",
        &rig.pkcs11(&[
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            "e1",
        ]),
    );

    // 12: the module's self-test. GIDS has no GET CHALLENGE, so OpenSC offers no random numbers:
    // that one complaint is OpenSC's, the same on every GIDS card.
    let test = rig.ok("pkcs11-tool", &rig.pkcs11(&["--test"]));
    // Its exit status is 0 whatever it finds, so the text is read.
    let errors: Vec<_> = test.lines().filter(|line| line.contains("ERR")).collect();
    assert!(
        errors
            .iter()
            .all(|line| line.contains("C_GenerateRandom failed: CKR_FUNCTION_NOT_SUPPORTED")),
        "{test}"
    );
    assert!(test.contains("1 errors"), "{test}");
    assert!(
        test.contains("Signatures") && test.contains("Decryption"),
        "{test}"
    );

    // 13, 14, 15: public key, certificate back byte for byte, a certificate without key refused.
    rig.ok(
        "pkcs15-tool",
        &[
            "--reader",
            "0",
            "--read-public-key",
            "00",
            "--output",
            &path("pub.pem"),
        ],
    );
    rig.issue_certificate("pub.pem", "card.pem", "/CN=Alice");
    rig.ok(
        "pkcs15-init",
        &[
            "--reader",
            "0",
            "--store-certificate",
            &path("card.pem"),
            "--id",
            "00",
            "--auth-id",
            "80",
            "--verify-pin",
            "--pin",
            PIN,
        ],
    );
    rig.ok(
        "pkcs15-tool",
        &[
            "--reader",
            "0",
            "--read-certificate",
            "00",
            "--output",
            &path("back.pem"),
        ],
    );
    assert_eq!(rig.der("card.pem"), rig.der("back.pem"));
    rig.fails(
        "pkcs15-init",
        &[
            "--reader",
            "0",
            "--store-certificate",
            &path("ca.pem"),
            "--id",
            "77",
            "--auth-id",
            "80",
            "--verify-pin",
            "--pin",
            PIN,
        ],
    );

    // 18: a signature by the card verifies with OpenSSL; and not over other data.
    std::fs::write(tmp.join("data"), b"what is signed").unwrap();
    rig.ok(
        "openssl",
        &[
            "dgst",
            "-sha256",
            "-binary",
            "-out",
            &path("data.sha256"),
            &path("data"),
        ],
    );
    rig.ok(
        "pkcs15-crypt",
        &[
            "--reader",
            "0",
            "--sign",
            "--sha-256",
            "--pkcs1",
            "--input",
            &path("data.sha256"),
            "--output",
            &path("data.sig"),
            "--key",
            "00",
            "--pin",
            PIN,
        ],
    );
    let verify = |data: &str| {
        rig.run(
            "openssl",
            &[
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                &path("pub.pem"),
                "-sigfile",
                &path("data.sig"),
                "-in",
                data,
                "-pkeyopt",
                "digest:sha256",
            ],
        )
        .success
    };
    assert!(verify(&path("data.sha256")));
    std::fs::write(tmp.join("other.sha256"), [0x5a; 32]).unwrap();
    assert!(!verify(&path("other.sha256")));

    // 19: what OpenSSL encrypts, the card decrypts.
    std::fs::write(tmp.join("plain"), b"a secret for Alice").unwrap();
    rig.ok(
        "openssl",
        &[
            "pkeyutl",
            "-encrypt",
            "-pubin",
            "-inkey",
            &path("pub.pem"),
            "-in",
            &path("plain"),
            "-out",
            &path("cipher"),
        ],
    );
    rig.ok(
        "pkcs15-crypt",
        &[
            "--reader",
            "0",
            "--decipher",
            "--pkcs1",
            "--raw",
            "--input",
            &path("cipher"),
            "--output",
            &path("plain2"),
            "--key",
            "00",
            "--pin",
            PIN,
        ],
    );
    assert_eq!(
        std::fs::read(tmp.join("plain2")).unwrap(),
        b"a secret for Alice"
    );
    rig.ok(
        "pkcs11-tool",
        &rig.pkcs11(&[
            "--decrypt",
            "--mechanism",
            "RSA-PKCS",
            "--id",
            "00",
            "--input-file",
            &path("cipher"),
            "--output-file",
            &path("plain3"),
        ]),
    );
    assert_eq!(
        std::fs::read(tmp.join("plain3")).unwrap(),
        b"a secret for Alice"
    );
    std::fs::write(tmp.join("garbage"), [0x11; 256]).unwrap();
    rig.fails(
        "pkcs11-tool",
        &rig.pkcs11(&[
            "--decrypt",
            "--mechanism",
            "RSA-PKCS",
            "--id",
            "00",
            "--input-file",
            &path("garbage"),
            "--output-file",
            &path("plain4"),
        ]),
    );

    // 20, 21: hashing signatures, and the mechanisms OpenSC does not have.
    rig.ok(
        "pkcs11-tool",
        &rig.pkcs11(&[
            "--sign",
            "--mechanism",
            "SHA256-RSA-PKCS",
            "--id",
            "00",
            "--input-file",
            &path("data"),
            "--output-file",
            &path("data.sig2"),
        ]),
    );
    rig.ok(
        "openssl",
        &[
            "dgst",
            "-sha256",
            "-verify",
            &path("pub.pem"),
            "-signature",
            &path("data.sig2"),
            &path("data"),
        ],
    );
    for mechanism in ["RSA-X-509", "RSA-PKCS-OAEP"] {
        rig.fails(
            "pkcs11-tool",
            &rig.pkcs11(&[
                "--decrypt",
                "--mechanism",
                mechanism,
                "--id",
                "00",
                "--input-file",
                &path("cipher"),
            ]),
        );
    }
    let mechanisms = rig.ok("pkcs11-tool", &rig.pkcs11(&["--list-mechanisms"]));
    assert!(
        mechanisms.contains("RSA-PKCS,") && mechanisms.contains("RSA-PKCS-KEY-PAIR-GEN"),
        "{mechanisms}"
    );

    // 22: the PIN changes, the old one stops working, and back.
    rig.ok(
        "pkcs15-tool",
        &[
            "--reader",
            "0",
            "--change-pin",
            "--pin",
            PIN,
            "--new-pin",
            "1234567",
        ],
    );
    rig.fails(
        "pkcs15-tool",
        &["--reader", "0", "--verify-pin", "--pin", PIN],
    );
    rig.ok(
        "pkcs15-tool",
        &["--reader", "0", "--verify-pin", "--pin", "1234567"],
    );
    let module = cardea_testkit::rig::opensc_module();
    rig.ok(
        "pkcs11-tool",
        &[
            "--module",
            module,
            "--login",
            "--pin",
            "1234567",
            "--change-pin",
            "--new-pin",
            PIN,
        ],
    );
    rig.ok(
        "pkcs15-tool",
        &["--reader", "0", "--verify-pin", "--pin", PIN],
    );

    // 26 without PUK: refused, and the PIN is what it was.
    rig.fails(
        "pkcs15-tool",
        &[
            "--reader",
            "0",
            "--unblock-pin",
            "--puk",
            "12345678",
            "--new-pin",
            "999999",
        ],
    );
    rig.ok(
        "pkcs15-tool",
        &["--reader", "0", "--verify-pin", "--pin", PIN],
    );

    // 27: deletion; the next key takes the free place.
    rig.ok(
        "pkcs11-tool",
        &rig.pkcs11(&["--delete-object", "--type", "cert", "--id", "00"]),
    );
    rig.fails(
        "pkcs15-tool",
        &["--reader", "0", "--read-certificate", "00"],
    );
    rig.ok(
        "pkcs15-init",
        &[
            "--reader",
            "0",
            "--delete-objects",
            "privkey,pubkey",
            "--id",
            "00",
            "--auth-id",
            "80",
            "--verify-pin",
            "--pin",
            PIN,
        ],
    );
    rig.ok(
        "pkcs15-init",
        &generate(&["--label", "k4", "--key-usage", "sign,decrypt"]),
    );
    rig.ok(
        "pkcs15-tool",
        &[
            "--reader",
            "0",
            "--read-public-key",
            "00",
            "--output",
            &path("pub4.pem"),
        ],
    );
    assert_ne!(
        std::fs::read(tmp.join("pub.pem")).unwrap(),
        std::fs::read(tmp.join("pub4.pem")).unwrap()
    );

    // 29: what GIDS cards do not do, they refuse without losing anything.
    rig.fails(
        "pkcs15-init",
        &[
            "--reader",
            "0",
            "--create-pkcs15",
            "--pin",
            PIN,
            "--puk",
            "12345678",
        ],
    );
    rig.fails("pkcs15-init", &["--reader", "0", "--erase-card"]);
    rig.ok("pkcs15-tool", &["--reader", "0", "--read-public-key", "01"]);
}

/// Row 23: the TPM counts, OpenSC shows, and the right PIN no longer helps.
#[test]
fn opensc_blocks_the_pin_with_five_wrong_ones() {
    let rig = Rig::with_card("Bob");
    for left in (0..5).rev() {
        let refused = rig.fails(
            "pkcs15-tool",
            &["--reader", "0", "--verify-pin", "--pin", "111111"],
        );
        if left > 0 {
            assert!(refused.contains("PIN code or key incorrect"), "{refused}");
        }
        assert_eq!(rig.tries_left(), left);
    }
    let refused = rig.fails(
        "pkcs15-tool",
        &["--reader", "0", "--verify-pin", "--pin", PIN],
    );
    assert!(
        refused.contains("Authentication method blocked"),
        "{refused}"
    );
    let slots = rig.ok(
        "pkcs11-tool",
        &[
            "--module",
            cardea_testkit::rig::opensc_module(),
            "--list-slots",
        ],
    );
    assert!(slots.contains("user PIN locked"), "{slots}");
}

/// Section 4.4: a card without file system is recognised and not more.
#[test]
fn opensc_knows_a_blank_card_but_cannot_bind_it() {
    let rig = Rig::with_blank_card("Blank");
    assert!(
        rig.ok("opensc-tool", &["--reader", "0", "--name"])
            .contains("GIDS Smart Card")
    );
    let refused = rig.fails("pkcs15-tool", &["--reader", "0", "--dump"]);
    assert!(refused.contains("Unsupported card"), "{refused}");
    let refused = rig.ok("gids-tool", &["--reader", "0"]);
    assert!(refused.contains("Is that a new card ?"), "{refused}");
}

/// Row 31: transactions and re-selection hold between two programs.
#[test]
fn two_opensc_processes_share_a_card() {
    let rig = Rig::with_card("Shared");
    rig.ok(
        "pkcs15-init",
        &generate(&["--label", "k1", "--key-usage", "sign,decrypt"]),
    );
    std::thread::scope(|scope| {
        let signer = scope.spawn(|| {
            for _ in 0..3 {
                rig.ok("pkcs11-tool", &rig.pkcs11(&["--test"]));
            }
        });
        let reader = scope.spawn(|| {
            for _ in 0..6 {
                rig.ok("pkcs15-tool", &["--reader", "0", "--dump"]);
            }
        });
        signer.join().unwrap();
        reader.join().unwrap();
    });
}

/// Row 32: a reset ends the verification.
#[test]
fn reset_asks_for_the_pin_again() {
    let rig = Rig::with_card("Reset");
    rig.ok(
        "pkcs15-init",
        &generate(&["--label", "k1", "--key-usage", "sign,decrypt"]),
    );
    let verified = rig.ok(
        "opensc-tool",
        &[
            "--reader",
            "0",
            "--card-driver",
            "default",
            "--send-apdu",
            "00A4040009A00000039742544659",
            "--send-apdu",
            "0020008006323731383238",
            "--send-apdu",
            "002241B606800157840181",
        ],
    );
    assert_eq!(
        verified.matches("SW1=0x90, SW2=0x00").count(),
        3,
        "{verified}"
    );
    rig.ok("opensc-tool", &["--reader", "0", "--reset"]);
    let after = rig.ok(
        "opensc-tool",
        &[
            "--reader",
            "0",
            "--card-driver",
            "default",
            "--send-apdu",
            "002241B606800157840181",
        ],
    );
    assert!(after.contains("SW1=0x69, SW2=0x82"), "{after}");
}

/// Row 28: other PKCS#11 programs list and use the keys through OpenSC's module.
#[test]
fn ssh_gnutls_and_nss_see_the_key_through_opensc() {
    let rig = Rig::with_card("Others");
    let tmp = rig.folder().to_path_buf();
    rig.ok(
        "pkcs15-init",
        &generate(&["--label", "k1", "--key-usage", "sign,decrypt"]),
    );
    let module = cardea_testkit::rig::opensc_module();
    let keys = rig.ok("ssh-keygen", &["-D", module]);
    assert!(keys.contains("ssh-rsa "), "{keys}");
    let listing = rig.ok("p11tool", &["--provider", module, "--list-all"]);
    assert!(listing.contains("Label: k1"), "{listing}");
    let database = format!("sql:{}", tmp.display());
    rig.ok("certutil", &["-N", "-d", &database, "--empty-password"]);
    rig.ok(
        "modutil",
        &[
            "-force", "-dbdir", &database, "-add", "opensc", "-libfile", module,
        ],
    );
    std::fs::write(tmp.join("pin"), format!("{PIN}\n")).unwrap();
    let keys = rig.ok(
        "certutil",
        &[
            "-K",
            "-d",
            &database,
            "-h",
            "all",
            "-f",
            &tmp.join("pin").display().to_string(),
        ],
    );
    assert!(keys.contains("rsa") && keys.contains("k1"), "{keys}");
}

/// Key generation by `pkcs15-init` with these further arguments.
fn generate<'a>(further: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "--reader",
        "0",
        "--generate-key",
        "rsa/2048",
        "--auth-id",
        "80",
        "--verify-pin",
        "--pin",
        PIN,
    ];
    arguments.extend_from_slice(further);
    arguments
}
