//! A software TPM of a test's own.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Outcome, Running, run};

/// `swtpm` on Unix sockets in a folder of its own; its state outlives its process.
pub struct Swtpm {
    folder: PathBuf,
    process: Option<Running>,
}

impl Swtpm {
    /// Starts one with its state in `folder`, which is made.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("the folder is made");
        let mut tpm = Self {
            folder: folder.to_owned(),
            process: None,
        };
        tpm.restart();
        tpm
    }

    /// Command socket; the control socket is beside it with `.ctrl`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// Its address for `--tpm`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("swtpm:unix={}", self.socket().display())
    }

    /// Power goes away.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Power goes away, if it is there, and comes back.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        let (socket, control) = (self.socket(), self.folder.join("sock.ctrl"));
        drop(std::fs::remove_file(&socket));
        drop(std::fs::remove_file(&control));
        let mut command = Command::new("swtpm");
        command
            .args(["socket", "--tpm2", "--flags", "not-need-init"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()));
        let mut process = Running::start(&mut command, &self.folder.join("swtpm.log"));
        process.wait_ready(|_| UnixStream::connect(&socket).is_ok());
        self.process = Some(process);
    }

    /// A program of tpm2-tools on this TPM, which must have no other client at the moment.
    #[must_use]
    pub fn tpm2(&self, program: &str, arguments: &[&str]) -> Outcome {
        let transport = format!("swtpm:path={}", self.socket().display());
        run(Command::new(program)
            .args(["-T", &transport])
            .args(arguments))
    }
}
