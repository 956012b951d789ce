//! Signing data: `docs/uses/signing.md` with osslsigncode, jarsigner, pdfsig, git and OpenSSL, and what must be
//! refused.

use std::fs;
use std::path::Path;

use cardea_testkit::installed::{AS_MALLORY, Installed};
use cardea_testkit::page::Page;
use cardea_testkit::process::{Memory, Running, wait_for};
use cardea_testkit::rig::PIN;
use cardea_testkit::terminal::{Answer, Dialogue};
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::{WRONG, Workplace, module};

use crate::authority::{Authority, pinentry};

const ANSWERS: [Answer<'_>; 2] = [("PIN", PIN), ("assphrase", PIN)];
const FALSE: [Answer<'_>; 2] = [("PIN", WRONG), ("assphrase", WRONG)];

/// A card with the page's key and its certificate.
struct Scene {
    machine: Installed,
    workplace: Workplace,
    page: Page,
}

impl Scene {
    fn new() -> Self {
        let workplace = Workplace::new();
        workplace.create("Alice");
        let machine = Installed::around(&workplace);
        let scene = Self {
            machine,
            workplace,
            page: Page::of_uses("signing"),
        };
        let commands = scene.page.section("A key for signatures");
        let (make, import) = commands.split_once("cardea cert import").unwrap();
        scene.run(make);
        scene
            .workplace
            .openssl(&["req -in code.csr -pubkey -noout -out code.pub"]);
        let authority = Authority::of(&scene.workplace);
        authority.certify("code.pub", "code", "digitalSignature");
        authority.another();
        scene.run(&format!("cardea cert import{import}"));
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
        let outcome = done.outcome;
        assert!(
            outcome.code.is_some_and(|code| code != 0) && outcome.text.contains(why),
            "{script}\n{why} is not in\n{}",
            outcome.text
        );
    }

    /// A section's commands as far as the one that has this in it.
    fn until(&self, heading: &str, part: &str) -> String {
        let section = self.page.section(heading);
        let end = section.find(part).unwrap();
        let rest = section[end..].find('\n').unwrap();
        section[..end + rest].to_owned()
    }

    /// A wrong PIN, a blocked card, the right one again, no card.
    fn withstands(&self, sign: &str, wrong: &str, blocked: &str, away: &str) {
        self.refuses(sign, &FALSE, wrong);
        assert!(self.workplace.tries_left() < 5);
        self.workplace.block();
        self.refuses(sign, &ANSWERS, blocked);
        self.workplace.unblock();
        self.run(sign);
        self.workplace
            .cardea(&["card", "destroy", "Alice", "--yes"]);
        self.refuses(sign, &ANSWERS, away);
    }
}

/// The smallest program for Windows that tools take for one: headers and a section of nothing.
fn program() -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(60, 0);
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    let long = u32::to_le_bytes;
    put(&long(64));
    // The header of the file: for i386, one section, 224 bytes of optional header, an executable.
    put(b"PE\0\0\x4c\x01\x01\0");
    put(&[0; 12]);
    put(&[0xE0, 0, 2, 1]);
    // The optional one: 32 bits, code of 512 bytes that begins at 4096, in memory from 4 MiB on.
    put(&[0x0B, 1, 0, 0]);
    for value in [
        512, 0, 0, 4096, 4096, 8192, 0x40_0000, 4096, 512, 4, 0, 4, 0, 8192, 512, 0,
    ] {
        put(&long(value));
    }
    put(&[3, 0, 0, 0]);
    for value in [0x10_0000, 4096, 0x10_0000, 4096, 0, 16] {
        put(&long(value));
    }
    // No directories yet: the fifth gets the signature.
    put(&[0; 16 * 8]);
    put(b".text\0\0\0");
    for value in [512, 4096, 512, 512, 0, 0, 0, 0x6000_0020] {
        put(&long(value));
    }
    file.resize(512, 0);
    // `ret`.
    file.resize(1024, 0xC3);
    file
}

/// One page that says "Invoice 42".
fn document() -> Vec<u8> {
    let page = "BT /F1 18 Tf 20 100 Td (Invoice 42) Tj ET\n";
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>".to_owned(),
        format!("<</Length {}>>stream\n{page}endstream", page.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned(),
    ];
    let mut text = "%PDF-1.7\n".to_owned();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (number, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", text.len());
        text += &format!("{} 0 obj\n{object}\nendobj\n", number + 1);
    }
    let (start, size) = (text.len(), objects.len() + 1);
    text += &format!(
        "xref\n0 {size}\n{table}trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n"
    );
    text.into_bytes()
}

/// Changes one byte of a file, which is at this place.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = bytes
        .windows(old.len())
        .position(|window| window == old)
        .unwrap();
    let place = bytes.iter_mut().skip(at);
    place.zip(new).for_each(|(byte, new)| *byte = *new);
}

