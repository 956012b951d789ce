//! A machine is lost with the mail and the volume of its card's key: a token of another maker, or a second card, brings
//! the key back, and what was encrypted to it opens elsewhere.

use std::fs;
use std::process::Command;

use cardea_testkit::installed::Installed;
use cardea_testkit::process::{Outcome, run};
use cardea_testkit::rig::{PIN, bin_dir};
use cardea_testkit::workplace::{PUK, Workplace, module};

use super::{NOT_FOUND, USAGE};

const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Exit codes.
const FAILED: i32 = 1;
const PIN_WRONG: i32 = 4;

const LETTER: &str = "the ship sails at noon";

/// OpenSSL's engine with our module.
const ENGINE: &str = "cat > engine.cnf <<END\n\
    openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = pkcs11\n[pkcs11]\n\
    engine_id = pkcs11\nMODULE_PATH = $(pkg-config --variable=module cardea-pkcs11)\nPIN = PINPIN\n\
    init = 1\nEND\n";

/// A volume that systemd has enrolled the card for. Derivation from the passphrase is cheap: it is not what is tested.
const VOLUME: &str = "truncate -s 32M volume\n\
    printf 'correct horse battery' > passphrase\n\
    cryptsetup luksFormat --type luks2 --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 volume passphrase\n\
    PIN=PINPIN systemd-cryptenroll --unlock-key-file=passphrase \
        --pkcs11-token-uri='pkcs11:token=Alice;object=mail' volume\n";

/// Opens it as systemd-cryptsetup does: the card decrypts what its token in the header has, and the result in base 64 is
/// the passphrase of a key slot.
const OPEN_VOLUME: &str = "cryptsetup token export --token-id 0 volume \
        | sed 's/.*\"pkcs11-key\" *: *\"\\([^\"]*\\)\".*/\\1/' | base64 -d > wrapped\n\
    pkcs11-tool --module MODULE --token-label Alice --login --pin PINPIN --decrypt --mechanism RSA-PKCS \
        --id 00 --input-file wrapped --output-file unwrapped\n\
    base64 -w 0 unwrapped > slot\n\
    cryptsetup open --test-passphrase --key-file slot volume\n\
    echo 'not it' > slot\n\
    ! cryptsetup open --test-passphrase --key-file slot volume\n";

/// Tokens of SoftHSM with keys on P-256: `escrow`, `other`, and `signer`, which does no key agreement.
struct Office {
    folder: tempfile::TempDir,
}

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tokens")).unwrap();
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\n",
            folder.path().join("tokens").display()
        );
        fs::write(folder.path().join("softhsm2.conf"), configuration).unwrap();
        let office = Self { folder };
        office.does(
            Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", "Office"])
                .args(["--so-pin", PUK, "--pin", PIN]),
        );
        for (id, label, usage) in [
            ("01", "escrow", "--usage-derive"),
            ("02", "other", "--usage-derive"),
            ("03", "signer", "--usage-sign"),
        ] {
            let made = ["--keypairgen", "--key-type", "EC:prime256v1", usage];
            office.tool(&[&made[..], &["--id", id, "--label", label]].concat());
        }
        office
    }

    fn does(&self, command: &mut Command) {
        let command = command.env("SOFTHSM2_CONF", self.configuration());
        let outcome = run(command);
        assert!(outcome.success, "{command:?}\n{}", outcome.text);
    }

    fn configuration(&self) -> String {
        let path = self.folder.path().join("softhsm2.conf");
        path.display().to_string()
    }

    fn tool(&self, further: &[&str]) {
        let mut command = Command::new("pkcs11-tool");
        let login = ["--module", SOFTHSM, "--login", "--pin", PIN];
        self.does(command.args(login).args(further));
    }

    /// The certificate of one of its keys, `LABEL.pem`.
    fn certificate(&self, here: &Workplace, label: &str) -> String {
        let der = here.text(&format!("{label}.der"));
        let read = ["--read-object", "--type", "pubkey", "--label", label];
        self.tool(&[&read[..], &["--output-file", &der]].concat());
        let public = here.text(&format!("{label}.pub"));
        here.does(&format!(
            "openssl pkey -pubin -inform DER -in {der} -out {public}"
        ));
        here.issue(&public, label)
    }
}

