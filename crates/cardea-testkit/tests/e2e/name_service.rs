//! A machine with a name service that is installed and does not work, as `libnss-sss` while sssd is not running.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cardea_testkit::rig::{Daemon, PIN, bin_dir};
use cardea_testkit::swtpm::Swtpm;

/// A user id that no file and no service knows.
const STRANGER: &str = "3999999999";

#[test]
fn name_service_that_does_not_work_changes_nothing_for_who_is_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    // Other users run programs with what is in it.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/programs/absent.c");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&path("libnss_absent.so.2"), source])
        .status();
    assert!(compiled.unwrap().success());
    let services = "passwd: files absent\ngroup: files absent\n";
    fs::write(path("nsswitch.conf"), services).unwrap();
    let script = format!(
        "mount --bind {} /etc/nsswitch.conf && LD_LIBRARY_PATH={} exec \"$@\"",
        path("nsswitch.conf"),
        folder.path().display()
    );
    fs::write(path("machine.sh"), script).unwrap();
    let machine = path("machine.sh");
    let wrapper = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        &machine,
    ];
    let wrapped = |command: &[&str]| {
        let output = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .args(command)
            .output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };

    // It is asked, and has no answer.
    let (code, text) = wrapped(&["getent", "-s", "absent", "passwd", "root"]);
    assert_eq!(code, Some(2), "{text}");

    let tpm = Swtpm::start(&folder.path().join("tpm"));
    let place = folder.path().join("daemon");
    // `daemon` has the group of its name on every Debian.
    let configuration = "admin_group = \"daemon\"\n";
    let daemon = Daemon::start_under(&place, &tpm.address(), configuration, &wrapper);
    let socket = daemon.socket().display().to_string();
    let program = bin_dir().join("cardea").display().to_string();
    fs::write(path("pin"), PIN).unwrap();
    let pin = path("pin");
    let cardea = |user: &str, arguments: &[&str]| {
        let reuid = format!("--reuid={user}");
        let mut command = vec!["setpriv", &reuid, "--clear-groups", &program, "--socket"];
        command.push(&socket);
        command.extend(arguments);
        wrapped(&command)
    };
    let create = |name: &str, owner: &str| {
        let arguments = ["card", "create", "--name", name, "--pin-file", &pin];
        cardea("root", &[&arguments[..], &["--owner", owner]].concat())
    };
    let (code, text) = create("known", "bin");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = create("unknown", "no-such-user");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("there is no user no-such-user"), "{text}");

    let listed = |user: &str| {
        let (code, text) = cardea(user, &["card", "list"]);
        assert_eq!(code, Some(0), "{user}: {text}");
        text.contains("known")
    };
    assert!(listed("bin"), "the owner does not see the card");
    assert!(listed("daemon"), "an administrator does not see the card");
    assert!(!listed(STRANGER), "a stranger sees the card");
    // That nobody has such an id is an answer.
    let log = daemon.log();
    assert!(!log.contains("unknown groups"), "{log}");
}
