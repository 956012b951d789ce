//! `cargo xtask debian13`: the end-to-end tests with the programs of Debian 13, `./demo` on a fresh one, and the table
//! of `docs/debian-13.md`.
//!
//! The programs under test are those that were built here; what they work with, from pcscd to OpenSSL, is in a system
//! below the build folder, made by mmdebstrap and kept for the next time. Tests run inside it in a mount namespace, as
//! root and with the machine's own kernel and network.

mod demo;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::shell::{self, Workspace, say};
use crate::tools;

const PAGE: &str = "docs/debian-13.md";

/// Above the rows that this task writes.
const HEAD: &str = "| tests | with | version | passed |\n|---|---|---|---|\n";

const SUITE: &str = "trixie";

/// What the tests start or load, besides the essential packages.
const PACKAGES: &[&str] = &[
    "binutils",
    "busybox-static",
    "ca-certificates",
    "cryptsetup-bin",
    "curl",
    "dbus",
    "dbus-daemon",
    "dosfstools",
    "e2fsprogs",
    "g++",
    "gcc",
    "gnutls-bin",
    "iproute2",
    "krb5-admin-server",
    "krb5-kdc",
    "krb5-user",
    "libengine-pkcs11-openssl",
    "libnss3-tools",
    "libpcsclite-dev",
    "openjdk-21-jdk-headless",
    "opensc",
    "opensc-pkcs11",
    "openssh-client",
    "openssh-server",
    "openssl",
    "p11-kit",
    "p11-kit-modules",
    "passwd",
    "pcsc-tools",
    "pcscd",
    "pinentry-curses",
    "pkcs11-provider",
    "pkg-config",
    "polkitd",
    "procps",
    "python3-cbor2",
    "python3-cryptography",
    "python3-gi",
    "softhsm2",
    "strace",
    "swtpm",
    "swtpm-tools",
    "systemd",
    "systemd-cryptsetup",
    "tpm2-tools",
    "util-linux",
    "valgrind",
    "vsmartcard-vpcd",
];

/// The program that the tests of a module are about, by its package.
const SUBJECTS: &[(&str, &str)] = &[
    ("administrator", "pcscd"),
    ("attestation", "swtpm-tools"),
    ("dbus", "dbus-daemon"),
    ("doctor", "pcscd"),
    ("enrolment", "openssl"),
    ("fixtures", "swtpm"),
    ("name_service", "libc6"),
    ("old_state", "swtpm"),
    ("opensc", "opensc"),
    ("other_machine", "krb5-user"),
    ("p11_kit", "p11-kit"),
    ("pkcs11", "opensc"),
    ("pkcs11_beside_opensc", "opensc-pkcs11"),
    ("pkcs11_gnutls", "gnutls-bin"),
    ("pkcs11_java", "openjdk-21-jdk-headless"),
    ("pkcs11_nss", "libnss3-tools"),
    ("pkcs11_openssl", "openssl"),
    ("pkcs11_p11_kit", "p11-kit"),
    ("pkcs11_process", "libc6"),
    ("pkcs11_provider", "pkcs11-provider"),
    ("pkcs11_ssh", "openssh-client"),
    ("pkcs11_suite", "libc6"),
    ("promises", "pcscd"),
    ("recovery", "swtpm"),
    ("remote_soak", "swtpm"),
];

/// Left out: machines with a system of their own, and hours of load.
const FILTER: &str = "binary(=e2e) and not test(/^(kernel_tpm|live|pkcs11_stress|soak)::/)";

/// Makes the folder of the system the root, with the paths that follow bound in, and runs the rest there.
const ENTER: &str = r#"
root=$1; shift
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --rbind "$1" "$root$1"
    shift
