//! A client's connection, and what becomes of it in a child process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::connect::check_server;
use crate::frame::Channel;
use crate::origin::Origin;

/// A connected socket that knows where it was made.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) channel: Channel<OwnedFd>,
    origin: Origin,
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
        check_server(path)?;
        Self::inherited(socket)
    }

    /// A connected and greeted socket that another process has made for this one.
    pub(crate) fn inherited(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            origin: Origin::of(&socket)?,
            channel: Channel::new(socket),
        })
    }

    /// Whether this process made it, and its descriptor still is that socket. After `fork` the connection stays the
    /// parent's; a program may close descriptors that it does not know, and use their numbers for others.
    pub(crate) fn is_ours(&self) -> bool {
        self.origin.is_this_process() && self.origin.is_at(self.channel.socket())
    }

    /// Closes it. A child closes its copy of the descriptor, which the parent does not notice.
    pub(crate) fn close(self) {
        self.origin.close(self.channel.into_socket());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptor_that_the_program_has_used_again_is_neither_used_nor_closed() {
        let (ours, _peer) = UnixStream::pair().unwrap();
        let link = Link::inherited(ours.into()).unwrap();
        assert!(link.is_ours());
        let origin = link.origin;
        let mut socket = link.channel.into_socket();
        let number = socket.as_raw_fd();
        // As a program does that closes all descriptors and opens others.
        rustix::io::dup2(File::open("/dev/null").unwrap(), &mut socket).unwrap();
        let link = Link {
            channel: Channel::new(socket),
            origin,
        };
        assert!(!link.is_ours());
        link.close();
        let what = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert_eq!(what, Path::new("/dev/null"), "it is still the program's");
    }
}
