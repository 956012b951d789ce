//! Where the workspace is, and how programs are run.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The folders of the workspace.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn locate() -> Result<Self> {
        let metadata = metadata(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let folder = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .map(PathBuf::from)
                .with_context(|| format!("no {key} in cargo's metadata"))
        };
        Ok(Self {
            root: folder("workspace_root")?,
            target: folder("target_directory")?,
        })
    }

    /// Builds the tests with the programs and libraries that they start or load. Built apart, both would take builds of
    /// their own of nearly everything, as tests enable further features of dependencies.
    pub(crate) fn build_tests(&self) -> Result<()> {
        let targets = ["--lib", "--bins", "--tests", "--examples"];
        let build = ["build", "--workspace", "--locked"];
        run(self.cargo().args(build).args(targets))
    }

    /// cargo, in the root of the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(
        std::env::var_os("CARGO")
            .as_deref()
            .unwrap_or(OsStr::new("cargo")),
    )
}

/// Runs `cargo metadata` and reads what it says.
pub(crate) fn metadata(command: &mut Command) -> Result<Value> {
    serde_json::from_str(&output(command)?).context("cargo's metadata is not JSON")
}

/// Shows a line to the person at the terminal.
pub(crate) fn say(line: &str) {
    // There is nobody left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Shows a command, runs it, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(&format!("   $ {}", shown(command)));
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command for what it writes on stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{}: not UTF-8", shown(command)))
}

/// A program on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_command_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh -c exit 3 failed: exit status: 3");
        assert!(output(Command::new("sh").args(["-c", "exit 3"])).is_err());
        assert!(run(&mut Command::new("/nonexistent/program")).is_err());
    }

    #[test]
    fn programs_are_found_on_the_search_path() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no such program"), None);
    }

    #[test]
    fn workspace_is_where_its_manifest_is() {
        let workspace = Workspace::locate().unwrap();
        assert!(workspace.root.join("xtask/Cargo.toml").is_file());
        assert!(workspace.target.is_absolute());
    }
}
