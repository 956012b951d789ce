//! Watching the slots: which hold a card, told at once when it changes, across restarts of the daemon.
//!
//! A [`Watch`] has one connection of its own with one `ReaderRequest::WaitStates` always under way.
//! While the daemon is away all slots are empty; its return is noticed by the folder of its socket.

mod folder;
mod private;
mod wake;

pub use wake::Wake;

use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::frame::{FrameError, accept, hello};
use crate::link::Link;
use crate::message::{ReaderRequest, Reply, Request};
use folder::Folder;

/// A daemon that has taken the connection must greet within this time.
const GREETING_TIME: Duration = Duration::from_secs(2);

/// How long the daemon is asked to wait for a change.
const ASK_TIME: Duration = Duration::from_secs(30);

/// A daemon that exceeds its time limit by this much is considered dead.
const GRACE: Duration = Duration::from_secs(10);

/// Between attempts to connect: first, then doubled.
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// Between attempts to connect at most, when a new socket is noticed by itself.
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Between attempts to connect at most, when it is not.
const LAST_BLIND_RETRY: Duration = Duration::from_millis(500);

/// Messages taken in at a time.
const MAX_MESSAGES: usize = 64;

/// One card in one slot, from its insertion until its removal or the end of the connection to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insertion {
    /// Numbers of different connections cannot be compared.
    connection: u64,
    number: u64,
}

/// Why [`Watch::wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// By [`Wake::wake`].
    Called,
    /// The state of some slot may be another.
    Changed,
    /// The time is over.
    TimedOut,
}

/// The state of all slots of one daemon.
pub struct Watch {
    path: PathBuf,
    link: Option<Watched>,
    /// Number of the present or last connection.
    connection: u64,
    inserted: Vec<u64>,
    retry: Retry,
    folder: Option<Folder>,
}

struct Watched {
    link: Link,
    stage: Stage,
    /// When the next message must be here.
    deadline: Instant,
}

/// What is expected of the daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    /// The first answer.
    First,
    /// Another answer.
    Next,
}

struct Retry {
    due: Instant,
    pause: Duration,
}

impl Watch {
    /// For the daemon at `path`; connects when first asked to look.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            link: None,
            connection: 0,
            inserted: Vec::new(),
            retry: Retry::now(),
            folder: None,
        }
    }

    /// The card in a slot as far as known; `None` for an empty slot and while the daemon is away.
    #[must_use]
    pub fn inserted(&self, slot: u8) -> Option<Insertion> {
        match self.inserted.get(usize::from(slot)) {
            None | Some(0) => None,
            Some(&number) => Some(Insertion {
                connection: self.connection,
                number,
            }),
        }
    }

    /// Takes in what the daemon has said, without waiting for anything.
    pub fn look(&mut self) {
        self.advance();
    }

    /// Brings a watch that is not connected up to date, if the daemon answers within the time.
    pub fn refresh(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        self.advance();
        while self.is_new() && Instant::now() < deadline {
            self.sleep(None, deadline);
            self.advance();
        }
    }

    /// Waits until something changes or somebody calls, at most `timeout`.
    pub fn wait(&mut self, wake: &Wake, timeout: Duration) -> Woken {
        let deadline = Instant::now() + timeout;
        loop {
            if wake.take() {
                return Woken::Called;
            }
            if self.advance() {
                return Woken::Changed;
            }
            if Instant::now() >= deadline {
                return Woken::TimedOut;
            }
            self.sleep(Some(wake), deadline);
        }
    }

    /// Whether there is a connection on which nothing is known of the slots yet.
    fn is_new(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|watched| watched.stage != Stage::Next)
    }

    /// Does all that can be done without waiting. Whether the state may be another than before.
    fn advance(&mut self) -> bool {
        let mut changed = false;
        if self
            .link
            .as_ref()
            .is_some_and(|watched| !watched.link.is_ours())
        {
            // After `fork`: the parent goes on with it.
            self.lose();
            self.folder = None;
            changed = true;
        }
        // Limited, so that no daemon can keep the caller here.
        for _ in 0..MAX_MESSAGES {
            let result = if let Some(watched) = &mut self.link {
                watched.next()
            } else if self.dial() {
                continue;
            } else {
                return changed;
            };
            match result {
                Ok(Some(inserted)) => {
                    changed |= self.inserted != inserted;
                    self.inserted = inserted;
                }
                Ok(None) => return changed,
                Err(_) => {
                    changed |= self.inserted.iter().any(|&number| number != 0);
                    self.lose();
                }
            }
        }
        changed
    }

    /// Connects if it is time to try. Whether there is a connection now.
    fn dial(&mut self) -> bool {
        if self.folder.as_ref().is_some_and(Folder::changed) {
            self.folder = None;
            self.retry.soon();
        }
        if Instant::now() < self.retry.due {
            return false;
        }
        if self.folder.is_none() {
            // Before the attempt: a socket made in between is not missed.
            self.folder = Folder::watch(&self.path);
        }
        match Watched::dial(&self.path) {
            Ok(watched) => {
                self.connection += 1;
                self.link = Some(watched);
                true
            }
            Err(_) => {
                self.retry_later();
                false
            }
        }
    }

    fn lose(&mut self) {
        self.inserted.clear();
        if let Some(watched) = self.link.take() {
            let good = watched.stage == Stage::Next;
            watched.link.close();
            if good {
                self.retry = Retry::now();
            } else {
                self.retry_later();
            }
        }
    }

    fn retry_later(&mut self) {
        self.retry.later(match self.folder {
            Some(_) => LAST_RETRY,
            None => LAST_BLIND_RETRY,
        });
    }

    /// Sleeps until there may be something to do.
    fn sleep(&self, wake: Option<&Wake>, deadline: Instant) {
        let due = match &self.link {
            Some(watched) => watched.deadline,
            None => self.retry.due,
        };
        let left = deadline.min(due).saturating_duration_since(Instant::now());
        // Not to wake up just before it is time.
        let left = left.saturating_add(Duration::from_micros(1));
        let Ok(timeout) = Timespec::try_from(left) else {
            return;
        };
        let mut events = Vec::with_capacity(2);
        if let Some(wake) = wake.and_then(Wake::descriptor) {
            events.push(PollFd::from_borrowed_fd(wake, PollFlags::IN));
        }
        let source = match &self.link {
            Some(watched) => Some(watched.link.channel.socket().as_fd()),
            None => self.folder.as_ref().and_then(Folder::descriptor),
        };
        if let Some(source) = source {
            events.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
        }
        // Interrupted or not, the caller looks again.
        let _ = poll(&mut events, Some(&timeout));
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("path", &self.path)
            .field("connection", &self.connection)
            .field("inserted", &self.inserted)
            .finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.lose();
    }
}

