use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::changes::Changes;
use super::release::Release;
use super::{Arguments, Contents, Effort, debian, differences, empty, rpm, run};
use crate::install::items::{self, Layout, Package, Texts};

/// Programs that any machine has stand for ours: what is tested is the packing.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "cardea",
            "tpmvscmgr",
            "cardea-agent",
            "cardea-daemon",
            "cardea-tpmvsc",
        ] {
            fs::copy("/bin/true", folder.path().join(name)).unwrap();
        }
        for name in ["libcardea_pkcs11.so", "libifdcardea.so"] {
            fs::copy("/bin/false", folder.path().join(name)).unwrap();
        }
        Self(folder)
    }

    fn contents(&self, layout: &Layout) -> Contents {
        let root = repository();
        let texts = Texts {
            reader: "FRIENDLYNAME \"Cardea\"\n".to_owned(),
            completions: ["bash", "fish", "zsh"].map(str::to_owned),
            manual: vec![("cardea.1".to_owned(), ".TH CARDEA 1\n".to_owned())],
        };
        Contents {
            items: items::items(&root, self.0.path(), layout, texts),
            root,
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn release() -> Release {
    let text = fs::read_to_string(repository().join("CHANGELOG.md")).unwrap();
    Release::new(Changes::parse(&text).unwrap(), 1_796_040_543).unwrap()
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    String::from_utf8(output.stdout).unwrap()
}

/// Names of files in a folder, in order.
fn listed(folder: &Path) -> Vec<String> {
    let mut names = super::names(folder).unwrap();
    names.sort();
    names
}

/// The Debian packages in a folder.
fn debian_packages(folder: &Path) -> PathBuf {
    let (work, out) = (folder.join("work"), folder.join("out"));
    fs::create_dir_all(&out).unwrap();
    let programs = Programs::new();
    debian::pack(
        &programs.contents(&Layout::debian()),
        &release(),
        &work,
        &out,
        Effort::Least,
    )
    .unwrap();
    out
}

/// The package of a name.
fn package(folder: &Path, name: &str) -> PathBuf {
    let start = format!("{name}_");
    let names = listed(folder);
    let file = names.iter().find(|file| file.starts_with(&start));
    folder.join(file.unwrap_or_else(|| panic!("{name} is not in {names:?}")))
}

#[test]
fn debian_packages_divide_the_table_and_have_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = debian_packages(&folder.path().join("one"));
    let mut paths = BTreeSet::new();
    for each in Package::ALL {
        let archive = package(&first, each.name());
        let content = said(Command::new("dpkg-deb").arg("--contents").arg(&archive));
        for line in content.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(fields[1], "root/root", "{line}");
            assert_eq!(fields[3], "2026-11-30", "{line}");
            if !fields[0].starts_with('d') {
                assert!(paths.insert(fields[5].to_owned()), "twice: {line}");
            }
        }
    }
    for expected in [
        "./usr/bin/cardea",
        "./usr/sbin/cardea-daemon",
        "./usr/sbin/cardea-tpmvsc",
        "./usr/share/man/man5/cardea.toml.5.gz",
        "./usr/share/man/man5/tpmvsc.toml.5.gz",
        "./usr/share/man/man8/cardea-daemon.8.gz",
        "./usr/share/man/man8/cardea-tpmvsc.8.gz",
        "./etc/cardea/cardea.toml",
        "./etc/reader.conf.d/cardea",
        "./usr/share/doc/cardea-doc/docs/threat-model.md",
        "./usr/share/doc/cardea-pkcs11/changelog.gz",
    ] {
        assert!(paths.contains(expected), "{expected} is not in {paths:?}");
    }

    let second = debian_packages(&folder.path().join("the second"));
    assert_eq!(listed(&first), listed(&second));
    for name in listed(&first) {
        let read = |folder: &Path| fs::read(folder.join(&name)).unwrap();
        assert!(read(&first) == read(&second), "{name} differs");
    }
}

