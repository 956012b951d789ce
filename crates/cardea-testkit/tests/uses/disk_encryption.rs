//! LUKS2 volumes that systemd opens with the card, in a virtual machine whose kernel drives the TPM: at the start
//! of the computer with our daemon as its service, and on a removable drive.

use std::path::{Path, PathBuf};

use cardea_testkit::machine::{Debian, Interface, Report, System};
use cardea_testkit::page::Page;
use cardea_testkit::rig::PIN;
use cardea_testkit::uses::{self, Use};

const PAGE: &str = "disk-encryption";

/// Sections of the page, and the names under which the scripts have their commands.
const SECTIONS: [(&str, &str); 7] = [
    ("card", "The card"),
    ("volume", "A volume"),
    ("start", "At every start"),
    ("removable", "A removable volume"),
    ("use", "Using the removable volume"),
    ("passphrase", "With the passphrase"),
    ("unblock", "When the PIN is blocked"),
];

/// What follows "Afterwards" in a section.
const AFTER: &str = "umount /mnt\n";

/// Derivation of the key from a passphrase that takes no time; emulation is slow, and the passphrase is not what
/// is tested.
const CHEAP: &str = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000";

/// The second boot's TPM has no driver at first, and gets it when the daemon waits for it. It is another device
/// then: IMA in the kernel keeps the number of the first.
const WITHOUT_DRIVER: &str = "echo MSFT0101:00 > /sys/bus/acpi/drivers/tpm_crb/unbind\n\
    cp /root/etc/cardea/cardea.toml /root/trial\n\
    echo 'tpm = \"device:/dev/tpmrm1\"' >> /root/etc/cardea/cardea.toml\n\
    touch /root/run/late\n";
const LATE: &str = "[Unit]\nDefaultDependencies=no\nConditionPathExists=/run/late\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '\
    until grep -qs cardea-daemon /proc/[0-9]*/comm; do sleep 0.2; done; sleep 2; \
    cut -d \" \" -f 1 /proc/uptime > /run/bound; echo MSFT0101:00 > /sys/bus/acpi/drivers/tpm_crb/bind'\n";
const WITH_DRIVER: &str = "mv /root/trial/cardea.toml /root/etc/cardea/cardea.toml\n";

/// A look at the cards before there is a bus.
const EARLY: &str = "[Unit]\nDefaultDependencies=no\nAfter=cardea.service\nBefore=sysinit.target\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=/bin/sh -c 'cardea card list > /run/early'\n";

/// The system with everything that the scripts read.
fn system(folder: &Path) -> System {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let system = System::new(Debian::Twelve, folder, cache).installed();
    let page = Page::of_uses(PAGE);
    for (name, heading) in SECTIONS {
        let commands = page.section(heading);
        let commands = commands.replace("luksFormat", &format!("luksFormat {CHEAP}"));
        let (commands, after) = match commands.split_once(AFTER) {
            Some((before, after)) => (before.to_owned(), format!("{AFTER}{after}")),
            None => (commands, String::new()),
        };
        system.write(&format!("trial/page.{name}"), &commands);
        if !after.is_empty() {
            system.write("trial/page.after", &after);
        }
    }
    for (name, content) in [
        ("common.sh", include_str!("disk_encryption/common.sh")),
        ("setup", include_str!("disk_encryption/setup.sh")),
        ("start", include_str!("disk_encryption/start.sh")),
        ("start.early", WITHOUT_DRIVER),
        // Mistyped once.
        ("start.pins", "000000\n"),
        ("away.early", WITH_DRIVER),
        ("away", include_str!("disk_encryption/away.sh")),
        ("pin", PIN),
        ("puk", "12345678"),
        ("passphrase", "correct horse battery staple"),
    ] {
        system.write(&format!("trial/{name}"), content);
    }
    system.start_early("late", LATE);
    system.start_early("early", EARLY);
    system
}

fn empty_drive(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let made = std::fs::File::create(&path).unwrap();
    made.set_len(32 << 20).unwrap();
    path
}

fn number(report: &Report, fact: &str) -> f64 {
    report.get(fact).parse().unwrap()
}