#[test]
fn osslsigncode_signs_programs() {
    let heading = "Programs for Windows (Authenticode)";
    let scene = Scene::new();
    fs::write(scene.workplace.path("setup.exe"), program()).unwrap();
    let done = scene.follow(heading);
    assert_eq!(done.answers, 1, "{}", done.outcome.text);
    assert!(
        done.outcome.text.contains("Signature verification: ok"),
        "{}",
        done.outcome.text
    );

    // A P-256 key.
    scene.workplace.generate("ec", "p-256");
    let authority = Authority::of(&scene.workplace);
    authority.certify(&scene.workplace.public("ec"), "ec", "digitalSignature");
    let verify = "osslsigncode verify -CAfile";
    let sign = scene.until(heading, "osslsigncode sign");
    let with_ec = sign
        .replace("cardea cert export Alice code --out code.pem", "")
        .replace("object=code", "object=ec")
        .replace("code.pem", "ec.pem")
        .replace("signed.exe", "ec.exe");
    scene.run(&with_ec);
    scene.machine.does(&format!("{verify} ca.pem ec.exe"));

    // Another authority, another program.
    let said = scene
        .machine
        .refuses(&format!("{verify} other-ca.pem signed.exe"));
    assert!(
        said.contains("unable to get local issuer certificate"),
        "{said}"
    );
    edit(&scene.workplace.path("signed.exe"), |bytes| bytes[700] ^= 1);
    scene
        .machine
        .refuses(&format!("{verify} ca.pem signed.exe"));

    let sign = format!("rm -f signed.exe\n{sign}");
    // Another user has no card.
    let stranger = sign
        .replace("cardea cert export Alice code --out code.pem", "")
        .replace(
            "osslsigncode sign",
            &format!("{AS_MALLORY} osslsigncode sign"),
        );
    scene
        .machine
        .does("chmod 755 mallory; cp setup.exe code.pem mallory/");
    scene.refuses(
        &format!("export HOME=$PWD/mallory; cd mallory\n{stranger}"),
        &ANSWERS,
        "PKCS11_get_private_key returned NULL",
    );
    scene.withstands(&sign, "PIN incorrect", "PIN locked", "cardea: ");
    shown(
        "Signed programs (Authenticode)",
        "osslsigncode",
        "osslsigncode",
        "RSA-2048, P-256",
    );
}

#[test]
fn jarsigner_signs_archives() {
    let scene = Scene::new();
    fs::write(scene.workplace.path("message"), "hello").unwrap();
    scene.machine.does("jar --create --file app.jar message");
    let done = scene.follow("Java archives");
    assert_eq!(done.answers, 1, "{}", done.outcome.text);
    assert!(
        done.outcome.text.contains("jar verified."),
        "{}",
        done.outcome.text
    );

    scene.machine.does(
        "keytool -importcert -noprompt -keystore other.p12 -storepass changeit -file other-ca.pem",
    );
    let verify = "jarsigner -verify -storepass changeit -keystore";
    let said = scene
        .machine
        .does(&format!("{verify} trusted.p12 signed.jar"));
    assert!(!said.contains("chain is invalid"), "{said}");
    let said = scene
        .machine
        .does(&format!("{verify} other.p12 signed.jar"));
    assert!(said.contains("chain is invalid"), "{said}");
    fs::write(scene.workplace.path("message"), "farewell").unwrap();
    scene
        .machine
        .does("cp signed.jar changed.jar\njar --update --file changed.jar message");
    let said = scene
        .machine
        .refuses(&format!("{verify} trusted.p12 changed.jar"));
    assert!(said.contains("digest error"), "{said}");
    let sign = scene.until("Java archives", "jarsigner -keystore NONE");
    // It keeps to itself why.
    scene.withstands(&sign, "load failed", "load failed", "cardea: ");
    shown(
        "Signed Java archives",
        "Java jarsigner",
        "openjdk-17-jdk-headless",
        "RSA-2048",
    );
}