/// What is left of a machine, kept elsewhere.
struct Left {
    files: Vec<(&'static str, Vec<u8>)>,
}

/// A card with the key `mail`, which the named certificates make recoverable, and the ordinary `logon`; a letter to
/// `mail` and a volume that opens with it. The machine is gone when this returns.
fn lost_machine(by: impl FnOnce(&Workplace) -> Vec<String>) -> Left {
    let here = Workplace::new();
    here.create("Alice");
    let by = by(&here);
    let mut generate = vec!["key", "generate", "Alice", "--label", "mail"];
    generate.extend(["--algorithm", "rsa-2048"]);
    for certificate in &by {
        generate.extend(["--recoverable-by", certificate]);
    }
    here.with_pin(&generate);
    here.generate("logon", "rsa-2048");
    for key in ["mail", "logon"] {
        here.certify(key);
    }
    fs::write(here.path("letter"), LETTER).unwrap();
    here.does("openssl cms -encrypt -aes256 -in letter -out sealed.eml mail.pem");
    let backup = here.text("alice.card");
    let said = here.cardea(&["card", "backup", "Alice", "--out", &backup]);
    assert!(said.contains("logon"), "{said}");
    let machine = Installed::around(&here);
    machine.does(&VOLUME.replace("PINPIN", PIN));
    let files = ["alice.card", "mail.pem", "sealed.eml", "volume"];
    Left {
        files: files
            .map(|name| (name, fs::read(here.path(name)).unwrap()))
            .into(),
    }
}

impl Left {
    fn arrives(&self, there: &Workplace) {
        for (name, content) in &self.files {
            fs::write(there.path(name), content).unwrap();
        }
    }
}

/// `cardea card restore` with a key.
fn restore(there: &Workplace, with: &str, name: &str, office: Option<&Office>) -> Outcome {
    let mut command = there.client(&bin_dir().join("cardea").display().to_string());
    command.args(["card", "restore", "alice.card", "--with", with]);
    command.args(["--pin-file", "pin", "--puk-file", "puk", "--name", name]);
    if let Some(office) = office {
        command.env("SOFTHSM2_CONF", office.configuration());
    }
    run(&mut command)
}

/// Restores, and reads the mail and opens the volume with what has come back.
fn all_is_back(there: &Workplace, with: &str, office: Option<&Office>) {
    let restored = restore(there, with, "Alice", office);
    assert!(restored.success, "{}", restored.text);
    assert!(
        restored
            .text
            .contains("key 82 \"logon\" is lost: it is not recoverable")
            && restored.text.contains("of CN=logon revoked"),
        "{}",
        restored.text
    );
    let machine = Installed::around(there);
    machine.does(&ENGINE.replace("PINPIN", PIN));
    let read = machine.does(
        "OPENSSL_CONF=engine.cnf openssl cms -decrypt -engine pkcs11 -keyform engine \
         -inkey 'pkcs11:token=Alice;object=mail;type=private' -recip mail.pem -in sealed.eml",
    );
    assert!(read.contains(LETTER), "{read}");
    let open = OPEN_VOLUME.replace("PINPIN", PIN);
    machine.does(&open.replace("MODULE", &module()));
}

#[test]
fn mail_and_volume_of_a_lost_machine_open_with_a_key_in_a_token() {
    let office = Office::new();
    let left = lost_machine(|here| {
        ["escrow", "signer"]
            .map(|label| office.certificate(here, label))
            .into()
    });
    let there = Workplace::new();
    left.arrives(&there);
    let uri = |key: &str, pin: &str| {
        format!("pkcs11:token=Office{key}?module-path={SOFTHSM}&pin-source={pin}")
    };
    let refused = |with: &str, code: i32, why: &str| {
        let outcome = restore(&there, with, "Alice", Some(&office));
        assert_eq!(outcome.code, Some(code), "{with}: {}", outcome.text);
        assert!(outcome.text.contains(why), "{with}: {}", outcome.text);
    };
    let escrow = uri(";object=escrow", "pin");
    refused(
        &escrow.replace("Office", "Attic"),
        NOT_FOUND,
        "the token with the recovery key was not found",
    );
    refused(
        &uri(";object=escrow", "wrong"),
        PIN_WRONG,
        "wrong PIN for token Office",
    );
    refused(
        &uri(";object=nothing", "pin"),
        NOT_FOUND,
        "has no such private key",
    );
    refused(
        &uri(";object=other", "pin"),
        NOT_FOUND,
        "they are recoverable by CN=escrow (SHA-256 ",
    );
    refused(&uri(";object=signer", "pin"), FAILED, "no key agreement");
    refused(&uri("", "pin"), USAGE, "add object or id to the URI");
    refused(
        &escrow.replace(";object", ";type=cert;object"),
        USAGE,
        "must have type=private",
    );
    refused(
        &escrow.replace(SOFTHSM, "/nonexistent.so"),
        FAILED,
        "the PKCS#11 token with the recovery key",
    );
    assert!(!there.cardea(&["card", "list", "--json"]).contains("Alice"));
    all_is_back(&there, &escrow, Some(&office));
}

#[test]
fn mail_and_volume_of_a_lost_machine_open_with_a_key_on_a_second_card() {
    let there = Workplace::new();
    there.create("Spare");
    for (label, algorithm) in [("spare", "p-256"), ("other", "p-256"), ("large", "p-384")] {
        let generate = ["key", "generate", "Spare", "--algorithm", algorithm];
        there.with_pin(&[&generate[..], &["--label", label]].concat());
    }
    let subject = ["--subject", "CN=spare", "--days", "30"];
    let sign = ["cert", "self-sign", "Spare", "--key", "spare"];
    there.with_pin(&[&sign[..], &subject].concat());
    let certificate = there.text("spare.pem");
    there.cardea(&["cert", "export", "Spare", "spare", "--out", &certificate]);
    let left = lost_machine(|_| vec![certificate]);
    left.arrives(&there);
    let refused = |with: &str, code: i32, why: &str| {
        let outcome = restore(&there, with, "Alice", None);
        assert_eq!(outcome.code, Some(code), "{with}: {}", outcome.text);
        assert!(outcome.text.contains(why), "{with}: {}", outcome.text);
    };
    let with = "pkcs11:token=Spare?pin-source=pin";
    refused(
        &with.replace("Spare", "Attic"),
        NOT_FOUND,
        "add `?module-path=`",
    );
    refused("pkcs11:token=Spare?pin-source=wrong", PIN_WRONG, "4 tries");
    refused(
        "pkcs11:token=Spare;object=other?pin-source=pin",
        NOT_FOUND,
        "they are recoverable by CN=spare (SHA-256 ",
    );
    refused(
        "pkcs11:token=Spare;object=large?pin-source=pin",
        NOT_FOUND,
        "no such key on P-256",
    );
    all_is_back(&there, with, None);
    // Through the module it is a token like any other.
    let by_module = format!(
        "pkcs11:token=Spare;object=spare?pin-source=pin&module-path={}",
        module()
    );
    let again = restore(&there, &by_module, "Alice again", None);
    assert!(again.success, "{}", again.text);
    // The URI that the command line prints names it too.
    let listed = there.cardea(&["key", "list", "--wide", "Spare"]);
    let line = listed.lines().find(|line| line.contains(";object=spare;"));
    let printed = line.unwrap().split_once(": ").unwrap().1.trim();
    let third = restore(
        &there,
        &format!("{printed}?pin-source=pin"),
        "Alice once more",
        None,
    );
    assert!(third.success, "{}", third.text);
}
