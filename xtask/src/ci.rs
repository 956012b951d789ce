//! `cargo xtask ci`: what continuous integration checks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell::{self, Workspace, say};
use crate::{book, deps, fuzz, install, sizes, tools, uses, weakened, words};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Also ask the database of advisories, which is a git repository on the network
    #[arg(long)]
    advisories: bool,
    /// Also fuzz, each target for so long
    #[arg(long, value_name = "SECONDS")]
    fuzz: Option<u32>,
}

/// A check and its name.
type Step = (&'static str, fn(&Workspace, &Arguments) -> Result<()>);

/// The quick ones first.
const STEPS: &[Step] = &[
    ("format", format),
    ("spelling", spelling),
    ("words", |workspace, _| words::check(workspace)),
    ("pages", |workspace, _| book::check(workspace)),
    (
        "dependencies",
        |_, _| deps::run(&deps::Arguments::default()),
    ),
    ("sizes", |workspace, _| sizes::run(workspace)),
    ("licences", licences),
    ("build", build),
    ("clippy", clippy),
    ("tests", tests),
    ("uses", |workspace, _| uses::compare(workspace)),
    ("weak engines", |workspace, _| weakened::test(workspace)),
    ("doc tests", doc_tests),
    ("documentation", documentation),
    ("installation", |workspace, _| install::rehearse(workspace)),
    ("fuzzing", fuzzing),
];

/// Runs every step, also after one that failed: all that is wrong in one go.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        say(&format!("== {name}"));
        let start = Instant::now();
        let result = step(&workspace, arguments);
        if let Err(error) = &result {
            say(&format!("{name}: {error:#}"));
            failed.push(*name);
        }
        lines.push(line(name, start.elapsed(), result.is_ok()));
    }
    say("== ci");
    lines.iter().for_each(|line| say(line));
    match failed.as_slice() {
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

fn line(name: &str, time: Duration, passed: bool) -> String {
    let result = if passed { "ok" } else { "FAILED" };
    format!("   {name:<14} {:>7.1} s  {result}", time.as_secs_f64())
}

fn format(workspace: &Workspace, _: &Arguments) -> Result<()> {
    shell::run(workspace.cargo().args(["fmt", "--all", "--check"]))?;
    let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    shell::run(workspace.cargo().args(fuzz))
}

/// By Debian's codespell, with what `.codespellrc` says.
fn spelling(workspace: &Workspace, _: &Arguments) -> Result<()> {
    shell::run(std::process::Command::new("codespell").current_dir(&workspace.root))
}

fn licences(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let deny = tools::DENY.ensure(workspace)?;
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        // The check itself keeps off the network, and a new machine has nothing yet.
        let fetch = ["fetch", "--locked", "--quiet", "--manifest-path", manifest];
        shell::run(workspace.cargo().args(fetch))?;
        let mut command = std::process::Command::new(&deny);
        command
            .current_dir(&workspace.root)
            .args(["--manifest-path", manifest, "--locked"]);
        let checks = ["bans", "licenses", "sources"];
        if arguments.advisories {
            command.arg("check").args(checks).arg("advisories");
        } else {
            command.args(["--offline", "check"]).args(checks);
        }
        command.arg("--hide-inclusion-graph");
        shell::run(&mut command)?;
    }
    Ok(())
}

/// Programs and libraries that tests start or load, and the tests.
fn build(workspace: &Workspace, _: &Arguments) -> Result<()> {
    workspace.build_tests()
}

fn clippy(workspace: &Workspace, _: &Arguments) -> Result<()> {
    let deny = ["--locked", "--", "--deny", "warnings"];
    let all = ["clippy", "--workspace", "--all-targets"];
    shell::run(workspace.cargo().args(all).args(deny))?;
    // The fuzzing programs are a line each; what they call is a library.
    let mut fuzz = workspace.cargo();
    fuzz.args(["clippy", "--manifest-path", "fuzz/Cargo.toml", "--lib"])
        .arg("--target-dir")
        .arg(&workspace.target);
    shell::run(fuzz.args(deny))
}

/// Ignored tests are run too: a skipped test is a failed one. There is one test more than processors at a time, as many
/// wait for programs and disks.
fn tests(workspace: &Workspace, _: &Arguments) -> Result<()> {
    uses::forget(workspace)?;
    let nextest = tools::NEXTEST.ensure(workspace)?;
    let threads = std::thread::available_parallelism()?.get() + 1;
    let mut command = std::process::Command::new(nextest);
    command
        .current_dir(&workspace.root)
        .args(["nextest", "run", "--workspace", "--locked"])
        .args(["--test-threads", &threads.to_string()])
        .args(["--run-ignored", "all", "--no-fail-fast"]);
    shell::run(&mut command).context("see the tests that failed above")
}

fn doc_tests(workspace: &Workspace, _: &Arguments) -> Result<()> {
    shell::run(
        workspace
            .cargo()
            .args(["test", "--workspace", "--locked", "--doc", "--quiet"]),
    )
}

fn documentation(workspace: &Workspace, _: &Arguments) -> Result<()> {
    shell::run(
        workspace
            .cargo()
            .args(["doc", "--workspace", "--locked", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}

fn fuzzing(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    match arguments.fuzz {
        Some(seconds) => fuzz::all(workspace, seconds),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_with_its_time_and_result() {
        let time = Duration::from_millis(12_340);
        assert_eq!(
            line("clippy", time, true),
            "   clippy            12.3 s  ok"
        );
        assert_eq!(
            line("tests", time, false),
            "   tests             12.3 s  FAILED"
        );
    }
}
