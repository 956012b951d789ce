//! Keeping the cards on a drive inserted for as long as the drive is there.
//!
//! The daemon opens no path of a user's and keeps nothing of a drive open: a descriptor that stays open, even
//! one that only names the folder, makes the drive busy, and unmounting it fails. So a program of the user's
//! (the agent, or `cardea card attach`) holds a connection instead, gives the open folder when the daemon
//! needs it, and closes it at once.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::socket_peercred;

use crate::acl;
use crate::client::{CONNECT_TIME, ClientError, open};
use crate::connect::connect;
use crate::frame::{FRAME_TIME, FrameError};
use crate::link::Link;
use crate::message::{CardSummary, DriveRequest, Failure, Hold, Reply, Request};
use crate::watch::Wake;

/// Name of the folder with card files at the root of a drive.
pub const FOLDER: &str = "Cardea";

/// File systems that cards are kept on; the daemon has the same list.
const FILE_SYSTEMS: [&str; 12] = [
    "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "iso9660", "ntfs3", "udf", "vfat",
    "xfs",
];

/// The daemon answers within this time, or is taken for dead.
const ASK_TIME: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(20);

/// Reading the files of a slow drive, and comparing the cards with the TPM, takes at most this.
const ATTACH_TIME: Duration = Duration::from_secs(120);

/// Between two looks whether the drive was pulled without being unmounted.
const LOOK_TIME: Duration = Duration::from_secs(3);

/// Between two attempts to reach a daemon that is away.
const RETRY: Duration = Duration::from_secs(1);

/// Longest list of mounts that is read.
const MAX_MOUNTS: u64 = 1024 * 1024;

/// Why the cards on a drive are not inserted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The daemon cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The folder cannot be opened.
    #[error("cannot open {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The daemon refuses.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// Why an attachment has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By [`Wake::wake`].
    Called,
    /// The daemon went away.
    Disconnected,
    /// Somebody took the drive out, or the daemon did.
    Detached,
    /// The drive is gone.
    Gone,
}

/// What the daemon said of a drive.
#[derive(Debug)]
pub struct Attached {
    /// The cards that are there.
    pub cards: Vec<CardSummary>,
    /// Why other files are not, in words.
    pub problems: Vec<String>,
}

/// Opens a folder for the daemon.
///
/// # Errors
///
/// Those of open(2).
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Makes the folder for card files at this place, unless it is there, and lets the daemon in.
///
/// # Errors
///
/// Those of the file system.
pub fn make_folder(socket: &Path, place: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let folder = place.join(FOLDER);
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => File::open(place)?.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let opened = open_folder(&folder)?;
    // A daemon that is away is told of by the next request.
    if let Ok(stream) = connect(socket) {
        let_in(&opened, &stream);
    }
    Ok((folder, opened))
}

/// Gives the user that the daemon runs as access to a folder of ours, where the file system can do that.
fn let_in(folder: &OwnedFd, socket: impl AsFd) {
    if let Ok(daemon) = socket_peercred(socket) {
        acl::let_in(folder, daemon.uid.as_raw());
    }
}

/// A connection for as long as which the cards in a folder are inserted.
#[derive(Debug)]
pub struct Attachment {
    link: Link,
    drive: Presence,
    /// Whether the daemon wants the folder with the next message.
    wanted: bool,
}

