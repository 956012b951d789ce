//! Secrets that come as file descriptors: read once, at most 256 bytes, within a few seconds.
//!
//! A descriptor shares its position and flags with whoever gave it, who can change them at any moment: neither is
//! relied on.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cardea_client::message::SecretBytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_get_seals, fcntl_getfl, fstat};
use rustix::io::{Errno, pread, read};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use zeroize::Zeroizing;

use super::error::BusError;

/// Longest secret in bytes.
pub(crate) const MAX_SECRET: usize = 256;

/// Whoever passes a descriptor already has the secret.
const READ_TIME: Duration = Duration::from_secs(5);

/// Reads a secret to its end.
///
/// Pipes and memfds only: a read of a file in a user's own file system could block without limit.
pub(crate) fn take(descriptor: OwnedFd) -> Result<SecretBytes, BusError> {
    take_within(&descriptor, READ_TIME)
}

fn take_within(descriptor: &OwnedFd, limit: Duration) -> Result<SecretBytes, BusError> {
    let kind = FileType::from_raw_mode(fstat(descriptor).map_err(failed)?.st_mode);
    let is_memfd = kind == FileType::RegularFile && fcntl_get_seals(descriptor).is_ok();
    if !is_memfd && kind != FileType::Fifo {
        return Err(BusError::invalid(
            "a secret must be passed as a pipe or a sealed memfd",
        ));
    }
    // These two cannot be changed.
    let flags = fcntl_getfl(descriptor).map_err(failed)?;
    if !(flags & (OFlags::WRONLY | OFlags::PATH)).is_empty() {
        return Err(BusError::invalid("the descriptor is not open for reading"));
    }
    let mut secret = Secret {
        buffer: Zeroizing::new([0; MAX_SECRET + 1]),
        length: 0,
    };
    if is_memfd {
        // From its beginning: whoever has just written it left the position at its end.
        secret.fill(|length, room| pread(descriptor, room, length as u64))?;
    } else {
        let end = Instant::now() + limit;
        let pipe = Pipe::new(descriptor).map_err(failed)?;
        secret.fill(|_, room| pipe.read(room, end))?;
    }
    Ok(secret.bytes())
}

fn failed(error: Errno) -> BusError {
    match error {
        Errno::TIMEDOUT => BusError::invalid("the end of the secret was not received in time"),
        error => BusError::invalid(format!("the secret cannot be read: {error}")),
    }
}

/// What was read so far.
struct Secret {
    /// With room for one byte more than a secret has, which shows that it is too long.
    buffer: Zeroizing<[u8; MAX_SECRET + 1]>,
    length: usize,
}

