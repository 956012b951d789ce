//! OpenSSH 9.2 with our module: the keys of a card as they are listed, and in an agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use cardea_testkit::process::{self, Outcome, Running};
use cardea_testkit::rig::PIN;

use cardea_testkit::workplace::{KEYS, WRONG, Workplace, module};

/// An agent in the foreground, and what answers when it asks for the PIN.
struct Agent<'a> {
    workplace: &'a Workplace,
    _process: Running,
}

impl<'a> Agent<'a> {
    fn start(workplace: &'a Workplace) -> Self {
        // It loads modules of the folders that it is told, by their real paths.
        let folder = module().replace("libcardea_pkcs11.so", "*");
        let mut command = workplace.client("ssh-agent -D -a agent.sock -P");
        command.arg(folder);
        let mut process = Running::start(&mut command, &workplace.path("agent.log"));
        let socket = workplace.path("agent.sock");
        process.wait_ready(|_| UnixStream::connect(&socket).is_ok());
        Self {
            workplace,
            _process: process,
        }
    }

    fn run(&self, pin: &str, line: &str) -> Outcome {
        let ask = self.workplace.path("askpass");
        fs::write(&ask, format!("#!/bin/sh\necho {pin}\n")).unwrap();
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o755)).unwrap();
        process::run(
            self.workplace
                .client(line)
                .env("SSH_AUTH_SOCK", self.workplace.path("agent.sock"))
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
        drop(fs::remove_file(self.workplace.path("message.sig")));
        self.run(
            PIN,
            &format!("ssh-keygen -Y sign -n file -f {key}.line message"),
        )
    }
}

/// The line for `authorized_keys` as `cardea` gives it; it is in `KEY.line` too.
fn line(workplace: &Workplace, key: &str) -> String {
    let file = workplace.text(&format!("{key}.line"));
    let export = ["key", "export-public", "Alice", key, "--format", "ssh"];
    workplace.cardea(&[&export[..], &["--out", &file]].concat());
    fs::read_to_string(file).unwrap()
}

/// Whether `ssh-keygen` finds that the signer of `KEY.line` signed a file.
fn verifies(workplace: &Workplace, key: &str, file: &str) -> bool {
    let signer = format!("alice@example.org {}", line(workplace, key));
    fs::write(workplace.path("signers"), signer).unwrap();
    let mut command = workplace.client("sh -c");
    command.args([
        "exec ssh-keygen -Y verify -f signers -I alice@example.org -n file -s message.sig < \"$1\"",
        "sh",
        file,
    ]);
    process::run(&mut command).success
}

#[test]
fn ssh_keygen_lists_the_keys_as_cardea_exports_them() {
    let workplace = Workplace::with_keys();
    workplace.create("Bob");
    let listed = workplace.does(&format!("ssh-keygen -D {}", module()));
    for key in KEYS {
        assert!(listed.contains(&line(&workplace, key)), "{key}: {listed}");
    }
    assert_eq!(listed.lines().count(), 2, "{listed}");
    for key in KEYS {
        workplace.delete(key);
    }
    workplace.refuses(&format!("ssh-keygen -D {}", module()));
}

#[test]
fn ssh_agent_signs_with_the_keys_of_the_card() {
    let workplace = Workplace::with_keys();
    let agent = Agent::start(&workplace);
    let added = agent.add(PIN);
    assert!(added.success, "{}", added.text);
    let listed = agent.list();
    for key in KEYS {
        let line = line(&workplace, key);
        assert!(listed.text.contains(line.trim_end()), "{}", listed.text);
        let signed = agent.sign(key);
        assert!(signed.success, "{key}: {}", signed.text);
        assert!(verifies(&workplace, key, "message"), "{key}");
        assert!(!verifies(&workplace, key, "another"), "{key}");
    }
    // The last signature is the other key's.
    assert!(!verifies(&workplace, "rsa", "message"));

    // The agent stays logged in. A key that is gone signs no more; the other one does.
    workplace.delete("rsa");
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
    let workplace = Workplace::with_keys();
    let agent = Agent::start(&workplace);
    let refused = agent.add(WRONG);
    assert!(!refused.success, "{}", refused.text);
    assert_eq!(workplace.tries_left(), 4);
    workplace.block();
    let refused = agent.add(PIN);
    assert!(!refused.success, "{}", refused.text);
    assert!(!agent.list().success);
    workplace.unblock();
    let added = agent.add(PIN);
    assert!(added.success, "{}", added.text);
    line(&workplace, "rsa");
    assert!(agent.sign("rsa").success);
    assert!(verifies(&workplace, "rsa", "message"));
}