impl Attachment {
    /// Connects and has the cards in this folder inserted.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn new(socket: &Path, folder: &Path) -> Result<(Self, Attached), AttachError> {
        let failed = |source| AttachError::Folder {
            path: folder.to_owned(),
            source,
        };
        let opened = open_folder(folder).map_err(failed)?;
        let drive = Presence::new(folder).map_err(failed)?;
        let mut link = open(socket, CONNECT_TIME)?;
        let_in(&opened, link.channel.socket());
        let request = Request::Drive(DriveRequest::Attach {
            place: folder.display().to_string(),
        });
        let channel = &mut link.channel;
        let reply = channel
            .send_with_descriptor(&request, Some(opened.as_fd()))
            .and_then(|()| channel.receive(Some(ATTACH_TIME), FRAME_TIME));
        drop(opened);
        match reply {
            Ok(Reply::Drive { cards, problems }) => {
                let attachment = Self {
                    link,
                    drive,
                    wanted: false,
                };
                Ok((attachment, Attached { cards, problems }))
            }
            Ok(Reply::Failed(failure)) => Err(AttachError::Refused(failure)),
            Ok(_) => Err(ClientError::Protocol(unexpected()).into()),
            Err(FrameError::TimedOut) => Err(ClientError::TimedOut.into()),
            Err(error) => Err(ClientError::Disconnected(error).into()),
        }
    }

    /// Goes on with the connection that another process has made by [`new`](Self::new), at its
    /// [`socket`](Self::into_socket).
    ///
    /// # Errors
    ///
    /// When the descriptor is none or the folder is not there.
    pub fn inherited(socket: OwnedFd, folder: &Path) -> io::Result<Self> {
        Ok(Self {
            link: Link::inherited(socket)?,
            drive: Presence::new(folder)?,
            wanted: false,
        })
    }

    /// The connection, for another process to go on with.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.link.channel.into_socket()
    }

    /// Keeps the cards inserted until something ends that.
    pub fn keep(&mut self, wake: &Wake) -> Ended {
        loop {
            match self.ask(wake) {
                Ok(Ok(Hold::Wait)) => {}
                Ok(Ok(Hold::Folder)) => self.wanted = true,
                Ok(Ok(Hold::Detached)) => return Ended::Detached,
                Ok(Err(ended)) => return ended,
                Err(_) if !self.drive.is_there() => return Ended::Gone,
                Err(_) => return Ended::Disconnected,
            }
        }
    }

    /// One question to the daemon, watching the drive until it is answered.
    fn ask(&mut self, wake: &Wake) -> Result<Result<Hold, Ended>, FrameError> {
        let mut folder = None;
        if std::mem::take(&mut self.wanted) {
            // Not another one that has its place by now.
            folder = self.drive.open();
            if folder.is_none() {
                return Ok(Err(Ended::Gone));
            }
        }
        let request = Request::Drive(DriveRequest::Hold {
            timeout_ms: u32::try_from(ASK_TIME.as_millis()).unwrap_or(u32::MAX),
        });
        let channel = &mut self.link.channel;
        channel.send_with_descriptor(&request, folder.as_ref().map(AsFd::as_fd))?;
        drop(folder);
        let deadline = Instant::now() + ASK_TIME + GRACE;
        loop {
            if wake.take() {
                return Ok(Err(Ended::Called));
            }
            if self.link.channel.poll_frame()? {
                return match self.link.channel.take()? {
                    Reply::Hold(hold) => Ok(Ok(hold)),
                    _ => Err(unexpected()),
                };
            }
            if !self.drive.is_there() {
                return Ok(Err(Ended::Gone));
            }
            if Instant::now() >= deadline {
                return Err(FrameError::TimedOut);
            }
            self.drive.sleep(Some(&self.link), wake, LOOK_TIME);
        }
    }
}

/// Keeps the cards in a folder inserted, also over restarts of the daemon, until the drive is gone, somebody
/// detaches it or calls; `attached` is called each time the cards are inserted.
///
/// # Errors
///
/// What the daemon refuses, at the first time or a later one.
pub fn hold(
    socket: &Path,
    folder: &Path,
    wake: &Wake,
    attached: &mut dyn FnMut(Attached),
) -> Result<Ended, AttachError> {
    let mut reported = false;
    loop {
        let ended = match Attachment::new(socket, folder) {
            Ok((mut attachment, told)) => {
                reported = true;
                attached(told);
                attachment.keep(wake)
            }
            // A daemon that is to be started by somebody, or again.
            Err(AttachError::Client(_)) => Ended::Disconnected,
            Err(AttachError::Folder { .. }) if reported => Ended::Gone,
            Err(error) => return Err(error),
        };
        if ended != Ended::Disconnected {
            return Ok(ended);
        }
        let Ok(drive) = Presence::new(folder) else {
            return Ok(Ended::Gone);
        };
        drive.sleep(None, wake, RETRY);
        if wake.take() {
            return Ok(Ended::Called);
        }
    }
}

/// A folder on a drive, and whether it is still there; keeps nothing of it open.
#[derive(Debug)]
struct Presence {
    folder: PathBuf,
    identity: (u64, u64),
    /// What the kernel shows of the device, if it does.
    device: Option<PathBuf>,
    mounts: File,
}

impl Presence {
    fn new(folder: &Path) -> io::Result<Self> {
        // Before the look: a change in between is not missed.
        let mounts = File::open("/proc/self/mountinfo")?;
        let found = folder.symlink_metadata()?;
        let device = PathBuf::from(format!(
            "/sys/dev/block/{}:{}",
            rustix::fs::major(found.dev()),
            rustix::fs::minor(found.dev())
        ));
        Ok(Self {
            folder: folder.to_owned(),
            identity: identity(&found),
            device: Some(device).filter(|device| device.exists()),
            mounts,
        })
    }