impl Watched {
    fn dial(path: &Path) -> Result<Self, FrameError> {
        let mut link = Link::dial(path, None).map_err(FrameError::Io)?;
        if let Err(error) = link.channel.send(&hello()) {
            link.close();
            return Err(error);
        }
        Ok(Self {
            link,
            stage: Stage::Greeting,
            deadline: Instant::now() + GREETING_TIME,
        })
    }

    /// The state of the slots, if it is here; then the next question is under way.
    fn next(&mut self) -> Result<Option<Vec<u64>>, FrameError> {
        loop {
            let channel = &mut self.link.channel;
            if !channel.poll_frame()? {
                return if Instant::now() < self.deadline {
                    Ok(None)
                } else {
                    Err(FrameError::TimedOut)
                };
            }
            if self.stage == Stage::Greeting {
                accept(&channel.take()?)?;
                // 0 is never current: the answer comes at once.
                self.ask(0, GREETING_TIME)?;
                self.stage = Stage::First;
                continue;
            }
            let Reply::Slots {
                generation,
                inserted,
            } = channel.take()?
            else {
                return Err(FrameError::Malformed(minicbor::decode::Error::message(
                    "unexpected reply to this request",
                )));
            };
            self.ask(generation, ASK_TIME + GRACE)?;
            self.stage = Stage::Next;
            return Ok(Some(inserted));
        }
    }

    fn ask(&mut self, generation: u64, time: Duration) -> Result<(), FrameError> {
        self.deadline = Instant::now() + time;
        self.link
            .channel
            .send(&Request::Reader(ReaderRequest::WaitStates {
                generation,
                timeout_ms: u32::try_from(ASK_TIME.as_millis()).unwrap_or(u32::MAX),
            }))
    }
}

impl Retry {
    fn now() -> Self {
        Self {
            due: Instant::now(),
            pause: FIRST_RETRY,
        }
    }

    /// Begins anew, but not faster than [`FIRST_RETRY`]: the folder may be a busy one.
    fn soon(&mut self) {
        self.due = self.due.min(Instant::now() + FIRST_RETRY);
        self.pause = FIRST_RETRY;
    }

    fn later(&mut self, limit: Duration) {
        self.due = Instant::now() + self.pause;
        self.pause = self.pause.saturating_mul(2).min(limit);
    }
}
