//! A daemon in this process with a software TPM of its own, and the command as a process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use cardea_daemon::{Config, Daemon};
use serde_json::Value;
use tempfile::TempDir;

/// A user that every Debian has and who is no administrator.
pub(crate) const OTHER_USER: u32 = 1;

pub(crate) struct Place {
    daemon: Option<Daemon>,
    folder: TempDir,
}

impl Place {
    /// With a running daemon.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut place = Self::without_daemon();
        place.start(change);
        place
    }

    /// The daemon starts, with the TPM that is there.
    pub(crate) fn begin(&mut self) {
        self.start(|_| {});
    }

    fn start(&mut self, change: impl FnOnce(&mut Config)) {
        let tpm = format!("simulator:{}", self.path("tpm").display());
        let mut config = Config::new(
            self.path("state"),
            self.path("socket"),
            tpm.parse().unwrap(),
        );
        change(&mut config);
        self.daemon = Some(Daemon::start(config).unwrap());
    }

    /// The daemon starts again, and finds another TPM.
    pub(crate) fn exchange_tpm(&mut self) {
        self.daemon = None;
        fs::remove_dir_all(self.path("tpm")).unwrap();
        self.start(|_| {});
    }

    pub(crate) fn without_daemon() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Other users run the command too, from a place that they can reach.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self {
            daemon: None,
            folder,
        };
        // By a child: while a thread of ours had it open for writing, another one's new process would
        // have it too, and a file that is open for writing cannot be run.
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_cardea"))
            .arg(place.program())
            .status()
            .unwrap();
        assert!(copied.success());
        place.file("pin", "123456\n");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.path("cardea")
    }

    /// Writes a file that everybody can read; gives its path as an argument.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command
            .args(arguments)
            .env("CARDEA_SOCKET", self.path("socket"))
            // Times are shown as local ones.
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// `tpmvscmgr`.
    pub(crate) fn manager(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tpmvscmgr"));
        command
            .env("CARDEA_SOCKET", self.path("socket"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }

    /// As a user who is no administrator; `None` where these tests do not run as root.
    pub(crate) fn run_as_other(&self, arguments: &[&str]) -> Option<Run> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let mut command = self.command(arguments);
        command.uid(OTHER_USER).gid(OTHER_USER).current_dir("/");
        Some(Run::of(command.output().unwrap()))
    }

    /// Creates a card; gives its JSON.
    pub(crate) fn create(&self, name: &str, more: &[&str]) -> Value {
        let pin = self.path("pin");
        let mut arguments = vec!["card", "create", "--json", "--name", name];
        arguments.extend(["--pin-file", pin.to_str().unwrap()]);
        arguments.extend(more);
        let run = self.run(&arguments);
        assert_eq!(run.code, 0, "{run:?}");
        run.json()
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Progress depends on how busy the machine is: it is not part of a snapshot.
    pub(crate) fn notes(&self) -> String {
        self.err
            .lines()
            .filter(|line| !line.ends_with('…'))
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// Replaces what differs from run to run.
pub(crate) fn redact(text: &str, card: &Value) -> String {
    let id = card["card_id"].as_str().unwrap();
    let created = card["created"].to_string();
    let text = text
        .replace(id, "[card id]")
        .replace(&id[..16], "[serial]")
        .replace(&id[..8], "xxxxxxxx")
        .replace(&created, "[time]");
    text.lines()
        .map(|line| {
            if line.starts_with("created:") {
                "created:         [time]\n".to_owned()
            } else if line.starts_with("PKCS#11 slot:") {
                "PKCS#11 slot:    [slot]\n".to_owned()
            } else if line.starts_with("  \"pkcs11_slot\": ") {
                "  \"pkcs11_slot\": [slot],\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect()
}