#[test]
fn fields_and_scripts_of_debian_packages_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = debian_packages(folder.path());
    let field = |name: &str, field: &str| {
        let archive = package(&out, name);
        said(
            Command::new("dpkg-deb")
                .arg("--field")
                .arg(archive)
                .arg(field),
        )
    };
    for each in Package::ALL {
        let name = each.name();
        assert_eq!(field(name, "Version").trim(), release().version);
        // What a program needs is found from the program.
        let needs_c = field(name, "Depends").contains("libc6 (>= ");
        assert_eq!(needs_c, each != Package::Doc, "{name}");
    }
    assert_eq!(field("cardea-pkcs11", "Multi-Arch").trim(), "same");
    assert_eq!(field("cardea-doc", "Architecture").trim(), "all");
    let control = |name: &str| {
        let to = folder.path().join(format!("control of {name}"));
        said(
            Command::new("dpkg-deb")
                .arg("--control")
                .arg(package(&out, name))
                .arg(&to),
        );
        to
    };
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let daemon = control("cardea-daemon");
    assert_eq!(
        read(daemon.join("conffiles")),
        "/etc/cardea/cardea.toml\n/etc/apparmor.d/usr.sbin.cardea-daemon\n"
    );
    assert_eq!(
        read(control("cardea-ifd").join("conffiles")),
        "/etc/reader.conf.d/cardea\n"
    );
    assert_eq!(
        listed(&daemon),
        [
            "conffiles",
            "control",
            "md5sums",
            "postinst",
            "postrm",
            "preinst",
            "prerm",
            "templates"
        ]
    );
    for script in ["postinst", "postrm", "preinst", "prerm"] {
        said(Command::new("sh").arg("-n").arg(daemon.join(script)));
    }
    let remote = control("cardea-tpmvsc");
    assert_eq!(
        read(remote.join("conffiles")),
        "/etc/cardea/tpmvsc.toml\n/etc/apparmor.d/usr.sbin.cardea-tpmvsc\n"
    );
    for script in ["postinst", "postrm", "prerm"] {
        said(Command::new("sh").arg("-n").arg(remote.join(script)));
    }
    // An older daemon would not know what this service tells it.
    let daemon = format!("cardea-daemon (>= {})", release().version);
    assert!(field("cardea-tpmvsc", "Depends").contains(&daemon));
}

/// Nobody but the administrator opens the port.
#[test]
fn packages_enable_nothing_of_the_service_for_other_machines() {
    let read = |path: &str| fs::read_to_string(repository().join("packaging").join(path)).unwrap();
    let spec = read("rpm/cardea.spec");
    let (_, script) = spec.split_once("%post tpmvsc\n").unwrap();
    let (script, _) = script.split_once("%preun").unwrap();
    for word in ["enable ", "start"] {
        assert!(!script.contains(word), "{script}");
    }
    assert!(!read("debian/cardea-tpmvsc.postinst").contains("systemctl enable"));
}

/// What packages refuse to be put in place of is a newer format of card files than the program's.
#[test]
fn package_scripts_know_the_format_of_card_files() {
    let known = cardea_store::format::VERSION;
    let read = |path: &str| fs::read_to_string(repository().join("packaging").join(path)).unwrap();
    assert!(read("debian/cardea-daemon.preinst").contains(&format!("\nFORMAT={known}\n")));
    let spec = read("rpm/cardea.spec");
    assert!(spec.contains(&format!("-gt {known} ]")), "{spec}");
    assert!(
        spec.contains(&format!("newer than the {known} that")),
        "{spec}"
    );
}

/// p11-kit's file is the same on all architectures, which packages of several have in common.
#[test]
fn packages_of_the_module_have_common_files_for_all_architectures() {
    let contents = Programs::new();
    let contents = contents.contents(&Layout::debian());
    let file = contents
        .items
        .iter()
        .find(|item| item.to.ends_with("p11-kit/modules/cardea.module"));
    let text = String::from_utf8(file.unwrap().content().unwrap()).unwrap();
    assert!(
        text.lines()
            .any(|line| line == "module: libcardea_pkcs11.so"),
        "{text}"
    );
}

