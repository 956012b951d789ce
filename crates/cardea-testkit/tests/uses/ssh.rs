//! OpenSSH: `docs/uses/ssh.md` against a real server, and what must be refused.

use std::fs;

use cardea_testkit::installed::{AS_MALLORY, Installed};
use cardea_testkit::page::Page;
use cardea_testkit::process::{Outcome, Running};
use cardea_testkit::rig::PIN;
use cardea_testkit::terminal::{Answer, Dialogue};
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::{WRONG, Workplace};

const RIGHT: [Answer<'_>; 2] = [("PIN", PIN), ("passphrase for PKCS#11", PIN)];
const FALSE: [Answer<'_>; 2] = [("PIN", WRONG), ("passphrase for PKCS#11", WRONG)];

const MODULE: &str = "MODULE=$(pkg-config --variable=module cardea-pkcs11)\n";
const AGENT: &str = "eval $(ssh-agent -s)\nssh-add -s $MODULE\n";

/// A card that has the page's key, and a server.
struct Scene {
    server: Running,
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
            server: machine.ssh_server(),
            machine,
            workplace,
            page: Page::of_uses("ssh"),
        };
        scene.follow("A key for SSH", &[("PIN", PIN)]);
        scene
    }

    /// With the key in `authorized_keys`.
    fn known() -> Self {
        let scene = Self::new();
        scene.authorise(&["ssh"]);
        scene
    }

    /// It reads its settings when it starts.
    fn restart_server(&mut self) {
        self.server.terminate();
        self.server = self.machine.ssh_server();
    }

    /// What stands on the page in a section.
    fn follow(&self, heading: &str, answers: &[Answer<'_>]) -> Dialogue {
        let done = self.machine.converse(&self.page.section(heading), answers);
        assert!(done.outcome.success, "{heading}\n{}", done.outcome.text);
        done
    }

    fn authorise(&self, keys: &[&str]) {
        let read = |key| fs::read_to_string(self.workplace.path(&format!("{key}.pub"))).unwrap();
        let lines: String = keys.iter().map(read).collect();
        self.machine.give_alice(".ssh/authorized_keys", &lines);
    }

    /// `ssh` with further options; on the server it prints who it is.
    fn ssh(&self, options: &str, answers: &[Answer<'_>]) -> Dialogue {
        let line = format!("{MODULE}ssh {options} alice@server.example.org 'echo I am $USER'");
        self.machine.converse(&line, answers)
    }

    fn with_provider(&self, options: &str, answers: &[Answer<'_>]) -> Dialogue {
        self.ssh(&format!("-o PKCS11Provider=$MODULE {options}"), answers)
    }

    fn with_certificate(&self, options: &str) -> Dialogue {
        let certificate = format!("-o CertificateFile=ssh-cert.pub {options}");
        self.with_provider(&certificate, &RIGHT)
    }

    /// The server's authority.
    fn trust(&self, file: &str) {
        self.machine
            .does(&format!("cp {file} /etc/ssh/users-ca.pub"));
    }

    fn export(&self, key: &str) {
        let file = self.workplace.text(&format!("{key}.pub"));
        let export = ["key", "export-public", "Alice", key, "--format", "ssh"];
        self.workplace
            .cardea(&[&export[..], &["--out", &file]].concat());
    }

    /// A signed-in session by that key, as the server tells it.
    fn signed_in_with(&self, key: &str) -> bool {
        let shown = self.machine.does(&format!("ssh-keygen -l -f {key}.pub"));
        let fingerprint = shown.split(' ').nth(1).unwrap().to_owned();
        self.server.log().lines().any(|line| {
            line.contains("Accepted publickey for alice") && line.contains(&fingerprint)
        })
    }
}

fn is_in(dialogue: &Dialogue) -> bool {
    dialogue.outcome.success && dialogue.outcome.text.contains("I am alice")
}

fn refused(dialogue: &Dialogue, why: &str) {
    let Outcome { success, text, .. } = &dialogue.outcome;
    assert!(!success && text.contains(why), "{why} is not in\n{text}");
    assert!(!text.contains("I am alice"), "{text}");
}

#[test]
fn ssh_signs_in_with_a_key_of_the_card() {
    let scene = Scene::known();
    let done = scene.follow("Sign in", &RIGHT);
    assert_eq!(done.answers, 2, "{}", done.outcome.text);
    assert!(scene.signed_in_with("ssh"));

    // An RSA key too.
    scene.workplace.generate("rsa", "rsa-2048");
    scene.export("rsa");
    let only = "-o IdentityFile=rsa.pub -o IdentitiesOnly=yes";
    refused(&scene.with_provider(only, &RIGHT), "Permission denied");
    scene.authorise(&["rsa"]);
    let done = scene.with_provider(only, &RIGHT);
    assert!(is_in(&done), "{}", done.outcome.text);
    assert!(scene.signed_in_with("rsa"));

    // A wrong PIN, a blocked card.
    refused(&scene.with_provider(only, &FALSE), "PIN incorrect");
    assert_eq!(scene.workplace.tries_left(), 4);
    scene.workplace.block();
    refused(&scene.with_provider(only, &RIGHT), "PIN locked");
    scene.workplace.unblock();
    assert!(is_in(&scene.with_provider(only, &RIGHT)));

    // Another user of this machine sees no card, so there is nothing to ask for.
    let listed = scene.machine.does(&format!(
        "cp $(command -v cardea) mallory/\n{AS_MALLORY} mallory/cardea card list"
    ));
    assert!(!listed.contains("Alice"), "{listed}");
    let other = format!("{AS_MALLORY} ssh -o PKCS11Provider=$MODULE");
    let line = format!("{MODULE}HOME=~/mallory {other} alice@server.example.org 'echo I am $USER'");
    let done = scene.machine.converse(&line, &RIGHT);
    refused(&done, "Permission denied");
    assert_eq!(done.answers, 0, "{}", done.outcome.text);

    // No card.
    scene
        .workplace
        .cardea(&["card", "destroy", "Alice", "--yes"]);
    let done = scene.with_provider(only, &RIGHT);
    refused(&done, "Permission denied");
    assert_eq!(done.answers, 0, "{}", done.outcome.text);
    shown("Sign-in to a server", "RSA-2048, P-256");
}

#[test]
fn agent_signs_in_without_a_further_question() {
    let scene = Scene::known();
    let done = scene.follow("With the agent", &RIGHT);
    assert_eq!(done.answers, 1, "{}", done.outcome.text);
    assert!(
        done.outcome.text.contains("ssh (ECDSA)"),
        "{}",
        done.outcome.text
    );
    assert!(scene.signed_in_with("ssh"));

    let agent = |further: &str, answers: &[Answer<'_>]| {
        let line = "ssh alice@server.example.org 'echo I am $USER'";
        let script = format!("{MODULE}{AGENT}{further}\n{line}");
        scene.machine.converse(&script, answers)
    };
    assert!(is_in(&agent("", &RIGHT)));
    // Without the card, the agent has nothing.
    refused(&agent("ssh-add -e $MODULE", &RIGHT), "Permission denied");
    // The login is over when the PIN was changed; the key is gone when it was deleted.
    let change = "cardea pin change Alice --pin-file pin --new-pin-file pin";
    refused(&agent(change, &RIGHT), "agent refused operation");
    refused(&agent("", &FALSE), "Could not add card");
    assert_eq!(scene.workplace.tries_left(), 4);
    scene.workplace.block();
    refused(&agent("", &RIGHT), "Could not add card");
    scene.workplace.unblock();
    assert!(is_in(&agent("", &RIGHT)));
    let delete = "cardea key delete Alice ssh --yes --pin-file pin";
    refused(&agent(delete, &RIGHT), "agent refused operation");
    shown("Sign-in through ssh-agent", "P-256");
}

#[test]
fn certificates_of_an_ssh_authority_sign_in() {
    let mut scene = Scene::new();
    // The page's second block is for the client: it runs when the server knows the authority.
    let commands = scene.page.section("Certificates");
    let (authority, client) = commands.split_once("MODULE=").unwrap();
    scene.machine.does(authority);
    refused(&scene.with_certificate(""), "Permission denied");
    scene.trust("users-ca.pub");
    assert!(
        scene
            .page
            .says("```\nTrustedUserCAKeys /etc/ssh/users-ca.pub\n```")
    );
    scene
        .machine
        .does("echo TrustedUserCAKeys /etc/ssh/users-ca.pub > /etc/ssh/sshd_config.d/users.conf");
    scene.restart_server();
    let done = scene.machine.converse(&format!("MODULE={client}"), &RIGHT);
    assert!(done.outcome.success, "{}", done.outcome.text);
    assert!(is_in(&scene.with_certificate("")));

    // The agent has the key, a file the certificate.
    let line = "ssh -o CertificateFile=ssh-cert.pub alice@server.example.org 'echo I am $USER'";
    let done = scene
        .machine
        .converse(&format!("{MODULE}{AGENT}{line}"), &RIGHT);
    assert!(is_in(&done), "{}", done.outcome.text);

    // For another user of the server, of another authority, and without the certificate.
    refused(&scene.with_certificate("-l mallory"), "Permission denied");
    refused(&scene.with_provider("", &RIGHT), "Permission denied");
    scene
        .machine
        .does("ssh-keygen -q -t ed25519 -N '' -f other-ca");
    scene.trust("other-ca.pub");
    refused(&scene.with_certificate(""), "Permission denied");

    // An authority whose key is on a card.
    scene.machine.does("rm users-ca users-ca.pub ssh-cert.pub");
    let done = scene.follow("The authority's key on a card", &RIGHT);
    assert_eq!(done.answers, 2, "{}", done.outcome.text);
    refused(&scene.with_certificate(""), "Permission denied");
    scene.trust("users-ca.pub");
    let done = scene.with_certificate("-o IdentityFile=ssh.pub -o IdentitiesOnly=yes");
    assert!(is_in(&done), "{}", done.outcome.text);
    shown("Certificates of an SSH authority", "P-256");
}

#[test]
fn key_that_asks_every_time_is_asked_for_at_each_signature() {
    let mut scene = Scene::new();
    let made = scene.page.section("A key that asks every time");
    let (make, sign_in) = made.split_once("MODULE=").unwrap();
    let done = scene.machine.converse(make, &RIGHT);
    assert!(done.outcome.success, "{}", done.outcome.text);
    scene.authorise(&["careful"]);
    let sign_in = format!("MODULE={sign_in}");
    for _ in 0..2 {
        let done = scene.machine.converse(&sign_in, &RIGHT);
        assert!(done.outcome.success, "{}", done.outcome.text);
        assert_eq!(done.answers, 1, "{}", done.outcome.text);
    }
    assert!(scene.signed_in_with("careful"));

    // A server that wants two keys: the second signature of one program asks again where the key says so, and
    // does not where both are ordinary.
    let make = "cardea key generate Alice --algorithm p-256 --pin-file pin --label";
    scene
        .machine
        .does(&format!("{make} other --pin-every-time\n{make} plain"));
    scene.export("other");
    scene.export("plain");
    scene
        .machine
        .does("echo AuthenticationMethods publickey,publickey > /etc/ssh/sshd_config.d/two.conf");
    scene.restart_server();
    for (pair, questions) in [(["careful", "other"], 2), (["ssh", "plain"], 1)] {
        scene.authorise(&pair);
        let [first, second] = pair;
        let keys = format!("-o IdentitiesOnly=yes -i {first}.pub -i {second}.pub");
        let done = scene.with_provider(&keys, &RIGHT);
        assert!(is_in(&done), "{pair:?}\n{}", done.outcome.text);
        assert_eq!(done.answers, questions, "{pair:?}\n{}", done.outcome.text);
    }
    scene.authorise(&["careful", "other"]);
    let keys = "-o IdentitiesOnly=yes -i careful.pub -i other.pub";
    refused(&scene.with_provider(keys, &FALSE), "PIN incorrect");

    // The agent cannot ask again.
    scene.authorise(&["careful", "plain"]);
    let line =
        "ssh -o IdentitiesOnly=yes -i plain.pub -i careful.pub alice@server.example.org true";
    let done = scene
        .machine
        .converse(&format!("{MODULE}{AGENT}{line}"), &RIGHT);
    refused(&done, "agent refused operation");
    assert_eq!(done.answers, 1, "{}", done.outcome.text);
    shown("Sign-in with a key that asks every time", "P-256");
}

fn shown(title: &str, keys: &str) {
    Use {
        page: "ssh",
        title,
        program: "OpenSSH",
        package: "openssh-client",
        interface: Interface::Pkcs11,
        keys,
    }
    .shown();
}

#[test]
fn every_section_is_run() {
    let page = Page::of_uses("ssh");
    let tests = include_str!("ssh.rs");
    for (heading, _) in page.sections() {
        assert!(tests.contains(&format!("\"{heading}\"")), "{heading}");
    }
}
