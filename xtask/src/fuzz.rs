//! `cargo xtask fuzz`: coverage-guided fuzzing with libFuzzer on the stable toolchain.
//!
//! libFuzzer comes with the crate `libfuzzer-sys`, pinned by `fuzz/Cargo.lock`, and is built with the targets.
//! The coverage it lives on comes from LLVM's sanitizer-coverage pass, which needs no sanitizer and so no
//! nightly compiler.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{self, Workspace, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Target: the name of a file in fuzz/targets [default: all]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

/// Edge coverage with counters and traced comparisons, for all crates: what libFuzzer asks for.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Fewer covered edges mean that the instrumentation did not work.
const LEAST_COVERAGE: u64 = 100;

/// Most seconds that one input may take.
const TIMEOUT: u32 = 20;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.seconds > 0, "--seconds must be at least 1");
    go(&Workspace::locate()?, arguments)
}

/// All targets, each for so long.
pub(crate) fn all(workspace: &Workspace, seconds: u32) -> Result<()> {
    let target = None;
    go(workspace, &Arguments { target, seconds })
}

fn go(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let fuzz = workspace.root.join("fuzz");
    let mut targets = targets(&fuzz)?;
    if let Some(wanted) = &arguments.target {
        ensure!(
            targets.contains(wanted),
            "no target {wanted}; there are {}",
            targets.join(", ")
        );
        targets.retain(|target| target == wanted);
    }
    let programs = build(workspace)?;
    let runs: Vec<Run> = targets
        .into_iter()
        .map(|target| Run {
            program: programs.join(&target),
            log: programs.join(format!("{target}.log")),
            fuzz: fuzz.clone(),
            seconds: arguments.seconds,
            target,
        })
        .collect();
    let failed = run_all(runs);
    match failed.as_slice() {
        [] => Ok(()),
        failed => bail!("failed: {}", failed.join(", ")),
    }
}

/// The names of the files in `fuzz/targets`.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let folder = fuzz.join("targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(name) = stem.filter(|_| path.extension().is_some_and(|end| end == "rs")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds all targets; gives the folder of the programs.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let host = host()?;
    shell::run(&mut builder(workspace, workspace.cargo(), &host)).context(
        "if fuzz/Cargo.lock is behind: cargo update --manifest-path fuzz/Cargo.toml --workspace",
    )?;
    Ok(target_dir(workspace).join(host).join("release"))
}

fn builder(workspace: &Workspace, mut cargo: Command, host: &str) -> Command {
    cargo
        .args(["build", "--manifest-path", "fuzz/Cargo.toml", "--locked"])
        .args(["--release", "--features", "libfuzzer", "--bins", "--quiet"])
        // With a target named, build scripts and macros are built without the flags.
        .args(["--target", host])
        .arg("--target-dir")
        .arg(target_dir(workspace))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", FLAGS.join(" "));
    cargo
}

fn target_dir(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    shell::output(Command::new(rustc).arg("-vV"))?
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .context("rustc does not tell its host")
}

/// Runs one more at the same time than there are processors, so that none is left alone at the end; gives the names of
/// those that failed.
fn run_all(runs: Vec<Run>) -> Vec<String> {
    let workers = thread::available_parallelism().map_or(1, usize::from) + 1;
    let queue = Mutex::new(VecDeque::from(runs));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(run) = next else { return };
                    match run.go() {
                        Ok(summary) => say(&format!("fuzz: {}: {summary}", run.target)),
                        Err(error) => {
                            say(&format!("fuzz: {}: {error:#}", run.target));
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.push(run.target);
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// One target's run.
struct Run {
    target: String,
    program: PathBuf,
    log: PathBuf,
    fuzz: PathBuf,
    seconds: u32,
}

impl Run {
    fn go(&self) -> Result<Summary> {
        let corpus = self.folder("corpus")?;
        let regressions = self.folder("regressions")?;
        let artifacts = self.folder("artifacts")?;
        let seeds = self.program.with_extension("seeds");
        // The program writes it together with the seeds.
        let dictionary = seeds.with_extension("dict");
        self.seed(&seeds)?;
        say(&format!(
            "fuzz: {}: {} s, log in {}",
            self.target,
            self.seconds,
            self.log.display()
        ));
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let status = Command::new(&self.program)
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-timeout={TIMEOUT}"))
            .args(["-rss_limit_mb=2048", "-print_final_stats=1"])
            .args(["-use_value_profile=1"])
            .arg(format!("-dict={}", dictionary.display()))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args([&corpus, &seeds, &regressions])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let text = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&text);
        let found = keep(&artifacts, &regressions)?;
        if !status.success() || !found.is_empty() {
            let found: Vec<_> = found
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            bail!(
                "{status}; found: [{}]; the end of the log:\n{}",
                found.join(", "),
                tail(&text, 40)
            );
        }
        let summary = Summary::read(&text).context("the log has no summary")?;
        ensure!(
            summary.covered >= LEAST_COVERAGE,
            "only {} edges covered: the programs are not instrumented",
            summary.covered
        );
        Ok(summary)
    }

    /// Has the program write its seeds and dictionary.
    fn seed(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let output = Command::new(&self.program)
            .arg("-runs=0")
            .env("CARDEA_FUZZ_SEEDS", folder)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        ensure!(
            output.status.success() && folder.is_dir(),
            "no seeds: {}",
            tail(&String::from_utf8_lossy(&output.stderr), 20)
        );
        Ok(())
    }

    fn folder(&self, kind: &str) -> Result<PathBuf> {
        let folder = self.fuzz.join(kind).join(&self.target);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }
}

/// Moves what made the program fail to the regression files. Merely slow inputs are not among it.
fn keep(artifacts: &Path, regressions: &Path) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(artifacts)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with("slow-unit-") {
            continue;
        }
        let to = regressions.join(name);
        fs::copy(&path, &to).with_context(|| to.display().to_string())?;
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
        kept.push(to);
    }
    kept.sort();
    Ok(kept)
}

