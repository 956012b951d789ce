//! The packages on a running Debian with a kernel, an AppArmor and a TPM of its own: from the installation to the purge,
//! with a restart of the computer between.
//!
//! What is shown is left in the build folder; `cargo xtask live` writes it into `docs/installation.md`.

mod remote_cards;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use cardea_testkit::machine::{Boot, Debian, Interface, Machine, Report, System, make_packages};
use cardea_testkit::page::Page;
use cardea_testkit::process::run;
use cardea_testkit::rig::{PIN, bin_dir};

/// How the page makes somebody an administrator.
const ADMINISTRATOR: &str = "adduser alice cardea-admin";

/// What the doctor advises on a new computer where OpenSC is installed too.
const ADVICE: [&str; 2] = [
    "! the TPM has no authorisations",
    "! OpenSC's module is installed too",
];

/// What the number of the version before has after that of this build, and sorts before it.
const BEFORE: &str = "~before";

/// Numbers of the packages.
struct Versions {
    before: String,
    now: String,
}

/// Set by `cargo xtask live` to 12 or 13: the whole life there is shown. Without it, the installation and the use on
/// Debian 13 are, as emulation takes minutes for each installation.
const WHOLE: &str = "CARDEA_LIVE";

#[test]
fn packages_live_on_a_running_debian() {
    match std::env::var(WHOLE).as_deref() {
        Err(_) => drop(Life::new(Debian::Thirteen).installed_and_used()),
        Ok("12") => whole(Debian::Twelve),
        Ok("13") => whole(Debian::Thirteen),
        Ok(other) => panic!("{WHOLE} is {other}, neither 12 nor 13"),
    }
}

fn whole(debian: Debian) {
    let mut life = Life::new(debian);
    let first = life.installed_and_used();
    let second = life.start("life", |_| {});
    let shown = &mut life.shown;
    restarted(&second, shown);
    upgraded(&second, &life.versions, shown);
    removed(&second, shown);
    quiet(&second);
    shown.passed("no denial by AppArmor in the journal and no failed unit, in both starts");
    shown.keep(debian, &first);
}

/// A machine with the packages beside it.
struct Life {
    machine: Machine,
    versions: Versions,
    shown: Shown,
    _folder: tempfile::TempDir,
}

impl Life {
    fn new(debian: Debian) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let system = System::new(debian, folder.path(), cache);
        let versions = packages(&system, folder.path());
        let page = Page::of_docs("installation");
        assert!(page.says(ADMINISTRATOR), "not on the page");
        remote_cards::are_on_their_page();
        for (name, content) in [
            ("common.sh", include_str!("live/common.sh")),
            ("install", include_str!("live/install.sh")),
            ("life", include_str!("live/life.sh")),
            ("page.install", page.block("sh").unwrap()),
            ("page.administrator", ADMINISTRATOR),
            ("remote-cards.sh", include_str!("live/remote-cards.sh")),
            ("page.remote-account", remote_cards::ACCOUNT),
            ("page.remote-socket", remote_cards::SOCKET),
            ("page.remote-limit", remote_cards::LIMIT),
            ("password", remote_cards::PASSWORD),
            ("pin", PIN),
        ] {
            system.write(&format!("trial/{name}"), content);
        }
        Self {
            machine: system.machine(&[]).with_network(),
            versions,
            shown: Shown::default(),
            _folder: folder,
        }
    }

    fn start(&self, script: &str, meanwhile: impl FnOnce(&mut Boot)) -> Report {
        let mut boot = self.machine.boot(Interface::Crb, script);
        meanwhile(&mut boot);
        let report = boot.report();
        boot.wait_off();
        report
    }

    fn installed_and_used(&mut self) -> Report {
        let first = self.start("install", remote_cards::by_another_machine);
        installed(&first, &self.versions, &mut self.shown);
        used(&first, &mut self.shown);
        remote_cards::made(&first, &mut self.shown);
        quiet(&first);
        first
    }
}

/// Puts the packages of this build into `/trial/now`, and the same with an older number into `/trial/before`; not
/// compressed, as emulation is slow.
fn packages(system: &System, folder: &Path) -> Versions {
    let made = folder.join("packages");
    make_packages(&made);
    for name in ["before", "now"] {
        fs::create_dir(system.tree().join("trial").join(name)).unwrap();
    }
    let mut now = String::new();
    for file in fs::read_dir(&made).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let content = folder.join("content");
        does(dpkg_deb(&["--raw-extract"]).arg(&path).arg(&content));
        let build = |name: &str| {
            let to = system.tree().join("trial").join(name);
            does(
                dpkg_deb(&["--root-owner-group", "-Znone", "--build"])
                    .arg(&content)
                    .arg(to),
            );
        };
        build("now");
        let control = content.join("DEBIAN/control");
        let fields = fs::read_to_string(&control).unwrap();
        let version = fields
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        now = version.unwrap().to_owned();
        let line = format!("Version: {now}\n");
        let older = format!("Version: {now}{BEFORE}\n");
        let older = fields.replace(&line, &older);
        // What needs another of our packages needs one of the same version.
        let needed = format!("(>= {now})");
        let older = older.replace(&needed, &format!("(>= {now}{BEFORE})"));
        fs::write(&control, older).unwrap();
        build("before");
        fs::remove_dir_all(content).unwrap();
    }
    Versions {
        before: format!("{now}{BEFORE}"),
        now,
    }
}

fn dpkg_deb(arguments: &[&str]) -> Command {
    let mut command = Command::new("dpkg-deb");
    command.args(arguments);
    command
}

