//! `cargo xtask uses`: the table in `docs/uses/README.md` against what the tests have shown.
//!
//! A test that has shown a use leaves its row in the build folder; a row of the table that no test has shown is as
//! wrong as one that is missing. Versions may differ: the table has those of the machine that wrote it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::shell::{Workspace, say};

const TABLE: &str = "docs/uses/README.md";

/// What stands above the rows.
const HEAD: &str = "| Use | Program | Interface | Keys | Result |\n|---|---|---|---|---|\n";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write the rows that the tests have shown into the table
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    if arguments.record {
        return record(&workspace);
    }
    compare(&workspace)
}

/// Before the tests: what earlier ones have shown does not count.
pub(crate) fn forget(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Whether the tests have shown just what the table says.
pub(crate) fn compare(workspace: &Workspace) -> Result<()> {
    let shown = shown(&folder(workspace))?;
    let text = fs::read_to_string(workspace.root.join(TABLE))?;
    let mut missing: Vec<&String> = shown.keys().collect();
    let mut wrong = Vec::new();
    for row in rows(&text) {
        match missing.iter().position(|template| fits(row, template)) {
            Some(at) => drop(missing.remove(at)),
            None => wrong.push(row),
        }
    }
    for row in &wrong {
        say(&format!("   no test has shown: {row}"));
    }
    for row in &missing {
        say(&format!("   not in the table: {row}"));
    }
    ensure!(
        wrong.is_empty() && missing.is_empty(),
        "{TABLE} is not what the tests show; `cargo xtask uses --record` writes it after a whole run"
    );
    say(&format!("   {} uses", shown.len()));
    Ok(())
}

fn record(workspace: &Workspace) -> Result<()> {
    let path = workspace.root.join(TABLE);
    let text = fs::read_to_string(&path)?;
    let Some((before, rest)) = text.split_once(HEAD) else {
        bail!("{TABLE} has no table");
    };
    let after = rest
        .split_inclusive('\n')
        .skip_while(|line| line.starts_with("| "));
    let shown = shown(&folder(workspace))?;
    let rows = shown
        .iter()
        .map(|(row, version)| row.replace("{}", version) + "\n");
    let text = [before, HEAD].into_iter().map(str::to_owned);
    let text: String = text.chain(rows).chain(after.map(str::to_owned)).collect();
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("debug/uses")
}

/// Rows, with `{}` where the version stands, and their versions.
fn shown(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(folder).context("no test has shown a use")?;
    for entry in entries {
        let text = fs::read_to_string(entry?.path())?;
        let mut lines = text.lines();
        let (Some(row), Some(version)) = (lines.next(), lines.next()) else {
            bail!("a row without its version: {text}");
        };
        found.insert(row.to_owned(), version.to_owned());
    }
    Ok(found)
}

fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("| ["))
}

/// Whether a row is that one, with any version.
fn fits(row: &str, template: &str) -> bool {
    template.split_once("{}").is_some_and(|(before, after)| {
        let version = row
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after));
        version.is_some_and(|version| !version.is_empty() && !version.contains('|'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_differ_in_their_version_alone() {
        let template = "| [Login](ssh.md) | OpenSSH {} | PKCS#11 | P-256 | works |";
        assert!(fits(&template.replace("{}", "9.2p1"), template));
        assert!(!fits(&template.replace("{}", ""), template));
        assert!(!fits(&template.replace("P-256", "RSA-2048"), template));
        assert!(!fits(
            "| [Login](ssh.md) | OpenSSH 9 | x | PKCS#11 | P-256 | works |",
            template
        ));
    }
}
