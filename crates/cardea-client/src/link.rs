//! A client's connection, and what becomes of it in a child process.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::fstat;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, getpid};

use crate::frame::Channel;

/// A connected socket that knows in which process it was made.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) channel: Channel<OwnedFd>,
    owner: Pid,
    /// Device and inode of the socket.
    identity: (u64, u64),
}

impl Link {
    /// Connects, not greeted yet.
    /// With `patience`, a daemon that is too busy to accept is waited for so long; without, not at all.
    pub(crate) fn dial(path: &Path, patience: Option<Duration>) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let mut flags = SocketFlags::CLOEXEC;
        if patience.is_none() {
            flags |= SocketFlags::NONBLOCK;
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        if patience.is_some() {
            // connect(2) of a Unix socket heeds the time limit for sending.
            set_socket_timeout(&socket, Timeout::Send, patience)?;
        }
        connect(&socket, &address)?;
        if patience.is_none() {
            rustix::io::ioctl_fionbio(&socket, false)?;
        }
        let stat = fstat(&socket)?;
        Ok(Self {
            channel: Channel::new(socket),
            owner: getpid(),
            identity: (stat.st_dev, stat.st_ino),
        })
    }

    /// A connected and greeted socket that another process has made for this one.
    pub(crate) fn inherited(socket: OwnedFd) -> io::Result<Self> {
        let stat = fstat(&socket)?;
        Ok(Self {
            channel: Channel::new(socket),
            owner: getpid(),
            identity: (stat.st_dev, stat.st_ino),
        })
    }

    /// Whether this process made it. After `fork` the connection stays the parent's.
    pub(crate) fn is_ours(&self) -> bool {
        self.owner == getpid()
    }

    /// Closes it. A child closes its copy of the descriptor, which the parent does not notice, unless the
    /// number means something else by now: a child may have closed all descriptors and opened others.
    pub(crate) fn close(self) {
        let ours = self.is_ours();
        let identity = self.identity;
        let socket = self.channel.into_socket();
        let same = || fstat(&socket).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == identity);
        if !ours && !same() {
            let _ = socket.into_raw_fd();
        }
    }
}
