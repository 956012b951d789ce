//! A card on a removable drive (`docs/uses/removable-drive.md`): the daemon is outside the namespace in which the
//! drive is mounted, so it cannot open anything there by itself.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod doors;
mod fat;
mod hostile;
mod pulled;
mod users;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cardea_testkit::namespace::Namespace;
use cardea_testkit::process::{Outcome, Running, run, wait_for};
use cardea_testkit::rig::{Daemon, bin_dir};
use cardea_testkit::stick::{MEDIA, PLACE, Stick, shell, unplug};
use cardea_testkit::swtpm::Swtpm;
use cardea_testkit::uses::{Interface, Use};
use cardea_testkit::workplace::Workplace;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A computer into which drives are put.
struct Computer {
    workplace: Workplace,
    namespace: Namespace,
}

impl Computer {
    fn new() -> Self {
        let workplace = Workplace::new();
        let folder = workplace.path("");
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        let namespace = Namespace::new(&folder, MEDIA);
        Self {
            workplace,
            namespace,
        }
    }

    /// An empty drive, mounted.
    fn stick(&self, name: &str) -> Stick {
        let stick = Stick::new(&self.workplace.path(name), 16);
        stick.plug(&self.namespace);
        stick
    }

    /// `cardea` where drives are seen.
    fn cardea(&self, arguments: &[&str]) -> Outcome {
        self.cardea_as(0, arguments)
    }

