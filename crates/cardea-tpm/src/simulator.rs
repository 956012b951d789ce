//! A software TPM of our own: a `swtpm` child process, started when it is needed and ended with us.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time for the child to open its socket.
const START_TIME: Duration = Duration::from_secs(10);

/// A running `swtpm`. Dropping it ends the child.
pub(crate) struct Simulator {
    child: Child,
    socket: PathBuf,
    temporary: Option<PathBuf>,
}

impl Simulator {
    /// Starts one on the state in `dir`, or on a temporary state.
    ///
    /// A child of an earlier daemon that was killed has ended with that daemon's connection
    /// (`--terminate`); until it has, its lock on the state makes the new child fail, so that is tried
    /// again until the time is over.
    pub(crate) fn start(dir: Option<&Path>) -> io::Result<Self> {
        let (dir, temporary) = match dir {
            Some(dir) => (dir.to_path_buf(), None),
            None => {
                let dir =
                    std::env::temp_dir().join(format!("cardea-simulator-{}", std::process::id()));
                (dir.clone(), Some(dir))
            }
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir)?;
        let dir = fs::canonicalize(dir)?;
        let socket = dir.join("swtpm.sock");
        let deadline = Instant::now() + START_TIME;
        loop {
            match Self::spawn(&dir, &socket, deadline) {
                Ok(child) => {
                    return Ok(Self {
                        child,
                        socket,
                        temporary,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        "the program swtpm is not installed",
                    ));
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn spawn(dir: &Path, socket: &Path, deadline: Instant) -> io::Result<Child> {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = fs::File::create(dir.join("swtpm.log"))?;
        let mut child = Command::new("swtpm")
            .args([
                "socket",
                "--tpm2",
                "--terminate",
                "--flags",
                "not-need-init",
            ])
            .arg("--tpmstate")
            .arg(format!("dir={},mode=0600", dir.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={},mode=0600", socket.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // The socket exists once the child listens; a connection would be the child's only one.
        while !socket.exists() {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!(
                    "swtpm ended at its start: {status}"
                )));
            }
            if Instant::now() > deadline {
                end(&mut child);
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(child)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        end(&mut self.child);
        if let Some(dir) = &self.temporary {
            drop(fs::remove_dir_all(dir));
        }
    }
}

/// SIGTERM and a moment to store the state, then SIGKILL.
fn end(child: &mut Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let _already_gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            drop(child.kill());
            drop(child.wait());
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
