//! The Debian packages in a Debian system: a minimal one below a folder, made once and kept in `target/tmp`.
//!
//! Nothing of systemd runs there, as in a container or in an installer; `docs/uses/disk-encryption.md` is tested on a
//! booted one.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends where something is not as it has to be"
)]

mod newcomer;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// What the packages need, and what a computer with smart cards has anyway.
const BASE: &str = "--include=dbus,opensc,pcscd,pinentry-curses,swtpm,systemd";

/// A card file of format 1.
const CARD: &[u8] = include_bytes!("../../../crates/cardea-store/tests/old/v1/full.card");

/// Where it is in the system.
const CARD_PATH: &str = "var/lib/cardea/cards/0123456789abcdef0123456789abcdef.card";

/// One of a format that no version has written yet.
const NEWER: &[u8] = b"Cardea\r\n\x00\x03 and a body";

/// Installs, without questions about conffiles.
const INSTALL: &str = "dpkg --force-confold --install";

/// All packages at once, in no sensible order.
const ALL: &str = "/packages/cardea-tpmvsc_*.deb /packages/cardea-pkcs11_*.deb /packages/cardea-ifd_*.deb \
    /packages/cardea-agent_*.deb /packages/cardea-doc_*.deb /packages/cardea_*.deb /packages/cardea-daemon_*.deb";

#[test]
fn packages_behave_on_a_debian_system() {
    let folder = tempfile::tempdir().unwrap();
    let packages = pack(folder.path());
    let base = base();
    type Scenario = fn(&System);
    let scenarios: [(&str, Scenario); 8] = [
        ("container", container),
        ("life", life),
        ("purge", purge),
        ("killed", killed),
        ("downgrade", downgrade),
        ("order", order),
        ("remote cards", remote_cards),
        ("newcomer", newcomer::follows_the_readme),
    ];
    thread::scope(|scope| {
        let packages = &packages;
        let checked = scope.spawn(move || lintian_says_what_is_written_down(packages));
        let running: Vec<_> = scenarios
            .iter()
            .map(|(name, scenario)| {
                let system = System::new(&base, &folder.path().join(name), packages);
                (name, scope.spawn(move || scenario(&system)))
            })
            .collect();
        let mut failed: Vec<&str> = running
            .into_iter()
            .filter_map(|(name, scenario)| scenario.join().err().map(|_| *name))
            .collect();
        if checked.join().is_err() {
            failed.push("lintian");
        }
        assert!(failed.is_empty(), "failed: {failed:?}; see above");
    });
}

/// The pages that are written by hand name the options that the programs have.
#[test]
fn manual_of_services_and_agent_has_every_option() {
    let programs = Path::new(env!("CARGO_BIN_EXE_xtask")).parent().unwrap();
    for (program, arguments, page) in [
        ("cardea-agent", "--help", "man/cardea-agent.1"),
        ("cardea-daemon", "--help", "man/cardea-daemon.8"),
        ("cardea-tpmvsc", "--help", "man/cardea-tpmvsc.8"),
        ("cardea-tpmvsc", "hash --help", "man/cardea-tpmvsc.8"),
        ("cardea-tpmvsc", "serve --help", "man/cardea-tpmvsc.8"),
    ] {
        let output = Command::new(programs.join(program))
            .args(arguments.split(' '))
            .output();
        let help = String::from_utf8(output.unwrap().stdout).unwrap();
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        let page = fs::read_to_string(packaging.join(page)).unwrap();
        let options: Vec<String> = help
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
            .map(|word| word.trim_end_matches([',', '.']).replace('-', "\\-"))
            .collect();
        assert!(help.contains("--help"), "{help}");
        if let Some((_, commands)) = help.split_once("\nCommands:\n") {
            // Further lines of an explanation are indented more.
            let names = commands.lines().take_while(|line| !line.is_empty());
            for line in names.filter(|line| !line.starts_with("   ")) {
                let command = line.split_whitespace().next().unwrap();
                let described = command == "help" || page.contains(&format!("\n.BI {command}"));
                assert!(
                    described || page.contains(&format!("\n.B {command}\n")),
                    "{command} is not in the manual of {program}"
                );
            }
        }
        for option in options {
            assert!(
                page.contains(&option),
                "{option} is not in the manual of {program}"
            );
        }
    }
}

