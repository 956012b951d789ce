use std::collections::BTreeSet;

use cardea_daemon::{Config, Overrides};

use super::*;

const ENTRY: &str = "FRIENDLYNAME \"Cardea\"\n";

/// Answers `--remains`.
const DAEMON: &str =
    "#!/bin/sh\n[ \"$1\" = --remains ] || exit 1\n[ ! -e \"$5/cards/one.card\" ] || exit 3\n";

/// A machine in a folder, and programs to put on it.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        for name in [
            "cardea",
            "tpmvscmgr",
            "cardea-agent",
            "cardea-daemon",
            "cardea-tpmvsc",
            "libcardea_pkcs11.so",
            "libifdcardea.so",
        ] {
            fs::write(programs.join(name), name).unwrap();
        }
        fs::write(programs.join("cardea-daemon"), DAEMON).unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn path(&self, path: &str) -> PathBuf {
        items::below(&self.root(), Path::new(path))
    }

    fn items(&self, prefix: &str) -> Vec<Item> {
        items::items(
            &repository(),
            &self.folder.path().join("programs"),
            &Layout::local(prefix.parse().unwrap()),
            Texts {
                reader: ENTRY.to_owned(),
                completions: ["bash", "fish", "zsh"].map(str::to_owned),
                manual: vec![("cardea.1".to_owned(), "page".to_owned())],
            },
        )
    }

    fn install(&self) {
        put(&self.items("/usr"), &self.root()).unwrap();
    }

    /// Paths and modes of all files.
    fn files(&self) -> BTreeSet<(String, u32)> {
        fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<(String, u32)>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                    let path = path.strip_prefix(root).unwrap().display().to_string();
                    found.insert((path, mode));
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.root(), &self.root(), &mut found);
        found
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn files_are_put_in_their_places_with_their_modes() {
    let machine = Machine::new();
    machine.install();
    let libraries = format!("usr/{}", items::LIBRARIES);
    let (module, package) = (
        format!("{libraries}/pkcs11/libcardea_pkcs11.so"),
        format!("{libraries}/{}", items::PKG_CONFIG),
    );
    let expected = [
        (module.as_str(), 0o644),
        (&package, 0o644),
        ("etc/cardea/cardea.toml", 0o644),
        ("etc/cardea/tpmvsc.toml", 0o644),
        ("etc/reader.conf.d/cardea", 0o644),
        ("usr/bin/cardea", 0o755),
        ("usr/bin/cardea-agent", 0o755),
        ("usr/bin/tpmvscmgr", 0o755),
        ("usr/lib/pcsc/drivers/serial/libifdcardea.so", 0o644),
        ("usr/lib/systemd/system/cardea-tpmvsc.service", 0o644),
        ("usr/lib/systemd/system/cardea-tpmvsc.socket", 0o644),
        ("usr/lib/systemd/system/cardea.service", 0o644),
        ("usr/lib/systemd/user/cardea-agent.service", 0o644),
        ("usr/lib/sysusers.d/cardea-tpmvsc.conf", 0o644),
        ("usr/lib/sysusers.d/cardea.conf", 0o644),
        ("usr/lib/tmpfiles.d/cardea-tpmvsc.conf", 0o644),
        ("usr/lib/tmpfiles.d/cardea.conf", 0o644),
        ("usr/sbin/cardea-daemon", 0o755),
        ("usr/sbin/cardea-tpmvsc", 0o755),
        ("usr/share/bash-completion/completions/cardea", 0o644),
        (
            "usr/share/dbus-1/interfaces/org.cardea.VirtualSmartCard1.xml",
            0o644,
        ),
        ("usr/share/man/man1/cardea.1", 0o644),
        ("usr/share/man/man1/cardea-agent.1", 0o644),
        ("usr/share/man/man5/cardea.toml.5", 0o644),
        ("usr/share/man/man5/tpmvsc.toml.5", 0o644),
        ("usr/share/man/man8/cardea-daemon.8", 0o644),
        ("usr/share/man/man8/cardea-tpmvsc.8", 0o644),
        ("usr/share/fish/vendor_completions.d/cardea.fish", 0o644),
        ("usr/share/zsh/vendor-completions/_cardea", 0o644),
        (
            "usr/share/dbus-1/system-services/org.cardea.VirtualSmartCard1.service",
            0o644,
        ),
        (
            "usr/share/dbus-1/system.d/org.cardea.VirtualSmartCard1.conf",
            0o644,
        ),
        ("usr/share/p11-kit/modules/cardea.module", 0o644),
        (
            "usr/share/polkit-1/actions/org.cardea.virtualsmartcard.policy",
            0o644,
        ),
    ];
    let expected: BTreeSet<_> = expected
        .into_iter()
        .map(|(path, mode)| (path.to_owned(), mode))
        .collect();
    assert_eq!(machine.files(), expected);
    assert_eq!(
        fs::read_to_string(machine.path(items::READER)).unwrap(),
        ENTRY
    );
}

