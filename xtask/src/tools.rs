//! Pinned tools, installed below the target folder when they are not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::shell::{self, Workspace, say};

/// A program from crates.io.
pub(crate) struct Tool {
    name: &'static str,
    /// What is installed; on the search path also a later patch of the same series is taken.
    version: Version,
    /// Further arguments of `cargo install`.
    features: &'static [&'static str],
}

/// Builds programs with the list of their crates inside.
pub(crate) const AUDITABLE: Tool = Tool {
    name: "cargo-auditable",
    version: Version(0, 7, 7),
    features: &[],
};

/// Checks licences, sources and bans.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    version: Version(0, 20, 2),
    features: &[],
};

/// Makes a book of pages. Without its server.
pub(crate) const MDBOOK: Tool = Tool {
    name: "mdbook",
    version: Version(0, 5, 4),
    features: &["--no-default-features"],
};

/// Runs the tests.
pub(crate) const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    version: Version(0, 9, 143),
    features: &["--no-default-features", "--features", "default-no-update"],
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Tool {
    /// The program, installed first if need be.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<PathBuf> {
        let tools = workspace.target.join("tools");
        let ours = tools.join("bin").join(self.name);
        if self.is_recorded(&tools) {
            return Ok(ours);
        }
        if let Some(path) = shell::find(self.name)
            && installed(&path).is_some_and(|version| self.accepts(version))
        {
            return Ok(path);
        }
        let Version(major, minor, patch) = self.version;
        let package = format!("{}@{major}.{minor}.{patch}", self.name);
        say(&format!("installing {package} in {}", tools.display()));
        // Unoptimised: it is built more often than it has much to do.
        let mut install = shell::cargo();
        install
            .args([
                "install", "--quiet", "--locked", "--debug", "--force", &package,
            ])
            .args(self.features)
            .arg("--root")
            .arg(&tools)
            .arg("--target-dir")
            .arg(tools.join("build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0")
            // Not below the workspace, whose settings are not the tool's.
            .current_dir(std::env::temp_dir());
        shell::run(&mut install)?;
        ensure!(
            self.is_recorded(&tools),
            "{} is not {package} after its installation",
            ours.display()
        );
        Ok(ours)
    }

    /// Whether the program is in our folder, by cargo's own record: not every program tells its version.
    fn is_recorded(&self, tools: &Path) -> bool {
        let Version(major, minor, patch) = self.version;
        let record = fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
        let entry = format!("\"{} {major}.{minor}.{patch} (", self.name);
        tools.join("bin").join(self.name).is_file() && record.contains(&entry)
    }

    fn accepts(&self, found: Version) -> bool {
        let Version(major, minor, _) = self.version;
        (found.0, found.1) == (major, minor) && found >= self.version
    }
}

/// The version that a program tells.
fn installed(program: &PathBuf) -> Option<Version> {
    if !program.is_file() {
        return None;
    }
    let output = Command::new(program).arg("--version").output().ok()?;
    parse(&String::from_utf8(output.stdout).ok()?)
        .with_context(|| format!("{} does not tell its version", program.display()))
        .ok()
}

/// The first word that is a version: `cargo-deny 0.20.2`, `cargo-nextest 0.9.143 (60fa45f63 2026-08-04)`,
/// `mdbook v0.5.4`.
fn parse(text: &str) -> Option<Version> {
    text.split_whitespace().find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let mut numbers = word.split('.').map(|number| number.parse().ok());
        let version = Version(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_tools_say() {
        assert_eq!(parse("cargo-deny 0.20.2\n"), Some(Version(0, 20, 2)));
        assert_eq!(parse("mdbook v0.5.4\n"), Some(Version(0, 5, 4)));
        assert_eq!(
            parse("cargo-nextest 0.9.143 (60fa45f63 2026-08-04)\nrelease: 0.9.143\n"),
            Some(Version(0, 9, 143))
        );
        assert_eq!(parse("usage: cargo-deny 0.20 1.2.3.4"), None);
    }

    #[test]
    fn later_patches_of_the_series_are_accepted_and_others_not() {
        assert!(NEXTEST.accepts(Version(0, 9, 143)));
        assert!(NEXTEST.accepts(Version(0, 9, 151)));
        assert!(!NEXTEST.accepts(Version(0, 9, 142)));
        assert!(!NEXTEST.accepts(Version(0, 10, 0)));
        assert!(!NEXTEST.accepts(Version(1, 9, 143)));
    }

    #[test]
    fn tool_is_there_when_cargo_has_recorded_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path();
        let record = |version: &str| {
            let text = format!(
                "[v1]\n\"cargo-auditable {version} (registry+x)\" = [\"cargo-auditable\"]\n"
            );
            fs::write(tools.join(".crates.toml"), text).unwrap();
        };
        record("0.7.7");
        assert!(!AUDITABLE.is_recorded(tools), "the program is missing");
        fs::create_dir(tools.join("bin")).unwrap();
        fs::write(tools.join("bin/cargo-auditable"), "").unwrap();
        assert!(AUDITABLE.is_recorded(tools));
        record("0.7.71");
        assert!(!AUDITABLE.is_recorded(tools));
    }

    #[test]
    fn program_without_version_is_not_installed() {
        assert_eq!(installed(&PathBuf::from("/nonexistent/program")), None);
        assert_eq!(installed(&PathBuf::from("/bin/sh")), None);
    }
}