#[test]
fn pdfsig_signs_documents_and_ends_well() {
    let scene = Scene::new();
    fs::write(scene.workplace.path("invoice.pdf"), document()).unwrap();
    let done = scene.follow("PDF");
    let text = &done.outcome.text;
    assert!(
        text.contains("Signature is Valid.") && text.contains("Certificate is Trusted."),
        "{text}"
    );
    assert!(text.contains("Total document signed"), "{text}");

    // NSS ends the module from an exit handler: the exit status is 0 each time.
    let section = scene.page.section("PDF");
    let line = |part: &str| section.lines().find(|line| line.contains(part)).unwrap();
    let sign = line("-add-signature");
    let verify = line("-nssdir sql:nss signed.pdf");
    for _ in 0..10 {
        scene.machine.does(sign);
        scene.machine.does(verify);
    }

    // Another document; a database with another authority.
    scene.machine.does("cp signed.pdf changed.pdf");
    edit(&scene.workplace.path("changed.pdf"), |bytes| {
        replace(bytes, b"Invoice 42", b"Invoice 43");
    });
    let said = scene.machine.shell("pdfsig -nssdir sql:nss changed.pdf");
    assert!(
        said.code.is_some() && said.text.contains("Digest Mismatch"),
        "{}",
        said.text
    );
    scene.machine.does(
        "mkdir other\ncertutil -N -d sql:other --empty-password\n\
         certutil -A -d sql:other -n other -t CT,C,C -i other-ca.pem",
    );
    let said = scene
        .machine
        .shell("pdfsig -nssdir sql:other signed.pdf")
        .text;
    assert!(
        said.contains("Signature is Valid.") && !said.contains("is Trusted"),
        "{said}"
    );

    scene.machine.does("rm signed.pdf");
    let wrong = sign.replace("$(cat pin)", WRONG);
    scene.refuses(&wrong, &[], "Password was not accepted");
    assert!(scene.workplace.tries_left() < 5);
    scene.workplace.block();
    scene.refuses(sign, &[], "");
    scene.workplace.unblock();
    scene.machine.does(sign);
    scene.machine.does("rm signed.pdf");
    scene
        .workplace
        .cardea(&["card", "destroy", "Alice", "--yes"]);
    scene.refuses(sign, &[], "");
    assert!(!scene.workplace.path("signed.pdf").exists());
    shown(
        "Signed PDF documents",
        "poppler pdfsig",
        "poppler-utils",
        "RSA-2048",
    );
}

/// What pdfsig does and more, in a program that counts its calls (`late.c`).
#[test]
fn module_is_called_while_the_program_ends() {
    let workplace = Workplace::with_keys();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/uses/late.c");
    workplace.does(&format!(
        "cc -std=gnu11 -Wall -Wextra -Werror -O1 -g -pthread -o late {source} -ldl"
    ));
    let program = workplace.text("late");
    for _ in 0..10 {
        workplace.does(&format!("{program} {} {PIN}", module()));
    }
    let valgrind = "valgrind --quiet --error-exitcode=99 --fair-sched=yes";
    let said = workplace.does(&format!("{valgrind} {program} {} {PIN}", module()));
    assert!(!said.contains("=="), "{said}");
    // And when the daemon goes away in the middle of it.
    workplace.does("mkfifo gone");
    let mut command = workplace.client(&program);
    command.args([&module(), PIN, "gone"]);
    let mut late = Running::start(&mut command, &workplace.path("late.log"));
    late.wait_ready(|late| late.log().contains("waiting"));
    let mut workplace = workplace;
    workplace.daemon.kill();
    fs::write(workplace.path("gone"), "").unwrap();
    let status = late.wait();
    assert!(status.success(), "{status}\n{}", late.log());
}

