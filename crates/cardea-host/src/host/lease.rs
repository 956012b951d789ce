//! Somebody's holding of a drive, between their connection and who wants the drive's folder.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cardea_client::message::Hold;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::host::permission::Caller;
use crate::sync::lock;

/// The longest that one `DriveRequest::Hold` may take.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// Somebody's holding of a drive.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) caller: Caller,
    state: Mutex<LeaseState>,
    changed: Condvar,
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct LeaseState {
    wanted: bool,
    given: Option<OwnedFd>,
    ended: bool,
}

impl Lease {
    pub(crate) fn new(caller: Caller) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            caller,
            state: Mutex::default(),
            changed: Condvar::new(),
            wake: eventfd(0, flags)?,
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.state).ended
    }

    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        state.given = None;
        drop(state);
        self.changed.notify_all();
        self.signal();
    }

    /// Wakes the connection that holds.
    fn signal(&self) {
        // It fails only when it was called 2^64 - 2 times before.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// The folder, from its holder.
    pub(crate) fn folder(&self, limit: Duration) -> Option<OwnedFd> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.state);
        state.given = None;
        state.wanted = true;
        self.signal();
        loop {
            if state.ended {
                return None;
            }
            if let Some(folder) = state.given.take() {
                return Some(folder);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.wanted = false;
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Takes what the holder sends, and returns what to send next; false when the time is over or it disconnected.
    pub(crate) fn hold(
        &self,
        folder: Option<OwnedFd>,
        peer: Option<&UnixStream>,
        limit: Duration,
    ) -> Hold {
        let deadline = Instant::now() + limit.min(LONGEST_HOLD);
        if let Some(folder) = folder {
            let mut state = lock(&self.state);
            if state.wanted {
                state.wanted = false;
                state.given = Some(folder);
                self.changed.notify_all();
            }
        }
        loop {
            let state = lock(&self.state);
            let (ended, wanted) = (state.ended, state.wanted);
            drop(state);
            let left = deadline.saturating_duration_since(Instant::now());
            if ended {
                return Hold::Detached;
            }
            if wanted {
                return Hold::Folder;
            }
            if left.is_zero() {
                return Hold::Wait;
            }
            let mut events = vec![PollFd::new(&self.wake, PollFlags::IN)];
            if let Some(peer) = peer {
                events.push(PollFd::new(peer, PollFlags::RDHUP));
            }
            let timeout = Timespec::try_from(left).ok();
            // Interrupted or not, we look again.
            let _ = poll(&mut events, timeout.as_ref());
            if events.get(1).is_some_and(|peer| !peer.revents().is_empty()) {
                return Hold::Wait;
            }
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
    }
}
