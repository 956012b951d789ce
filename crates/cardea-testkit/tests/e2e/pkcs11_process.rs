//! The module in a program that changes its own process under it (`programs/pkcs11-process.c`), and both libraries in
//! one that runs with the rights of its file's owner.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cardea_testkit::played::create_arguments;
use cardea_testkit::process;
use cardea_testkit::rig::{PIN, bin_dir};
use cardea_testkit::workplace::Workplace;

fn compiled(folder: &Path) -> PathBuf {
    compiled_from(folder, "pkcs11-process")
}

fn compiled_from(folder: &Path, name: &str) -> PathBuf {
    let program = folder.join(name);
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs");
    let source = programs.join(format!("{name}.c"));
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
fn slot_keeps_its_number_over_a_fork_while_another_card_is_destroyed() {
    let workplace = Workplace::new();
    let program = compiled(&workplace.path(""));
    for card in ["Old", "Bob"] {
        workplace.create(card);
    }
    // Whoever has Carol's slot in place of Bob's sends her Bob's PIN.
    fs::write(workplace.path("pin"), "141421").unwrap();
    workplace.create("Carol");
    let destroy = format!(
        "{} card destroy Old --yes",
        bin_dir().join("cardea").display()
    );
    let mut command = Command::new(program);
    command
        .arg(module())
        .args([PIN, "keep", "Bob", "Old", &destroy])
        .env("CARDEA_SOCKET", workplace.daemon.socket());
    let outcome = process::run(&mut command);
    assert!(outcome.success, "{}", outcome.text);
    for process in ["child", "again"] {
        // CKR_TOKEN_NOT_PRESENT and CKR_SLOT_ID_INVALID.
        let line = format!("{process}: token Bob, open 0x0, login 0x0, other 0xE0, never 0x3\n");
        assert!(outcome.text.contains(&line), "{}", outcome.text);
    }
    let carol = workplace.cardea(&["card", "show", "Carol"]);
    assert!(carol.contains("5 of 5 tries left"), "{carol}");
}

/// The program keeps the handle of its key, as libp11, GnuTLS, Java and ssh-agent do.
#[test]
fn private_key_keeps_its_handle_when_the_login_ends() {
    let workplace = Workplace::new();
    let program = compiled(&workplace.path(""));
    workplace.create("Alice");
    workplace.generate("ec", "p-256");
    // Each change of the PIN, also to the same one, ends all logins.
    let pin = workplace.text("pin");
    let change = format!(
        "{} pin change Alice --pin-file {pin} --new-pin-file {pin} 2>/dev/null",
        bin_dir().join("cardea").display()
    );
    let mut command = Command::new(program);
    command
        .arg(module())
        .args([PIN, "ended", &change])
        .env("CARDEA_SOCKET", workplace.daemon.socket());
    let outcome = process::run(&mut command);
    assert!(outcome.success, "{}", outcome.text);
    let works = |when: &str| format!("{when}: sign 0x0, attribute 0x0, user 1\n").repeat(2);
    // CKR_USER_NOT_LOGGED_IN, however often.
    let ended = |when: &str| format!("{when}: sign 0x101, attribute 0x101, user 0\n").repeat(2);
    let login = "login 0x0\n";
    let expected = [
        &works("first"),
        &ended("ended"),
        login,
        &works("again"),
        "user 0\n",
        login,
        // CKR_USER_ALREADY_LOGGED_IN.
        "login 0x100\n",
        login,
        &works("again"),
        "logout 0x0\n",
        &ended("logged out"),
        login,
        &works("again"),
    ];
    assert_eq!(outcome.text, expected.concat());
}

/// What `cardea card show` prints is the number in every process of every user, whatever cards they see, also after
/// a restart, and fits the signed 32-bit integers of many programs.
#[test]
fn slot_has_the_number_that_the_command_line_shows_for_every_user() {
    let mut workplace = Workplace::new();
    let program = compiled(&workplace.path(""));
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(&workplace.path(""));
    open(&program);
    let copy = workplace.path("libcardea_pkcs11.so");
    fs::copy(module(), &copy).unwrap();
    for name in ["First", "Second"] {
        workplace.create(name);
    }
    let pin = workplace.text("pin");
    let create = ["card", "create", "--name", "Web", "--owner", "65534"];
    let rest = [&["--pin-file", &*pin][..], create_arguments()].concat();
    workplace.cardea(&[&create[..], &rest].concat());
    let shown = workplace.cardea(&["card", "show", "Web", "--json"]);
    let number = shown
        .lines()
        .find_map(|line| line.trim().strip_prefix("\"pkcs11_slot\": "))
        .unwrap()
        .trim_end_matches(',');
    let line = format!("Web is in slot {number}\n");
    assert!(number.parse::<i32>().unwrap() > 0);
    for restarted in [false, true] {
        for uid in [0, 65_534] {
            let mut command = Command::new(&program);
            command
                .arg(&copy)
                .args([PIN, "slots"])
                .env("CARDEA_SOCKET", workplace.daemon.socket())
                .uid(uid)
                .gid(uid);
            let outcome = process::run(&mut command);
            assert!(
                outcome.text.contains(&line),
                "{uid}, {restarted}: {} not in {}",
                line,
                outcome.text
            );
        }
        workplace.daemon.restart();
    }
}

/// Runs a setuid program of root's with one of our libraries, as somebody else and as root, who both name a socket and
/// a log of their own. Only root's are used.
fn ask_setuid_program(source: &str, library: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(folder.path(), 0o755);
    let program = compiled_from(folder.path(), source);
    chown(&program, Some(0), Some(0)).unwrap();
    open(&program, 0o4755);
    let copy = folder.path().join(library);
    fs::copy(bin_dir().join(library), &copy).unwrap();
    open(&copy, 0o755);
    let log = folder.path().join("log");
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    open(&socket, 0o777);
    let run = |uid: u32| {
        let mut command = Command::new(&program);
        command
            .arg(&copy)
            .args(arguments)
            .env("CARDEA_SOCKET", &socket)
            .env("CARDEA_IFD_LOG", &log)
            .uid(uid)
            .gid(uid);
        process::run(&mut command)
    };
    let nobody = run(65_534);
    assert!(nobody.text.contains("as 0: "), "{}", nobody.text);
    assert!(listener.accept().is_err(), "it was asked");
    assert!(!log.exists(), "there is a log");
    // The same program without rights of others asks: the test would notice.
    let root = run(0);
    assert!(root.success, "{}", root.text);
    assert!(listener.accept().is_ok(), "it was not asked");
    assert_eq!(log.exists(), library.contains("ifd"));
}

#[test]
fn setuid_program_does_not_ask_the_daemon_that_its_caller_names() {
    ask_setuid_program("pkcs11-process", "libcardea_pkcs11.so", &[PIN, "slots"]);
}

#[test]
fn setuid_program_with_the_readers_driver_uses_nothing_that_its_caller_names() {
    ask_setuid_program("reader-driver", "libifdcardea.so", &[]);
}
