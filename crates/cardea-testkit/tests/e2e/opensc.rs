//! OpenSC's own tools against a created card, over pcscd: the rows of the GIDS test plan that need
//! neither PUK nor administrator, in the plan's order, with the results measured there.

use cardea_testkit::process;
use cardea_testkit::rig::{PIN, Rig};

/// Session of one card from its first listing to the deletion of its key.
///
/// One test and not twenty: each step uses what the one before it made, as a person would.
#[test]
fn opensc_reads_and_writes_a_created_card() {
    let rig = Rig::with_card("Alice");
    is_recognised(&rig);
    makes_keys(&rig);
    stores_certificates(&rig);
    signs(&rig);
    decrypts(&rig);
    knows_its_mechanisms(&rig);
    changes_the_pin(&rig);
    deletes_and_refuses(&rig);
}

/// The card as readers of its kind see it.
fn is_recognised(rig: &Rig) {
    // 1, 2: the ATR and the driver that claims it.
    let atr = rig.does("opensc-tool --reader 0 --atr");
    assert!(
        atr.contains("3b:8d:01:80:fb:a0:00:00:03:97:42:54:46:59:02:01:c9"),
        "{atr}"
    );
    assert!(
        rig.does("opensc-tool --reader 0 --name")
            .contains("GIDS Smart Card")
    );

    // 4: the directory of a fresh card.
    let listing = rig.does("gids-tool --reader 0");
    assert!(listing.contains("no container found"), "{listing}");
    assert!(
        listing.contains("Contains 5 entries")
            || listing.matches("FileName").count() == 5
            || listing.contains("5 entr"),
        "{listing}"
    );

    // 6: OpenSC's serial number is the GIDS card id, which starts as the internal one.
    let serial = rig.does("opensc-tool --reader 0 --serial");
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
    let dump = rig.does("pkcs15-tool --reader 0 --dump");
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
}

/// Keys, by both ways that OpenSC has.
fn makes_keys(rig: &Rig) {
    // 8, 9: an exchange key, and a signature key with OpenSC's `83` in its templates.
    rig.ok(
        "pkcs15-init",
        &generate(&["--label", "k1", "--key-usage", "sign,decrypt"]),
    );
    rig.ok("pkcs15-init", &generate(&["--label", "k2"]));
    let dump = rig.does("pkcs15-tool --reader 0 --dump");
    assert!(
        dump.contains("3fffb081") && dump.contains("3fffb082"),
        "{dump}"
    );

    // 10, 11: key generation over PKCS#11; elliptic curves never reach the card.
    rig.opensc("--keypairgen --key-type rsa:2048 --label k3");
    rig.opensc_refuses("--keypairgen --key-type EC:prime256v1 --label e1");

    // 12: the module's self-test. GIDS has no GET CHALLENGE, so OpenSC offers no random numbers:
    // that one complaint (three lines of it in 0.26) is OpenSC's, the same on every GIDS card.
    let test = rig.opensc("--test");
    // Its exit status is 0 whatever it finds, so the text is read.
    let errors: Vec<_> = test.lines().filter(|line| line.contains("ERR")).collect();
    assert!(
        errors
            .iter()
            .all(|line| line.contains("C_GenerateRandom")
                && line.contains("CKR_FUNCTION_NOT_SUPPORTED")),
        "{test}"
    );
    assert!(test.contains(&format!("{} errors", errors.len())), "{test}");
    assert!(
        test.contains("Signatures") && test.contains("Decryption"),
        "{test}"
    );
}

