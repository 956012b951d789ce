//! The module in a program that changes its own process under it (`programs/pkcs11-process.c`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cardea_testkit::process;
use cardea_testkit::rig::{PIN, bin_dir};
use cardea_testkit::workplace::Workplace;

fn compiled(folder: &Path) -> PathBuf {
    let program = folder.join("pkcs11-process");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/pkcs11-process.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg(source)
        .arg("-ldl");
    let outcome = process::run(&mut compiler);
    assert!(outcome.success, "{}", outcome.text);
    program
}

fn module() -> PathBuf {
    bin_dir().join("libcardea_pkcs11.so")
}

#[test]
fn pin_does_not_reach_a_descriptor_that_the_program_has_used_again() {
    let workplace = Workplace::with_keys();
    let program = compiled(&workplace.path(""));
    let mut command = Command::new(program);
    command
        .arg(module())
        .args([PIN, "descriptors"])
        .env("CARDEA_SOCKET", workplace.daemon.socket());
    let outcome = process::run(&mut command);
    assert!(outcome.success, "{}", outcome.text);
    assert!(outcome.text.contains("login 0x0"), "{}", outcome.text);
}

#[test]
fn child_with_the_process_id_of_its_parent_does_not_have_its_login() {
    let workplace = Workplace::with_keys();
    let program = compiled(&workplace.path(""));
    // The first process of a namespace, and of one within it.
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child"])
        .arg(program)
        .arg(module())
        .args([PIN, "namespace"])
        .env("CARDEA_SOCKET", workplace.daemon.socket());
    let outcome = process::run(&mut command);
    assert!(outcome.success, "{}", outcome.text);
    // CKR_CRYPTOKI_NOT_INITIALIZED: a child begins anew.
    for line in ["login 0x0", "same 1", "child 0x190", "parent 0x0"] {
        assert!(outcome.text.contains(line), "{line}: {}", outcome.text);
    }
}

#[test]
fn setuid_program_does_not_ask_the_daemon_that_its_caller_names() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(folder.path(), 0o755);
    let program = compiled(folder.path());
    chown(&program, Some(0), Some(0)).unwrap();
    open(&program, 0o4755);
    let copy = folder.path().join("libcardea_pkcs11.so");
    fs::copy(module(), &copy).unwrap();
    open(&copy, 0o755);
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    open(&socket, 0o777);
    let run = |uid: u32| {
        let mut command = Command::new(&program);
        command
            .arg(&copy)
            .args([PIN, "slots"])
            .env("CARDEA_SOCKET", &socket)
            .uid(uid)
            .gid(uid);
        process::run(&mut command)
    };
    let nobody = run(65_534);
    assert!(nobody.text.contains("as 0: "), "{}", nobody.text);
    assert!(listener.accept().is_err(), "it was asked");
    // The same program without rights of others asks: the test would notice.
    let root = run(0);
    assert!(root.success, "{}", root.text);
    assert!(listener.accept().is_ok(), "it was not asked");
}