fn does(command: &mut Command) {
    let outcome = run(command);
    assert!(outcome.success, "{command:?}\n{}", outcome.text);
}

fn is(report: &Report, fact: &str, value: &str) {
    assert_eq!(report.get(fact).trim(), value, "{fact}");
}

fn has(report: &Report, fact: &str, part: &str) {
    let said = report.get(fact);
    assert!(said.contains(part), "{fact}: {part} is not in: {said}");
}

fn quiet(report: &Report) {
    is(report, "denied", "");
    is(report, "failed", "");
}

fn installed(first: &Report, versions: &Versions, shown: &mut Shown) {
    is(first, "enforces", "Y");
    is(first, "versions", &[versions.before.as_str(); 7].join(" "));
    is(first, "bus", "yes");
    shown.passed("`apt install ./cardea*.deb` in the running system, on the bus within 5 s");
    is(first, "port-after-installation", "closed");
    is(first, "socket-after-installation", "disabled");
    shown.passed("the service for other machines is off, and its port closed");
    is(first, "apparmor", "cardea-daemon (enforce)");
    shown.passed("AppArmor enforces the daemon's profile");
    has(first, "doctor", "ended with 0");
    let doctor = first.get("doctor");
    assert!(!doctor.contains('✗'), "{doctor}");
    let advice = doctor.matches(" ! ").count();
    let known = ADVICE.iter().filter(|known| doctor.contains(**known));
    assert_eq!(known.count(), advice, "{doctor}");
    shown.passed("`cardea doctor` finds no error");
}

fn used(first: &Report, shown: &mut Shown) {
    has(first, "before", "ended with 6");
    is(first, "owner", "bob");
    shown.passed("a member of `cardea-admin` makes a card for another user, and nobody else does");
    has(first, "reader", "ssh");
    has(first, "by-reader", "Verified OK");
    shown.passed("OpenSC signs through pcscd's reader");
    has(first, "by-module", "Verified OK");
    shown.passed("`pkcs11-tool` signs through the module");
    has(first, "signed-in", "bob is in");
    has(first, "dialog", "/usr/bin/ssh");
    is(first, "tries", "5");
    shown.passed("`ssh` signs in with the PIN typed into the agent's dialog");
    let healthy = first.get("healthy");
    assert!(healthy.contains("ended with 0"), "{healthy}");
    assert!(!healthy.contains(['!', '✗']), "{healthy}");
    shown.passed("`cardea doctor` has nothing to say when its advice was followed");
}

fn restarted(second: &Report, shown: &mut Shown) {
    is(second, "bus", "yes");
    is(second, "apparmor", "cardea-daemon (enforce)");
    is(second, "state", "ready");
    has(second, "by-reader", "Verified OK");
    has(second, "signed-in", "bob is in");
    shown.passed("after a restart of the computer the card signs again");
}

fn upgraded(second: &Report, versions: &Versions, shown: &mut Shown) {
    is(second, "versions", &[versions.now.as_str(); 7].join(" "));
    is(second, "restarted", "yes");
    // The reader's package restarts it too.
    is(second, "pcscd-at-its-limit", "active");
    is(second, "bus-upgraded", "yes");
    is(second, "apparmor-upgraded", "cardea-daemon (enforce)");
    is(second, "state-upgraded", "ready");
    is(second, "remote-upgraded", "active enabled open");
    is(second, "tries-upgraded", "5");
    has(second, "signed-in-upgraded", "bob is in");
    shown.passed("an upgrade from the version before keeps the card and its PIN");
}

fn removed(second: &Report, shown: &mut Shown) {
    for named in ["cardea card destroy", "NV index 0x01C2", "(PIN)"] {
        has(second, "removed", named);
    }
    has(second, "kept", ".card");
    has(second, "gone", "No such file");
    is(second, "remote-removed", "closed");
    is(second, "pcscd-without", "active");
    shown
        .passed("a removal keeps the card, names what it has in the TPM, and leaves pcscd running");
    is(second, "bus-again", "yes");
    is(second, "remote-again", "active enabled open");
    is(second, "tries-again", "5");
    has(second, "by-reader-again", "Verified OK");
    shown.passed("after another installation the card signs again");
    has(second, "purge-refused", "kept /var/lib/cardea");
    is(second, "kept-again", second.get("kept").trim());
    is(second, "state-after-purge", "ready");
    shown.passed("a purge keeps cards unless the administrator asks for their deletion");
    has(second, "purged", "deleting the cards");
    is(second, "pcscd-after", "active");
    is(second, "left", "");
    shown.passed("a purge with their deletion leaves no file");
    has(second, "denied-then", "apparmor=\"DENIED\"");
}

/// The steps that were shown.
#[derive(Default)]
struct Shown(Vec<&'static str>);

impl Shown {
    fn passed(&mut self, step: &'static str) {
        let mut console = std::io::stderr().lock();
        writeln!(console, "passed: {step}").unwrap();
        self.0.push(step);
    }

    /// Leaves the steps in the build folder, after a line that names the system.
    fn keep(&self, debian: Debian, first: &Report) {
        let folder = bin_dir().join("live");
        fs::create_dir_all(&folder).unwrap();
        let mut text = format!(
            "Debian {}, Linux {}, systemd {}, AppArmor {}\n",
            first.get("debian").trim(),
            first.get("kernel").trim(),
            first.get("systemd").trim(),
            first.get("apparmor-version").trim(),
        );
        for step in &self.0 {
            writeln!(text, "{step}").unwrap();
        }
        fs::write(folder.join(format!("debian-{}", debian.number())), text).unwrap();
    }
}
