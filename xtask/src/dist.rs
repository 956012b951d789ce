//! `cargo xtask dist`: packages for Debian and for RPM systems, the source archive, the list of components.
//!
//! What goes into which package is in the table of [`crate::install::items`]; fields and scripts are in
//! `packaging/debian` and `packaging/rpm`. The same commit gives the same bytes.

mod build;
mod changes;
mod clock;
mod components;
mod debian;
mod documents;
mod release;
mod rpm;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::release::Release;
use crate::install;
use crate::install::items::{self, Item, Layout};
use crate::shell::{self, Workspace, say};
use crate::tools;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the packages go, emptied before [default: dist in the target folder]
    #[arg(long, value_name = "DIR", value_parser = install::absolute)]
    out: Option<PathBuf>,
    /// Folder with the built programs; without it they are built for release, with the list of their crates inside
    #[arg(long, value_name = "DIR", value_parser = install::absolute)]
    built: Option<PathBuf>,
    /// Build the last commit in two folders and compare what comes out
    #[arg(long, conflicts_with = "built")]
    twice: bool,
    /// Only the Debian packages, compressed quickly, for trials
    #[arg(long)]
    trial: bool,
}

/// Folder of what is packed, gone when everything is.
const WORK: &str = "work";

/// How much time compression takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    Best,
    Least,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let release = Release::read(&workspace)?;
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| workspace.target.join("dist"));
    if arguments.twice {
        rpm::can_work_in(&workspace.target)?;
        return twice(&workspace, &release, &out);
    }
    if !arguments.trial {
        rpm::can_work_in(&out)?;
    }
    empty(&out)?;
    let programs = match &arguments.built {
        Some(folder) => folder.clone(),
        None => build::release(&workspace, &tools::AUDITABLE.ensure(&workspace)?)?,
    };
    let effort = if arguments.trial {
        Effort::Least
    } else {
        Effort::Best
    };
    pack(&workspace, &release, &programs, &out, effort)?;
    say(&format!(
        "packages of {} in {}",
        release.version,
        out.display()
    ));
    Ok(())
}

/// Everything but the build.
fn pack(
    workspace: &Workspace,
    release: &Release,
    programs: &Path,
    out: &Path,
    effort: Effort,
) -> Result<()> {
    // Not in the target folder: others pack at the same time.
    let work = out.join(WORK);
    fs::create_dir(&work).with_context(|| work.display().to_string())?;
    debian::pack(
        &Contents::read(workspace, programs, Layout::debian())?,
        release,
        &work.join("debian"),
        out,
        effort,
    )?;
    if effort == Effort::Best {
        rpm::pack(
            &Contents::read(workspace, programs, Layout::rpm())?,
            release,
            &work.join("rpm"),
            out,
        )?;
        source(workspace, release, out)?;
        components::write(workspace, release, out)?;
    }
    fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    sums(out)
}

/// What is packed.
struct Contents {
    root: PathBuf,
    items: Vec<Item>,
}

impl Contents {
    fn read(workspace: &Workspace, programs: &Path, layout: Layout) -> Result<Self> {
        let texts = install::texts(&programs.join("cardea"), &layout)?;
        Ok(Self {
            root: workspace.root.clone(),
            items: items::items(&workspace.root, programs, &layout, texts),
        })
    }
}

/// The sources of the last commit.
fn source(workspace: &Workspace, release: &Release, out: &Path) -> Result<()> {
    let name = format!("cardea-{}", release.version);
    let archive = out.join(format!("{name}.tar"));
    shell::run(
        Command::new("git")
            .current_dir(&workspace.root)
            .args(["archive", "--format=tar"])
            .arg(format!("--prefix={name}/"))
            .arg("--output")
            .arg(&archive)
            .arg("HEAD"),
    )?;
    // Several threads would cut the stream into blocks, by the number of processors.
    shell::run(Command::new("xz").args(["-9", "--threads=1"]).arg(&archive))
}

/// `SHA256SUMS`, in the form that `sha256sum --check` reads.
fn sums(out: &Path) -> Result<()> {
    let mut names = names(out)?;
    names.sort();
    let sums = shell::output(Command::new("sha256sum").current_dir(out).args(&names))?;
    fs::write(out.join("SHA256SUMS"), sums).context("SHA256SUMS")
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// An empty folder. One with something that no packages are is not emptied.
fn empty(folder: &Path) -> Result<()> {
    let ours = folder.join("SHA256SUMS").exists() || folder.join(WORK).exists();
    let free = !folder.exists() || names(folder)?.is_empty();
    ensure!(
        ours || free,
        "{} has other files in it: choose an empty folder",
        folder.display()
    );
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

/// The last commit, built in two folders whose names and lengths differ.
fn twice(workspace: &Workspace, release: &Release, out: &Path) -> Result<()> {
    let place = workspace.target.join("dist-twice");
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
    }
    let auditable = tools::AUDITABLE.ensure(workspace)?;
    let mut sums = Vec::new();
    for name in ["one", "another-folder"] {
        let root = place.join(name);
        shell::run(
            Command::new("git")
                .args(["clone", "--quiet", "--shared", "--no-checkout"])
                .arg(&workspace.root)
                .arg(&root),
        )?;
        let commit = shell::output(
            Command::new("git")
                .current_dir(&workspace.root)
                .args(["rev-parse", "HEAD"]),
        )?;
        shell::run(Command::new("git").current_dir(&root).args([
            "checkout",
            "--quiet",
            "--detach",
            commit.trim(),
        ]))?;
        let copy = Workspace {
            target: root.join("target"),
            root: root.clone(),
        };
        let packages = root.join("packages");
        fs::create_dir(&packages)?;
        let programs = build::release(&copy, &auditable)?;
        pack(&copy, release, &programs, &packages, Effort::Best)?;
        sums.push(fs::read_to_string(packages.join("SHA256SUMS"))?);
    }
    let different = differences(&sums);
    ensure!(
        different.is_empty(),
        "two builds of the same commit differ: {}",
        different.join(", ")
    );
    empty(out)?;
    shell::run(
        Command::new("cp")
            .arg("-r")
            .arg(place.join("one/packages/."))
            .arg(out),
    )?;
    say(&format!(
        "two builds of {} have the same {} files, in {}",
        release.version,
        names(out)?.len(),
        out.display()
    ));
    Ok(())
}

/// Names of the files whose sums are not the same in all lists.
fn differences(sums: &[String]) -> Vec<String> {
    let mut names: Vec<String> = sums
        .iter()
        .flat_map(|list| list.lines())
        .filter(|line| {
            sums.iter()
                .any(|list| !list.lines().any(|other| other == *line))
        })
        .filter_map(|line| Some(line.split_once("  ")?.1.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
