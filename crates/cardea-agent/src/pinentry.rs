//! Pinentry: a program of its own that shows one dialog at a time, by the Assuan protocol over its standard input
//! and output.

use std::io::{self, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Longest line of the protocol, without its end.
const MAX_LINE: usize = 1000;

/// A pinentry that shows nothing has this time for each line.
const LINE_TIME: Duration = Duration::from_secs(10);

/// Time that a pinentry has to end when asked to.
const END_TIME: Duration = Duration::from_millis(500);

/// Codes of libgpg-error without their source.
const CANCELLED: [u32; 2] = [99, 114];
const TIMED_OUT: u32 = 62;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The person said no, or the one who asked did.
    #[error("cancelled")]
    Cancelled,
    /// It died, or does not speak the protocol.
    #[error("pinentry: {0}")]
    Failed(String),
    #[error("nobody answered in time")]
    TimedOut,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// How it is started.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) program: String,
    /// Terminal for those that need one.
    pub(crate) tty: Option<String>,
}

/// The dialog that is open, so that it can be closed from outside.
#[derive(Debug, Default)]
pub(crate) struct Open {
    child: Mutex<Option<Child>>,
    cancelled: AtomicBool,
}

impl Open {
    /// Closes the dialog, or the next one of the same question.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.terminate();
    }

    /// The next question begins.
    pub(crate) fn renew(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    fn begin(&self, child: Child) {
        *self.lock() = Some(child);
        if self.cancelled.load(Ordering::Relaxed) {
            self.terminate();
        }
    }

    /// So that it can put the terminal right.
    fn terminate(&self) {
        if let Some(child) = self.lock().as_ref() {
            // It may have ended.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
    }

    /// One that does not end by itself is ended.
    fn end(&self) {
        let Some(mut child) = self.lock().take() else {
            return;
        };
        let end = Instant::now() + END_TIME;
        while Instant::now() < end {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pinentry at work.
pub(crate) struct Pinentry {
    input: ChildStdin,
    output: ChildStdout,
    /// What was read and is not used; may hold a secret.
    buffer: Zeroizing<Vec<u8>>,
    open: Arc<Open>,
    end: Instant,
    repeated: bool,
}

impl Pinentry {
    /// Starts it; everything it does must be over within the limit.
    pub(crate) fn start(
        options: &Options,
        open: &Arc<Open>,
        limit: Duration,
    ) -> Result<Self, Error> {
        let mut child = Command::new(&options.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::Failed(format!("cannot start {}: {error}", options.program)))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let Some((input, output)) = pipes else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Failed("no pipes".into()));
        };
        open.begin(child);
        let mut pinentry = Self {
            input,
            output,
            // Never grows, so that nothing is left behind.
            buffer: Zeroizing::new(Vec::with_capacity(2 * MAX_LINE)),
            open: Arc::clone(open),
            end: Instant::now() + limit,
            repeated: false,
        };
        pinentry.answer(None, Instant::now() + LINE_TIME)?;
        pinentry.terminal(options)?;
        let seconds = limit.as_secs().max(1).to_string();
        pinentry.set("SETTIMEOUT", &seconds)?;
        Ok(pinentry)
    }

    fn terminal(&mut self, options: &Options) -> Result<(), Error> {
        if let Some(tty) = &options.tty {
            self.set("OPTION", &format!("ttyname={tty}"))?;
            let kind = std::env::var("TERM").unwrap_or_else(|_| "linux".into());
            self.set("OPTION", &format!("ttytype={kind}"))?;
        }
        if let Ok(locale) = std::env::var("LC_ALL").or_else(|_| std::env::var("LANG")) {
            self.set("OPTION", &format!("lc-ctype={locale}"))?;
        }
        Ok(())
    }

    /// Sets something. False: this pinentry does not know it.
    pub(crate) fn set(&mut self, command: &str, text: &str) -> Result<bool, Error> {
        self.send(command, text)?;
        match self.answer(None, Instant::now() + LINE_TIME) {
            Ok(()) => Ok(true),
            Err(Answer::Refused(_)) => Ok(false),
            Err(Answer::Over(error)) => Err(error),
        }
    }

    /// Whether the dialog is on a terminal, drawn by curses; a graphical pinentry without a screen is `gnome3:curses`.
    pub(crate) fn is_drawn_by_curses(&mut self) -> Result<bool, Error> {
        self.send("GETINFO", "flavor")?;
        let mut flavor = Secret::new();
        match self.answer(Some(&mut flavor), Instant::now() + LINE_TIME) {
            Ok(()) => Ok(flavor.expose().ends_with(b"curses")),
            Err(Answer::Refused(_)) => Ok(false),
            Err(Answer::Over(error)) => Err(error),
        }
    }

    /// Whether the last secret was typed twice, as `SETREPEAT` wants it. Some take the command and ask once.
    pub(crate) fn was_repeated(&self) -> bool {
        self.repeated
    }

    /// Asks for a secret.
    pub(crate) fn pin(&mut self) -> Result<Secret, Error> {
        self.repeated = false;
        let mut secret = Secret::new();
        self.send("GETPIN", "")?;
        self.answer(Some(&mut secret), self.end)?;
        Ok(secret)
    }

    /// Asks yes or no.
    pub(crate) fn confirm(&mut self) -> Result<bool, Error> {
        self.send("CONFIRM", "")?;
        match self.answer(None, self.end) {
            Ok(()) => Ok(true),
            Err(Answer::Refused(code)) if CANCELLED.contains(&code) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// Says something.
    pub(crate) fn message(&mut self) -> Result<(), Error> {
        self.send("MESSAGE", "")?;
        Ok(self.answer(None, self.end)?)
    }

    fn send(&mut self, command: &str, text: &str) -> Result<(), Error> {
        let mut line = command.to_owned();
        if !text.is_empty() {
            line.push(' ');
            line.push_str(&escape(text));
        }
        line.truncate(line.floor_char_boundary(MAX_LINE));
        line.push('\n');
        self.input
            .write_all(line.as_bytes())
            .map_err(|error| self.over(Error::from(error)))
    }

    /// Reads up to OK or ERR; data goes into the secret.
    fn answer(&mut self, mut secret: Option<&mut Secret>, end: Instant) -> Result<(), Answer> {
        loop {
            let line = self.line(end.min(self.end))?;
            let (word, rest) = match line.iter().position(|byte| *byte == b' ') {
                Some(at) => line.split_at(at),
                None => (&line[..], &[][..]),
            };
            let rest = rest.get(1..).unwrap_or_default();
            match word {
                b"OK" => return Ok(()),
                b"D" => match &mut secret {
                    Some(secret) => unescape(rest, secret),
                    None => return Err(self.nonsense()),
                },
                b"ERR" => {
                    let text = String::from_utf8_lossy(rest);
                    let code = text.split(' ').next().and_then(|code| code.parse().ok());
                    return Err(match code.map(|code: u32| code & 0xFFFF) {
                        Some(code) => Answer::Refused(code),
                        None => self.nonsense(),
                    });
                }
                b"INQUIRE" => {
                    self.send("CAN", "")?;
                }
                b"S" if rest.starts_with(b"PIN_REPEATED") => self.repeated = true,
                word if word == b"S" || word.first() == Some(&b'#') => {}
                _ => return Err(self.nonsense()),
            }
        }
    }

    fn nonsense(&self) -> Answer {
        Answer::Over(self.over(Error::Failed("it does not speak the protocol".into())))
    }

    /// A line without its end.
    fn line(&mut self, end: Instant) -> Result<Zeroizing<Vec<u8>>, Error> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = Zeroizing::new(self.buffer.get(..at).unwrap_or_default().to_vec());
                self.buffer.drain(..=at);
                return Ok(line);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(self.over(Error::Failed("its line is too long".into())));
            }
            self.await_output(end)?;
            let mut more = Zeroizing::new([0; MAX_LINE / 2]);
            match rustix::io::read(&self.output, &mut more[..]) {
                Ok(0) => return Err(self.over(Error::Failed("it has ended".into()))),
                Ok(count) => self
                    .buffer
                    .extend_from_slice(more.get(..count).unwrap_or_default()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.over(io::Error::from(error).into())),
            }
        }
    }

    fn await_output(&self, end: Instant) -> Result<(), Error> {
        let left = end.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).map_err(|_| Error::TimedOut)?;
        match poll(
            &mut [PollFd::new(&self.output, PollFlags::IN)],
            Some(&limit),
        ) {
            Ok(0) => Err(self.over(Error::TimedOut)),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// An end that was asked for is not a failure.
    fn over(&self, error: Error) -> Error {
        if self.open.cancelled.load(Ordering::Relaxed) {
            return Error::Cancelled;
        }
        error
    }
}

impl Drop for Pinentry {
    fn drop(&mut self) {
        // Those that have a screen to restore do it at the end of their input.
        let _ = self.input.write_all(b"BYE\n");
        let _ = self.answer(None, Instant::now() + Duration::from_millis(200));
        self.open.end();
    }
}

/// How a command can fail.
enum Answer {
    Over(Error),
    Refused(u32),
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self::Over(error)
    }
}

impl From<Answer> for Error {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Over(error) => error,
            Answer::Refused(code) if CANCELLED.contains(&code) => Self::Cancelled,
            Answer::Refused(TIMED_OUT) => Self::TimedOut,
            Answer::Refused(code) => Self::Failed(format!("error {code}")),
        }
    }
}