#[test]
fn second_installation_replaces_programs_and_keeps_changed_configuration() {
    let machine = Machine::new();
    machine.install();
    fs::write(machine.path(items::CONFIGURATION), "slots = 8\n").unwrap();
    fs::write(machine.path("/usr/bin/cardea"), "old").unwrap();
    machine.install();
    assert_eq!(
        fs::read(machine.path(items::CONFIGURATION)).unwrap(),
        b"slots = 8\n"
    );
    assert_eq!(
        fs::read(machine.path("/usr/bin/cardea")).unwrap(),
        b"cardea"
    );
}

#[test]
fn removal_takes_exactly_what_was_installed() {
    let machine = Machine::new();
    machine.install();
    let other = machine.path("/usr/bin/other");
    fs::write(&other, "not ours").unwrap();
    take(&machine.items("/usr"), &machine.root(), false).unwrap();
    let left: Vec<_> = machine.files().into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, ["usr/bin/other"]);
    assert!(!machine.path("/etc/cardea").exists());
    // Once more: there is nothing to do, and that is fine.
    take(&machine.items("/usr"), &machine.root(), false).unwrap();
}

#[test]
fn removal_keeps_changed_configuration_unless_purged() {
    let machine = Machine::new();
    machine.install();
    let configuration = machine.path(items::CONFIGURATION);
    fs::write(&configuration, "slots = 8\n").unwrap();
    let accounts = machine.path("/etc/cardea/tpmvsc/accounts");
    fs::create_dir(accounts.parent().unwrap()).unwrap();
    fs::write(&accounts, "ntlm\n").unwrap();
    take(&machine.items("/usr"), &machine.root(), false).unwrap();
    assert!(configuration.exists() && accounts.exists());
    take(&machine.items("/usr"), &machine.root(), true).unwrap();
    assert!(machine.files().is_empty(), "{:?}", machine.files());
}

#[test]
fn changed_entry_of_the_reader_is_hidden_from_pcscd_while_there_is_no_driver() {
    let machine = Machine::new();
    machine.install();
    let [entry, hidden] = readers(&machine.root());
    fs::write(&entry, "changed\n").unwrap();
    let kept = take(&machine.items("/usr"), &machine.root(), false).unwrap();
    assert_eq!(kept.kept, std::slice::from_ref(&hidden));
    assert!(!entry.exists());

    machine.install();
    assert_eq!(fs::read_to_string(&entry).unwrap(), "changed\n");
    assert!(!hidden.exists());

    take(&machine.items("/usr"), &machine.root(), false).unwrap();
    take(&machine.items("/usr"), &machine.root(), true).unwrap();
    assert!(machine.files().is_empty(), "{:?}", machine.files());
}