done
shift
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/former"
here=$PWD
cd "$root"
pivot_root . former
umount -l /former
cd "$here"
exec "$@"
"#;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write the table into the page
    #[arg(long)]
    record: bool,
    /// Only the tests of this module; `demo` is ./demo on a fresh Debian 13
    module: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let path = workspace.root.join(PAGE);
    let module = arguments.module.as_deref();
    let mut rows = String::new();
    if module.is_none_or(|module| module == demo::NAME) {
        rows.push_str(&demo::shown(&workspace)?);
    }
    let mut failed = 0;
    if module != Some(demo::NAME) {
        let system = system(&workspace)?;
        let results = results(&tests(&workspace, &system, module)?);
        ensure!(!results.is_empty(), "no test was run");
        for (module, (passed, run)) in &results {
            rows.push_str(&row(&system, module, *passed, *run)?);
        }
        failed = results
            .values()
            .filter(|(passed, run)| passed < run)
            .count();
    }
    rows.lines().for_each(say);
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let written = match module {
        Some(_) => with_row(&page, &rows)?,
        None => with_rows(&page, &rows)?,
    };
    if arguments.record {
        fs::write(&path, written)?;
    } else if page != written {
        bail!("{PAGE} is not what the tests have shown; --record writes it");
    }
    ensure!(failed == 0, "tests have failed");
    Ok(())
}

/// The folder of the system, made first if need be. It is in place when it is whole.
fn system(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("debian-13");
    // Not without manuals, whose links are made when Java is installed.
    let without = ["doc", "info", "locale"]
        .map(|folder| format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    let mut options = vec![
        "--aptopt=APT::Install-Recommends \"false\"".to_owned(),
        format!("--include={}", PACKAGES.join(",")),
    ];
    options.extend(without);
    made(&folder.join("system"), &options)
}

/// A system in this folder, by mmdebstrap with these options, unless it has been made by the same.
fn made(system: &Path, options: &[String]) -> Result<PathBuf> {
    let (options_of_it, work) = (system.with_extension("made"), system.with_extension("work"));
    let options_said = options.join("\n");
    if system.is_dir() && fs::read_to_string(&options_of_it).is_ok_and(|it| it == options_said) {
        return Ok(system.to_owned());
    }
    for folder in [system, &work] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
    }
    let parent = system.parent().context("a folder for the system")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    shell::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .args(options)
            .arg(SUITE)
            .arg(&work),
    )?;
    fs::rename(&work, system)?;
    fs::write(&options_of_it, options_said)?;
    Ok(system.to_owned())
}

/// What nextest says of the tests inside the system.
fn tests(workspace: &Workspace, system: &Path, module: Option<&str>) -> Result<String> {
    workspace.build_tests()?;
    let nextest = tools::NEXTEST.ensure(workspace)?;
    // Inside there is no cargo: it is asked here what there is.
    let described = |name: &str, command: &mut Command| -> Result<PathBuf> {
        let path = workspace.target.join("debian-13").join(name);
        fs::write(&path, shell::output(command.current_dir(&workspace.root))?)?;
        Ok(path)
    };
    let packages = described(
        "metadata.json",
        workspace
            .cargo()
            .args(["metadata", "--format-version", "1", "--locked"]),
    )?;
    let binaries = described(
        "binaries.json",
        Command::new(&nextest)
            .args(["nextest", "list", "--locked", "--package", "cardea-testkit"])
            .args(["--list-type", "binaries-only", "--message-format", "json"]),
    )?;
    let tools = nextest.parent().context("a folder of nextest")?;
    let filter = match module {
        Some(module) => format!("{FILTER} and test(/^{module}::/)"),
        None => FILTER.to_owned(),
    };
    let ended = Command::new("unshare")
        .current_dir(&workspace.root)
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            ENTER,
            "sh",
        ])
        .arg(system)
        .args([&workspace.root, &workspace.target])
        .arg(tools)
        .arg("--")
        .arg(&nextest)
        .args([
            "nextest",
            "run",
            "--no-fail-fast",
            "--status-level",
            "pass",
            "--color",
            "never",
        ])
        .arg("--cargo-metadata")
        .arg(&packages)
        .arg("--binaries-metadata")
        .arg(&binaries)
        .args(["--filterset", &filter])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        // As in .cargo/config.toml.
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
        .stdin(Stdio::null())
        .output()
        .context("unshare")?;
    let said = [ended.stderr, ended.stdout].concat();
    let log = workspace.target.join("debian-13").join("tests.log");
    fs::write(&log, &said).with_context(|| log.display().to_string())?;
    say(&format!("   log in {}", log.display()));
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// How many tests of each module have passed, and how many were run. A test that failed is mentioned twice.
fn results(said: &str) -> BTreeMap<String, (u32, u32)> {
    let mut results: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let lines = said
        .lines()
        .take_while(|line| !line.trim_start().starts_with("Summary ["));
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(outcome) = words.next() else {
            continue;
        };
        let ends = ["PASS", "FAIL", "TIMEOUT"].contains(&outcome) || outcome.starts_with("SIG");
        if !ends {
            continue;
        }
        let Some(test) = words
            .skip_while(|word| *word != "cardea-testkit::e2e")
            .nth(1)
        else {
            continue;
        };
        let module = test.split("::").next().unwrap_or(test);
        let (passed, run) = results.entry(module.to_owned()).or_default();
        *passed += u32::from(outcome == "PASS");
        *run += 1;
    }
    results
}