    fn is_there(&self) -> bool {
        let found = self.folder.symlink_metadata();
        found.is_ok_and(|found| identity(&found) == self.identity)
            && self.device.as_ref().is_none_or(|device| device.exists())
    }

    fn open(&self) -> Option<OwnedFd> {
        let folder = open_folder(&self.folder).ok()?;
        let found = rustix::fs::fstat(&folder).ok()?;
        ((found.st_dev, found.st_ino) == self.identity).then_some(folder)
    }

    /// Until something is mounted or unmounted, the daemon says something, somebody calls, or the time is over.
    fn sleep(&self, link: Option<&Link>, wake: &Wake, time: Duration) {
        let mut events = vec![PollFd::new(&self.mounts, PollFlags::PRI)];
        if let Some(wake) = wake.descriptor() {
            events.push(PollFd::from_borrowed_fd(wake, PollFlags::IN));
        }
        if let Some(link) = link {
            let socket = link.channel.socket().as_fd();
            events.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
        }
        let timeout = Timespec::try_from(time).ok();
        // Interrupted or not, the caller looks again.
        let _ = poll(&mut events, timeout.as_ref());
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn unexpected() -> FrameError {
    FrameError::Malformed(minicbor::decode::Error::message(
        "unexpected reply to this request",
    ))
}

/// The mounted drives, and their comings and goings.
#[derive(Debug)]
pub struct Mounts(File);

/// A folder with card files on a mounted drive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DrivePlace {
    /// The folder.
    pub folder: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Mounts {
    /// Of this process's view of the file system.
    ///
    /// # Errors
    ///
    /// When there is no `/proc`.
    pub fn new() -> io::Result<Self> {
        File::open("/proc/self/mountinfo").map(Self)
    }

    /// Every folder of card files at the root of a mounted file system on which cards can be.
    #[must_use]
    pub fn drives(&self) -> Vec<DrivePlace> {
        let text = File::open("/proc/self/mountinfo").and_then(|file| {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, MAX_MOUNTS), &mut bytes)?;
            Ok(bytes)
        });
        let mut places: Vec<DrivePlace> = Vec::new();
        for line in text.unwrap_or_default().split(|byte| *byte == b'\n') {
            let Some(root) = mount_point(line) else {
                continue;
            };
            let folder = root.join(FOLDER);
            let Ok(found) = folder.symlink_metadata() else {
                continue;
            };
            let identity = identity(&found);
            // A drive may be mounted at several places.
            if found.is_dir() && places.iter().all(|place| place.identity != identity) {
                places.push(DrivePlace { folder, identity });
            }
        }
        places
    }

    /// Sleeps until something is mounted or unmounted, or somebody calls; true: somebody has called.
    pub fn wait(&self, wake: &Wake) -> bool {
        let mut events = vec![PollFd::new(&self.0, PollFlags::PRI)];
        if let Some(wake) = wake.descriptor() {
            events.push(PollFd::from_borrowed_fd(wake, PollFlags::IN));
        }
        // Interrupted or not, the caller looks again.
        let _ = poll(&mut events, None);
        wake.take()
    }
}

/// Where a line of mountinfo (proc(5)) mounts a file system on which cards can be.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let kind = fields.get(separator + 1)?;
    let known = FILE_SYSTEMS.iter().any(|name| name.as_bytes() == *kind);
    let path = unescaped(fields.get(4)?);
    known.then(|| std::ffi::OsString::from_vec(path).into())
}

/// Blanks, tabs, line feeds and backslashes are written as a backslash and three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = (*first == b'\\')
            .then(|| after.split_at_checked(3))
            .flatten();
        let octal = digits.and_then(|(digits, after)| {
            let value = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(value, 8).ok()?, after))
        });
        match octal {
            Some((byte, after)) => {
                plain.push(byte);
                rest = after;
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_those_of_drives_with_their_names() {
        for (line, path) in [
            (
                r"63 43 7:0 / /media/a\040b\134c rw,relatime shared:1 - ext4 /dev/sdb1 rw",
                Some(r"/media/a b\c"),
            ),
            (
                "63 43 8:1 / /mnt rw - vfat /dev/sdb1 rw,uid=1000",
                Some("/mnt"),
            ),
            ("22 1 0:5 / /proc rw shared:1 - proc proc rw", None),
            ("70 1 0:9 / /mnt/fuse rw - fuse.sshfs host:/ rw", None),
            ("", None),
            ("1 2 3 4", None),
        ] {
            let found = mount_point(line.as_bytes());
            assert_eq!(found.as_deref(), path.map(Path::new), "{line}");
        }
    }
}
