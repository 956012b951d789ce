//! Ways to a TPM: a character device, or the command socket of a software TPM.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::simulator::Simulator;
use crate::spin_wait::SpinWait;

/// Longest response of any TPM (TPM 2.0 Part 2, TPM2_MAX_RESPONSE_SIZE of the PC Client profile).
pub(crate) const MAX_RESPONSE: usize = 4096;

/// Longest time for a command that makes a key: RSA on slow parts takes minutes.
pub(crate) const KEY_TIME: Duration = Duration::from_secs(300);

/// Longest time for any other command.
pub(crate) const COMMAND_TIME: Duration = Duration::from_secs(30);

/// Longest time to reach a socket.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Where a TPM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Character device, `device:/dev/tpmrm0`.
    Device(PathBuf),
    /// Socket of a resource manager, `manager:unix=PATH`: each connection has objects and sessions of its own.
    ManagerUnix(PathBuf),
    /// A software TPM of our own, `simulator` or `simulator:DIR`; without DIR its state is temporary.
    Simulator(Option<PathBuf>),
    /// Command socket of a running software TPM, `swtpm:tcp=HOST:PORT`.
    SwtpmTcp(String),
    /// Command socket of a running software TPM, `swtpm:unix=PATH`.
    SwtpmUnix(PathBuf),
}

/// Text that is not a TPM address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "“{0}” is not a TPM address: use device:PATH, manager:unix=PATH, swtpm:unix=PATH, swtpm:tcp=HOST:PORT or simulator[:DIR]"
)]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = if text == "simulator" {
            Some(Self::Simulator(None))
        } else if let Some(path) = text.strip_prefix("simulator:") {
            (!path.is_empty()).then(|| Self::Simulator(Some(path.into())))
        } else if let Some(path) = text.strip_prefix("device:") {
            (!path.is_empty()).then(|| Self::Device(path.into()))
        } else if let Some(path) = text.strip_prefix("manager:unix=") {
            (!path.is_empty()).then(|| Self::ManagerUnix(path.into()))
        } else if let Some(path) = text.strip_prefix("swtpm:unix=") {
            (!path.is_empty()).then(|| Self::SwtpmUnix(path.into()))
        } else {
            text.strip_prefix("swtpm:tcp=")
                .filter(|place| {
                    place.rsplit_once(':').is_some_and(|(host, port)| {
                        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
                    })
                })
                .map(|place| Self::SwtpmTcp(place.to_owned()))
        };
        address.ok_or_else(|| AddressError(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::ManagerUnix(path) => write!(f, "manager:unix={}", path.display()),
            Self::Simulator(None) => f.write_str("simulator"),
            Self::Simulator(Some(path)) => write!(f, "simulator:{}", path.display()),
            Self::SwtpmTcp(place) => write!(f, "swtpm:tcp={place}"),
            Self::SwtpmUnix(path) => write!(f, "swtpm:unix={}", path.display()),
        }
    }
}

/// One command out, one response back.
pub(crate) trait Transport: Send {
    /// Sends a command, calls `sent`, and receives the response, within about `limit`.
    ///
    /// # Errors
    ///
    /// An I/O error leaves the transport unusable: what the TPM did is not known.
    fn transact(
        &mut self,
        command: &[u8],
        response: &mut Vec<u8>,
        limit: Duration,
        sent: &dyn Fn(),
    ) -> io::Result<()>;

    /// Whether the other end is still there, as far as can be determined without a command.
    fn alive(&self) -> bool;

    /// Whether a resource manager is between: each connection then has objects and sessions of its own, and all of them
    /// are loaded before each of its commands and saved afterwards.
    fn is_managed(&self) -> bool;
}

/// Opens an address; starts the software TPM where it is ours.
pub(crate) fn open(
    address: &Address,
    simulator: &mut Option<Simulator>,
) -> io::Result<Box<dyn Transport>> {
    match address {
        Address::Device(path) => Ok(Box::new(Device::open(path)?)),
        Address::ManagerUnix(path) => {
            let stream = UnixStream::connect(path)?;
            Ok(Box::new(Socket::unix(stream, Between::Manager)?))
        }
        Address::SwtpmUnix(path) => {
            let stream = UnixStream::connect(path)?;
            Ok(Box::new(Socket::unix(stream, Between::Nobody)?))
        }
        Address::SwtpmTcp(place) => Ok(Box::new(Socket::tcp(place)?)),
        Address::Simulator(dir) => {
            let running = match simulator {
                Some(running) => running,
                None => simulator.insert(Simulator::new(dir.as_deref())?),
            };
            Ok(Box::new(Socket::unix(running.start()?, Between::Nobody)?))
        }
    }
}

/// A character device. The kernel executes a command written without blocking in the background, so that
/// its answer can be waited for with a limit; a kernel that does not know this blocks in the write, for as
/// long as its own limits are.
struct Device(File);

impl Device {
    fn open(path: &Path) -> io::Result<Self> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        File::options()
            .read(true)
            .write(true)
            .custom_flags(nonblocking)
            .open(path)
            .map(Self)
    }
}

