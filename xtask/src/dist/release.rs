//! Which version is packed, and when it was made.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::changes::Changes;
use super::clock;
use crate::shell::{self, Workspace};

/// A version and its time.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// The version of the workspace; before it is released, with a tilde and the time of the commit, which both
    /// packagings sort before the release.
    pub(super) version: String,
    /// Seconds since 1970: the time of everything that is packed.
    pub(super) epoch: u64,
    pub(super) changes: Changes,
}

impl Release {
    /// From the changelog, and from `SOURCE_DATE_EPOCH` or the last commit.
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let text =
            fs::read_to_string(workspace.root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
        Self::new(Changes::parse(&text)?, epoch(workspace)?)
    }

    pub(super) fn new(changes: Changes, epoch: u64) -> Result<Self> {
        let next = env!("CARGO_PKG_VERSION");
        let version = match &changes.newest().version {
            None => format!("{next}~{}", clock::shown(epoch, "+%Y%m%d.%H%M%S")?),
            Some(version) => {
                ensure!(
                    version == next,
                    "CHANGELOG.md begins with {version}, and Cargo.toml has {next}"
                );
                version.clone()
            }
        };
        Ok(Self {
            version,
            epoch,
            changes,
        })
    }

    /// The time, as `date` writes it with this format.
    pub(super) fn time(&self, format: &str) -> Result<String> {
        clock::shown(self.epoch, format)
    }
}

fn epoch(workspace: &Workspace) -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => shell::output(Command::new("git").current_dir(&workspace.root).args([
            "log",
            "-1",
            "--format=%ct",
        ]))
        .context("no commit to take the time of: set SOURCE_DATE_EPOCH")?,
    };
    text.trim()
        .parse()
        .with_context(|| format!("{text:?} is not a number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreleased_version_has_the_time_of_the_commit() {
        let changes = Changes::parse("## Unreleased\n").unwrap();
        let release = Release::new(changes, 1_796_040_543).unwrap();
        assert_eq!(
            release.version,
            concat!(env!("CARGO_PKG_VERSION"), "~20261130.120903")
        );
    }

    #[test]
    fn released_version_must_be_the_one_of_the_workspace() {
        let of = |version: &str| {
            let text = format!("## {version} (2026-12-01)\n\n### Added\n\n- One.\n");
            Release::new(Changes::parse(&text).unwrap(), 0)
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(of(version).unwrap().version, version);
        assert!(of("0.0.1").is_err());
    }
}
