//! Programs under test: started with a log, waited for with a limit, ended by pid.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a program to become ready or to end; generous, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition.
///
/// # Panics
///
/// When it does not come true in [`PATIENCE`].
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "{what} did not happen in {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running program whose output goes to a file. Dropping it kills it.
pub struct Running {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Running {
    /// Starts it; standard output and error go to `log`, after what an earlier run wrote there.
    ///
    /// # Panics
    ///
    /// When the program cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        Self::start_with_input(command, Stdio::null(), log)
    }

    /// Like [`Running::start`], with something as standard input.
    ///
    /// # Panics
    ///
    /// When the program cannot be started.
    pub fn start_with_input(command: &mut Command, input: Stdio, log: &Path) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log opens");
        let child = command
            .stdin(input)
            .stdout(output.try_clone().expect("the log is shared"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self {
            child,
            log: log.to_owned(),
            name,
        }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    ///
    /// With its log, when it ends or is not ready in time.
    pub fn wait_ready(&mut self, mut ready: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !ready(self) {
            assert!(self.running(), "{} has ended:\n{}", self.name, self.log());
            assert!(
                Instant::now() < deadline,
                "{} is not ready:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Ends it as a service manager would, and gives its exit status.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.pid().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        self.wait()
    }

    /// Waits for its own end, and gives its exit status.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not end:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            eprintln!(
                "--- end of the log of {}\n{}",
                self.name,
                log.get(from..).unwrap_or_default()
            );
        }
        self.kill();
    }
}

/// How a client program ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status 0.
    pub success: bool,
    /// Exit status; absent when it was a signal.
    pub code: Option<i32>,
    /// Standard output, then standard error.
    pub text: String,
}

/// Runs a client to its end.
///
/// # Panics
///
/// When it cannot be started or does not end in [`PATIENCE`].
pub fn run(command: &mut Command) -> Outcome {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = std::thread::spawn(move || read(out));
    let err = std::thread::spawn(move || read(err));
    let deadline = Instant::now() + 2 * PATIENCE;
    let status = loop {
        if let Ok(Some(status)) = child.try_wait() {
            break status;
        }
        if Instant::now() > deadline {
            drop(child.kill());
            panic!("{name} does not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let text = out.join().unwrap_or_default() + &err.join().unwrap_or_default();
    Outcome {
        success: status.success(),
        code: status.code(),
        text,
    }
}

fn read(source: Option<impl io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut source) = source {
        drop(source.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Resident memory of a process as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The most that it has had.
    Peak,
    /// What it has now.
    Resident,
}

impl Memory {
    /// Of this process, in KiB, unless it has ended.
    #[must_use]
    pub fn of(self, pid: u32) -> Option<u64> {
        let name = match self {
            Self::Peak => "VmHWM:",
            Self::Resident => "VmRSS:",
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }
}

/// Whether OpenSSL, and with it a software TPM, decrypts a broken PKCS #1 v1.5 cryptogram to random bytes (implicit
/// rejection), as it does since version 3.2.
///
/// # Panics
///
/// When it does not tell its version.
#[must_use]
pub fn openssl_pretends_to_decrypt() -> bool {
    let said = run(Command::new("openssl").arg("version")).text;
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    let mut number = || -> u32 { numbers.next().expect("a version") };
    (number(), number()) >= (3, 2)
}