fn row(system: &Path, module: &str, passed: u32, run: u32) -> Result<String> {
    let subject = SUBJECTS.iter().find(|(name, _)| *name == module);
    let (_, package) = subject.with_context(|| format!("{module}: with what program?"))?;
    let version = shell::output(Command::new("chroot").arg(system).args([
        "dpkg-query",
        "-W",
        "-f",
        "${Version}",
        package,
    ]))?;
    Ok(format!(
        "| {} | {package} | {version} | {passed} of {run} |\n",
        module.replace('_', " ")
    ))
}

/// The page with this row in the place of the former one of its module, if there was one.
fn with_row(page: &str, row: &str) -> Result<String> {
    let (_, rest) = page
        .split_once(HEAD)
        .with_context(|| format!("{PAGE} has no table"))?;
    let rows = rest.split_inclusive('\n');
    let rows = rows.take_while(|line| line.starts_with("| ")).chain([row]);
    // Of two with the same module the later one stays.
    let rows: BTreeMap<_, _> = rows.map(|row| (row.split(" | ").next(), row)).collect();
    with_rows(page, &rows.into_values().collect::<String>())
}

/// The page with these rows in its table.
fn with_rows(page: &str, rows: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(HEAD)
        .with_context(|| format!("{PAGE} has no table"))?;
    let after: String = rest
        .split_inclusive('\n')
        .skip_while(|line| line.starts_with("| "))
        .collect();
    Ok(format!("{before}{HEAD}{rows}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_by_module_and_once() {
        let said = "\
    Starting 3 tests\n\
        PASS [   0.1s] (1/3) cardea-testkit::e2e opensc::one\n\
        FAIL [   0.1s] (2/3) cardea-testkit::e2e opensc::two\n\
        PASS [   0.1s] (3/3) cardea-testkit::e2e dbus::deep::three\n\
     Summary [   0.3s] 3 tests run: 2 passed, 1 failed\n\
        FAIL [   0.1s] (2/3) cardea-testkit::e2e opensc::two\n";
        let results = results(said);
        assert_eq!(results["opensc"], (1, 2));
        assert_eq!(results["dbus"], (1, 1));
        assert_eq!(results.len(), 2);
    }

    #[test]
    fn rows_take_the_place_of_former_ones() {
        let page = format!("text\n\n{HEAD}| old | x |\n\nmore\n");
        let written = with_rows(&page, "| new | y |\n").unwrap();
        assert_eq!(written, format!("text\n\n{HEAD}| new | y |\n\nmore\n"));
        assert!(with_rows("no table", "").is_err());
    }

    #[test]
    fn row_of_one_module_leaves_the_others() {
        let page =
            format!("{HEAD}| dbus | x | 1 | 1 of 2 |\n| dbus deep | x | 1 | 1 of 1 |\n\nend\n");
        let written = with_row(&page, "| dbus | x | 1 | 2 of 2 |\n").unwrap();
        assert_eq!(written, page.replace("1 of 2", "2 of 2"));
        let written = with_row(&page, "| cards | x | 1 | 3 of 3 |\n").unwrap();
        let first = format!("{HEAD}| cards | x | 1 | 3 of 3 |\n");
        assert_eq!(written, page.replace(HEAD, &first));
    }

    #[test]
    fn every_module_of_the_tests_has_its_program() {
        let workspace = Workspace::locate().unwrap();
        let folder = workspace.root.join("crates/cardea-testkit/tests/e2e");
        let main = fs::read_to_string(folder.join("main.rs")).unwrap();
        let modules = main
            .lines()
            .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        let left_out = ["kernel_tpm", "live", "pkcs11_stress", "soak"];
        for module in modules.filter(|module| !left_out.contains(module)) {
            assert!(
                SUBJECTS.iter().any(|(name, _)| *name == module),
                "{module} is not in SUBJECTS"
            );
        }
    }
}
