//! OpenSSH 9.2 with our module: the keys of a card as they are listed, and in an agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use cardea_testkit::process::{self, Outcome, Running};
use cardea_testkit::rig::PIN;

use cardea_testkit::desk::{Desk, KEYS, WRONG, module};

/// An agent in the foreground, and what answers when it asks for the PIN.
struct Agent<'a> {
    desk: &'a Desk,
    _process: Running,
}

impl<'a> Agent<'a> {
    fn start(desk: &'a Desk) -> Self {
        // It loads modules of the folders that it is told, by their real paths.
        let folder = module().replace("libcardea_pkcs11.so", "*");
        let mut command = desk.client("ssh-agent -D -a agent.sock -P");
        command.arg(folder);
        let mut process = Running::start(&mut command, &desk.path("agent.log"));
        let socket = desk.path("agent.sock");
        process.wait_ready(|_| UnixStream::connect(&socket).is_ok());
        Self {
            desk,
            _process: process,
        }
    }

    fn run(&self, pin: &str, line: &str) -> Outcome {
        let ask = self.desk.path("askpass");
        fs::write(&ask, format!("#!/bin/sh\necho {pin}\n")).unwrap();
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o755)).unwrap();
        process::run(
            self.desk
                .client(line)
                .env("SSH_AUTH_SOCK", self.desk.path("agent.sock"))
                .env("SSH_ASKPASS", ask)
                .env("SSH_ASKPASS_REQUIRE", "force"),
        )
    }

    fn add(&self, pin: &str) -> Outcome {
        self.run(pin, &format!("ssh-add -s {}", module()))
    }

    fn list(&self) -> Outcome {
        self.run(PIN, "ssh-add -L")
    }

    /// Signs the message by a key of the agent's, which is told by its public half.
    fn sign(&self, key: &str) -> Outcome {
        drop(fs::remove_file(self.desk.path("message.sig")));
        self.run(
            PIN,
            &format!("ssh-keygen -Y sign -n file -f {key}.line message"),
        )
    }
}

/// The line for `authorized_keys` as `cardea` gives it; it is in `KEY.line` too.
fn line(desk: &Desk, key: &str) -> String {
    let file = desk.text(&format!("{key}.line"));
    let export = ["key", "export-public", "Alice", key, "--format", "ssh"];
    desk.cardea(&[&export[..], &["--out", &file]].concat());
    fs::read_to_string(file).unwrap()
}

/// Whether `ssh-keygen` finds that the signer of `KEY.line` signed a file.
fn verifies(desk: &Desk, key: &str, file: &str) -> bool {
    let signer = format!("alice@example.org {}", line(desk, key));
    fs::write(desk.path("signers"), signer).unwrap();
    let mut command = desk.client("sh -c");
    command.args([
        "exec ssh-keygen -Y verify -f signers -I alice@example.org -n file -s message.sig < \"$1\"",
        "sh",
        file,
    ]);
    process::run(&mut command).success
}

#[test]
fn ssh_keygen_lists_the_keys_as_cardea_exports_them() {
    let desk = Desk::with_keys();
    desk.create("Bob");
    let listed = desk.does(&format!("ssh-keygen -D {}", module()));
    for key in KEYS {
        assert!(listed.contains(&line(&desk, key)), "{key}: {listed}");
    }
    assert_eq!(listed.lines().count(), 2, "{listed}");
    for key in KEYS {
        desk.delete(key);
    }
    desk.refuses(&format!("ssh-keygen -D {}", module()));
}

#[test]
fn ssh_agent_signs_with_the_keys_of_the_card() {
    let desk = Desk::with_keys();
    let agent = Agent::start(&desk);
    let added = agent.add(PIN);
    assert!(added.success, "{}", added.text);
    let listed = agent.list();
    for key in KEYS {
        let line = line(&desk, key);
        assert!(listed.text.contains(line.trim_end()), "{}", listed.text);
        let signed = agent.sign(key);
        assert!(signed.success, "{key}: {}", signed.text);
        assert!(verifies(&desk, key, "message"), "{key}");
        assert!(!verifies(&desk, key, "another"), "{key}");
    }
    // The last signature is the other key's.
    assert!(!verifies(&desk, "rsa", "message"));

    // The agent stays logged in. A key that is gone signs no more; the other one does.
    desk.delete("rsa");
    let refused = agent.sign("rsa");
    assert!(!refused.success, "{}", refused.text);
    let signed = agent.sign("ec");
    assert!(signed.success, "{}", signed.text);

    let removed = agent.run(PIN, &format!("ssh-add -e {}", module()));
    assert!(removed.success, "{}", removed.text);
    let listed = agent.list();
    assert!(!listed.success, "{}", listed.text);
    assert!(!agent.sign("ec").success);
}

#[test]
fn ssh_agent_takes_no_card_with_a_wrong_pin_or_a_blocked_one() {
    let desk = Desk::with_keys();
    let agent = Agent::start(&desk);
    let refused = agent.add(WRONG);
    assert!(!refused.success, "{}", refused.text);
    assert_eq!(desk.tries_left(), 4);
    desk.block();
    let refused = agent.add(PIN);
    assert!(!refused.success, "{}", refused.text);
    assert!(!agent.list().success);
    desk.unblock();
    let added = agent.add(PIN);
    assert!(added.success, "{}", added.text);
    line(&desk, "rsa");
    assert!(agent.sign("rsa").success);
    assert!(verifies(&desk, "rsa", "message"));
}