    fn cardea_as(&self, uid: u32, arguments: &[&str]) -> Outcome {
        let id = uid.to_string();
        run(self
            .namespace
            .command("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg(bin_dir().join("cardea"))
            .args(arguments)
            .env("CARDEA_SOCKET", self.workplace.daemon.socket()))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.cardea(arguments);
        assert!(outcome.success, "{arguments:?}\n{}", outcome.text);
        outcome.text
    }

    fn refuses(&self, arguments: &[&str], why: &str) {
        let outcome = self.cardea(arguments);
        assert!(!outcome.success, "{arguments:?}\n{}", outcome.text);
        assert!(outcome.text.contains(why), "{why}\n{}", outcome.text);
    }

    fn sh(&self, lines: &str) -> String {
        let done = shell(&self.namespace, &self.workplace.path(""), lines);
        assert!(done.success, "{lines}\n{}", done.text);
        done.text
    }

    /// A card with a key on the drive at [`PLACE`], attached.
    fn make_card(&self, name: &str, further: &[&str]) -> String {
        let pin = self.workplace.text("pin");
        let create = ["card", "create", "--name", name, "--store", PLACE];
        let create = [&create[..], &["--pin-file", &pin, "--json"], further].concat();
        let made = self.ok(&create);
        let made = json::<Value>(&made);
        self.generate(name, "first");
        made["card_id"].as_str().unwrap().to_owned()
    }

    fn generate(&self, card: &str, label: &str) {
        let outcome = self.try_generate(card, label);
        assert!(outcome.success, "{}", outcome.text);
    }

    fn try_generate(&self, card: &str, label: &str) -> Outcome {
        let words = self.generation(card, label);
        let words: Vec<&str> = words.iter().map(|word| &**word).collect();
        self.cardea(&words)
    }

    fn generation(&self, card: &str, label: &str) -> Vec<String> {
        let pin = self.workplace.text("pin");
        let words = ["key", "generate", card, "--algorithm", "p-256", "--label"];
        let words = [&words[..], &[label, "--pin-file", &pin]].concat();
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What `card list` says of a card; none when it is not there.
    fn listed(&self, name: &str) -> Option<Value> {
        let listed = self.ok(&["card", "list", "--json"]);
        let cards: Vec<Value> = json(&listed);
        cards.into_iter().find(|card| card["name"] == name)
    }

    fn state(&self, name: &str) -> String {
        self.listed(name).map_or("none".to_owned(), |card| {
            card["state"].as_str().unwrap().to_owned()
        })
    }

    fn wait_for_state(&self, name: &str, state: &str) {
        wait_for(&format!("card {name} is {state}"), || {
            self.state(name) == state
        });
    }

    fn attach(&self) {
        self.ok(&["card", "attach", PLACE]);
    }

    /// Signs with a key of a card by a program that knows nothing of drives.
    fn signs(&self, card: &str, label: &str) -> bool {
        let sign = [
            "--token-label",
            card,
            "--sign",
            "--mechanism",
            "ECDSA-SHA256",
            "--login",
            "--pin",
            cardea_testkit::rig::PIN,
            "--label",
            label,
            "--input-file",
            "message",
            "--output-file",
            "signature",
        ];
        self.workplace.tool(&sign).success
    }
}

/// What was printed for programs; notes for people come after it.
fn json<T: DeserializeOwned>(printed: &str) -> T {
    let mut values = serde_json::Deserializer::from_str(printed).into_iter::<T>();
    values.next().unwrap().unwrap()
}

/// The blocks of shell commands of the page.
fn blocks() -> Vec<String> {
    let page = format!("{}/removable-drive.md", super::PAGES);
    let text = fs::read_to_string(page).unwrap();
    let parts = text.split("```sh\n").skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn card_is_there_while_its_drive_is() {
    let blocks = blocks();
    let [create, umount, attach, detach, list, adopt, destroy] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    let mut computer = Computer::new();
    let stick = computer.stick("stick");
    is_made_on_the_drive(&computer, create);
    leaves_with_the_drive(&computer, umount);
    stick.plug(&computer.namespace);
    comes_back_with_the_drive(&mut computer, attach, detach);
    is_foreign_on_another_computer(&stick, list);
    // Home again.
    stick.plug(&computer.namespace);
    computer.attach();
    assert!(computer.signs("Travel", "travel"));
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Travel", "drive-away");
    is_adopted_by_a_new_system(&mut computer, &stick, adopt);
    is_destroyed_without_the_drive(&computer, &stick, destroy);
    Use {
        page: "removable-drive",
        title: "A card on a removable drive",
        program: "OpenSC pkcs11-tool",
        package: "opensc",
        interface: Interface::Pkcs11,
        keys: "P-256",
    }
    .shown();
}

/// Runs a block of the page as it stands there.
fn run_block(computer: &Computer, block: &str) -> String {
    let socket = computer.workplace.daemon.socket();
    computer.sh(&format!(
        "PATH={}:$PATH CARDEA_SOCKET={}\nexport PATH CARDEA_SOCKET\n{block}",
        bin_dir().display(),
        socket.display()
    ))
}

fn is_made_on_the_drive(computer: &Computer, create: &str) {
    run_block(computer, create);
    assert_eq!(computer.state("Travel"), "ready");
    let card = computer.listed("Travel").unwrap();
    assert_eq!(card["drive"], format!("{PLACE}/Cardea"));
    assert!(card["reader"].is_string(), "{card}");
    let state = computer.workplace.daemon.state();
    assert_eq!(fs::read_dir(state.join("cards")).unwrap().count(), 0);
    assert!(computer.signs("Travel", "travel"));
    computer.workplace.fails(
        &[
            "--token-label",
            "Travel",
            "--login",
            "--pin",
            "000000",
            "--list-objects",
        ],
        "CKR_PIN_INCORRECT",
    );
}

/// Nothing of it is busy, and the card leaves at once.
fn leaves_with_the_drive(computer: &Computer, umount: &str) {
    run_block(computer, umount);
    computer.wait_for_state("Travel", "drive-away");
    let card = computer.listed("Travel").unwrap();
    assert!(card["reader"].is_null() && card["drive"] == "", "{card}");
    assert!(!computer.signs("Travel", "travel"));
    // Programs that know its slot find no token in it.
    let slots = computer.workplace.tool(&["--list-slots"]).text;
    assert!(
        slots.contains("Cardea Travel (on a drive that is not attached)\n  (empty)"),
        "{slots}"
    );
    computer.refuses(&["card", "attach", PLACE], "there is no folder Cardea");
}

fn comes_back_with_the_drive(computer: &mut Computer, attach: &str, detach: &str) {
    run_block(computer, attach);
    assert_eq!(computer.state("Travel"), "ready");
    assert!(computer.signs("Travel", "travel"));
    // A restarted daemon gets the drive again from who holds it.
    computer.workplace.daemon.restart();
    computer.wait_for_state("Travel", "ready");
    assert!(computer.signs("Travel", "travel"));
    run_block(computer, detach);
    assert_eq!(computer.state("Travel"), "drive-away");
    unplug(&computer.namespace, PLACE);
}

/// Another computer has another TPM and another daemon.
fn is_foreign_on_another_computer(stick: &Stick, list: &str) {
    let other = Computer::new();
    stick.plug(&other.namespace);
    other.attach();
    assert!(run_block(&other, list).contains("foreign"));
    let card = other.listed("Travel").unwrap();
    assert!(card["reader"].is_null(), "{card}");
    assert!(
        card["reason"]
            .as_str()
            .unwrap()
            .contains("made by another TPM")
    );
    assert!(!other.signs("Travel", "travel"));
    other.refuses(&["card", "adopt", "Travel"], "made by another TPM");
    unplug(&other.namespace, PLACE);
    wait_for("the stranger is forgotten", || {
        other.state("Travel") == "none"
    });
}

/// The system is installed anew: another host key, the same TPM.
fn is_adopted_by_a_new_system(computer: &mut Computer, stick: &Stick, adopt: &str) {
    computer.workplace.daemon.kill();
    fs::remove_dir_all(computer.workplace.daemon.state()).unwrap();
    computer.workplace.daemon.restart();
    stick.plug(&computer.namespace);
    computer.attach();
    assert_eq!(computer.state("Travel"), "not-trusted");
    assert!(!computer.signs("Travel", "travel"));
    run_block(computer, adopt);
    assert_eq!(computer.state("Travel"), "ready");
    assert!(computer.signs("Travel", "travel"));
    assert_eq!(
        computer
            .workplace
            .daemon
            .cardea(&["card", "show", "Travel"])
            .text
            .matches("5 of 5")
            .count(),
        1
    );
}

/// A lost drive: its counters are given back to the TPM, and the drive is of no use if it turns up.
fn is_destroyed_without_the_drive(computer: &Computer, stick: &Stick, destroy: &str) {
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Travel", "drive-away");
    let indices = computer.ok(&["tpm", "indices"]);
    assert!(indices.contains("Travel"), "{indices}");
    run_block(computer, destroy);
    assert_eq!(computer.state("Travel"), "none");
    let indices = computer.ok(&["tpm", "indices", "--json"]);
    assert_eq!(json::<Vec<Value>>(&indices).len(), 0, "{indices}");
    stick.plug(&computer.namespace);
    computer.attach();
    assert_eq!(computer.state("Travel"), "lost");
    assert!(!computer.signs("Travel", "travel"));
    // Destroying it with its drive removes the file.
    computer.ok(&["card", "destroy", "Travel", "--yes"]);
    assert_eq!(computer.sh(&format!("ls {PLACE}/Cardea")), "");
    unplug(&computer.namespace, PLACE);
}

#[test]
fn agent_notices_drives_by_itself() {
    let computer = Computer::new();
    let agent = |computer: &Computer| {
        let program = bin_dir().join("cardea-agent").display().to_string();
        let mut command = computer.namespace.command(&program);
        // There is no bus: the drives do not need one.
        command
            .env("CARDEA_SOCKET", computer.workplace.daemon.socket())
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        Running::start(&mut command, &computer.workplace.path("agent.log"))
    };
    let stick = computer.stick("stick");
    computer.make_card("Travel", &[]);
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Travel", "drive-away");

    let running = agent(&computer);
    for _ in 0..2 {
        stick.plug(&computer.namespace);
        computer.wait_for_state("Travel", "ready");
        // What is written goes through the agent.
        computer.generate("Travel", "again");
        unplug(&computer.namespace, PLACE);
        computer.wait_for_state("Travel", "drive-away");
    }
    // One that was taken out stays out until it is mounted again.
    stick.plug(&computer.namespace);
    computer.wait_for_state("Travel", "ready");
    computer.ok(&["card", "detach", "Travel"]);
    assert_eq!(computer.state("Travel"), "drive-away");
    unplug(&computer.namespace, PLACE);
    // The agent's end is the drive's end.
    stick.plug(&computer.namespace);
    computer.wait_for_state("Travel", "ready");
    drop(running);
    computer.wait_for_state("Travel", "drive-away");
    // One that was there before it began.
    let running = agent(&computer);
    computer.wait_for_state("Travel", "ready");
    assert!(computer.signs("Travel", "first"));
    unplug(&computer.namespace, PLACE);
    computer.wait_for_state("Travel", "drive-away");
    drop(running);
}

/// The daemon of the shipped service has a user of its own and no capabilities.
#[test]
fn unprivileged_daemon_is_let_in() {
    let computer = Computer::new();
    let folder = computer.workplace.path("service");
    fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(12_345), Some(12_345)).unwrap();
    let tpm = Swtpm::start(&computer.workplace.path("another-tpm"));
    fs::set_permissions(tpm.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    fs::set_permissions(
        computer.workplace.path("another-tpm"),
        PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let wrapper = [
        "setpriv",
        "--reuid",
        "12345",
        "--regid",
        "12345",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set",
        "-all",
    ];
    let mut daemon = Daemon::start_under(&folder, &tpm.address(), "", &wrapper);
    let with = |daemon: &Daemon, arguments: &[&str]| {
        run(computer
            .namespace
            .command(&bin_dir().join("cardea").display().to_string())
            .args(arguments)
            .env("CARDEA_SOCKET", daemon.socket()))
    };
    let stick = computer.stick("stick");
    let pin = computer.workplace.text("pin");
    let create = [
        "card",
        "create",
        "--name",
        "Travel",
        "--pin-file",
        &pin,
        "--store",
        PLACE,
    ];
    let made = with(&daemon, &create);
    assert!(made.success, "{}", made.text);
    let mode = computer.sh(&format!("stat -c %a {PLACE}/Cardea"));
    assert_eq!(
        mode.trim(),
        "770",
        "by the access control list, which takes the group's place"
    );
    let generate = computer.generation("Travel", "key");
    let words: Vec<&str> = generate.iter().map(|word| &**word).collect();
    let made = with(&daemon, &words);
    assert!(made.success, "{}", made.text);
    unplug(&computer.namespace, PLACE);

    // Where it is not let in it says so, and what to do.
    stick.plug(&computer.namespace);
    let shut = format!(
        "python3 -c 'import os; os.removexattr(\"{PLACE}/Cardea\", \"system.posix_acl_access\")'\n\
         chmod 700 {PLACE}/Cardea"
    );
    computer.sh(&format!("{shut}\nchown 12346 {PLACE}/Cardea"));
    let refused = run(computer
        .namespace
        .command("setpriv")
        .args(["--reuid", "12346", "--regid", "12346", "--clear-groups"])
        .arg(bin_dir().join("cardea"))
        .args(["card", "attach", PLACE])
        .env("CARDEA_SOCKET", daemon.socket()));
    // Its owner lets the daemon in; but the card is another user's.
    assert!(refused.text.contains("another user"), "{}", refused.text);
    computer.sh(&format!("{shut}\nmount -o remount,ro {PLACE}"));
    let refused = with(&daemon, &["card", "attach", PLACE]);
    assert!(refused.text.contains("user id 12345"), "{}", refused.text);
    assert_eq!(refused.code, Some(6));
    // As the page says: with one capability it passes over that.
    let wrapper = [
        "setpriv",
        "--reuid",
        "12345",
        "--regid",
        "12345",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set",
        "-all,+dac_override",
        "--inh-caps",
        "-all,+dac_override",
        "--ambient-caps",
        "-all,+dac_override",
    ];
    daemon.wrap(&wrapper);
    daemon.restart();
    let attached = with(&daemon, &["card", "attach", PLACE]);
    assert!(attached.success, "{}", attached.text);
    assert!(with(&daemon, &["card", "list"]).text.contains("ready"));
    unplug(&computer.namespace, PLACE);
}
