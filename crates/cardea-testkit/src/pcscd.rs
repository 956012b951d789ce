//! Debian's pcscd in a mount namespace of its own, with Cardea's handler.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Running;

/// A running pcscd. Its sockets are reached through `/proc`, so that many run side by side.
pub struct Pcscd {
    readers: PathBuf,
    log: PathBuf,
    process: Option<Running>,
}

impl Pcscd {
    /// Starts it with one file of reader configuration.
    ///
    /// # Panics
    ///
    /// When it does not come up (it needs root).
    #[must_use]
    pub fn start(folder: &Path, reader_conf: &str) -> Self {
        let readers = folder.join("readers");
        std::fs::create_dir_all(&readers).expect("the folder is made");
        std::fs::write(readers.join("cardea.conf"), reader_conf).expect("the entry is written");
        let mut pcscd = Self {
            readers,
            log: folder.join("pcscd.log"),
            process: None,
        };
        pcscd.restart();
        pcscd
    }

    /// Kills it, if it runs, and starts it again.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        // Every step replaces the shell, so the pid is pcscd's in the end.
        // A newer one asks polkit whether a client may use it, and there is none on the tests' bus.
        let script = "mkdir -p /run/pcscd && mount -t tmpfs cardea /run/pcscd\n\
            if \"$1\" --help 2>&1 | grep -q disable-polkit; then set -- \"$@\" --disable-polkit; fi\n\
            exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                script,
                "sh",
            ])
            .args(["pcscd", "--foreground", "--debug", "--apdu", "-c"])
            .arg(&self.readers);
        let mut process = Running::start(&mut command, &self.log);
        let socket = socket(process.pid());
        // Before the namespace is there, the path is the machine's own pcscd.
        process.wait_ready(|process| {
            program(process.pid()).ends_with("pcscd") && UnixStream::connect(&socket).is_ok()
        });
        self.process = Some(process);
    }

    /// Ends it without a chance to clean up.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Whether it runs.
    pub fn running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Running::running)
    }

    /// Value of `PCSCLITE_CSOCK_NAME` for its clients.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(self.process.as_ref().map_or(0, Running::pid))
    }

    /// Its debug output with all APDUs, of all runs.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Running::log).unwrap_or_default()
    }
}

fn socket(pid: u32) -> PathBuf {
    format!("/proc/{pid}/root/run/pcscd/pcscd.comm").into()
}

fn program(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}