/// Rows 13, 14, 15: public key, certificate back byte for byte, a certificate without key refused.
fn stores_certificates(rig: &Rig) {
    rig.does("pkcs15-tool --reader 0 --read-public-key 00 --output pub.pem");
    rig.issue_certificate("pub.pem", "card.pem", "/CN=Alice");
    rig.does(&format!(
        "pkcs15-init --reader 0 --store-certificate card.pem --id 00 --auth-id 80 \
         --verify-pin --pin {PIN}"
    ));
    rig.does("pkcs15-tool --reader 0 --read-certificate 00 --output back.pem");
    assert_eq!(rig.der("card.pem"), rig.der("back.pem"));
    rig.refuses(&format!(
        "pkcs15-init --reader 0 --store-certificate ca.pem --id 77 --auth-id 80 --verify-pin \
         --pin {PIN}"
    ));
}

/// Row 18: a signature by the card verifies with OpenSSL; and not over other data.
fn signs(rig: &Rig) {
    std::fs::write(rig.folder().join("data"), b"what is signed").unwrap();
    rig.does("openssl dgst -sha256 -binary -out data.sha256 data");
    rig.does(&format!(
        "pkcs15-crypt --reader 0 --sign --sha-256 --pkcs1 --input data.sha256 --output \
         data.sig --key 00 --pin {PIN}"
    ));
    let verify = "openssl pkeyutl -verify -pubin -inkey pub.pem -sigfile data.sig -pkeyopt digest:sha256 -in";
    rig.does(&format!("{verify} data.sha256"));
    std::fs::write(rig.folder().join("other.sha256"), [0x5a; 32]).unwrap();
    rig.refuses(&format!("{verify} other.sha256"));
}

/// Row 19: what OpenSSL encrypts, the card decrypts.
fn decrypts(rig: &Rig) {
    std::fs::write(rig.folder().join("plain"), b"a secret for Alice").unwrap();
    rig.does("openssl pkeyutl -encrypt -pubin -inkey pub.pem -in plain -out cipher");
    rig.does(&format!(
        "pkcs15-crypt --reader 0 --decipher --pkcs1 --raw --input cipher --output plain2 \
         --key 00 --pin {PIN}"
    ));
    assert_eq!(
        std::fs::read(rig.folder().join("plain2")).unwrap(),
        b"a secret for Alice"
    );
    rig.opensc("--decrypt --mechanism RSA-PKCS --id 00 --input-file cipher --output-file plain3");
    assert_eq!(
        std::fs::read(rig.folder().join("plain3")).unwrap(),
        b"a secret for Alice"
    );
    std::fs::write(rig.folder().join("garbage"), [0x11; 256]).unwrap();
    let garbage =
        "--decrypt --mechanism RSA-PKCS --id 00 --input-file garbage --output-file plain4";
    if process::openssl_pretends_to_decrypt() {
        rig.opensc(garbage);
    } else {
        rig.opensc_refuses(garbage);
    }
}

/// Rows 20, 21: hashing signatures, and the mechanisms OpenSC does not have.
fn knows_its_mechanisms(rig: &Rig) {
    rig.opensc(
        "--sign --mechanism SHA256-RSA-PKCS --id 00 --input-file data --output-file data.sig2",
    );
    rig.does("openssl dgst -sha256 -verify pub.pem -signature data.sig2 data");
    for mechanism in ["RSA-X-509", "RSA-PKCS-OAEP"] {
        rig.opensc_refuses(&format!(
            "--decrypt --mechanism {mechanism} --id 00 --input-file cipher"
        ));
    }
    let mechanisms = rig.opensc("--list-mechanisms");
    assert!(
        mechanisms.contains("RSA-PKCS,") && mechanisms.contains("RSA-PKCS-KEY-PAIR-GEN"),
        "{mechanisms}"
    );
}

/// Row 22: the PIN changes, the old one stops working, and back.
fn changes_the_pin(rig: &Rig) {
    rig.does(&format!(
        "pkcs15-tool --reader 0 --change-pin --pin {PIN} --new-pin 1234567"
    ));
    rig.refuses(&format!("pkcs15-tool --reader 0 --verify-pin --pin {PIN}"));
    rig.does("pkcs15-tool --reader 0 --verify-pin --pin 1234567");
    let module = cardea_testkit::rig::opensc_module();
    rig.does(&format!(
        "pkcs11-tool --module {module} --login --pin 1234567 --change-pin --new-pin {PIN}"
    ));
    rig.does(&format!("pkcs15-tool --reader 0 --verify-pin --pin {PIN}"));

    // 26 without PUK: refused, and the PIN is what it was.
    rig.refuses("pkcs15-tool --reader 0 --unblock-pin --puk 12345678 --new-pin 999999");
    rig.does(&format!("pkcs15-tool --reader 0 --verify-pin --pin {PIN}"));
}

