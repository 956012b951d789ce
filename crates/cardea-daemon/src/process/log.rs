//! The log: to stderr, which may be a terminal, the journal, a pipe whose reader has died, or a file on a full disk.
//!
//! A line may be lost, and nothing else: no request waits for the log or fails because of it. What repeats is
//! counted, so that nobody can fill the log.

mod repeats;

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use self::repeats::Repeats;

/// How long a line waits for a reader that is slow; the next ones do not wait until one goes through again.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// More than this at once may block a pipe (`PIPE_BUF`, pipe(7)).
const MAX_LINE: usize = 4096;

/// Begins the log.
pub fn start(filter: EnvFilter) {
    let journal = std::env::var("JOURNAL_STREAM").ok();
    let journal = journal.is_some_and(|stream| is_stream(io::stderr().as_fd(), &stream));
    subscribe(filter, journal, Stderr { journal });
}

fn subscribe<W>(filter: EnvFilter, journal: bool, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        // It would report a lost line to stderr, which panics where that is the reason.
        .log_internal_errors(false);
    // The journal has the time and the level itself.
    if journal {
        begin(lines.without_time().with_level(false).finish());
    } else {
        begin(lines.finish());
    }
}

fn begin(subscriber: impl Subscriber + Send + Sync) {
    // It fails only when there is one already.
    let _ = tracing::subscriber::set_global_default(Repeats(subscriber));
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        // Not its message, which may contain what somebody has sent.
        let place = panic.location().map(ToString::to_string);
        tracing::error!(thread = thread.name(), place, "internal error");
    }));
}

/// How often [`report`] is wanted.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Logs how often lines were left out that repeat too often, as soon as their minute is over.
pub fn report() {
    repeats::report();
}

/// Logs what was left out and not reported yet, at the end of the process.
pub fn report_all() {
    repeats::report_all();
}

/// Whether a descriptor is the one that `JOURNAL_STREAM` means (systemd.exec(5)).
fn is_stream(descriptor: BorrowedFd<'_>, stream: &str) -> bool {
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    fstat(descriptor)
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Makes a writer for each event.
struct Stderr {
    journal: bool,
}

/// Writes one event.
struct Line {
    /// `<4>` and the like (sd-daemon(3)); nothing outside the journal.
    priority: &'static [u8],
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { priority: b"" }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        Line {
            priority: if self.journal {
                priority(*event.level())
            } else {
                b""
            },
        }
    }
}

fn priority(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"<3>",
        Level::WARN => b"<4>",
        Level::INFO => b"<6>",
        _ => b"<7>",
    }
}

impl Write for Line {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        static STUCK: AtomicBool = AtomicBool::new(false);
        let line = [self.priority, event].concat();
        write_line(io::stderr().as_fd(), &line, &STUCK);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line if that is possible soon. A longer one is cut.
fn write_line(descriptor: BorrowedFd<'_>, line: &[u8], stuck: &AtomicBool) {
    let line = match line.get(..MAX_LINE - 1) {
        Some(cut) if line.len() > MAX_LINE => &[cut, b"\n"].concat(),
        _ => line,
    };
    let patience = if stuck.load(Ordering::Relaxed) {
        Timespec::default()
    } else {
        PATIENCE
    };
    let mut ready = [PollFd::new(&descriptor, PollFlags::OUT)];
    let free = poll(&mut ready, Some(&patience)).is_ok_and(|count| count > 0);
    stuck.store(!free, Ordering::Relaxed);
    if free {
        // A reader that has died and a full disk are no failure of ours.
        let _ = rustix::io::write(descriptor, line);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn lines_are_lost_where_nobody_reads_and_nothing_waits() {
        let (reader, writer) = io::pipe().unwrap();
        let stuck = AtomicBool::new(false);
        let start = Instant::now();
        // A pipe takes 64 KiB.
        for _ in 0..2000 {
            write_line(writer.as_fd(), &[b'x'; 200], &stuck);
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(stuck.load(Ordering::Relaxed));
        let mut buffer = vec![0; 65_536];
        rustix::io::read(&reader, &mut buffer).unwrap();
        write_line(writer.as_fd(), b"again\n", &stuck);
        assert!(!stuck.load(Ordering::Relaxed));
        drop(reader);
        write_line(writer.as_fd(), b"gone\n", &stuck);
        let full = File::options().write(true).open("/dev/full").unwrap();
        write_line(full.as_fd(), b"full\n", &stuck);
    }

    #[test]
    fn long_line_is_cut() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        write_line(writer.as_fd(), &[b'x'; 10_000], &AtomicBool::new(false));
        drop(writer);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert_eq!((text.len(), text.last()), (MAX_LINE, Some(&b'\n')));
    }

    #[test]
    fn journal_is_recognised_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let stat = fstat(&file).unwrap();
        let stream = |device, inode| format!("{device}:{inode}");
        assert!(is_stream(file.as_fd(), &stream(stat.st_dev, stat.st_ino)));
        assert!(!is_stream(
            file.as_fd(),
            &stream(stat.st_dev, stat.st_ino + 1)
        ));
        assert!(!is_stream(file.as_fd(), "none"));
    }

    #[test]
    fn levels_have_the_priorities_of_syslog() {
        let stderr = Stderr { journal: true };
        assert_eq!(stderr.make_writer().priority, b"");
        assert_eq!(priority(Level::WARN), b"<4>");
        assert_eq!(priority(Level::TRACE), b"<7>");
    }
}
