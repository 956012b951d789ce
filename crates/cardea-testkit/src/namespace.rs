//! A network and file system of a test's own, for programs with fixed ports and paths.
//!
//! What: `unshare` with a loopback interface and whatever a script mounts; programs are started inside by
//! `nsenter`. What not: a container; processes, users and everything that is not mounted over are the machine's.

use std::path::Path;
use std::process::Command;

use crate::process::Running;

/// Namespaces that last as long as this value.
pub struct Namespace {
    holder: Running,
}

impl Namespace {
    /// With a loopback interface and nothing else on the network; `script` (of `sh -e`) runs inside before
    /// anything else, and may mount: nothing of that is seen outside. `folder` takes its log.
    ///
    /// # Panics
    ///
    /// When it does not come up (it needs root), or the script fails.
    #[must_use]
    pub fn new(folder: &Path, script: &str) -> Self {
        let ready = folder.join("namespace.ready");
        drop(std::fs::remove_file(&ready));
        let script = format!("ip link set lo up\n{script}\n: > \"$1\"\nexec sleep infinity");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "--mount", "--propagation", "private"])
            .args(["sh", "-e", "-c", &script, "sh"])
            .arg(&ready);
        let mut holder = Running::start(&mut command, &folder.join("namespace.log"));
        holder.wait_ready(|_| ready.exists());
        Self { holder }
    }

    /// A program inside, not yet started. Give it absolute paths. The pid of its process is the program's.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.holder.pid().to_string()])
            .args(["--net", "--mount", "--wdns=/", "--", program]);
        command
    }
}
