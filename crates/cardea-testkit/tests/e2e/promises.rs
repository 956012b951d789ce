//! What a card promises, seen from outside: counters of its own, no way onto another TPM, nothing left
//! behind, everything back after any part was killed.

use cardea_testkit::process::wait_for;
use cardea_testkit::rig::{Daemon, PIN, Rig};
use cardea_testkit::swtpm::Swtpm;

/// NV indices in the cards' range, as tpm2-tools see them; the daemon must be down.
fn card_indices(tpm: &Swtpm) -> usize {
    let listed = tpm.tpm2("tpm2_getcap", &["handles-nv-index"]);
    assert!(listed.success, "{}", listed.text);
    listed.text.to_lowercase().matches("0x1c2").count()
}

#[test]
fn destroyed_card_leaves_no_index_and_its_old_file_is_useless() {
    let mut rig = Rig::new();
    let card = rig.create("Short-lived", &["--admin-key", "default"]);
    let file = rig
        .daemon
        .state()
        .join("cards")
        .join(format!("{card}.card"));
    let copy = rig.folder().join("copy.card");
    std::fs::copy(&file, &copy).unwrap();
    rig.daemon.stop();
    assert_eq!(card_indices(&rig.tpm), 2);
    rig.daemon.restart();

    let destroyed = rig.daemon.cardea(&["card", "destroy", &card, "--yes"]);
    assert!(destroyed.success, "{}", destroyed.text);
    wait_for("the card's removal", || {
        !rig.run("opensc-tool", &["--reader", "0", "--atr"]).success
    });
    rig.daemon.stop();
    assert_eq!(card_indices(&rig.tpm), 0);

    std::fs::copy(&copy, &file).unwrap();
    rig.daemon.restart();
    let listed = rig.daemon.cardea(&["card", "show", &card]);
    assert!(
        listed.text.contains("deleted") || listed.text.contains("lost"),
        "{}",
        listed.text
    );
    assert!(!rig.run("opensc-tool", &["--reader", "0", "--atr"]).success);
    let removed = rig.daemon.cardea(&["card", "destroy", &card, "--yes"]);
    assert!(removed.success, "{}", removed.text);
    assert!(!file.exists());
}

#[test]
fn stolen_state_is_refused_by_another_tpm() {
    let mut rig = Rig::with_card("Stolen");
    rig.daemon.stop();
    let theft = rig.folder().join("theft");
    std::fs::create_dir(&theft).unwrap();
    rig.ok(
        "cp",
        &[
            "-a",
            &rig.daemon.state().display().to_string(),
            &theft.display().to_string(),
        ],
    );
    let tpm = Swtpm::start(&rig.folder().join("other-tpm"));
    let thief = Daemon::start(&theft, &tpm.address(), "");
    let shown = thief.cardea(&["card", "show", &rig.card_id()]);
    assert!(shown.text.contains("made by another TPM"), "{}", shown.text);
    rig.daemon.restart();
    assert_eq!(rig.tries_left(), 5);
}

#[test]
fn file_that_claims_another_cards_index_never_spends_its_tries() {
    let mut rig = Rig::with_card("Victim");
    rig.daemon.stop();
    // Root writes a second file for the same objects under another card id, but has no way to sign it.
    let cards = rig.daemon.state().join("cards");
    let victim = cards.join(format!("{}.card", rig.card_id()));
    let mut bytes = std::fs::read(&victim).unwrap();
    let id: Vec<u8> = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(&rig.card_id()[at..at + 2], 16).unwrap())
        .collect();
    let at = bytes.windows(16).position(|window| window == id).unwrap();
    bytes[at..at + 16].copy_from_slice(&[0x11; 16]);
    std::fs::write(cards.join(format!("{}.card", "11".repeat(16))), bytes).unwrap();
    rig.daemon.restart();
    let listed = rig.daemon.cardea(&["card", "list", "--json"]);
    assert!(
        listed.text.contains("not_trusted") || listed.text.contains("not-trusted"),
        "{}",
        listed.text
    );
    wait_for("the victim's return", || {
        rig.run("opensc-tool", &["--reader", "0", "--atr"]).success
    });
    assert_eq!(rig.tries_left(), 5);
}

#[test]
fn wrong_pins_block_one_card_and_not_the_tpm() {
    let mut rig = Rig::with_card("First");
    let second = rig.create("Second", &[]);
    for _ in 0..5 {
        rig.refuses("pkcs15-tool --reader 0 --verify-pin --pin 000000");
    }
    assert_eq!(rig.tries_left(), 0);
    rig.refuses(&format!("pkcs15-tool --reader 0 --verify-pin --pin {PIN}"));
    rig.does(&format!("pkcs15-tool --reader 1 --verify-pin --pin {PIN}"));
    assert_eq!(rig.tries_left_of(&second), 5);
    rig.daemon.stop();
    let properties = rig.tpm.tpm2("tpm2_getcap", &["properties-variable"]);
    let counter = properties
        .text
        .lines()
        .find(|line| line.contains("TPM2_PT_LOCKOUT_COUNTER"))
        .unwrap_or_else(|| panic!("{}", properties.text));
    assert!(counter.trim_end().ends_with("0x0"), "{counter}");
}

