//! `./demo` on a fresh Debian 13: a minimal system, a Rust toolchain and the source tree, and nothing else.
//!
//! What `./demo` installs there is gone afterwards; what it builds is kept for the next time, and so are the packages
//! that apt has fetched. The toolchain and the tree are the machine's own, and cannot be written to.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::made;
use crate::shell::{self, Workspace, say};

/// What it is called among the modules of tests, and at the beginning of its row.
pub(super) const NAME: &str = "demo";

/// What it has to have said: that it installs what is missing, builds without silence, and gets to its end.
const SAID: &[&str] = &[
    "== Installing Debian packages",
    "Setting up pkcs11-provider",
    "Finished `release` profile",
    "== A signed letter through Cardea's own PKCS#11 module",
    "== Done.",
];

/// What it has installed and works with.
const WITH: &[&str] = &["opensc", "openssl", "pcscd", "pkcs11-provider", "swtpm"];

/// Where it is run, with the folders below as their own sources.
const RUN: &str = r#"
fresh=$1 place=$2 tree=$3 cargo=$4 rustup=$5
shift 5
cd "$place"
mount -t overlay -o "lowerdir=$fresh,upperdir=changes,workdir=work" system root
# What is the machine's own is only to be read.
reads() {
    mkdir -p "root$2"
    mount --bind "$1" "root$2"
    mount -o remount,bind,ro "root$2"
}
keeps() {
    mkdir -p "$1" "root$2"
    mount --bind "$1" "root$2"
}
reads "$tree" /root/cardea
reads "$cargo" /root/.cargo
reads "$rustup" /root/.rustup
keeps built /root/built
keeps fetched /var/cache/apt/archives
mount -t proc proc root/proc
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/tmp
mount -t tmpfs tmpfs root/run
cp /etc/hosts /etc/resolv.conf root/etc/
cp apt.conf root/etc/apt/apt.conf.d/machine
chroot root /root/cardea/demo
chroot root dpkg-query -W -f '${Package} ${Version}\n' "$@" > versions
"#;

/// Runs it, and the row of the table.
pub(super) fn shown(workspace: &Workspace) -> Result<String> {
    let folder = workspace.target.join("debian-13");
    let fresh = made(&folder.join("fresh"), &[])?;
    let place = folder.join(NAME);
    for name in ["changes", "work", "root"] {
        let path = place.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    }
    let configuration = shell::output(Command::new("apt-config").arg("dump"))?;
    fs::write(place.join("apt.conf"), reaching(&configuration))?;
    let cargo = home("CARGO_HOME", ".cargo")?;
    ensure!(
        cargo.join("bin/cargo").is_file(),
        "{} has no cargo: a toolchain of rustup is needed",
        cargo.display()
    );
    let said = run(Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .args(["--propagation", "private", "sh", "-ec", RUN, "sh"])
        .args([&fresh, &place, &workspace.root])
        .args([cargo, home("RUSTUP_HOME", ".rustup")?])
        .args(WITH)
        .env_clear()
        .env("PATH", "/root/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("CARGO_TARGET_DIR", "/root/built"))?;
    for expected in SAID {
        ensure!(said.contains(expected), "./demo did not say: {expected}");
    }
    let versions = place.join("versions");
    let versions = fs::read_to_string(&versions).with_context(|| versions.display().to_string())?;
    row(&versions)
}

/// Runs a program, shows what it says, and returns it.
fn run(command: &mut Command) -> Result<String> {
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("a pipe")?)
        .stderr(writer)
        .spawn()
        .context("unshare")?;
    // Until nobody has the other end any more.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut said = String::new();
    for line in BufReader::new(reader).lines() {
        let line = line.context("what ./demo says")?;
        say(&line);
        said += &line;
        said.push('\n');
    }
    let status = child.wait().context("unshare")?;
    ensure!(status.success(), "./demo failed on Debian 13: {status}");
    Ok(said)
}

/// Of a dump of apt's configuration, how this machine reaches Debian's archive.
fn reaching(configuration: &str) -> String {
    let of_it = ["http::", "https::", "Check-", "Retries"];
    let lines = configuration.lines().filter(|line| {
        line.strip_prefix("Acquire::")
            .is_some_and(|rest| of_it.iter().any(|name| rest.starts_with(name)))
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// A folder of the toolchain: that of the variable, or its usual place.
fn home(variable: &str, usual: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let home = std::env::var_os("HOME").with_context(|| format!("{variable} and HOME"))?;
    Ok(Path::new(&home).join(usual))
}

/// The row, from lines with a package and its version each.
fn row(versions: &str) -> Result<String> {
    let packages: Option<Vec<_>> = versions.lines().map(|line| line.split_once(' ')).collect();
    let packages = packages.with_context(|| format!("versions: {versions}"))?;
    ensure!(packages.len() == WITH.len(), "versions: {versions}");
    let (names, versions): (Vec<_>, Vec<_>) = packages.into_iter().unzip();
    let (names, versions) = (names.join(", "), versions.join(", "));
    Ok(format!(
        "| `./{NAME}` on a fresh system | {names} | {versions} | passed |\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_reaches_the_archive_by_its_own_settings_alone() {
        let dump = "APT \"\";\nAcquire \"\";\nAcquire::http::Proxy \"http://[::1]:3128\";\n\
            Acquire::Check-Date \"false\";\nAcquire::Languages:: \"none\";\nDPkg::Post-Invoke:: \"x\";\n";
        assert_eq!(
            reaching(dump),
            "Acquire::http::Proxy \"http://[::1]:3128\";\nAcquire::Check-Date \"false\";\n"
        );
    }

    #[test]
    fn row_has_every_version() {
        let versions: String = WITH
            .iter()
            .map(|name| format!("{name} 1-{name}\n"))
            .collect();
        let row = row(&versions).unwrap();
        assert!(row.starts_with("| `./demo` on a fresh system | opensc, openssl, "));
        assert!(
            row.ends_with(", 1-pkcs11-provider, 1-swtpm | passed |\n"),
            "{row}"
        );
        assert!(super::row("opensc 1\n").is_err());
    }

    #[test]
    fn everything_that_it_has_to_say_is_in_the_script_or_comes_from_the_programs() {
        let script = include_str!("../../../demo");
        for said in SAID.iter().filter_map(|said| said.strip_prefix("== ")) {
            assert!(script.contains(&format!("say \"{said}")), "{said}");
        }
        for package in WITH {
            assert!(script.contains(package), "{package}");
        }
    }
}