/// Installation, upgrade, removal and return, with a card and with changed settings.
fn life(system: &System) {
    system.does(&format!("{INSTALL} {ALL}"));
    for expected in [
        "getent passwd cardea",
        "getent group cardea-admin tss",
        "test $(stat -c %U /run/cardea) = cardea",
        "test -h /etc/systemd/system/sysinit.target.wants/cardea.service",
        "test -h /etc/systemd/user/graphical-session.target.wants/cardea-agent.service",
        "cardea --version",
        "tpmvscmgr /? || test $? != 127",
        "cardea-agent --version",
        "cardea-daemon --remains | grep '^no card'",
        "grep /usr/lib/pcsc/drivers/serial/libifdcardea.so /etc/reader.conf.d/cardea",
        "test ! -s /var/lib/dpkg/info/cardea-pkcs11.postinst",
    ] {
        system.does(expected);
    }
    system.put(CARD_PATH, CARD);
    system.does("echo 'slots = 8' > /etc/cardea/cardea.toml; systemctl disable cardea");
    system.does("echo '# changed' >> /etc/reader.conf.d/cardea");
    starts_pcscd(system);

    system.does(&format!("{INSTALL} {ALL}"));
    assert_eq!(system.read(CARD_PATH), CARD);
    system.does("grep 'slots = 8' /etc/cardea/cardea.toml");
    system.does("test ! -e /etc/systemd/system/sysinit.target.wants/cardea.service");

    // The service for other machines does nothing without the daemon, and goes with it.
    let said = system.does("apt-get -q --yes remove cardea-daemon cardea-ifd 2>&1");
    system.does("test ! -e /usr/sbin/cardea-tpmvsc");
    assert_names_the_card(&said);
    system.does("test ! -e /usr/sbin/cardea-daemon");
    assert_eq!(system.read(CARD_PATH), CARD);
    system.does("grep 'slots = 8' /etc/cardea/cardea.toml");
    starts_pcscd(system);

    system.does(&format!(
        "{INSTALL} /packages/cardea-daemon_*.deb /packages/cardea-ifd_*.deb"
    ));
    system.does("grep '^# changed' /etc/reader.conf.d/cardea");
    assert_eq!(system.read(CARD_PATH), CARD);
    system.does("grep 'slots = 8' /etc/cardea/cardea.toml");
    assert_names_the_card(
        &system.does("code=0; cardea-daemon --remains || code=$?; test $code = 3"),
    );
}

/// pcscd refuses to start with an entry whose library is not there, for the readers of everybody.
fn starts_pcscd(system: &System) {
    system.does("mkdir -p /run/pcscd; code=0; timeout 1 pcscd --foreground 2>&1 || code=$?; test $code = 124");
}

/// What a purge deletes: everything but cards; these if it is told to.
fn purge(system: &System) {
    system.does(&format!("{INSTALL} {ALL}"));
    system.put(CARD_PATH, CARD);
    let said = system.does("dpkg --purge cardea-daemon cardea-tpmvsc 2>&1");
    assert!(said.contains("kept /var/lib/cardea"), "{said}");
    assert_eq!(system.read(CARD_PATH), CARD);
    system.does("test ! -e /etc/cardea");

    system.does(&format!("{INSTALL} /packages/cardea-daemon_*.deb"));
    system.does("dpkg --remove cardea-daemon");
    system.does(
        "echo 'cardea-daemon cardea-daemon/purge-cards boolean true' | debconf-set-selections",
    );
    let said = system.does("dpkg --purge cardea-daemon 2>&1");
    assert_names_the_card(&said);
    system.does("test ! -e /var/lib/cardea");

    // The answer was for those cards: it is not kept for others.
    system.does(&format!("{INSTALL} /packages/cardea-daemon_*.deb"));
    system.put(CARD_PATH, CARD);
    system.does("dpkg --purge cardea-daemon");
    assert_eq!(system.read(CARD_PATH), CARD);

    system.does(&format!(
        "{INSTALL} /packages/cardea-daemon_*.deb; rm -r /var/lib/cardea/cards"
    ));
    let said = system.does(
        "dpkg --purge cardea cardea-agent cardea-daemon cardea-doc cardea-ifd cardea-pkcs11 cardea-tpmvsc 2>&1",
    );
    assert!(!said.contains("kept"), "{said}");
    let left = system.does(
        "find / -xdev -path /proc -prune -o -path /packages -prune -o -name '*cardea*' -print",
    );
    assert_eq!(left, "", "files that stay after a purge");
    system.does("getent passwd cardea");
}

