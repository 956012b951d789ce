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

/// How the names of command sockets end.
const SOCKET: &str = ".sock";

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
        if simulator.socket(0).as_os_str().len() > SOCKET_PATH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the simulator's folder has too long a name for a socket in it",
            ));
        }
        Ok(simulator)
    }

    /// A name for a command socket.
    fn socket(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{:05x}{SOCKET}", number & 0xF_FFFF))
    }

    /// Starts the child, after the end of an earlier one, and returns its only connection.
    ///
    /// The child ends with its connection (`--terminate`), so also with a daemon that is killed. One that a
    /// daemon left before it connected is ended by a connection that comes and goes. Until it has ended, its
    /// lock on the state makes the new child fail, so that is tried again until the time is over. Each child has a
    /// socket name that none had before: one that ends unlinks its name, whoever has it by then. There is
    /// no control socket: power is not switched, and nobody else is to switch it.
    pub(crate) fn start(&mut self) -> io::Result<UnixStream> {
        if let Some(mut old) = self.child.take() {
            end(&mut old);
        }
        let mut used = self.end_others()?;
        let deadline = Instant::now() + START_TIME;
        loop {
            match self.spawn(&mut used, deadline) {
                Ok((child, stream)) => {
                    self.child = Some(child);
                    return Ok(stream);
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

    /// Asks children of earlier daemons to end, and returns the names of their sockets.
    fn end_others(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(SOCKET) {
                drop(UnixStream::connect(&path));
                // One connection ends it, and more of them would wait in its queue until that is full.
                remove(&path)?;
                found.push(path);
            }
        }
        Ok(found)
    }

    fn spawn(&self, used: &mut Vec<PathBuf>, deadline: Instant) -> io::Result<(Child, UnixStream)> {
        let dir = &self.dir;
        let socket = loop {
            let mut random = [0; 4];
            crate::random::random(&mut random);
            let socket = self.socket(u32::from_be_bytes(random));
            if !used.contains(&socket) {
                break socket;
            }
        };
        used.push(socket.clone());
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
        loop {
            let error = match UnixStream::connect(&socket) {
                Ok(stream) => return Ok((child, stream)),
                Err(error) => error,
            };
            if let Some(status) = child.try_wait()? {
                remove(&socket)?;
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                let said = log.lines().last().unwrap_or_default().trim();
                return Err(io::Error::other(format!(
                    "swtpm ended at its start ({status}): {said}"
                )));
            }
            // It has no socket yet, or one on which it does not listen yet.
            let is_early = matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            );
            if !is_early || Instant::now() > deadline {
                end(&mut child);
                remove(&socket)?;
                return Err(match is_early {
                    true => io::Error::new(io::ErrorKind::TimedOut, error),
                    false => error,
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Removes the name of a socket, if it is there.
fn remove(socket: &Path) -> io::Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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
