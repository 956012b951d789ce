//! `cargo xtask deps`: the direction of dependencies between the crates, and inside them.
//!
//! Products → Service → Platform → Core: never up, never sideways between products.
//! Inside a crate, its rooms have a direction, and no cycle of modules is larger than a parent with its children.
//! The rules are in [`rules`], known violations in [`known`]. The graph of the crates is cargo's, that of the modules
//! is read from the sources.

mod cycles;
mod graph;
mod inside;
mod known;
mod modules;
mod rules;
mod source;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::graph::Graph;
use self::known::{KNOWN, Known};
use crate::shell::{self, Workspace, say};
use crate::{install, weakened};

/// What to show.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Show every cycle of modules, known ones too
    #[arg(long)]
    cycles: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let graph = read(workspace.cargo().arg("--locked"))?;
    if arguments.cycles {
        say(inside::picture(&inside::read(&graph)?).trim_end());
        return Ok(());
    }
    let violations = violations(&graph, &workspace.root, &KNOWN)?;
    for violation in &violations {
        say(&format!("deps: {violation}"));
    }
    match violations.len() {
        0 => {
            let members = graph.values().filter(|package| package.member).count();
            say(&format!("deps: {members} crates, no violation"));
            weakened::products_are_without(&workspace, &install::PACKAGES)
        }
        count => bail!("{count} violations of the direction of dependencies"),
    }
}

/// Asks cargo for the graph; the command says where.
fn read(cargo: &mut Command) -> Result<Graph> {
    let metadata = shell::metadata(cargo.args(["metadata", "--format-version", "1"]))?;
    graph::graph(&metadata).context("cargo's metadata is not as expected")
}

/// The violations between the crates of a workspace and inside them.
fn violations(graph: &Graph, root: &Path, known: &Known) -> Result<Vec<String>> {
    let mut found = rules::violations(graph);
    found.extend(inside::violations(&inside::read(graph)?, root, known));
    Ok(found)
}