/// The power goes while the package is configured.
fn killed(system: &System) {
    system.does("mv /usr/bin/systemd-sysusers /usr/bin/kept");
    // The parent is the script, and its parent is dpkg.
    system.put(
        "usr/bin/systemd-sysusers",
        b"#!/bin/sh\nset -- $(cat /proc/$PPID/stat)\nkill -9 $4 $PPID\n",
    );
    system.does("chmod 755 /usr/bin/systemd-sysusers");
    system.fails(&format!("{INSTALL} /packages/cardea-daemon_*.deb"));
    system.does("mv /usr/bin/kept /usr/bin/systemd-sysusers");
    system.fails("getent passwd cardea");
    system.does("dpkg --configure -a");
    system.does("getent passwd cardea");
    installed(system);

    // Only unpacked: the card of an earlier installation is there all the time.
    system.put(CARD_PATH, CARD);
    system.does("dpkg --unpack /packages/cardea-daemon_*.deb");
    system.does("dpkg --configure -a");
    assert_eq!(system.read(CARD_PATH), CARD);
    installed(system);
}

/// A version that does not know the format of a card file is refused, as an upgrade, as a downgrade, and after removal.
fn downgrade(system: &System) {
    system.does(&format!("{INSTALL} /packages/cardea-daemon_*.deb"));
    system.put(CARD_PATH, NEWER);
    system.does(
        "dpkg-deb --raw-extract /packages/cardea-daemon_*.deb /older && \
         sed -i 's/^Version: .*/Version: 0.0.9/' /older/DEBIAN/control && \
         dpkg-deb -Znone --build /older /older.deb",
    );
    for package in ["/older.deb", "/packages/cardea-daemon_*.deb"] {
        let said = system.fails(&format!("{INSTALL} {package} 2>&1"));
        assert!(said.contains("has format 3, newer than the 2"), "{said}");
        installed(system);
        assert_eq!(system.read(CARD_PATH), NEWER);
        system.does("cardea-daemon --version");
    }
    system.does("dpkg --remove cardea-daemon");
    let said = system.fails(&format!("{INSTALL} /older.deb 2>&1"));
    assert!(said.contains("nothing was changed"), "{said}");
    system.does("test ! -e /usr/sbin/cardea-daemon");
    assert_eq!(system.read(CARD_PATH), NEWER);

    // In the folder that the settings name, too; and the same packages are fine with the cards that they know.
    system.does("mkdir -p /etc/cardea /srv/cards/cards; rm -r /var/lib/cardea/cards");
    system.put("srv/cards/cards/one.card", NEWER);
    system.does("echo 'state_dir = \"/srv/cards\"' > /etc/cardea/cardea.toml");
    system.fails(&format!("{INSTALL} /older.deb"));
    system.put("srv/cards/cards/one.card", CARD);
    system.does(&format!("{INSTALL} /older.deb"));
    let said = system.does("dpkg --purge cardea-daemon 2>&1");
    assert!(said.contains("0x01C2"), "{said}");
    assert_eq!(system.read("srv/cards/cards/one.card"), CARD);
}