/// Percent signs and ends of lines cannot be in an argument as they are.
fn escape(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn unescape(data: &[u8], secret: &mut Secret) {
    let mut rest = data.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            secret.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next().copied().unwrap_or_default()).to_digit(16);
        let value = digit().zip(digit()).map(|(high, low)| high << 4 | low);
        secret.push(
            value
                .and_then(|value| u8::try_from(value).ok())
                .unwrap_or(b'%'),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_no_ends_of_lines() {
        assert_eq!(escape("100 %\r\nsure"), "100 %25%0D%0Asure");
    }

    #[test]
    fn data_is_unescaped() {
        let mut secret = Secret::new();
        unescape(b"a%25b%0Ac%0d", &mut secret);
        assert_eq!(secret.expose(), b"a%b\nc\r");
    }

    fn run(script: &str, limit: Duration) -> Result<Secret, Error> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pinentry");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let options = Options {
            program: program.display().to_string(),
            tty: None,
        };
        Pinentry::start(&options, &Arc::default(), limit)?.pin()
    }

    const LONG: Duration = Duration::from_secs(30);

    /// Answers every command, and GETPIN with what `$1` prints.
    fn answering(getpin: &str) -> String {
        format!(
            "echo OK hello\nwhile read -r line; do case \"$line\" in GETPIN*) {getpin};; BYE*) exit;; *) echo OK;; esac; done"
        )
    }

    #[test]
    fn typed_value_arrives() {
        let typed = run(
            &answering("echo 'S PIN_REPEATED'; echo 'D 27%31828'; echo OK"),
            LONG,
        );
        assert_eq!(typed.unwrap().expose(), b"271828");
    }

    #[test]
    fn refusals_are_told_apart() {
        let cancelled = run(&answering("echo 'ERR 83886179 Operation cancelled'"), LONG);
        assert!(matches!(cancelled, Err(Error::Cancelled)), "{cancelled:?}");
        let late = run(&answering("echo 'ERR 83886142 Timeout'"), LONG);
        assert!(matches!(late, Err(Error::TimedOut)), "{late:?}");
    }

    #[test]
    fn programs_that_are_no_pinentry_are_failures() {
        for script in ["exit 1", "echo hello", "yes", "head -c 5000 /dev/zero", ":"] {
            let result = run(script, LONG);
            assert!(
                matches!(result, Err(Error::Failed(_))),
                "{script}: {result:?}"
            );
        }
    }

    #[test]
    fn pinentry_that_hangs_is_given_up() {
        let began = Instant::now();
        let result = run(&answering("kill -STOP $$"), Duration::from_secs(1));
        assert!(matches!(result, Err(Error::TimedOut)), "{result:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn missing_program_is_named() {
        let options = Options {
            program: "/nonexistent/pinentry".into(),
            tty: None,
        };
        let result = Pinentry::start(&options, &Arc::default(), LONG);
        assert!(matches!(result, Err(Error::Failed(text)) if text.contains("/nonexistent")));
    }
}
