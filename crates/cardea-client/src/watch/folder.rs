//! Noticing that a daemon makes its socket.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::inotify;
use rustix::io::Errno;

use super::private::Private;

/// A watch (inotify(7)) on the nearest folder above the socket that exists.
pub(super) struct Folder(Private);

impl Folder {
    /// `None` where that is not possible.
    pub(super) fn watch(socket: &Path) -> Option<Self> {
        let descriptor =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        let events = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            // The socket is there, and now may be used.
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::MOVE_SELF
            | inotify::WatchFlags::ONLYDIR;
        for folder in socket.ancestors().skip(1) {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            match inotify::add_watch(&descriptor, folder, events) {
                Ok(_) => return Private::new(descriptor).ok().map(Self),
                Err(Errno::NOENT) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Whether something happened there. After that a new watch is needed: a nearer folder may be there.
    pub(super) fn changed(&self) -> bool {
        let mut events = [0; 4096];
        match self.0.get().map(|fd| rustix::io::read(fd, &mut events)) {
            Some(Err(Errno::AGAIN | Errno::INTR)) => false,
            // Also when it cannot be known.
            Some(_) | None => true,
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.get()
    }
}