impl Transport for Device {
    fn transact(
        &mut self,
        command: &[u8],
        response: &mut Vec<u8>,
        limit: Duration,
        sent: &dyn Fn(),
    ) -> io::Result<()> {
        // Another program behind the same resource manager may be making a key.
        let deadline = Instant::now() + limit.max(KEY_TIME);
        let written = self.0.write(command)?;
        if written != command.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "the device took half a command",
            ));
        }
        sent();
        response.resize(MAX_RESPONSE, 0);
        loop {
            wait(self.0.as_fd(), deadline)?;
            match self.0.read(response) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    response.truncate(length);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn alive(&self) -> bool {
        true
    }

    fn is_managed(&self) -> bool {
        true
    }
}

/// Who is between a socket and the TPM.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Manager,
    Nobody,
}

struct Socket<S> {
    stream: S,
    between: Between,
    awake: SpinWait,
}

impl<S> Socket<S> {
    fn new(stream: S, between: Between) -> Self {
        Self {
            stream,
            between,
            awake: SpinWait::new(),
        }
    }
}

impl Socket<UnixStream> {
    fn unix(stream: UnixStream, between: Between) -> io::Result<Self> {
        stream.set_write_timeout(Some(CONNECT_TIME))?;
        Ok(Self::new(stream, between))
    }
}

impl Socket<TcpStream> {
    fn tcp(place: &str) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in place.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIME) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(CONNECT_TIME))?;
                    return Ok(Self::new(stream, Between::Nobody));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl<S: Read + Write + AsFd + Send> Transport for Socket<S> {
    fn transact(
        &mut self,
        command: &[u8],
        response: &mut Vec<u8>,
        limit: Duration,
        sent: &dyn Fn(),
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        self.stream.write_all(command)?;
        sent();
        response.resize(MAX_RESPONSE, 0);
        let mut filled = 0;
        let mut here = self.awake.look(|| Ok(readable(self.stream.as_fd())))?;
        loop {
            let room = response
                .get_mut(filled..)
                .filter(|room| !room.is_empty())
                .ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "the response is too long")
                })?;
            if !here {
                wait(self.stream.as_fd(), deadline)?;
            }
            here = false;
            let received = self.stream.read(room)?;
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += received;
            if let Some(length) = declared_length(response.get(..filled).unwrap_or_default())? {
                if filled == length {
                    response.truncate(filled);
                    return Ok(());
                }
                if filled > length {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "more bytes than the response has",
                    ));
                }
            }
        }
    }

    fn alive(&self) -> bool {
        !readable(self.stream.as_fd())
    }

    fn is_managed(&self) -> bool {
        self.between == Between::Manager
    }
}

/// Waits until there is something to read, at most until the deadline.
fn wait(from: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            .map_err(|_| io::ErrorKind::TimedOut)?;
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Between commands nothing may come: readable means the end, or bytes that nobody asked for.
fn readable(socket: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    !matches!(poll(&mut polled, Some(&now)), Ok(0))
}

/// Length field of the header, once it is there.
fn declared_length(received: &[u8]) -> io::Result<Option<usize>> {
    let Some(field) = received
        .get(2..6)
        .and_then(|field| <[u8; 4]>::try_from(field).ok())
    else {
        return Ok(None);
    };
    match usize::try_from(u32::from_be_bytes(field)) {
        Ok(length) if (10..=MAX_RESPONSE).contains(&length) => Ok(Some(length)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the response has an impossible length",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_alike() {
        for text in [
            "device:/dev/tpmrm0",
            "manager:unix=/run/manager.sock",
            "simulator",
            "simulator:/var/lib/tpm",
            "swtpm:tcp=127.0.0.1:2321",
            "swtpm:unix=/run/tpm.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "device:",
            "manager:",
            "manager:unix=",
            "swtpm:",
            "swtpm:tcp=host",
            "swtpm:tcp=:1",
            "tcp:1",
            "simulator:",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    fn answered(answer: &[u8]) -> io::Result<Vec<u8>> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(answer)?;
        drop(theirs.shutdown(std::net::Shutdown::Write));
        let mut response = Vec::new();
        Socket::new(ours, Between::Nobody)
            .transact(b"command", &mut response, Duration::from_secs(10), &|| {})
            .map(|()| response)
    }

    #[test]
    fn silent_tpm_is_given_up_after_the_limit() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(20);
        let begin = Instant::now();
        let error = Socket::new(ours, Between::Nobody)
            .transact(b"command", &mut Vec::new(), limit, &|| {})
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= limit);
    }

    #[test]
    fn device_takes_what_one_read_gives() {
        // A pipe that both ends of are ours gives the command back as the answer.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tpm");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let mut response = Vec::new();
        Device::open(&path)
            .unwrap()
            .transact(b"command", &mut response, COMMAND_TIME, &|| {})
            .unwrap();
        assert_eq!(response, b"command");
    }

    #[test]
    fn socket_takes_exactly_one_response() {
        let whole = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0];
        assert_eq!(answered(&whole).unwrap(), whole);
        assert!(answered(&whole[..9]).is_err());
        assert!(answered(&[&whole[..], &[0]].concat()).is_err());
        assert!(answered(&[0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0]).is_err());
        assert!(answered(&[0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]).is_err());
        assert!(answered(&[]).is_err());
    }
}