#[test]
fn rpms_have_the_same_split_their_scripts_and_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::new();
    let make = |name: &str| {
        let (work, out) = (
            folder.path().join(name),
            folder.path().join(format!("out {name}")),
        );
        fs::create_dir_all(&out).unwrap();
        rpm::pack(&programs.contents(&Layout::rpm()), &release(), &work, &out).unwrap();
        out
    };
    let (first, second) = (make("one"), make("another"));
    let names = listed(&first);
    assert_eq!(names.len(), Package::ALL.len(), "{names:?}");
    assert_eq!(names, listed(&second));
    for name in &names {
        let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
        assert!(read(&first) == read(&second), "{name} differs");
    }
    let ask = |name: &str, what: &[&str]| {
        let start = format!("{name}-0");
        let file = names.iter().find(|file| file.starts_with(&start)).unwrap();
        said(
            Command::new("rpm")
                .arg("-qp")
                .args(what)
                .arg(first.join(file)),
        )
    };
    assert!(ask("cardea-pkcs11", &["-l"]).contains("/usr/lib64/pkcs11/libcardea_pkcs11.so\n"));
    assert!(
        ask("cardea-ifd", &["-l"]).contains("/usr/lib64/pcsc/drivers/serial/libifdcardea.so\n")
    );
    assert_eq!(ask("cardea-daemon", &["-c"]), "/etc/cardea/cardea.toml\n");
    let scripts = ask("cardea-daemon", &["--scripts"]);
    for expected in [
        "systemd-sysusers cardea.conf",
        "try-reload-or-restart dbus.service",
        "--remains",
    ] {
        assert!(scripts.contains(expected), "{scripts}");
    }
    assert_eq!(ask("cardea-tpmvsc", &["-c"]), "/etc/cardea/tpmvsc.toml\n");
    let scripts = ask("cardea-tpmvsc", &["--scripts"]);
    assert!(
        scripts.contains("systemd-sysusers cardea-tpmvsc.conf"),
        "{scripts}"
    );
    let needed = ask("cardea-tpmvsc", &["--requires"]);
    assert!(needed.contains("cardea-daemon >= "), "{needed}");
    assert!(ask("cardea", &["--requires"]).contains("libc.so.6"));
}

#[test]
fn folder_that_rpmbuild_cannot_take_is_refused_before_anything_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("with a blank");
    let error = run(&Arguments {
        out: Some(out.clone()),
        built: None,
        twice: false,
        trial: false,
    })
    .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("with a blank has a blank in its path"),
        "{said}"
    );
    assert!(!out.exists());
}

/// By AppArmor's own parser, which needs no kernel with AppArmor for this.
#[test]
fn profiles_are_understood_by_apparmor() {
    let profile = |name: &str| repository().join("packaging/apparmor").join(name);
    let parse = |file: &Path| {
        let output = Command::new("apparmor_parser")
            .args(["--skip-kernel-load", "--skip-cache"])
            .arg(file)
            .output()
            .unwrap();
        output.status.success()
    };
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    for (name, rule, other) in [
        ("usr.sbin.cardea-daemon", "ptrace (read)", "ptrace (reed)"),
        ("usr.sbin.cardea-tpmvsc", "inet6 stream", "inet7 stream"),
    ] {
        assert!(parse(&profile(name)), "{name}");
        let text = fs::read_to_string(profile(name)).unwrap();
        assert!(text.contains(rule), "{name}");
        fs::write(&broken, text.replace(rule, other)).unwrap();
        assert!(!parse(&broken), "{name}");
    }
}

#[test]
fn folder_with_other_files_is_not_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    empty(&out).unwrap();
    fs::write(out.join("letter"), "").unwrap();
    assert!(empty(&out).is_err());
    assert!(out.join("letter").exists());
    fs::write(out.join("SHA256SUMS"), "").unwrap();
    empty(&out).unwrap();
    assert!(!out.join("letter").exists());
}

#[test]
fn files_that_differ_between_two_builds_are_named() {
    let one = "11  a.deb\n22  b.deb\n".to_owned();
    assert!(differences(&[one.clone(), one.clone()]).is_empty());
    assert_eq!(
        differences(&[one.clone(), "11  a.deb\n33  b.deb\n".to_owned()]),
        ["b.deb"]
    );
    assert_eq!(differences(&[one, "11  a.deb\n".to_owned()]), ["b.deb"]);
}
