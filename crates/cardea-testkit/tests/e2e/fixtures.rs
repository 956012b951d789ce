//! The fixtures themselves where they take the products or pcscd, and what only they can show: the TPM seen
//! by others while the daemon holds it, and a connection that breaks at every command in turn.

use std::process::Command;

use cardea_testkit::multiplexer::{Fault, Multiplexer, Trigger};
use cardea_testkit::pcscd::Pcscd;
use cardea_testkit::process::{Outcome, run, wait_for};
use cardea_testkit::rig::{Daemon, PIN};
use cardea_testkit::swtpm::Swtpm;
use tempfile::TempDir;

/// A daemon that shares its TPM.
struct Shared {
    daemon: Daemon,
    mux: Multiplexer,
    _tpm: Swtpm,
    folder: TempDir,
}

impl Shared {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let mux = Multiplexer::start(&folder.path().join("mux"), &tpm);
        let daemon = Daemon::start(&folder.path().join("daemon"), &mux.address(), "");
        std::fs::write(folder.path().join("pin"), PIN).unwrap();
        Self {
            daemon,
            mux,
            _tpm: tpm,
            folder,
        }
    }

    fn create(&self, name: &str) -> Outcome {
        let pin = self.folder.path().join("pin").display().to_string();
        let arguments = ["card", "create", "--name", name, "--pin-file", &pin];
        self.daemon.cardea(&arguments)
    }

    /// NV indices in the cards' range, as tpm2-tools see them: of cards, and the one that a creation tries
    /// the TPM with, which the next creation removes when it was cut off in the middle of that.
    fn indices(&self) -> (usize, usize) {
        let listed = self.mux.tpm2("tpm2_getcap", &["handles-nv-index"]);
        assert!(listed.success, "{}", listed.text);
        let text = listed.text.to_lowercase();
        let tried = text.matches("0x1c2ffff").count();
        (text.matches("0x1c2").count() - tried, tried)
    }

    fn cards(&self) -> usize {
        let listed = self.daemon.cardea(&["card", "list", "--json"]);
        assert!(listed.success, "{}", listed.text);
        listed.text.matches("\"card_id\"").count()
    }
}

#[test]
fn index_of_a_card_is_seen_beside_the_daemon_until_its_destruction() {
    let shared = Shared::start();
    let made = shared.create("Watched");
    assert!(made.success, "{}", made.text);
    assert_eq!(shared.indices(), (1, 0));
    let destroyed = shared
        .daemon
        .cardea(&["card", "destroy", "Watched", "--yes"]);
    assert!(destroyed.success, "{}", destroyed.text);
    assert_eq!(shared.indices(), (0, 0));
}

#[test]
fn creation_cut_off_at_any_command_leaves_a_whole_card_or_nothing() {
    let mut shared = Shared::start();
    shared.mux.forget_exchanges();
    let whole = shared.create("Whole");
    assert!(whole.success, "{}", whole.text);
    let commands = u32::try_from(shared.mux.exchanges().len()).unwrap();
    assert!(commands > 10, "{commands} commands are no creation");
    let mut failed = 0;
    for skip in 0..commands {
        for fault in [Fault::DropBefore, Fault::DropAfter] {
            shared.mux.inject(Trigger::next().after(skip), fault);
            let outcome = shared.create(&format!("Cut {skip}"));
            failed += u32::from(!outcome.success);
            // A creation that needed fewer commands has not met it.
            while shared.mux.waiting_faults() > 0 {
                drop(shared.daemon.cardea(&["tpm", "status"]));
            }
            shared.daemon.restart();
            let cards = shared.cards();
            wait_for("the end of what was cut off", || {
                shared.indices().0 == cards
            });
            if outcome.success {
                let name = format!("Cut {skip}");
                let destroyed = shared.daemon.cardea(&["card", "destroy", &name, "--yes"]);
                assert!(destroyed.success, "at command {skip}: {}", destroyed.text);
            }
            assert_eq!(shared.cards(), 1, "at command {skip}: {}", outcome.text);
        }
    }
    assert!(failed > 10, "only {failed} creations met their fault");
    let last = shared.create("Last");
    assert!(last.success, "{}", last.text);
    assert_eq!(shared.indices(), (2, 0));
}

/// Readers that a pcscd shows.
fn readers(pcscd: &Pcscd) -> Outcome {
    run(Command::new("opensc-tool")
        .arg("--list-readers")
        .env("PCSCLITE_CSOCK_NAME", pcscd.socket()))
}

#[test]
fn pcscds_run_side_by_side_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name| Pcscd::start(&folder.path().join(name), "# no reader\n");
    let (mut one, two) = (start("one"), start("two"));
    assert_ne!(one.socket(), two.socket());
    for pcscd in [&one, &two] {
        let listed = readers(pcscd);
        assert!(
            listed.text.contains("No smart card readers found"),
            "{}",
            listed.text
        );
    }
    let first = one.socket();
    one.kill();
    assert!(!one.running());
    assert!(!first.exists(), "its namespace is still there");
    assert!(readers(&two).text.contains("No smart card readers found"));
    one.restart();
    assert!(one.running());
    assert!(readers(&one).text.contains("No smart card readers found"));
}
