//! The library under test, and the C programs that use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// The library, built from what is there now: cargo does not build a C library for the tests of its crate.
pub(crate) fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        // By itself, or without something that is a test's, it would get other features of its dependencies, and build
        // them all again.
        .args(["build", "--quiet", "--workspace"])
        .args(["--lib", "--bins", "--examples"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    assert!(command.status().unwrap().success());
    // The tests are in `deps` of the same folder.
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let library = folder.join("libifdcardea.so");
    assert!(library.exists(), "{}", library.display());
    library
}

/// Compiles one of the C programs, once.
pub(crate) fn program(name: &'static str) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
    let _one_at_a_time = LOCK.lock().unwrap_or_else(|error| error.into_inner());
    let program = folder.path().join(name);
    if !program.exists() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(format!("{name}.c"));
        let status = Command::new("cc")
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g"])
            .args(["-pthread", "-I/usr/include/PCSC", "-o"])
            .arg(&program)
            .arg(source)
            .args(["-ldl", "-lpcsclite"])
            .status()
            .unwrap();
        assert!(status.success(), "{name}.c (needs gcc and libpcsclite-dev)");
    }
    program
}

#[test]
fn library_exports_the_entry_points_and_nothing_else() {
    let output = Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(library())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "IFDHCloseChannel",
            "IFDHControl",
            "IFDHCreateChannel",
            "IFDHCreateChannelByName",
            "IFDHGetCapabilities",
            "IFDHICCPresence",
            "IFDHPowerICC",
            "IFDHSetCapabilities",
            "IFDHSetProtocolParameters",
            "IFDHTransmitToICC",
        ]
    );
}