/// Row 27: deletion; the next key takes the free place.
fn deletes_and_refuses(rig: &Rig) {
    rig.opensc("--delete-object --type cert --id 00");
    rig.refuses("pkcs15-tool --reader 0 --read-certificate 00");
    rig.does(&format!(
        "pkcs15-init --reader 0 --delete-objects privkey,pubkey --id 00 --auth-id 80 \
         --verify-pin --pin {PIN}"
    ));
    rig.ok(
        "pkcs15-init",
        &generate(&["--label", "k4", "--key-usage", "sign,decrypt"]),
    );
    rig.does("pkcs15-tool --reader 0 --read-public-key 00 --output pub4.pem");
    assert_ne!(
        std::fs::read(rig.folder().join("pub.pem")).unwrap(),
        std::fs::read(rig.folder().join("pub4.pem")).unwrap()
    );

    // 29: what GIDS cards do not do, they refuse without losing anything.
    rig.refuses(&format!(
        "pkcs15-init --reader 0 --create-pkcs15 --pin {PIN} --puk 12345678"
    ));
    rig.refuses("pkcs15-init --reader 0 --erase-card");
    rig.does("pkcs15-tool --reader 0 --read-public-key 01");
}

/// Row 23: the TPM counts, OpenSC shows, and the right PIN no longer helps.
#[test]
fn opensc_blocks_the_pin_with_five_wrong_ones() {
    let rig = Rig::with_card("Bob");
    for left in (0..5).rev() {
        let refused = rig.refuses("pkcs15-tool --reader 0 --verify-pin --pin 111111");
        if left > 0 {
            assert!(refused.contains("PIN code or key incorrect"), "{refused}");
        }
        assert_eq!(rig.tries_left(), left);
    }
    let refused = rig.refuses(&format!("pkcs15-tool --reader 0 --verify-pin --pin {PIN}"));
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
        rig.does("opensc-tool --reader 0 --name")
            .contains("GIDS Smart Card")
    );
    let refused = rig.refuses("pkcs15-tool --reader 0 --dump");
    assert!(refused.contains("Unsupported card"), "{refused}");
    let refused = rig.does("gids-tool --reader 0");
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
                rig.opensc("--test");
            }
        });
        let reader = scope.spawn(|| {
            for _ in 0..6 {
                rig.does("pkcs15-tool --reader 0 --dump");
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
    let verified = rig.does(
        "opensc-tool --reader 0 --card-driver default --send-apdu \
         00A4040009A00000039742544659 --send-apdu 0020008006323731383238 --send-apdu \
         002241B606800157840181",
    );
    assert_eq!(
        verified.matches("SW1=0x90, SW2=0x00").count(),
        3,
        "{verified}"
    );
    rig.does("opensc-tool --reader 0 --reset");
    let after =
        rig.does("opensc-tool --reader 0 --card-driver default --send-apdu 002241B606800157840181");
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
    let keys = rig.does(&format!("ssh-keygen -D {module}"));
    assert!(keys.contains("ssh-rsa "), "{keys}");
    let listing = rig.does(&format!("p11tool --provider {module} --list-all"));
    assert!(listing.contains("Label: k1"), "{listing}");
    let database = format!("sql:{}", tmp.display());
    rig.does(&format!("certutil -N -d {database} --empty-password"));
    rig.does(&format!(
        "modutil -force -dbdir {database} -add opensc -libfile {module}"
    ));
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