impl Secret {
    /// Reads until there is nothing more. The length so far is an argument of `read`.
    fn fill(
        &mut self,
        read: impl Fn(usize, &mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), BusError> {
        loop {
            let room = self.buffer.get_mut(self.length..).unwrap_or_default();
            if room.is_empty() {
                return Err(BusError::invalid(format!(
                    "a secret must have at most {MAX_SECRET} bytes"
                )));
            }
            match read(self.length, room) {
                Ok(0) => return Ok(()),
                Ok(count) => self.length += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn bytes(&self) -> SecretBytes {
        let bytes = self.buffer.get(..self.length).unwrap_or_default();
        SecretBytes::new(bytes.to_vec())
    }
}

/// Somebody's pipe, read through one of ours: splice(2) does not wait with `SPLICE_F_NONBLOCK`, whatever the flags of the
/// descriptor are (`RWF_NOWAIT` does not work for pipes before Linux 6.4).
struct Pipe<'a> {
    theirs: &'a OwnedFd,
    reader: OwnedFd,
    writer: OwnedFd,
}

impl<'a> Pipe<'a> {
    fn new(theirs: &'a OwnedFd) -> Result<Self, Errno> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self {
            theirs,
            reader,
            writer,
        })
    }

    /// Zero bytes at the end.
    fn read(&self, room: &mut [u8], end: Instant) -> Result<usize, Errno> {
        let mode = SpliceFlags::NONBLOCK;
        loop {
            match splice(self.theirs, None, &self.writer, None, room.len(), mode) {
                Ok(0) => return Ok(0),
                // At most what was moved is in ours, which had nothing else.
                Ok(_) => return read(&self.reader, room),
                Err(Errno::AGAIN) => self.await_more(end)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn await_more(&self, end: Instant) -> Result<(), Errno> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::TIMEDOUT);
        }
        let limit = Timespec::try_from(left).map_err(|_| Errno::TIMEDOUT)?;
        match poll(&mut [PollFd::new(self.theirs, PollFlags::IN)], Some(&limit))? {
            0 => Err(Errno::TIMEDOUT),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_setfl, memfd_create};
    use rustix::io::ioctl_fionread;

    use super::*;

    fn pipe(content: &[u8]) -> OwnedFd {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(content).unwrap();
        reader.into()
    }

    fn memfd(content: &[u8]) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("secret", flags).unwrap());
        file.write_all(content).unwrap();
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SEAL).unwrap();
        file.into()
    }

    #[test]
    fn pipes_and_memfds_are_read_to_their_end() {
        for length in [0, 1, 24, MAX_SECRET] {
            let content = vec![0x5A; length];
            assert_eq!(take(pipe(&content)).unwrap().expose(), content);
            assert_eq!(take(memfd(&content)).unwrap().expose(), content);
        }
    }

    #[test]
    fn more_than_a_secret_is_refused() {
        for length in [MAX_SECRET + 1, 1 << 20] {
            assert!(take(memfd(&vec![1; length])).is_err());
        }
        assert!(take(pipe(&[1; MAX_SECRET + 1])).is_err());
    }

    #[test]
    fn endless_pipe_is_given_up() {
        let (reader, writer) = std::io::pipe().unwrap();
        let began = Instant::now();
        let error = take(reader.into()).unwrap_err();
        assert!(error.text().contains("in time"), "{error:?}");
        assert!(began.elapsed() < 4 * READ_TIME);
        drop(writer);
    }

    #[test]
    fn nothing_depends_on_flags_and_position_that_the_giver_changes() {
        let (reader, writer) = std::io::pipe().unwrap();
        let theirs = reader.try_clone().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let clearing = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                fcntl_setfl(&theirs, OFlags::empty()).unwrap();
            }
        });
        let (done, finished) = channel();
        let reader = OwnedFd::from(reader);
        // It may hang in a read, where the test ends without it.
        thread::spawn(move || {
            for _ in 0..300 {
                let error = take_within(&reader, Duration::from_millis(2)).unwrap_err();
                assert!(error.text().contains("in time"), "{error:?}");
            }
            let flags = fcntl_getfl(&reader).unwrap();
            done.send(flags & OFlags::NONBLOCK).unwrap();
        });
        let flags = finished.recv_timeout(Duration::from_secs(60));
        stop.store(true, Ordering::Relaxed);
        clearing.join().unwrap();
        drop(writer);
        assert_eq!(flags, Ok(OFlags::empty()), "the giver's flags are theirs");

        let memfd = memfd(b"123456");
        rustix::fs::seek(&memfd, rustix::fs::SeekFrom::Start(3)).unwrap();
        let twin = memfd.try_clone().unwrap();
        assert_eq!(take(memfd).unwrap().expose(), b"123456");
        assert_eq!(rustix::fs::tell(&twin).unwrap(), 3);
    }

    #[test]
    fn pipe_in_small_parts_is_read_whole() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let theirs = reader.try_clone().unwrap();
        let parts = thread::spawn(move || {
            let limit = Instant::now() + Duration::from_secs(60);
            for part in [b"12", b"34", b"56"] {
                writer.write_all(part).unwrap();
                // Each is read before the next one, and the last before the end.
                while ioctl_fionread(&theirs).unwrap() > 0 {
                    assert!(Instant::now() < limit, "it is not read");
                    thread::yield_now();
                }
            }
        });
        assert_eq!(take(reader.into()).unwrap().expose(), b"123456");
        parts.join().unwrap();
    }

    #[test]
    fn other_files_and_write_ends_are_refused() {
        let (_reader, writer) = std::io::pipe().unwrap();
        for descriptor in [
            File::open("/dev/zero").unwrap().into(),
            File::open("/").unwrap().into(),
            File::open("/proc/self/maps").unwrap().into(),
            OwnedFd::from(writer),
        ] {
            assert!(take(descriptor).is_err());
        }
    }
}
