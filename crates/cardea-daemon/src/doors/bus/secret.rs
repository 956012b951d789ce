//! Secrets that come as file descriptors: read once, at most 256 bytes, within a few seconds.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cardea_client::message::SecretBytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_get_seals, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Errno, read};
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
    let failed = |error: Errno| BusError::invalid(format!("the secret cannot be read: {error}"));
    let kind = FileType::from_raw_mode(fstat(&descriptor).map_err(failed)?.st_mode);
    let known = match kind {
        FileType::Fifo => true,
        FileType::RegularFile => fcntl_get_seals(&descriptor).is_ok(),
        _ => false,
    };
    if !known {
        return Err(BusError::invalid(
            "a secret must be passed as a pipe or a sealed memfd",
        ));
    }
    let flags = fcntl_getfl(&descriptor).map_err(failed)?;
    if !(flags & (OFlags::WRONLY | OFlags::PATH)).is_empty() {
        return Err(BusError::invalid("the descriptor is not open for reading"));
    }
    fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).map_err(failed)?;
    if kind == FileType::RegularFile {
        // A memfd is given with its end as position by who has just written it.
        rustix::fs::seek(&descriptor, rustix::fs::SeekFrom::Start(0)).map_err(failed)?;
    }
    let end = Instant::now() + READ_TIME;
    let mut buffer = Zeroizing::new([0; MAX_SECRET + 1]);
    let mut length = 0;
    loop {
        let room = buffer.get_mut(length..).unwrap_or_default();
        if room.is_empty() {
            return Err(BusError::invalid(format!(
                "a secret must have at most {MAX_SECRET} bytes"
            )));
        }
        match read(&descriptor, room) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => await_more(&descriptor, end)?,
            Err(error) => return Err(failed(error)),
        }
    }
    let bytes = buffer.get(..length).unwrap_or_default();
    Ok(SecretBytes::new(bytes.to_vec()))
}

fn await_more(descriptor: &OwnedFd, end: Instant) -> Result<(), BusError> {
    let left = end.saturating_duration_since(Instant::now());
    let late = || BusError::invalid("the end of the secret was not received in time");
    if left.is_zero() {
        return Err(late());
    }
    let limit = Timespec::try_from(left).map_err(|_| late())?;
    match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&limit)) {
        Ok(0) => Err(late()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

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
