//! The programs that are packed: a release build without a path of this machine, with the list of its crates.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::shell::{self, Workspace};
use crate::weakened;

/// Programs and libraries of the table.
const BUILT: [&str; 7] = [
    "cardea",
    "cardea-agent",
    "cardea-daemon",
    "cardea-tpmvsc",
    "libcardea_pkcs11.so",
    "libifdcardea.so",
    "tpmvscmgr",
];

/// The section with the list of crates (cargo-auditable).
const CRATES: &str = ".dep-v0";

/// Builds, and says where the programs are.
pub(super) fn release(workspace: &Workspace, auditable: &Path) -> Result<PathBuf> {
    let mut build = Command::new(auditable);
    // Called by its own name, it takes the name of the subcommand first.
    build
        .current_dir(&workspace.root)
        .args([
            "auditable",
            "build",
            "--release",
            "--locked",
            "--target-dir",
        ])
        .arg(&workspace.target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace)?)
        .env("CARGO_INCREMENTAL", "0");
    for package in install::PACKAGES {
        build.args(["--package", package]);
    }
    shell::run(&mut build)?;
    let programs = workspace.target.join("release");
    for name in BUILT {
        check(workspace, &programs.join(name))?;
    }
    Ok(programs)
}

/// What the paths of this machine are replaced with.
fn flags(workspace: &Workspace) -> Result<OsString> {
    let mut flags = OsString::new();
    for (from, to) in [
        (workspace.root.clone(), "/usr/src/cardea"),
        (cargo_home()?, "/usr/src/cargo"),
    ] {
        if !flags.is_empty() {
            flags.push("\u{1f}");
        }
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CARGO_HOME") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").context("no CARGO_HOME and no HOME")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// No path of this machine, no weakness, and the list of crates.
fn check(workspace: &Workspace, program: &Path) -> Result<()> {
    weakened::is_without(program)?;
    let content = fs::read(program).with_context(|| program.display().to_string())?;
    for folder in [&workspace.root, &workspace.target, &cargo_home()?] {
        let path = folder.as_os_str().as_encoded_bytes();
        ensure!(
            !content.windows(path.len()).any(|window| window == path),
            "{} has the path {} in it",
            program.display(),
            folder.display()
        );
    }
    ensure!(
        content
            .windows(CRATES.len())
            .any(|window| window == CRATES.as_bytes()),
        "{} has no list of its crates",
        program.display()
    );
    Ok(())
}