/// What libFuzzer says at the end.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    executed: u64,
    covered: u64,
    corpus: u64,
}

impl Summary {
    fn read(log: &str) -> Option<Self> {
        let number = |text: &str| -> Option<u64> {
            let digits = text.trim_start();
            let end = digits
                .find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(digits.len());
            digits.get(..end)?.parse().ok()
        };
        let last = |key: &str| log.rsplit_once(key).and_then(|(_, rest)| number(rest));
        Some(Self {
            executed: last("stat::number_of_executed_units:")?,
            covered: last(" cov: ")?,
            corpus: last(" corp: ")?,
        })
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no finding in {} inputs; {} edges covered by a corpus of {}",
            self.executed, self.covered, self.corpus
        )
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let first = all.len().saturating_sub(lines);
    all.get(first..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
INFO: Seed: 1\n\
#8\tINITED cov: 120 ft: 130 corp: 3/20b exec/s: 0 rss: 30Mb\n\
#900\tNEW    cov: 341 ft: 905 corp: 77/1200b lim: 64 exec/s: 90 rss: 40Mb L: 1/2 MS: 1 Cross-\n\
Done 1000 runs in 10 second(s)\n\
stat::number_of_executed_units: 1000\n\
stat::average_exec_per_sec:     100\n";

    #[test]
    fn summary_is_what_the_log_says_last() {
        assert_eq!(
            Summary::read(LOG),
            Some(Summary {
                executed: 1000,
                covered: 341,
                corpus: 77
            })
        );
        assert_eq!(Summary::read("nothing"), None);
    }

    #[test]
    fn findings_become_regression_files_and_slow_inputs_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let (artifacts, regressions) = (folder.path().join("a"), folder.path().join("r"));
        for path in [&artifacts, &regressions] {
            fs::create_dir(path).unwrap();
        }
        for name in ["crash-1", "timeout-2", "slow-unit-3"] {
            fs::write(artifacts.join(name), name).unwrap();
        }
        let kept = keep(&artifacts, &regressions).unwrap();
        assert_eq!(
            kept,
            [regressions.join("crash-1"), regressions.join("timeout-2")]
        );
        assert_eq!(fs::read(regressions.join("crash-1")).unwrap(), b"crash-1");
        assert!(!artifacts.join("crash-1").exists());
        assert!(artifacts.join("slow-unit-3").exists());
    }

    #[test]
    fn run_that_finds_something_or_covers_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let program = folder.path().join(name);
            let text = format!(
                "#!/bin/sh\nif [ -n \"$CARDEA_FUZZ_SEEDS\" ]; then mkdir -p \"$CARDEA_FUZZ_SEEDS\"; exit; fi\n{text}\n"
            );
            // Another process writes it: a file that is open for writing in a process that forks at the same
            // time cannot be executed.
            let write = Command::new("sh")
                .args([
                    "-c",
                    "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"",
                    "sh",
                    &text,
                ])
                .arg(&program)
                .status();
            assert!(write.unwrap().success());
            Run {
                target: name.to_owned(),
                log: program.with_extension("log"),
                program,
                fuzz: folder.path().join("fuzz"),
                seconds: 1,
            }
        };
        let log = |covered| {
            format!(
                "echo ' cov: {covered} ft: 1 corp: 2/3b'; echo stat::number_of_executed_units: 5"
            )
        };
        let fine = script("fine", &log(500)).go().unwrap();
        assert_eq!(fine.covered, 500);
        let blind = script("blind", &log(3)).go().unwrap_err();
        assert!(blind.to_string().contains("not instrumented"), "{blind}");
        let crash = script(
            "crash",
            "for a in \"$@\"; do case $a in -artifact_prefix=*) echo x > ${a#*=}crash-9;; esac; done; exit 77",
        )
        .go()
        .unwrap_err();
        let kept = folder.path().join("fuzz/regressions/crash/crash-9");
        assert!(
            crash.to_string().contains(&kept.display().to_string()),
            "{crash}"
        );
        assert!(kept.is_file());
    }

    #[test]
    fn every_target_has_a_program() {
        let workspace = Workspace::locate().unwrap();
        let names = targets(&workspace.root.join("fuzz")).unwrap();
        assert_eq!(
            names,
            [
                "apdu",
                "apdu_parse",
                "card_file",
                "dcom_activation",
                "dcom_message",
                "dcom_reference",
                "enrolment",
                "evidence",
                "exchange",
                "kerberos",
                "ntlm",
                "rpc_packet",
                "secret_files",
                "socket_message",
                "spnego",
                "tlv"
            ]
        );
    }
}
