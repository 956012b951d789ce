//! Programs in a sandbox: `docs/uses/sandbox.md` with bubblewrap, and what must be refused.

use cardea_testkit::installed::{AS_MALLORY, Installed};
use cardea_testkit::page::Page;
use cardea_testkit::rig::PIN;
use cardea_testkit::terminal::Dialogue;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::{WRONG, Workplace};

struct Scene {
    machine: Installed,
    workplace: Workplace,
    command: String,
}

impl Scene {
    fn new() -> Self {
        let workplace = Workplace::with_keys();
        let machine = Installed::around(&workplace);
        // The folder itself, as the daemon has it.
        machine.does("rm /run/cardea/cardea.sock\nmount --bind daemon /run/cardea");
        Self {
            machine,
            workplace,
            command: Page::of_uses("sandbox").section("Bubblewrap"),
        }
    }

    /// The page's commands with a part replaced, and a PIN typed.
    fn run(&self, from: &str, to: &str, pin: &str) -> Dialogue {
        assert!(self.command.contains(from), "{from}");
        let script = self.command.replace(from, to);
        self.machine.converse(&script, &[("PIN", pin)])
    }
}

fn signs(dialogue: &Dialogue) {
    let text = &dialogue.outcome.text;
    assert!(dialogue.outcome.success, "{text}");
    assert!(text.contains("No errors"), "{text}");
    assert_eq!(dialogue.answers, 1, "{text}");
}

fn refused(dialogue: &Dialogue, reason: &str) {
    let text = &dialogue.outcome.text;
    assert!(!dialogue.outcome.success, "{text}");
    assert!(text.contains(reason), "{reason} is not in\n{text}");
}

#[test]
fn program_in_a_sandbox_uses_the_card() {
    let mut scene = Scene::new();
    signs(&scene.run("", "", PIN));
    let key = |id: &str, mechanism: &str| {
        let files = "--input-file /usr/bin/bwrap --output-file /dev/null";
        let sign = format!("--sign --id {id} --mechanism {mechanism} {files}");
        scene.run("--test", &sign, PIN)
    };
    for (id, mechanism) in [("00", "SHA256-RSA-PKCS"), ("1d", "ECDSA-SHA256")] {
        let signed = key(id, mechanism);
        assert!(signed.outcome.success, "{}", signed.outcome.text);
    }

    refused(&scene.run("", "", WRONG), "CKR_PIN_INCORRECT");
    assert_eq!(scene.workplace.tries_left(), 4);
    scene.workplace.block();
    refused(&scene.run("", "", PIN), "CKR_PIN_LOCKED");
    scene.workplace.unblock();
    signs(&scene.run("", "", PIN));

    // Without the folder, and for another user, there is no card.
    let folder = "--ro-bind /run/cardea /run/cardea ";
    refused(&scene.run(folder, "", PIN), "No slots");
    let others = format!("{AS_MALLORY} bwrap");
    refused(&scene.run("bwrap", &others, PIN), "No slots");

    // The folder has the new socket of a daemon that was started again.
    scene.workplace.daemon.restart();
    signs(&scene.run("", "", PIN));
    Use {
        page: "sandbox",
        title: "Programs in a sandbox",
        program: "bubblewrap",
        package: "bubblewrap",
        interface: Interface::Pkcs11,
        keys: "RSA-2048, P-256",
    }
    .shown();
}