/// The service for other machines is off until somebody enables its socket, and keeps what the administrator has decided.
fn remote_cards(system: &System) {
    const WANTED: &str = "/etc/systemd/system/sockets.target.wants/cardea-tpmvsc.socket";
    const INSTALL_BOTH: &str = "/packages/cardea-daemon_*.deb /packages/cardea-tpmvsc_*.deb";
    let said = system.fails(&format!("{INSTALL} /packages/cardea-tpmvsc_*.deb 2>&1"));
    assert!(said.contains("depends on cardea-daemon"), "{said}");
    system.does(&format!("{INSTALL} {INSTALL_BOTH}"));
    for expected in [
        "id -nG cardea-tpmvsc | grep -w cardea-admin",
        "test \"$(stat -c '%U %G %a' /etc/cardea/tpmvsc)\" = 'root root 700'",
        "test $(systemctl is-enabled cardea-tpmvsc.socket || true) = disabled",
        "cardea-tpmvsc --version",
    ] {
        system.does(expected);
    }
    // Nobody else reads what is put there, whatever mode it has.
    system.does("printf 'ntlm 0 ann\\n' > /etc/cardea/tpmvsc/accounts");
    system.fails("setpriv --reuid=nobody --clear-groups cat /etc/cardea/tpmvsc/accounts");
    system.does("echo 'log = \"warn\"' > /etc/cardea/tpmvsc.toml");
    let kept = || {
        system.does("grep warn /etc/cardea/tpmvsc.toml && grep ann /etc/cardea/tpmvsc/accounts");
    };

    system.does(&format!("{INSTALL} {INSTALL_BOTH}"));
    system.does(&format!("test ! -e {WANTED}"));
    kept();
    system.does("systemctl enable cardea-tpmvsc.socket");
    system.does(&format!("{INSTALL} {INSTALL_BOTH} && test -h {WANTED}"));
    kept();
    system.does("dpkg --remove cardea-tpmvsc");
    kept();
    system.does(&format!("{INSTALL} {INSTALL_BOTH} && test -h {WANTED}"));
    system.does("systemctl disable cardea-tpmvsc.socket");
    system.does(&format!("{INSTALL} {INSTALL_BOTH} && test ! -e {WANTED}"));
    kept();

    system.does("systemctl enable cardea-tpmvsc.socket; dpkg --purge cardea-tpmvsc");
    system.does("test ! -e /etc/cardea/tpmvsc && test ! -e /etc/cardea/tpmvsc.toml");
    system.does(&format!(
        "test ! -h {WANTED} && test -e /etc/cardea/cardea.toml"
    ));
    installed(system);
}

/// Each package is installed and removed without the others.
fn order(system: &System) {
    for name in [
        "cardea-agent",
        "cardea-ifd",
        "cardea-doc",
        "cardea-pkcs11",
        "cardea",
        "cardea-daemon",
        "cardea-tpmvsc",
    ] {
        system.does(&format!("{INSTALL} /packages/{name}_*.deb"));
    }
    for name in ["cardea-tpmvsc", "cardea-daemon", "cardea", "cardea-ifd"] {
        system.does(&format!("dpkg --remove {name}"));
    }
    system.does(&format!("dpkg --unpack {ALL}"));
    system.does("dpkg --configure cardea-ifd cardea-agent; dpkg --configure -a");
    installed(system);
}

