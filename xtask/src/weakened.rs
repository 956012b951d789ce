//! Engines that are weak on purpose: the attack tests must succeed against them, and nothing of them may come
//! into what people install.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{self, Workspace, say};
use crate::tools;

/// The feature that brings the weaknesses in.
const FEATURE: &str = "weakened";

/// What programs with weaknesses have in them (`cardea_card::weakened::MARKER`).
const MARKER: &str = "cardea: weakened on purpose, never release this";

/// The attack tests in a build of their own.
pub(crate) fn test(workspace: &Workspace) -> Result<()> {
    let deny = ["--locked", "--", "--deny", "warnings"];
    let build = ["--workspace", "--features", FEATURE];
    let attacks = ["--test", "attacks"];
    shell::run(
        workspace
            .cargo()
            .arg("clippy")
            .args(build)
            .args(attacks)
            .args(deny),
    )?;
    let nextest = tools::NEXTEST.ensure(workspace)?;
    let mut command = Command::new(nextest);
    command
        .current_dir(&workspace.root)
        .args(["nextest", "run", "--locked", "--no-fail-fast"])
        .args(build)
        .args(attacks);
    shell::run(&mut command).context("an attack came to nothing against an engine that is weak")?;
    refused_in_release(workspace)
}

/// A release build with weaknesses does not compile.
fn refused_in_release(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command
        .args(["check", "--release", "--locked", "--package", "cardea-card"])
        .args(["--features", FEATURE]);
    let built = command.output().context("cargo check")?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(
        !built.status.success() && said.contains("never released"),
        "a release build with weaknesses is not refused as such:\n{said}"
    );
    Ok(())
}

/// No product is built with the feature.
pub(crate) fn products_are_without(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    for package in packages {
        let mut command = workspace.cargo();
        command
            .args(["tree", "--locked", "--package", package])
            .args(["--edges", "normal,build,features", "--prefix", "none"]);
        let tree = shell::output(&mut command)?;
        ensure!(
            tree.contains("cardea-"),
            "cargo's tree is not as expected: {tree}"
        );
        if tree.contains(&format!("feature \"{FEATURE}\"")) {
            bail!("{package} is built with the feature {FEATURE}");
        }
    }
    say(&format!("deps: no product has the feature {FEATURE}"));
    Ok(())
}

/// A file that was built has no mark of weaknesses.
pub(crate) fn is_without(file: &Path) -> Result<()> {
    let content = fs::read(file).with_context(|| file.display().to_string())?;
    ensure!(!marked(&content), "{} is weak on purpose", file.display());
    Ok(())
}

fn marked(content: &[u8]) -> bool {
    content
        .windows(MARKER.len())
        .any(|window| window == MARKER.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_is_found_wherever_it_is() {
        assert!(marked(format!("\0{MARKER}\0").as_bytes()));
        assert!(!marked(&MARKER.as_bytes()[1..]));
        // It is in this program.
        assert!(is_without(&std::env::current_exe().unwrap()).is_err());
    }
}