#[test]
fn unit_starts_the_program_below_the_prefix() {
    let machine = Machine::new();
    put(&machine.items("/usr/local"), &machine.root()).unwrap();
    let unit = machine.path("/usr/local/lib/systemd/system/cardea.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.contains("\nExecStart=/usr/local/sbin/cardea-daemon\n"));
    assert!(machine.path("/usr/local/sbin/cardea-daemon").is_file());
}

/// Path of the module that p11-kit's file names.
fn named(file: &Path) -> PathBuf {
    let text = fs::read_to_string(file).unwrap();
    let module = text.lines().find_map(|line| line.strip_prefix("module: "));
    module.unwrap().into()
}

#[test]
fn p11_kit_is_told_the_module_that_was_installed() {
    let machine = Machine::new();
    machine.install();
    let module = named(&machine.path("/usr/share/p11-kit/modules/cardea.module"));
    let installed = fs::read(machine.path(module.to_str().unwrap())).unwrap();
    assert_eq!(installed, b"libcardea_pkcs11.so");
}

/// p11-kit reads the files of packages below `/usr/share` and what is the administrator's below `/etc`.
#[test]
fn p11_kit_is_told_a_module_elsewhere_below_etc() {
    let machine = Machine::new();
    let items = machine.items("/opt/cardea");
    put(&items, &machine.root()).unwrap();
    let file = machine.path(items::LOCAL_MODULE_FILE);
    let module = named(&file);
    assert!(module.starts_with("/opt/cardea/lib"), "{module:?}");
    assert!(machine.path(module.to_str().unwrap()).is_file());
    // Settings of the machine stay.
    fs::write(&file, "disable-in: firefox\n").unwrap();
    put(&items, &machine.root()).unwrap();
    take(&items, &machine.root(), false).unwrap();
    let left: Vec<_> = machine.files().into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, ["etc/pkcs11/modules/cardea.module"]);
    take(&items, &machine.root(), true).unwrap();
    assert!(machine.files().is_empty(), "{:?}", machine.files());
}

#[test]
fn pkg_config_tells_the_path_of_the_module() {
    let machine = Machine::new();
    for prefix in ["/usr", "/usr/local"] {
        put(&machine.items(prefix), &machine.root()).unwrap();
        let package = format!("{prefix}/{}/{}", items::LIBRARIES, items::PKG_CONFIG);
        let ask = |question: &str| {
            let output = Command::new("pkg-config")
                .env(
                    "PKG_CONFIG_LIBDIR",
                    machine.path(&package).parent().unwrap(),
                )
                .args(["--print-errors", question, "cardea-pkcs11"])
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{said}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let module = ask("--variable=module");
        assert!(module.starts_with(&format!("{prefix}/lib")), "{module}");
        assert!(machine.path(&module).is_file(), "{module}");
        assert_eq!(ask("--modversion"), env!("CARGO_PKG_VERSION"));
    }
}

/// systemd itself reads the units; the program is one that exists on every machine.
#[test]
fn systemd_finds_no_fault_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let packaged =
        |name: &str| fs::read_to_string(repository().join("packaging").join(name)).unwrap();
    let verify = |name: &str, text: &str| {
        let unit = folder.path().join(name);
        let program = text
            .replace("/usr/sbin/cardea-daemon", "/bin/sh")
            .replace("/usr/sbin/cardea-tpmvsc", "/bin/sh");
        fs::write(&unit, program).unwrap();
        let output = Command::new("systemd-analyze")
            .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&unit)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    // The service is there before the socket that names it.
    for name in [
        "cardea.service",
        "cardea-tpmvsc.service",
        "cardea-tpmvsc.socket",
    ] {
        let (passed, said) = verify(name, &packaged(name));
        assert!(passed && said.is_empty(), "{name}: {said}");
    }
    for name in ["cardea.service", "cardea-tpmvsc.service"] {
        let text = packaged(name).replace("ProtectSystem=strict", "ProtectSystem=strickt");
        let (_, said) = verify(name, &text);
        assert!(said.contains("strickt"), "{said}");
    }
}

/// What `systemd-analyze security` makes of the units: 0 is confined, 100 is not.
#[test]
fn units_confine_their_services() {
    let exposure = |name: &str, most: &str| {
        let unit = repository().join("packaging").join(name);
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={most}"))
            .arg(unit)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), said)
    };
    for (name, most) in [("cardea.service", "12"), ("cardea-tpmvsc.service", "15")] {
        let (passed, said) = exposure(name, most);
        assert!(passed, "{name}: {said}");
        let (passed, _) = exposure(name, "5");
        assert!(!passed, "the threshold counts");
    }
}

