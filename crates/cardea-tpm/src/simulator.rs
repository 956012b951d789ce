//! A software TPM of our own: a `swtpm` child process, started when it is needed and ended with us.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time for the child to open its socket.
const START_TIME: Duration = Duration::from_secs(10);

/// Longest path that a Unix socket can have.
const SOCKET_PATH: usize = 107;

/// A software TPM's state and its `swtpm`. Dropping it ends the child and removes a temporary state.
pub(crate) struct Simulator {
    dir: PathBuf,
    temporary: bool,
    child: Option<Child>,
}

impl Simulator {
    /// With its state in `dir`, or in a temporary folder; no child yet.
    pub(crate) fn new(dir: Option<&Path>) -> io::Result<Self> {
        let temporary = dir.is_none();
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        let dir = match dir {
            Some(dir) => {
                builder.recursive(true).create(dir)?;
                dir.to_path_buf()
            }
            None => {
                // A name that nobody can have prepared in a folder that all may write.
                let mut random = [0; 8];
                crate::random::random(&mut random);
                let name = format!("cardea-simulator-{:016x}", u64::from_be_bytes(random));
                let dir = std::env::temp_dir().join(name);
                builder.create(&dir)?;
                dir
            }
        };
        let simulator = Self {
            dir: fs::canonicalize(dir)?,
            temporary,
            child: None,
        };
        if simulator.socket().as_os_str().len() > SOCKET_PATH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the simulator's folder has too long a name for a socket in it",
            ));
        }
        Ok(simulator)
    }

    /// The command socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("swtpm.sock")
    }

    /// Starts the child, after the end of an earlier one.
    ///
    /// The child ends with its connection (`--terminate`), so also with a daemon that is killed. One that a
    /// daemon left before it connected is ended by a connection that comes and goes. Until it has ended, its
    /// lock on the state makes the new child fail, so that is tried again until the time is over. There is
    /// no control socket: power is not switched, and nobody else is to switch it.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        if let Some(mut old) = self.child.take() {
            end(&mut old);
        }
        drop(UnixStream::connect(self.socket()));
        let deadline = Instant::now() + START_TIME;
        loop {
            match self.spawn(deadline) {
                Ok(child) => {
                    self.child = Some(child);
                    return Ok(());
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

    fn spawn(&self, deadline: Instant) -> io::Result<Child> {
        let (dir, socket) = (&self.dir, self.socket());
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log_path = dir.join("swtpm.log");
        let log = fs::File::create(&log_path)?;
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
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                let said = log.lines().last().unwrap_or_default().trim();
                return Err(io::Error::other(format!(
                    "swtpm ended at its start ({status}): {said}"
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
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
        if self.temporary {
            drop(fs::remove_dir_all(&self.dir));
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
