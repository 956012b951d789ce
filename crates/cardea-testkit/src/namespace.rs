//! A network and file system of a test's own, for programs with fixed ports and paths.
//!
//! What: `unshare` with a loopback interface and whatever a script mounts; programs are started inside by
//! `nsenter`. What not: a container; processes, users and everything that is not mounted over are the machine's.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::Running;

/// Namespaces that last as long as this value, and with them the programs inside.
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

    /// The process that keeps it, by which others can name its network.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// An absolute path inside, as it is reached from outside.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(inside.strip_prefix("/").unwrap_or(inside))
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

    /// Does something on the inside's network: sockets that are made there stay there.
    ///
    /// # Panics
    ///
    /// When the namespace has gone, or the action panics.
    pub fn on_network<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.holder.pid()));
        let network = network.expect("the namespace is there");
        // A thread of its own, which never comes back.
        let inside = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).expect("the namespace lets us in");
            action()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).expect("the action ends")
    }
}

impl Drop for Namespace {
    /// Ends programs that others have started inside and that would wait for a daemon which does not return.
    fn drop(&mut self) {
        let mounts = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let Some(own) = mounts(&self.holder.pid().to_string()) else {
            return;
        };
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return;
        };
        for name in processes
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
        {
            let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else {
                continue;
            };
            if mounts(&name).as_ref() == Some(&own) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}
