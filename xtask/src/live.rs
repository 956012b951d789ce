//! `cargo xtask live`: the packages on running Debian systems, and the table of `docs/installation.md`.
//!
//! The tests (`crates/cardea-testkit/tests/e2e/live.rs`) leave in the build folder what they have shown: a line with the
//! system and its versions, then one for each step.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell::{self, Workspace, say};
use crate::tools;

const PAGE: &str = "docs/installation.md";

/// Above the rows that this task writes.
const HEAD: &str = "| step | Debian 12 | Debian 13 |\n|---|---|---|\n";

/// The row with the versions, which differ from one machine to the next.
const SYSTEM: &str = "| system |";

/// Releases of Debian.
const SYSTEMS: [&str; 2] = ["12", "13"];

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write the table into the page
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let shown = workspace.target.join("debug/live");
    if shown.exists() {
        fs::remove_dir_all(&shown).with_context(|| shown.display().to_string())?;
    }
    workspace.build_tests()?;
    // Both would begin with it.
    tools::NEXTEST.ensure(&workspace)?;
    std::thread::scope(|scope| {
        let tests = SYSTEMS.map(|system| scope.spawn(|| test(&workspace, system)));
        let ended = tests.map(|test| {
            test.join()
                .unwrap_or_else(|_| bail!("a thread has panicked"))
        });
        ended.into_iter().collect::<Result<()>>()
    })?;
    let rows = rows(&read(&shown)?);
    rows.lines().for_each(say);
    let path = workspace.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let written = with_rows(&page, &rows)?;
    if arguments.record {
        fs::write(&path, written).with_context(|| path.display().to_string())?;
    } else if without_versions(&page) != without_versions(&written) {
        bail!("{PAGE} is not what the tests have shown; --record writes it");
    }
    Ok(())
}

fn test(workspace: &Workspace, system: &str) -> Result<()> {
    let nextest = tools::NEXTEST.ensure(workspace)?;
    let mut command = std::process::Command::new(nextest);
    command
        .current_dir(&workspace.root)
        // As the test reads it.
        .env("CARDEA_LIVE", system)
        .args(["nextest", "run", "--locked", "--workspace"])
        .args(["--success-output", "immediate"])
        .args(["--filterset", "binary(=e2e) and test(/^live::/)"]);
    shell::run(&mut command).context("see the step that failed above")
}

/// What was shown on a system.
#[derive(Default)]
struct Shown {
    system: String,
    steps: Vec<String>,
}

fn read(folder: &Path) -> Result<Vec<Shown>> {
    SYSTEMS
        .iter()
        .map(|name| {
            let path = folder.join(format!("debian-{name}"));
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Ok(Shown::parse(&text))
        })
        .collect()
}

impl Shown {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines().map(str::to_owned);
        Self {
            system: lines.next().unwrap_or_default(),
            steps: lines.collect(),
        }
    }
}

/// A row for the systems, and one for each step of any of them.
fn rows(shown: &[Shown]) -> String {
    let mut steps: Vec<&String> = Vec::new();
    for step in shown.iter().flat_map(|system| &system.steps) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    let mut rows = SYSTEM.to_owned();
    for system in shown {
        rows = rows + " " + &system.system + " |";
    }
    rows.push('\n');
    for step in steps {
        rows = rows + "| " + step + " |";
        for system in shown {
            let has = system.steps.contains(step);
            rows += if has { " passed |" } else { " not tested |" };
        }
        rows.push('\n');
    }
    rows
}

fn without_versions(page: &str) -> String {
    let lines = page.split_inclusive('\n');
    lines.filter(|line| !line.starts_with(SYSTEM)).collect()
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
    fn a_step_has_what_each_system_has_shown() {
        let shown = ["Debian 12, one\na\nb\nc\n", "Debian 13, two\na\nc\n"].map(Shown::parse);
        assert_eq!(
            rows(&shown),
            "| system | Debian 12, one | Debian 13, two |\n\
             | a | passed | passed |\n| b | passed | not tested |\n| c | passed | passed |\n"
        );
    }

    #[test]
    fn rows_take_the_place_of_former_ones_and_versions_are_not_compared() {
        let page =
            format!("text\n\n{HEAD}| system | old | older |\n| a | passed | passed |\n\nmore\n");
        let written =
            with_rows(&page, "| system | new | newer |\n| a | passed | passed |\n").unwrap();
        assert!(written.contains("| newer |\n| a ") && written.ends_with("|\n\nmore\n"));
        assert_eq!(without_versions(&page), without_versions(&written));
        let fewer = with_rows(&page, "| system | new | newer |\n").unwrap();
        assert_ne!(without_versions(&page), without_versions(&fewer));
    }

    #[test]
    fn page_has_the_table() {
        let workspace = Workspace::locate().unwrap();
        let page = fs::read_to_string(workspace.root.join(PAGE)).unwrap();
        assert!(page.contains(HEAD) && page.contains(SYSTEM));
    }
}
