//! Frames on a connected stream socket: one message each, bounded in length and in time.
//!
//! In the common case a message costs one system call to send and one to receive: timeouts are options of
//! the socket that are set only when they change, and length and content are received together.
//! Between APDUs, and between private operations, the daemon's end looks for the next frame for a moment before it
//! sleeps.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use minicbor::{Decode, Decoder, Encode};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, send, sendmsg,
};

use crate::buffer::{Buffer, Overflow, PREFIX};
use crate::message::Hello;
use crate::protocol::{MAGIC, MARK, MAX_FRAME, VERSION};

pub use crate::error::FrameError;

/// A frame that has begun must be there within this time, and one that is sent be taken.
pub const FRAME_TIME: Duration = Duration::from_secs(10);

/// How long [`Channel::stay_awake`] looks for a frame before it sleeps.
const AWAKE: Duration = Duration::from_micros(50);

/// A yield that takes longer gave the processor to somebody else for a slice of time.
const LONGEST_YIELD: Duration = Duration::from_micros(200);

/// Then the processors are busy, and for so long frames are waited for asleep, where who wakes up comes first.
/// Doubled each time until it goes well again.
const FIRST_SLEEP: Duration = Duration::from_millis(50);

/// The longest that this becomes.
const LAST_SLEEP: Duration = Duration::from_secs(5);

/// One end of a connection: a connected, blocking stream socket and its buffers, which are erased after use.
#[derive(Debug)]
pub struct Channel<S> {
    socket: S,
    incoming: Buffer,
    outgoing: Buffer,
    /// Length of the frame at the front of `incoming` that [`Channel::poll_frame`] has given out.
    current: usize,
    receive_timeout: Option<Duration>,
    send_timeout: Option<Duration>,
    awake: bool,
    asleep_until: Option<Instant>,
    sleep: Duration,
    descriptors: Descriptors,
}

/// Descriptors that come along with frames.
#[derive(Debug)]
enum Descriptors {
    /// The one that came last; one is room enough, as each belongs to a request that is answered first.
    Taken(Option<OwnedFd>),
    /// The kernel closes them.
    Refused,
}

