//! S/MIME and CMS: `docs/uses/smime.md` with OpenSSL, NSS and GnuPG, and what must be refused.

use std::fs;

use cardea_testkit::installed::{AS_MALLORY, Installed};
use cardea_testkit::page::Page;
use cardea_testkit::pcscd::Pcscd;
use cardea_testkit::process::run;
use cardea_testkit::rig::PIN;
use cardea_testkit::terminal::{Answer, Dialogue};
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::{WRONG, Workplace};

use crate::authority::{Authority, pinentry};

const LETTER: &str = "Dear Bob,\nthe ship sails at noon.\n";

const ANSWERS: [Answer<'_>; 3] = [("passphrase", "secret"), ("PIN", PIN), ("Pin", PIN)];
const FALSE: [Answer<'_>; 2] = [("PIN", WRONG), ("Pin", WRONG)];

/// A card with the page's two keys and their certificates.
struct Scene {
    machine: Installed,
    workplace: Workplace,
    page: Page,
}

impl Scene {
    fn new() -> Self {
        let workplace = Workplace::new();
        workplace.create("Alice");
        fs::write(workplace.path("letter.txt"), LETTER).unwrap();
        let machine = Installed::around(&workplace);
        let scene = Self {
            machine,
            workplace,
            page: Page::of_uses("smime"),
        };
        let authority = Authority::of(&scene.workplace);
        // In escrow: the key and its certificate.
        scene.workplace.openssl(&["genrsa -out escrowed.key 2048"]);
        scene
            .workplace
            .openssl(&["rsa -in escrowed.key -pubout -out escrowed.pub"]);
        authority.certify("escrowed.pub", "mail", "keyEncipherment");
        scene.workplace.openssl(&[
            "pkcs12 -export -inkey escrowed.key -in mail.pem -name mail -passout pass:secret -out mail.p12",
        ]);
        fs::remove_file(scene.workplace.path("mail.pem")).unwrap();
        let commands = scene.page.section("Two keys");
        let (make, import) = commands.split_once("cardea key import").unwrap();
        scene.run(make);
        scene
            .workplace
            .openssl(&["req -in sign.csr -verify -noout"]);
        scene
            .workplace
            .openssl(&["req -in sign.csr -pubkey -noout -out sign.pub"]);
        authority.certify("sign.pub", "sign", "digitalSignature");
        let listed = scene
            .run(&format!("cardea key import{import}"))
            .outcome
            .text;
        assert!(
            listed.contains("imported ") && listed.contains("generated "),
            "{listed}"
        );
        scene
    }

    /// Commands at a terminal, which must succeed.
    fn run(&self, script: &str) -> Dialogue {
        let done = self.machine.converse(script, &ANSWERS);
        assert!(done.outcome.success, "{script}\n{}", done.outcome.text);
        done
    }

    fn follow(&self, heading: &str) -> Dialogue {
        self.run(&self.page.section(heading))
    }

    /// Commands at a terminal, which must fail and say why.
    fn refuses(&self, script: &str, answers: &[Answer<'_>], why: &str) {
        let done = self.machine.converse(script, answers);
        let (success, text) = (done.outcome.success, done.outcome.text);
        assert!(
            !success && text.contains(why),
            "{script}\n{why} is not in\n{text}"
        );
    }

    /// The last command of a section that begins so, with its line.
    fn command(&self, heading: &str, part: &str) -> String {
        let section = self.page.section(heading);
        let found = section.lines().rev().find(|line| line.contains(part));
        found.unwrap().trim().to_owned()
    }

    /// What must be refused of programs that sign by the first command and decrypt by the second.
    fn withstands(&self, sign: &str, decrypt: &str, wrong: &str, blocked: &str) {
        for command in [sign, decrypt] {
            self.refuses(command, &FALSE, wrong);
            self.workplace.cardea(&[
                "pin",
                "verify",
                "Alice",
                "--pin-file",
                &self.workplace.text("pin"),
            ]);
        }
        self.workplace.block();
        for command in [sign, decrypt] {
            self.refuses(command, &ANSWERS, blocked);
        }
        self.workplace.unblock();
        self.run(sign);
        let opened = self.run(decrypt).outcome.text;
        assert!(opened.contains("noon"), "{opened}");
    }

    fn is_away(&self, sign: &str, decrypt: &str, why: &str) {
        self.workplace
            .cardea(&["card", "destroy", "Alice", "--yes"]);
        for command in [sign, decrypt] {
            self.refuses(command, &ANSWERS, why);
        }
    }
}

#[test]
fn openssl_signs_and_decrypts() {
    let scene = Scene::new();
    let done = scene.follow("OpenSSL");
    assert_eq!(done.answers, 4, "{}", done.outcome.text);
    // Verified twice, decrypted twice.
    assert_eq!(
        done.outcome.text.matches("noon").count(),
        4,
        "{}",
        done.outcome.text
    );
    let printed = scene.machine.does("openssl cms -cmsout -print -in pss.eml");
    assert!(printed.contains("rsassaPss"), "{printed}");
    let printed = scene
        .machine
        .does("openssl cms -cmsout -print -in oaep.eml");
    assert!(printed.contains("rsaesOaep"), "{printed}");

    // Another letter, another authority.
    let verify = "openssl cms -verify -in signed.eml -text -CAfile";
    scene.machine.does(&format!("{verify} ca.pem"));
    scene
        .machine
        .does("sed s/noon/dawn/ signed.eml > changed.eml");
    let said = scene
        .machine
        .refuses("openssl cms -verify -in changed.eml -text -CAfile ca.pem");
    assert!(
        said.contains("digest failure") || said.contains("verification failure"),
        "{said}"
    );
    Authority::of(&scene.workplace).another();
    let said = scene.machine.refuses(&format!("{verify} other-ca.pem"));
    assert!(said.contains("certificate"), "{said}");

    let sign = scene
        .command("OpenSSL", "cms -sign")
        .replace("-keyopt rsa_padding_mode:pss ", "");
    let decrypt = scene
        .command("OpenSSL", "cms -decrypt")
        .replace("$file", "oaep.eml");
    // Each key for its own purpose.
    let crossed = sign
        .replace("object=sign", "object=mail")
        .replace("sign.pem", "mail.pem")
        .replace("pss.eml", "crossed.eml");
    scene.run(&crossed);
    let said = scene
        .machine
        .refuses("openssl cms -verify -in crossed.eml -text -CAfile ca.pem");
    assert!(
        said.contains("unsupported certificate purpose") || said.contains("unsuitable"),
        "{said}"
    );
    scene
        .machine
        .does("openssl cms -encrypt -aes256 -in letter.txt -out crossed.eml sign.pem");
    let crossed = decrypt
        .replace("object=mail", "object=sign")
        .replace("mail.pem", "sign.pem");
    scene.refuses(
        &crossed.replace("oaep.eml", "crossed.eml"),
        &ANSWERS,
        "Error decrypting CMS",
    );

    scene.withstands(&sign, &decrypt, "PIN incorrect", "PIN locked");
    // Another user has no card.
    let other = format!(
        "cd mallory; export HOME=$PWD; {}",
        decrypt
            .replace("=cardea.cnf", "=../cardea.cnf")
            .replace("openssl", &format!("{AS_MALLORY} openssl"))
            .replace("mail.pem", "../mail.pem")
            .replace("oaep.eml", "../oaep.eml")
    );
    scene.refuses(&other, &ANSWERS, "PKCS11_get_private_key returned NULL");
    scene.is_away(&sign, &decrypt, "PKCS11_get_private_key returned NULL");
    let keys = "RSA-2048";
    shown(
        "Signed letters (PKCS#1 v1.5, PSS)",
        "OpenSSL",
        "openssl",
        Interface::Pkcs11,
        keys,
    );
    shown(
        "Letters decrypted with an escrowed key (PKCS#1 v1.5, OAEP)",
        "OpenSSL",
        "openssl",
        Interface::Pkcs11,
        keys,
    );
}

#[test]
fn openssl_signs_and_decrypts_with_an_elliptic_curve() {
    let scene = Scene::new();
    scene.workplace.generate("ec", "p-256");
    let public = scene.workplace.public("ec");
    let authority = Authority::of(&scene.workplace);
    let certificate = authority.certify(&public, "ec", "digitalSignature, keyAgreement");
    scene.run(&format!("cardea cert import Alice {certificate}"));
    scene.follow("OpenSSL");
    let done = scene.follow("Elliptic curves");
    assert_eq!(done.answers, 2, "{}", done.outcome.text);
    assert_eq!(
        done.outcome.text.matches("noon").count(),
        2,
        "{}",
        done.outcome.text
    );
    authority.another();
    scene
        .machine
        .refuses("openssl cms -verify -in ecdsa.eml -CAfile other-ca.pem -text");
    let sign = scene.command("Elliptic curves", "cms -sign");
    let decrypt = scene.command("Elliptic curves", "cms -decrypt");
    scene.withstands(&sign, &decrypt, "PIN incorrect", "PIN locked");
    scene.is_away(&sign, &decrypt, "PKCS11_get_private_key returned NULL");
    shown(
        "Signed and encrypted letters (ECDSA, ECDH)",
        "OpenSSL",
        "openssl",
        Interface::Pkcs11,
        "P-256",
    );
}

#[test]
fn nss_signs_and_decrypts() {
    let scene = Scene::new();
    scene.run("cardea cert export Alice mail --out mail.pem");
    let done = scene.follow("NSS");
    assert_eq!(done.answers, 2, "{}", done.outcome.text);
    let text = &done.outcome.text;
    assert!(
        text.contains("signer0.id=\"Alice\"; signer0.status=GoodSignature"),
        "{text}"
    );
    assert_eq!(text.matches("noon").count(), 2, "{text}");
    let verified = scene
        .machine
        .does("openssl cms -verify -inform DER -in signed.p7m -CAfile ca.pem");
    assert!(verified.contains("noon"), "{verified}");

    // A P-256 key signs too.
    scene.workplace.generate("ec", "p-256");
    let public = scene.workplace.public("ec");
    let certificate = Authority::of(&scene.workplace).certify(&public, "ec", "digitalSignature");
    scene.run(&format!("cardea cert import Alice {certificate}"));
    let with_ec = scene
        .command("NSS", "cmsutil -S")
        .replace("Alice:sign", "Alice:ec");
    scene.run(&with_ec.replace("signed.p7m", "ec.p7m"));
    scene
        .machine
        .does("openssl cms -verify -inform DER -in ec.p7m -CAfile ca.pem");

    // A database that knows another authority only.
    Authority::of(&scene.workplace).another();
    scene.machine.does(
        "mkdir other\ncertutil -N -d sql:other --empty-password\n\
         certutil -A -d sql:other -n other -t CT,C,C -i other-ca.pem",
    );
    let said = scene
        .machine
        .shell("cmsutil -D -d sql:other -i signed.p7m -h 1 -n")
        .text;
    assert!(!said.contains("GoodSignature"), "{said}");

    let sign = scene.command("NSS", "cmsutil -S");
    let decrypt = scene.command("NSS", "-i sealed.p7m");
    let right = format!("{decrypt} -p {PIN}");
    // It asks up to three times, and says less when the card is blocked.
    scene.refuses(&decrypt, &FALSE, "cmsutil: ");
    assert!(scene.workplace.tries_left() < 5);
    scene.workplace.block();
    let said = scene.machine.refuses(&right);
    assert!(!said.contains("noon"), "{said}");
    scene.workplace.unblock();
    assert!(scene.machine.does(&right).contains("noon"));
    scene.is_away(&sign, &decrypt, "cmsutil: ");
    for (title, keys) in [
        ("Signed letters", "RSA-2048, P-256"),
        ("Letters decrypted with an escrowed key", "RSA-2048"),
    ] {
        shown(
            title,
            "NSS cmsutil",
            "libnss3-tools",
            Interface::Pkcs11,
            keys,
        );
    }
}

#[test]
fn gnupg_signs_and_decrypts_through_gnupg_pkcs11_scd() {
    let scene = Scene::new();
    scene.run("cardea cert export Alice mail --out mail.pem");
    pinentry(&scene.machine, &scene.workplace, PIN);
    let done = scene.follow("GnuPG");
    let text = &done.outcome.text;
    assert!(text.contains("Good signature from \"/CN=Alice\""), "{text}");
    assert_eq!(text.matches("noon").count(), 1, "{text}");

    // What OpenSSL encrypts is read. What is signed OpenSSL verifies, but for the zero byte of GnuPG's that the page
    // tells of: one of these signatures is without it, but once in a million times.
    let sealed = "openssl cms -encrypt -aes256 -outform DER -in letter.txt -out theirs.p7e mail.pem\n\
                  gpgsm -q --decrypt theirs.p7e";
    assert!(scene.machine.does(sealed).contains("noon"));
    let mut verified = 0;
    for round in 0..20 {
        scene.machine.does(&format!(
            "echo {round} >> letter.txt\n\
             gpgsm -q --yes --local-user alice@example.org --output again.p7s --sign letter.txt"
        ));
        let checked = scene
            .machine
            .shell("openssl cms -verify -inform DER -in again.p7s -CAfile ca.pem");
        if checked.success {
            verified += 1;
            break;
        }
        assert!(
            checked.text.contains("wrong signature length"),
            "{}",
            checked.text
        );
        assert!(
            scene
                .machine
                .does("openssl asn1parse -inform DER -in again.p7s")
                .contains("l= 257 prim: OCTET STRING")
        );
        scene.machine.does("gpgsm -q --verify again.p7s");
    }
    assert_eq!(verified, 1);

    // An authority that is not trusted; another letter.
    scene.machine.does(
        "mv .gnupg/trustlist.txt trusted\n: > .gnupg/trustlist.txt\ngpgconf --reload gpg-agent",
    );
    let said = scene
        .machine
        .refuses("gpgsm --verify signed.p7s < /dev/null");
    assert!(!said.contains("Good signature"), "{said}");
    scene.machine.does(
        "mv trusted .gnupg/trustlist.txt\ngpgconf --reload gpg-agent\ngpgsm --verify signed.p7s",
    );

    let decrypt = "gpgsm -q --decrypt sealed.p7e";
    let sign = "gpgsm -q --yes --local-user alice@example.org --output again.p7s --sign letter.txt";
    pinentry(&scene.machine, &scene.workplace, WRONG);
    let said = scene.machine.refuses(decrypt);
    assert!(said.contains("Bad PIN"), "{said}");
    // It asks three times.
    assert_eq!(scene.workplace.tries_left(), 2);
    scene.workplace.block();
    pinentry(&scene.machine, &scene.workplace, PIN);
    for command in [decrypt, sign] {
        let said = scene.machine.refuses(command);
        assert!(said.contains("PIN blocked"), "{said}");
    }
    scene.workplace.unblock();
    assert!(scene.machine.does(decrypt).contains("noon"));
    scene.machine.does(sign);
    scene
        .workplace
        .cardea(&["card", "destroy", "Alice", "--yes"]);
    for command in [decrypt, sign] {
        scene.machine.refuses(command);
    }
    for title in ["Signed letters", "Letters decrypted with an escrowed key"] {
        shown(
            title,
            "gpgsm with gnupg-pkcs11-scd",
            "gnupg-pkcs11-scd",
            Interface::Pkcs11,
            "RSA-2048",
        );
    }
}

#[test]
fn scdaemon_reaches_the_card_and_knows_no_application_of_it() {
    let workplace = Workplace::new();
    let machine = Installed::around(&workplace);
    let library = cardea_testkit::rig::bin_dir().join("libifdcardea.so");
    let entry = workplace.cardea(&["reader-conf", "--library", &library.display().to_string()]);
    let pcscd = Pcscd::start(&workplace.path("pcscd"), &entry);
    machine.does(&format!(
        "ln -s {} /run/pcscd/pcscd.comm",
        pcscd.socket().display()
    ));
    let commands = Page::of_uses("smime").section("GnuPG's built-in card program");
    let without = machine.does(&commands);
    assert!(without.contains("Cardea Virtual Smart Card"), "{without}");
    assert!(
        without.contains("ERR") && !without.contains("S SERIALNO"),
        "{without}"
    );

    workplace.create("Alice");
    cardea_testkit::process::wait_for("the card's insertion", || {
        let mut client = machine.command("opensc-tool");
        run(client.args(["--reader", "0", "--atr"])).success
    });
    machine.does("gpgconf --kill all");
    let (_, ask) = commands.split_once("scdaemon.conf\n").unwrap();
    let reached = machine.does(ask);
    assert!(reached.contains("S SERIALNO FF7F00"), "{reached}");
    // The answer to SELECT, with the AID and 9000.
    assert!(reached.contains("42 54 46 59 02 01"), "{reached}");
    assert!(reached.contains("90 00"), "{reached}");

    // That is how far it goes.
    let said = machine.refuses("gpgsm --learn-card");
    assert!(said.contains("Unsupported operation"), "{said}");
    let verify = |pin: &str| {
        let digits: String = pin.bytes().map(|byte| format!("{byte:02X}")).collect();
        machine.does(&format!(
            "gpg-connect-agent --hex 'SCD APDU 00A4040C09A00000039742544659' 'SCD APDU 00200080{:02X}{digits}' /bye",
            pin.len()
        ))
    };
    assert!(verify(WRONG).contains("63 C4"));
    assert_eq!(workplace.tries_left(), 4);
    let said = verify(PIN);
    assert!(
        !said.contains("63 C") && said.matches("90 00").count() == 2,
        "{said}"
    );
    assert_eq!(workplace.tries_left(), 5);
    shown(
        "Card reached by APDUs, no application known",
        "GnuPG scdaemon",
        "scdaemon",
        Interface::PcSc,
        "none",
    );
}

fn shown(title: &str, program: &str, package: &str, interface: Interface, keys: &str) {
    Use {
        page: "smime",
        title,
        program,
        package,
        interface,
        keys,
    }
    .shown();
}

#[test]
fn every_section_is_run() {
    let page = Page::of_uses("smime");
    let tests = include_str!("smime.rs");
    for (heading, _) in page.sections() {
        assert!(tests.contains(&format!("\"{heading}\"")), "{heading}");
    }
}
