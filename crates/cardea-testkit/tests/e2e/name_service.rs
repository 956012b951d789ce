//! A machine with a name service that is installed and does not work, as `libnss-sss` while sssd is not running.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cardea_testkit::rig::{Daemon, PIN, bin_dir};
use cardea_testkit::swtpm::Swtpm;
use tempfile::TempDir;

/// A user id that no file and no service knows.
const STRANGER: &str = "3999999999";

/// Name of the card of `bin`, which is in no other text.
const CARD: &str = "passport";

/// What the daemon logs of a user whose groups it cannot find out.
const UNKNOWN_GROUPS: &str = "unknown groups";

/// Where the files are asked first, then a service that always ends with one error.
struct Machine {
    folder: TempDir,
    wrapper: Vec<String>,
    daemon: Daemon,
    _tpm: Swtpm,
}

impl Machine {
    fn start(error: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Other users run programs with what is in it.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/programs/absent.c");
        let compiled = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
            .arg(format!("-DERROR={error}"))
            .args(["-o", &path("libnss_absent.so.2"), source])
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
        // The folder of a build may be closed to other users.
        fs::copy(bin_dir().join("cardea"), path("cardea")).unwrap();
        fs::write(path("pin"), PIN).unwrap();
        let script = path("machine.sh");
        let wrapper = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            &script,
        ];
        let tpm = Swtpm::start(&folder.path().join("tpm"));
        let place = folder.path().join("daemon");
        // `daemon` has the group of its name on every Debian.
        let configuration = "admin_group = \"daemon\"\n";
        Self {
            daemon: Daemon::start_under(&place, &tpm.address(), configuration, &wrapper),
            wrapper: wrapper.map(str::to_owned).into(),
            folder,
            _tpm: tpm,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Exit code and text of a command there.
    fn run(&self, command: &[&str]) -> (Option<i32>, String) {
        let (program, arguments) = self.wrapper.split_first().unwrap();
        let output = Command::new(program).args(arguments).args(command).output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    fn cardea(&self, user: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let reuid = format!("--reuid={user}");
        let (program, socket) = (self.path("cardea"), self.daemon.socket());
        let socket = socket.display().to_string();
        let command = [
            "setpriv",
            &reuid,
            "--clear-groups",
            &program,
            "--socket",
            &socket,
        ];
        self.run(&[&command[..], arguments].concat())
    }

    fn create(&self, name: &str, owner: &str) -> (Option<i32>, String) {
        let pin = self.path("pin");
        let arguments = ["card", "create", "--name", name, "--pin-file", &pin];
        self.cardea("root", &[&arguments[..], &["--owner", owner]].concat())
    }

    /// Whether a user sees the card of `bin`.
    fn shows(&self, user: &str) -> bool {
        let (code, text) = self.cardea(user, &["card", "list"]);
        assert_eq!(code, Some(0), "{user}: {text}");
        text.contains(CARD)
    }

    /// What is in a file is found there, whatever the service does.
    fn knows_who_is_in_a_file(&self) {
        let (code, text) = self.create(CARD, "bin");
        assert_eq!(code, Some(0), "{text}");
        assert!(self.shows("bin"), "the owner does not see the card");
        assert!(
            self.shows("daemon"),
            "an administrator does not see the card"
        );
        assert!(!self.shows(STRANGER), "a stranger sees the card");
    }
}

#[test]
fn name_service_that_does_not_work_changes_nothing_for_who_is_in_a_file() {
    let machine = Machine::start("ENOENT");
    // It is asked, and has no answer.
    let (code, text) = machine.run(&["getent", "-s", "absent", "passwd", "root"]);
    assert_eq!(code, Some(2), "{text}");
    machine.knows_who_is_in_a_file();
    let (code, text) = machine.create("orphan", "no-such-user");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("there is no user no-such-user"), "{text}");
    // That nobody has such an id is an answer.
    let log = machine.daemon.log();
    assert!(!log.contains(UNKNOWN_GROUPS), "{log}");
}

#[test]
fn name_service_that_fails_is_in_the_log_and_makes_nobody_an_administrator() {
    let machine = Machine::start("EIO");
    machine.knows_who_is_in_a_file();
    let log = machine.daemon.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains(UNKNOWN_GROUPS))
        .collect();
    assert!(!lines.is_empty(), "{log}");
    assert!(lines.iter().all(|line| line.contains(STRANGER)), "{log}");
}