#[test]
fn volumes_open_with_the_card_at_the_start_and_on_a_drive_in_this_computer_only() {
    let folder = tempfile::tempdir().unwrap();
    let drives = ["volume", "stick"].map(|name| empty_drive(folder.path(), name));
    let machine = system(folder.path()).machine(&[&drives[0], &drives[1]]);
    let run = |interface, script: &str| {
        let mut boot = machine.boot(interface, script);
        let report = boot.report();
        boot.wait_off();
        report
    };
    check_setup(&run(Interface::Crb, "setup"));
    check_start(&run(Interface::Crb, "start"));
    machine.replace_tpm();
    check_away(&run(Interface::Tis, "away"));
    for title in [
        "Disk volumes (LUKS2) at the start",
        "Removable volumes (LUKS2)",
    ] {
        Use {
            page: PAGE,
            title,
            program: "systemd-cryptsetup",
            package: "systemd",
            interface: uses::Interface::Pkcs11,
            keys: "RSA-2048",
        }
        .shown();
    }
}

/// What a program says, which the page explains.
fn explained(report: &Report, fact: &str, message: &str) {
    let said = report.get(fact);
    assert!(said.contains(message), "{fact}: {said}");
    let page = Page::of_uses(PAGE);
    assert!(page.says(message), "{message} is not on the page");
}

/// The packaged profile is enforced, and suffices.
fn check_confined(report: &Report) {
    assert_eq!(report.get("denied"), "");
    assert_eq!(report.get("apparmor").trim(), "cardea-daemon (enforce)");
}

/// The daemon of the early start has few rights.
fn check_setup(setup: &Report) {
    check_confined(setup);
    for (fact, value) in [
        ("user", "cardea"),
        ("capabilities", "0000000000000000"),
        ("seccomp", "2"),
        ("new-privileges", "1"),
        ("driver", "tpm_crb"),
        ("lockout", "0"),
    ] {
        assert_eq!(setup.get(fact), value, "{fact}");
    }
    for (fact, why) in [
        ("etc", "Read-only file system"),
        ("tmp", "Permission denied"),
        ("home", "Permission denied"),
        ("disk", "Operation not permitted"),
        ("raw-tpm", "Operation not permitted"),
    ] {
        assert!(setup.get(fact).contains(why), "{fact}: {}", setup.get(fact));
    }
    assert!(setup.get("asked").contains("PIN"));
}

/// The computer's volume opens at the start, and a drive's later, with the right PIN only.
fn check_start(start: &Report) {
    check_confined(start);
    assert_eq!(start.get("secret"), "a secret of the computer");
    assert!(!start.get("asked").contains("assphrase"));
    assert_eq!(
        start.get("tries"),
        "5",
        "the right PIN came after a wrong one"
    );
    let microseconds = |fact| number(start, fact) / 1e6;
    assert!(microseconds("started") < number(start, "bound"));
    assert!(number(start, "bound") < microseconds("ready"));
    assert!(microseconds("ready") < microseconds("volume"));
    assert!(microseconds("ready") < microseconds("bus"));
    let early = start.get("early");
    assert!(early.contains("Ada    1000   ready  no reader"), "{early}");
    assert_eq!(start.get("slot"), "0");
    assert_eq!(start.get("slot-of-person"), "null");
    assert_eq!(start.get("logind"), "active");
    assert_eq!(start.get("others"), "[]");
    assert_eq!(start.get("stick"), "a secret of the drive");
    assert_eq!(start.get("asked-again"), "4");
    assert_eq!(start.get("tries-right"), "5");
    explained(start, "wrong", "is incorrect, please try again");
    assert_eq!(start.get("tries-wrong"), "4");
    explained(
        start,
        "blocked",
        "PIN has been locked, please reset PIN of security token",
    );
    assert_eq!(start.get("tries-blocked"), "0");
    assert_eq!(start.get("by-passphrase"), "a secret of the drive");
    assert_eq!(start.get("unblocked"), "a secret of the drive");
    assert_eq!(start.get("lockout"), "0");
}

/// In another computer the card is foreign, and passphrases still open the volumes.
fn check_away(away: &Report) {
    assert_eq!(away.get("driver"), "tpm_tis");
    assert_eq!(away.get("state"), "foreign");
    assert_eq!(
        away.get("secret"),
        "a secret of the computer",
        "by the passphrase"
    );
    assert!(!away.get("asked").contains("PIN"), "{}", away.get("asked"));
    assert_eq!(away.get("closed"), "");
    explained(
        away,
        "stick",
        "Security token not present for unlocking volume",
    );
}