#[test]
fn unit_confines_the_daemon() {
    let text = fs::read_to_string(repository().join("packaging/cardea.service")).unwrap();
    assert_has_lines(
        &text,
        &[
            "Type=notify",
            "WatchdogSec=30",
            "User=cardea",
            "SupplementaryGroups=tss",
            "StateDirectory=cardea",
            "RuntimeDirectory=cardea",
            "DevicePolicy=closed",
            "DeviceAllow=char-tpm rw",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=",
            "SystemCallFilter=@system-service",
            "LimitNOFILE=16384",
            "TasksMax=1024",
            "MemoryMax=1G",
            "PrivateNetwork=yes",
            "IPAddressDeny=any",
        ],
    );
}

#[test]
fn unit_confines_the_service_for_other_machines() {
    let text = fs::read_to_string(repository().join("packaging/cardea-tpmvsc.service")).unwrap();
    assert_has_lines(
        &text,
        &[
            "User=cardea-tpmvsc",
            "LoadCredential=accounts:/etc/cardea/tpmvsc/accounts",
            "DevicePolicy=closed",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=",
            "SystemCallFilter=@system-service",
            "MemoryMax=128M",
        ],
    );
    // Its socket is what an administrator enables.
    assert!(!text.contains("[Install]"));
}

fn assert_has_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line}");
    }
}

#[test]
fn shipped_configuration_tells_every_key_with_its_default() {
    let text = fs::read_to_string(repository().join("packaging/cardea.toml")).unwrap();
    let settings: String = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' ') && !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    let table: toml::Table = settings.parse().unwrap();
    let documented = fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let documented: BTreeSet<&str> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key)
        .filter(|key| !key.contains(':'))
        // The same setting as pcscd_user.
        .filter(|key| *key != "pcscd_uid")
        .collect();
    let keys: BTreeSet<&str> = table.keys().map(String::as_str).collect();
    assert_eq!(keys, documented);

    let load = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cardea.toml");
        fs::write(&path, text).unwrap();
        let config = Config::load(Overrides {
            config: Some(path),
            // The default is refused on a machine that has no TPM.
            tpm: Some("device:/dev/tpmrm0".to_owned()),
            ..Overrides::default()
        });
        format!("{:?}", config.unwrap())
    };
    // No one value is its default: it takes a user that newer packages of pcscd bring, and root.
    let settings: String = settings
        .lines()
        .filter(|line| !line.starts_with("pcscd_user"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(load(&text), load(&settings));
    assert_eq!(
        table["tpm"].as_str(),
        Some("device:/dev/tpmrm0"),
        "the default that was overridden above"
    );
}

#[test]
fn state_folder_is_what_the_configuration_says() {
    let machine = Machine::new();
    let root = machine.root();
    assert_eq!(state_folder(&root).unwrap(), root.join("var/lib/cardea"));
    machine.install();
    assert_eq!(state_folder(&root).unwrap(), root.join("var/lib/cardea"));
    let configuration = machine.path(items::CONFIGURATION);
    fs::write(&configuration, "state_dir = '/srv/cards'\n").unwrap();
    assert_eq!(state_folder(&root).unwrap(), root.join("srv/cards"));
    fs::write(&configuration, "state_dir =").unwrap();
    assert!(state_folder(&root).is_err());
}

#[test]
fn purge_refuses_while_card_files_name_objects_in_the_tpm() {
    let machine = Machine::new();
    machine.install();
    let state = machine.path(STATE);
    fs::create_dir_all(state.join("cards")).unwrap();
    fs::write(state.join("cards/one.card"), "damaged").unwrap();
    let purge = |purge, yes| {
        uninstall(&UninstallArguments {
            place: Place {
                destdir: Some(machine.root()),
                prefix: "/usr".parse().unwrap(),
            },
            purge,
            yes,
        })
    };
    let error = purge(true, false).unwrap_err();
    assert!(error.to_string().contains("destroy the cards"), "{error}");
    assert!(machine.path("/usr/bin/cardea").exists());
    assert!(state.join("cards/one.card").exists());

    purge(false, false).unwrap();
    assert!(!machine.path("/usr/bin/cardea").exists());
    assert!(state.join("cards/one.card").exists());

    // Without the program the files themselves are reason enough.
    assert!(purge(true, false).is_err());
    purge(true, true).unwrap();
    assert!(!state.exists());
    assert!(machine.files().is_empty(), "{:?}", machine.files());
}