impl<S: AsFd> Channel<S> {
    /// Takes over a connected socket in blocking mode without timeouts.
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            incoming: Buffer::default(),
            outgoing: Buffer::default(),
            current: 0,
            receive_timeout: None,
            send_timeout: None,
            awake: false,
            asleep_until: None,
            sleep: FIRST_SLEEP,
            descriptors: Descriptors::Refused,
        }
    }

    /// From now on takes descriptors that come along.
    pub(crate) fn take_descriptors(&mut self) {
        self.descriptors = Descriptors::Taken(None);
    }

    /// The descriptor that came with the last frame.
    pub(crate) fn descriptor(&mut self) -> Option<OwnedFd> {
        match &mut self.descriptors {
            Descriptors::Refused => None,
            Descriptors::Taken(descriptor) => descriptor.take(),
        }
    }

    /// The socket, for waiting and for asking who is at the other end.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// Whether receiving looks for a frame for a moment before it sleeps, yielding the processor.
    ///
    /// Waking a sleeper on an idle processor takes several times as long as a card's answer to a command
    /// without TPM work, on virtual machines ten times. For the daemon's end between APDUs
    /// and private operations, which follow each other closely; not in the processes of others, where looking for
    /// the answer to an operation gained nothing (docs/performance.md).
    pub(crate) fn stay_awake(&mut self, awake: bool) {
        self.awake = awake;
    }

    /// Gives the socket back; what was received and not taken is lost.
    pub fn into_socket(self) -> S {
        self.socket
    }

    /// Sends one message; the other end must take it within [`FRAME_TIME`].
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`] sends nothing; after any error the other end has no whole message.
    pub fn send<T: Encode<()>>(&mut self, message: &T) -> Result<(), FrameError> {
        self.send_within(message, FRAME_TIME)
    }

    /// As [`Channel::send`], with another limit.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`].
    pub fn send_within<T: Encode<()>>(
        &mut self,
        message: &T,
        time: Duration,
    ) -> Result<(), FrameError> {
        self.send_with(time, |buffer| minicbor::encode(message, buffer))
    }

    /// As [`Channel::send_within`], with the content written by hand.
    pub(crate) fn send_with(
        &mut self,
        time: Duration,
        content: impl FnOnce(&mut Buffer) -> Result<(), minicbor::encode::Error<Overflow>>,
    ) -> Result<(), FrameError> {
        let result = self.fill_and_send(time, None, content);
        self.outgoing.clear();
        result
    }

    /// As [`Channel::send`], with a descriptor.
    pub(crate) fn send_with_descriptor<T: Encode<()>>(
        &mut self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), FrameError> {
        let result = self.fill_and_send(FRAME_TIME, descriptor, |buffer| {
            minicbor::encode(message, buffer)
        });
        self.outgoing.clear();
        result
    }

    fn fill_and_send(
        &mut self,
        time: Duration,
        descriptor: Option<BorrowedFd<'_>>,
        content: impl FnOnce(&mut Buffer) -> Result<(), minicbor::encode::Error<Overflow>>,
    ) -> Result<(), FrameError> {
        self.outgoing.room(PREFIX)?;
        self.outgoing.add(PREFIX);
        // Writing to the buffer fails for want of room only; coding these types does not fail at all.
        content(&mut self.outgoing).map_err(|_| FrameError::TooLong)?;
        let length = self.outgoing.filled().len() - PREFIX;
        let length = u32::try_from(length).map_err(|_| FrameError::TooLong)?;
        self.outgoing.patch(length.to_be_bytes());
        self.flush(time, descriptor)
    }

    fn flush(
        &mut self,
        time: Duration,
        mut descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), FrameError> {
        let deadline = Instant::now() + time;
        let mut timeout = time;
        let mut rest = self.outgoing.filled();
        loop {
            if self.send_timeout != Some(timeout) {
                set_socket_timeout(&self.socket, Timeout::Send, Some(at_least(timeout)))?;
                self.send_timeout = Some(timeout);
            }
            // In a foreign process SIGPIPE would end it.
            let sent = match descriptor {
                None => send(&self.socket, rest, SendFlags::NOSIGNAL),
                Some(descriptor) => send_along(&self.socket, rest, descriptor),
            };
            match sent {
                Ok(count) => {
                    // It went with the first byte.
                    descriptor = None;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if rest.is_empty() {
                return Ok(());
            }
            timeout = remaining(deadline)?;
        }
    }

    /// Receives one message.
    /// It must begin within `patience` (`None`: no limit) and then be there within `frame_time`.
    ///
    /// # Errors
    ///
    /// [`FrameError`].
    pub fn receive<T>(
        &mut self,
        patience: Option<Duration>,
        frame_time: Duration,
    ) -> Result<T, FrameError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        self.receive_frame(patience, frame_time)?;
        self.take()
    }

    /// Receives a frame; it stays until [`Channel::release`].
    pub(crate) fn receive_frame(
        &mut self,
        patience: Option<Duration>,
        frame_time: Duration,
    ) -> Result<(), FrameError> {
        let start = Instant::now();
        let mut begun = !self.incoming.filled().is_empty();
        let (mut deadline, mut timeout) = if begun {
            (Some(start + frame_time), Some(frame_time))
        } else {
            (patience.map(|patience| start + patience), patience)
        };
        if !begun && self.is_awake(start) && self.look(start)? {
            begun = true;
            deadline = Some(Instant::now() + frame_time);
            timeout = Some(frame_time);
        }
        while !self.complete()? {
            let wanted = self.wanted();
            if self.receive_timeout != timeout {
                set_socket_timeout(&self.socket, Timeout::Recv, timeout.map(at_least))?;
                self.receive_timeout = timeout;
            }
            match self.recv_some(wanted, RecvFlags::empty()) {
                Ok(0) if begun => return Err(FrameError::Truncated),
                Ok(0) => return Err(FrameError::Closed),
                Ok(_) if self.complete()? => return Ok(()),
                Ok(_) if !begun => {
                    begun = true;
                    deadline = Some(Instant::now() + frame_time);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            timeout = deadline.map(remaining).transpose()?;
        }
        Ok(())
    }

    fn is_awake(&self, now: Instant) -> bool {
        self.awake && self.asleep_until.is_none_or(|end| now >= end)
    }

    /// Looks for the beginning of a frame for a moment; whether it is here.
    fn look(&mut self, start: Instant) -> Result<bool, FrameError> {
        let mut before = start;
        loop {
            std::thread::yield_now();
            let now = Instant::now();
            let busy = now - before > LONGEST_YIELD;
            if busy {
                self.asleep_until = Some(now + self.sleep);
                self.sleep = self.sleep.saturating_mul(2).min(LAST_SLEEP);
            }
            before = now;
            let wanted = self.wanted();
            match self.recv_some(wanted, RecvFlags::DONTWAIT) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(_) => {
                    if !busy {
                        self.sleep = FIRST_SLEEP;
                    }
                    return Ok(true);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if busy || now - start > AWAKE {
                return Ok(false);
            }
        }
    }

    /// Takes in what is there without waiting; whether a whole frame is.
    pub(crate) fn poll_frame(&mut self) -> Result<bool, FrameError> {
        while !self.complete()? {
            let wanted = self.wanted();
            match self.recv_some(wanted, RecvFlags::DONTWAIT) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The message in the frame that was received, which is erased.
    pub(crate) fn take<T>(&mut self) -> Result<T, FrameError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        let message = exactly(self.content());
        self.release();
        message
    }

    /// Content of the frame that was received.
    pub(crate) fn content(&self) -> &[u8] {
        self.incoming
            .filled()
            .get(PREFIX..PREFIX + self.current)
            .unwrap_or_default()
    }

    /// Erases the frame that was received.
    pub(crate) fn release(&mut self) {
        self.incoming.consume(PREFIX + self.current);
        self.current = 0;
    }

    /// Whether a whole frame is at the front; its length is known from then on.
    fn complete(&mut self) -> Result<bool, FrameError> {
        let Some((prefix, rest)) = self.incoming.filled().split_first_chunk() else {
            return Ok(false);
        };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(FrameError::TooLong);
        }
        self.current = length;
        Ok(rest.len() >= length)
    }

    /// How many bytes are missing at least. The length field first: nothing is reserved on a mere claim.
    fn wanted(&self) -> usize {
        let held = self.incoming.filled().len();
        if held < PREFIX {
            PREFIX - held
        } else {
            (PREFIX + self.current).saturating_sub(held)
        }
    }

    fn recv_some(&mut self, wanted: usize, flags: RecvFlags) -> Result<usize, Errno> {
        // `wanted` comes from a length that was checked.
        let room = self.incoming.room(wanted).map_err(|_| Errno::MSGSIZE)?;
        let count = match &mut self.descriptors {
            Descriptors::Refused => recv(&self.socket, room, flags)?.0,
            Descriptors::Taken(last) => {
                // Of more than one the kernel closes the others.
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut along = RecvAncillaryBuffer::new(&mut space);
                let flags = flags | RecvFlags::CMSG_CLOEXEC;
                let mut parts = [IoSliceMut::new(room)];
                let received = recvmsg(&self.socket, &mut parts, &mut along, flags)?;
                for message in along.drain() {
                    if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                        for descriptor in descriptors {
                            *last = Some(descriptor);
                        }
                    }
                }
                received.bytes
            }
        };
        self.incoming.add(count);
        Ok(count)
    }

    /// The client's greeting: both ends say [`Hello`].
    ///
    /// # Errors
    ///
    /// [`FrameError::Stranger`] for another version or something else than Cardea, or what the socket says.
    pub fn greet(&mut self, patience: Duration) -> Result<(), FrameError> {
        self.send(&hello())?;
        let theirs: Hello = self
            .receive(Some(patience), patience)
            .map_err(not_understood)?;
        accept(&theirs)
    }

    /// The daemon's greeting: hears first, and answers even a stranger, so that it can tell why.
    pub(crate) fn greet_back(&mut self, patience: Duration) -> Result<(), FrameError> {
        let theirs = self.receive::<Hello>(Some(patience), patience);
        let theirs = match theirs.map_err(not_understood) {
            Err(error @ FrameError::Stranger { .. }) => {
                self.send(&hello())?;
                return Err(error);
            }
            other => other?,
        };
        self.send(&hello())?;
        accept(&theirs)
    }
}

pub(crate) fn hello() -> Hello {
    // Used, or the linker leaves it out.
    std::hint::black_box(MARK);
    Hello {
        magic: MAGIC.to_owned(),
        version: VERSION,
    }
}

pub(crate) fn accept(theirs: &Hello) -> Result<(), FrameError> {
    if theirs.magic != MAGIC {
        return Err(FrameError::Stranger { version: None });
    }
    if theirs.version != VERSION {
        let version = Some(theirs.version);
        return Err(FrameError::Stranger { version });
    }
    Ok(())
}

fn not_understood(error: FrameError) -> FrameError {
    match error {
        FrameError::Malformed(_) | FrameError::TooLong => FrameError::Stranger { version: None },
        other => other,
    }
}

/// The message, if the bytes are exactly one.
///
/// # Errors
///
/// [`FrameError::Malformed`].
pub fn exactly<'b, T: Decode<'b, ()>>(content: &'b [u8]) -> Result<T, FrameError> {
    let mut decoder = Decoder::new(content);
    let message = decoder.decode().map_err(FrameError::Malformed)?;
    if decoder.position() == content.len() {
        Ok(message)
    } else {
        let error = minicbor::decode::Error::message("bytes after the message");
        Err(FrameError::Malformed(error.at(decoder.position())))
    }
}

fn send_along<S: AsFd>(
    socket: &S,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !along.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut along,
        SendFlags::NOSIGNAL,
    )
}

fn remaining(deadline: Instant) -> Result<Duration, FrameError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(FrameError::TimedOut)
    } else {
        Ok(left)
    }
}

/// Zero would mean no limit (socket(7)).
fn at_least(timeout: Duration) -> Duration {
    timeout.max(Duration::from_micros(1))
}