/// A folder under git's care, and who the author is.
const REPOSITORY: &str = "git config --global user.name Alice\ngit config --global user.email alice@example.org\n\
     git init -q project\ncd project\n";

/// A commit that has the last one's signature and another text.
const FORGED: &str = "git cat-file commit HEAD | sed 's/Signed by/Forged by/' | git hash-object -t commit -w --stdin";

#[test]
fn git_signs_commits_by_ssh() {
    let scene = Scene::new();
    let section = scene.page.section("Git, by SSH");
    let done = scene.run(&format!("{REPOSITORY}{section}"));
    assert_eq!(done.answers, 2, "{}", done.outcome.text);
    assert!(
        done.outcome
            .text
            .contains("Good \"git\" signature for alice@example.org"),
        "{}",
        done.outcome.text
    );

    // Everybody else verifies without the card.
    let verify = "git -C project verify-commit";
    scene.machine.does(&format!("{verify} HEAD"));
    scene
        .machine
        .refuses(&format!("cd project; git verify-commit $({FORGED})"));
    scene.machine.does(
        "ssh-keygen -q -t ed25519 -N '' -f stranger\n\
         echo \"alice@example.org $(cat stranger.pub)\" > other-signers",
    );
    let said = scene.machine.refuses(
        "git -C project -c gpg.ssh.allowedSignersFile=$HOME/other-signers verify-commit HEAD",
    );
    assert!(said.contains("No principal matched"), "{said}");

    let commit = "git -C project commit --allow-empty -S -m again";
    scene.refuses(commit, &ANSWERS, "No private key found");
    let agent = "eval $(ssh-agent -s)\nssh-add -s $(pkg-config --variable=module cardea-pkcs11)\n";
    let sign = format!("{agent}{commit}");
    scene.withstands(
        &sign,
        "Could not add card",
        "Could not add card",
        "Could not add card",
    );
    shown("Signed commits (SSH)", "git", "git", "P-256");
}

#[test]
fn git_signs_commits_by_certificate() {
    let scene = Scene::new();
    pinentry(&scene.machine, &scene.workplace, PIN);
    let gnupg = Page::of_uses("smime").section("GnuPG");
    let (set_up, _) = gnupg.split_once("gpgsm --local-user").unwrap();
    scene.run(set_up);
    let section = scene.page.section("Git, by certificate");
    let done = scene.run(&format!("{REPOSITORY}{section}"));
    assert!(
        done.outcome
            .text
            .contains("Good signature from \"/CN=Alice\""),
        "{}",
        done.outcome.text
    );

    let verify = "git -C project verify-commit HEAD";
    scene.machine.does(verify);
    scene
        .machine
        .refuses(&format!("cd project; git verify-commit $({FORGED})"));
    scene
        .machine
        .does("mv .gnupg/trustlist.txt trusted\n: > .gnupg/trustlist.txt\ngpgconf --kill all");
    scene.machine.refuses(verify);
    scene
        .machine
        .does("mv trusted .gnupg/trustlist.txt\ngpgconf --kill all");
    scene.machine.does(verify);

    let commit = "git -C project commit --allow-empty -S -m again";
    pinentry(&scene.machine, &scene.workplace, WRONG);
    scene.machine.refuses(commit);
    assert!(scene.workplace.tries_left() < 5);
    scene.workplace.block();
    pinentry(&scene.machine, &scene.workplace, PIN);
    let said = scene.machine.refuses(commit);
    assert!(
        said.contains("PIN blocked") || said.contains("failed to sign"),
        "{said}"
    );
    scene.workplace.unblock();
    scene.machine.does(commit);
    scene.machine.does(verify);
    scene
        .workplace
        .cardea(&["card", "destroy", "Alice", "--yes"]);
    scene.machine.does("gpgconf --kill all");
    scene.machine.refuses(commit);
    shown("Signed commits (X.509, by gpgsm)", "git", "git", "RSA-2048");
}