/// A card for the tests of others, by the recipe of a container.
fn container(system: &System) {
    let recipe = include_str!("../../../packaging/container/Containerfile");
    let install = recipe
        .lines()
        .find_map(|line| {
            line.strip_prefix("RUN apt-get update && ")?
                .split(" && ")
                .next()
        })
        .unwrap();
    // What is Debian's is there already.
    system.does(install);
    let entrypoint = include_str!("../../../packaging/container/entrypoint");
    system.put("usr/bin/cardea-card", entrypoint.as_bytes());
    system.does("chmod 755 /usr/bin/cardea-card");

    let said = system.does("cardea-card opensc-tool --list-readers");
    assert!(said.contains("Cardea Virtual Smart Card"), "{said}");
    // The card is kept, and its key.
    system.does(
        "cardea-card cardea key generate Test --algorithm p-256 --label k --pin-file /etc/cardea-card/pin",
    );
    system.does("echo data > /root/data");
    let sign = "cardea-card sh -ec 'cardea key export-public Test k --out /root/key.pem; \
         pkcs11-tool --module $(find /usr/lib -name libcardea_pkcs11.so) --token-label Test \
         --login --pin $(cat /etc/cardea-card/pin) --sign --mechanism ECDSA-SHA256 --signature-format openssl \
         --input-file /root/data --output-file /root/signature'";
    system.does(sign);
    let verified = Command::new("openssl")
        .args([
            "dgst",
            "-sha256",
            "-verify",
            "key.pem",
            "-signature",
            "signature",
            "data",
        ])
        .current_dir(system.folder.join("changes/root"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");

    system.does("code=0; cardea-card sh -c 'exit 7' || code=$?; test $code = 7");
    // All of it ends with the command, and with a signal.
    system.does(
        "cardea-card sh -c 'touch /begun; exec sleep 600' & pid=$!; until test -e /begun; do sleep 0.1; done; \
         kill $pid; code=0; wait $pid || code=$?; test $code = 143; \
         ! grep -sx -e sleep -e pcscd -e cardea-daemon -e swtpm /proc/[0-9]*/comm",
    );
    // What does not start is reported with its log.
    system.does("mv /usr/sbin/pcscd /usr/sbin/kept; printf '#!/bin/sh\necho no reader\n' > /usr/sbin/pcscd; chmod 755 /usr/sbin/pcscd");
    let said = system.fails("cardea-card true");
    assert!(
        said.contains("pcscd did not start") && said.contains("no reader"),
        "{said}"
    );
}

/// Lintian's verdict, also on what is overridden.
fn lintian_says_what_is_written_down(packages: &Path) {
    let output = Command::new("sh")
        .args([
            "-c",
            "lintian --allow-root --show-overrides --no-tag-display-limit --fail-on none *.deb",
        ])
        .current_dir(packages)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    let kept = include_str!("../../../packaging/debian/lintian.txt");
    assert_eq!(
        said, kept,
        "packaging/debian/lintian.txt has to be:\n{said}"
    );
    assert!(
        said.lines()
            .all(|line| line.starts_with("O: ") || line.starts_with("N: ")),
        "only what is explained in an override: {said}"
    );
}

fn assert_names_the_card(said: &str) {
    for expected in ["cardea card destroy", "NV index 0x01C2", "(PIN)"] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
}

fn installed(system: &System) {
    let state = system.does("dpkg-query --show --showformat '${Status}' cardea-daemon");
    assert_eq!(state, "install ok installed");
}

/// The packages with the programs of this build.
fn pack(folder: &Path) -> PathBuf {
    let packages = folder.join("packages");
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let output = Command::new(xtask)
        .args(["dist", "--trial", "--built"])
        .arg(xtask.parent().unwrap())
        .arg("--out")
        .arg(&packages)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    packages
}

/// The system that all begin with.
fn base() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Named after what is in it.
    let packages = BASE.split('=').next_back().unwrap().replace(',', "-");
    let base = cache.join(format!("base-{packages}"));
    let lock = File::create(cache.join("packages-base.lock")).unwrap();
    lock.lock().unwrap();
    if !base.is_dir() {
        let work = tempfile::tempdir_in(cache).unwrap();
        let tree = work.path().join("tree");
        let output = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=directory", BASE])
            .arg("bookworm")
            .arg(&tree)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        fs::rename(&tree, &base).unwrap();
    }
    base
}

/// A copy of the base that costs nothing: what changes is kept in a folder above it.
struct System {
    base: PathBuf,
    folder: PathBuf,
}

impl System {
    fn new(base: &Path, folder: &Path, packages: &Path) -> Self {
        for name in ["changes", "work", "root"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let system = Self {
            base: base.to_owned(),
            folder: folder.to_owned(),
        };
        let to = folder.join("changes/packages");
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(packages).unwrap() {
            let entry = entry.unwrap();
            fs::hard_link(entry.path(), to.join(entry.file_name())).unwrap();
        }
        // What is on the disk when the power goes is not what is tested here.
        system.put("etc/dpkg/dpkg.cfg.d/quick", b"force-unsafe-io\n");
        system
    }

    /// A file in the system.
    fn put(&self, path: &str, content: &[u8]) {
        let path = self.folder.join("changes").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A file that was removed in the system is here as a device that says so.
        let _ = fs::remove_file(&path);
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> Vec<u8> {
        let path = self.folder.join("changes").join(path);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What a command says, which succeeds.
    fn does(&self, command: &str) -> String {
        let (success, said) = self.run(command);
        assert!(success, "{command}\n{said}");
        said
    }

    /// What a command says, which fails.
    fn fails(&self, command: &str) -> String {
        let (success, said) = self.run(command);
        assert!(!success, "{command} did not fail\n{said}");
        said
    }

    fn run(&self, command: &str) -> (bool, String) {
        let script = "mount -t overlay -o lowerdir=\"$1\",upperdir=changes,workdir=work system root && \
             mount -t proc proc root/proc && mount -t tmpfs dev root/dev && \
             mknod -m 666 root/dev/null c 1 3 && exec chroot root sh -e -c \"$2\"";
        let output = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "sh", "-c", script, "sh"])
            .arg(&self.base)
            .arg(command)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            said.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        (output.status.success(), said)
    }
}