#[test]
fn everything_comes_back_after_any_part_was_killed_in_any_order() {
    let mut rig = Rig::with_card("Survivor");
    rig.does(&format!(
        "pkcs15-init --reader 0 --generate-key rsa/2048 --auth-id 80 --verify-pin --pin {PIN} \
         --label k1 --key-usage sign,decrypt"
    ));
    std::fs::write(rig.folder().join("hash"), [7; 32]).unwrap();
    let signs = |rig: &Rig| {
        wait_for("a signature", || {
            rig.run(
                "pkcs15-crypt",
                &[
                    "--reader",
                    "0",
                    "--sign",
                    "--sha-256",
                    "--pkcs1",
                    "--input",
                    "hash",
                    "--output",
                    "sig",
                    "--key",
                    "00",
                    "--pin",
                    PIN,
                ],
            )
            .success
        });
        assert_eq!(rig.tries_left(), 5);
    };
    signs(&rig);
    let parts: [fn(&mut Rig); 3] = [
        |rig| rig.tpm.restart(),
        |rig| rig.daemon.restart(),
        |rig| rig.pcscd.restart(),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        for part in order {
            parts[part](&mut rig);
        }
        signs(&rig);
    }
    for part in parts {
        part(&mut rig);
        signs(&rig);
    }
}

#[test]
fn ten_cards_work_side_by_side() {
    let mut rig = Rig::with_slots(10);
    let cards: Vec<String> = (0..10)
        .map(|number| rig.create(&format!("Card {number}"), &[]))
        .collect();
    let readers = rig.does("opensc-tool --list-readers");
    assert_eq!(readers.matches("Yes").count(), 10, "{readers}");
    for (slot, card) in cards.iter().enumerate() {
        let slot = slot.to_string();
        rig.does(&format!(
            "pkcs15-tool --reader {slot} --verify-pin --pin {PIN}"
        ));
        let serial = rig.does(&format!("opensc-tool --reader {slot} --serial"));
        let digits: String = serial
            .chars()
            .take(47)
            .filter(char::is_ascii_hexdigit)
            .collect();
        assert_eq!(digits.to_lowercase(), *card);
    }
    let eleventh = rig.create("Card 10", &[]);
    let shown = rig.daemon.cardea(&["card", "show", &eleventh]);
    assert!(shown.text.contains("no reader"), "{}", shown.text);
}

#[test]
fn thirty_rsa_keys_on_one_card_sign_in_turn() {
    let mut rig = Rig::with_slots(10);
    for number in 0..10 {
        rig.create(&format!("Card {number}"), &[]);
    }
    let verify = format!("00200080{:02X}{}", PIN.len(), hex(PIN.as_bytes()));
    let mut make = vec![verify.clone()];
    let mut sign = vec![verify];
    for reference in 0x81..=0x9Eu8 {
        // An exchange key as OpenSC and Windows make it.
        let mut templates = String::new();
        for (kind, mechanism) in [
            ("B8", "07"),
            ("B8", "87"),
            ("B8", "47"),
            ("B6", "17"),
            ("B6", "57"),
        ] {
            templates += &format!("{kind}098001{mechanism}8301{reference:02X}950140");
        }
        make.push(format!(
            "00E000004962478201188302B0{reference:02X}8C058F10101000A537{templates}"
        ));
        make.push("00440000".into());
        make.push(format!("0047000008AC068001078301{reference:02X}"));
        sign.push(format!("002241B606800157 8401{reference:02X}").replace(' ', ""));
        sign.push(format!("002A9E9A33{DIGEST_INFO}{}00", "5A".repeat(32)));
    }
    // The thirty-first has no reference left.
    make.push(
        "00E0000049624782011883 02B09F8C058F10101000A537".replace(' ', "")
            + &"B8098001078301 9F950140".replace(' ', "").repeat(5),
    );
    let made = apdus(&rig, "3", &make);
    assert_eq!(made.matches("SW1=0x90, SW2=0x00").count(), 91, "{made}");
    assert_eq!(made.matches("SW1=0x6A, SW2=0x84").count(), 1, "{made}");
    let signed = apdus(&rig, "3", &sign);
    assert_eq!(signed.matches("SW1=0x90, SW2=0x00").count(), 61, "{signed}");
}

/// DigestInfo of SHA-256 before the digest.
const DIGEST_INFO: &str = "3031300D060960864801650304020105000420";

fn hex(bytes: &[u8]) -> String {
    base16ct::upper::encode_string(bytes)
}

/// Sends APDUs in one connection and gives OpenSC's account of the answers.
fn apdus(rig: &Rig, reader: &str, apdus: &[String]) -> String {
    let mut arguments = vec!["--reader", reader, "--card-driver", "default"];
    for apdu in apdus {
        arguments.extend(["--send-apdu", apdu]);
    }
    rig.ok("opensc-tool", &arguments)
}