const GIB: u64 = 1 << 30;

#[test]
fn large_files_are_signed_piece_by_piece() {
    let scene = Scene::new();
    let cnf = Page::of_uses("smime").section("OpenSSL");
    let (cnf, _) = cnf.split_once("cardea cert export").unwrap();
    scene.machine.does(cnf);
    let disk = fs::File::create(scene.workplace.path("disk.img")).unwrap();
    disk.set_len(GIB).unwrap();
    // With a fourth of the file's size as its whole address space.
    let commands = scene.page.section("Large files");
    let limited =
        |commands: &str| commands.replace("openssl cms", "prlimit --as=268435456 openssl cms");
    let done = scene.run(&limited(&commands));
    assert_eq!(done.answers, 1, "{}", done.outcome.text);
    let sign = commands
        .lines()
        .find(|line| line.contains("cms -sign"))
        .unwrap();
    let verify = commands
        .lines()
        .find(|line| line.contains("cms -verify"))
        .unwrap();
    // The limit is one: the whole file does not fit.
    let whole = limited(sign)
        .replace("-binary", "-binary -nodetach")
        .replace("disk.img.p7s", "whole.p7m");
    scene.refuses(&whole, &ANSWERS, "");

    // What it takes in fact.
    scene
        .machine
        .does("sed 's/^init = 1/PIN = '$(cat pin)'\\ninit = 1/' cardea.cnf > with-pin.cnf");
    let peak = peak_memory(
        &scene,
        &sign.replace("OPENSSL_CONF=cardea.cnf", "OPENSSL_CONF=with-pin.cnf"),
    );
    println!("{peak} KiB at most for a file of 1 GiB");
    assert!(peak < 64 * 1024, "{peak} KiB");

    // One byte near the end.
    use std::os::unix::fs::FileExt;
    disk.write_all_at(&[1], GIB - 5).unwrap();
    let said = scene.machine.refuses(verify);
    assert!(
        said.contains("digest failure") || said.contains("verification failure"),
        "{said}"
    );
    disk.set_len(4096).unwrap();
    scene.run(&whole);
    scene.run(sign);
    scene.machine.does(verify);
    scene
        .machine
        .refuses(&verify.replace("-CAfile ca.pem", "-CAfile other-ca.pem"));
    scene.withstands(
        sign,
        "PIN incorrect",
        "PIN locked",
        "PKCS11_get_private_key returned NULL",
    );
    shown(
        "Detached signature of a large file (CMS)",
        "OpenSSL",
        "openssl",
        "RSA-2048",
    );
}

/// Most memory that the command had, in KiB, as the kernel counts it.
fn peak_memory(scene: &Scene, command: &str) -> u64 {
    let mut shell = scene.machine.command("sh");
    let command = command
        .replace("OPENSSL_CONF", "export OPENSSL_CONF")
        .replace(" openssl", "; exec openssl");
    shell.args(["-e", "-c", &command]);
    let mut process = Running::start(&mut shell, &scene.workplace.path("openssl.log"));
    let mut most = 0;
    wait_for("the signature", || {
        most = Memory::Peak.of(process.pid()).unwrap_or(most);
        !process.running()
    });
    let status = process.wait();
    assert!(status.success() && most > 0, "{}", process.log());
    most
}

fn shown(title: &str, program: &str, package: &str, keys: &str) {
    Use {
        page: "signing",
        title,
        program,
        package,
        interface: Interface::Pkcs11,
        keys,
    }
    .shown();
}

#[test]
fn every_section_is_run() {
    let page = Page::of_uses("signing");
    let tests = include_str!("signing.rs");
    for (heading, _) in page.sections() {
        assert!(tests.contains(&format!("\"{heading}\"")), "{heading}");
    }
}
