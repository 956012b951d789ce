//! Listeners and connections: a thread for each, within limits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cardea_dcom::pdu::{HEADER_LENGTH, Header, refusal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use zeroize::Zeroizing;

use crate::rpc::{Connection, Reaction, Services};
use crate::stream::{read, read_exact};

/// What is behind the listeners.
pub trait Host: Send + Sync {
    /// The services for a connection from `peer` to `local`; `None`: it is closed at once.
    fn accept(&self, peer: SocketAddr, local: SocketAddr) -> Option<Box<dyn Services>>;
}

/// How much others may take up here.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Of these, by one address.
    pub of_one_address: usize,
    /// Of these, without an authentication.
    pub strangers: usize,
    /// From the beginning of a connection to the end of its authentication.
    pub authentication: Duration,
    /// Without a packet, after an authentication.
    pub idle: Duration,
    /// From the first byte of a packet to its last, in either direction.
    pub packet: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            of_one_address: 16,
            strangers: 32,
            authentication: Duration::from_secs(20),
            // Longer than a client waits between two calls of one creation, for its user types.
            idle: Duration::from_secs(600),
            packet: Duration::from_secs(10),
        }
    }
}

/// The connections of all listeners.
pub struct Server {
    host: Box<dyn Host>,
    limits: Limits,
    counts: Mutex<Counts>,
    rest: Condvar,
    groups: AtomicU32,
}

#[derive(Default)]
struct Counts {
    /// All that have a thread, also those that are about to end.
    connections: usize,
    /// Those with an authentication.
    known: usize,
    /// By their age: whoever came first has the lowest number.
    strangers: BTreeMap<u64, Stranger>,
    next: u64,
    addresses: HashMap<IpAddr, usize>,
    /// Connections that are at work on a packet.
    busy: usize,
    stopping: bool,
}

/// A connection without an authentication.
struct Stranger {
    address: IpAddr,
    stream: Arc<TcpStream>,
}

impl Counts {
    /// Ends the oldest connection of the address that has most of those without an authentication: whoever keeps them
    /// all occupied makes room for others with its own.
    fn make_room(&mut self) {
        let mut of_address: HashMap<IpAddr, (usize, Reverse<u64>)> = HashMap::new();
        for (number, stranger) in &self.strangers {
            let entry = of_address.entry(stranger.address);
            entry.or_insert((0, Reverse(*number))).0 += 1;
        }
        let oldest = of_address.into_values().max();
        if let Some((_, Reverse(oldest))) = oldest
            && let Some(stranger) = self.strangers.remove(&oldest)
        {
            // Its thread reads the end, and gives its place back.
            let _ = stranger.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Server {
    /// Serves `host` on all listeners, each with a thread.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub fn start(
        listeners: Vec<TcpListener>,
        host: Box<dyn Host>,
        limits: Limits,
    ) -> io::Result<Arc<Self>> {
        let server = Arc::new(Self {
            host,
            limits,
            counts: Mutex::default(),
            rest: Condvar::new(),
            groups: AtomicU32::new(1),
        });
        for listener in listeners {
            let server = Arc::clone(&server);
            thread::Builder::new()
                .name("listener".to_owned())
                .spawn(move || server.listen(&listener))?;
        }
        Ok(server)
    }

    /// Takes no more packets and connections, and waits for the calls that are being executed.
    pub fn stop(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut counts = self.counts();
        counts.stopping = true;
        while counts.busy > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.rest.wait_timeout(counts, left);
            counts = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // The counts are right at every moment: a thread that panicked has left nothing half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept() {
                _ if self.counts().stopping => return,
                Ok((stream, peer)) => self.begin(stream, peer),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors or of memory: others give some back.
                    tracing::warn!(%error, "cannot accept a connection");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let stream = Arc::new(stream);
        let Some(place) = Place::take(self, peer.ip(), &stream) else {
            tracing::warn!(%peer, "too many connections");
            return;
        };
        let server = Arc::clone(self);
        let started = thread::Builder::new()
            .name("connection".to_owned())
            .spawn(move || {
                let mut place = place;
                if let Err(error) = server.converse(&stream, peer, &mut place) {
                    tracing::debug!(%peer, %error, "connection lost");
                }
            });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot start a thread for a connection");
        }
    }

    fn converse(&self, stream: &TcpStream, peer: SocketAddr, place: &mut Place) -> io::Result<()> {
        let local = stream.local_addr()?;
        // Whoever vanishes in the middle of a long call is noticed before the answer.
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, Duration::from_secs(15))?;
        sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        let Some(services) = self.host.accept(peer, local) else {
            return Ok(());
        };
        let group = self.groups.fetch_add(1, Ordering::Relaxed).max(1);
        let mut connection = Connection::new(&*services, local.port(), group);
        let stranger_until = Instant::now() + self.limits.authentication;
        loop {
            let until = match connection.is_authenticated() {
                true => {
                    place.is_known();
                    Instant::now() + self.limits.idle
                }
                false => stranger_until,
            };
            let Some(mut packet) = self.read_packet(stream, until)? else {
                return Ok(());
            };
            let Some(work) = Work::begin(self) else {
                return Ok(());
            };
            let reaction = connection.receive(&mut packet);
            drop(packet);
            let close = reaction.close;
            let sent = self.send(stream, reaction);
            drop(work);
            sent?;
            if close {
                return Ok(());
            }
        }
    }

    /// Sends what follows from a packet; what was done is taken back when it does not reach the caller.
    fn send(&self, mut stream: &TcpStream, reaction: Reaction) -> io::Result<()> {
        let mut write = || {
            if reaction.undo.is_some() && is_gone(stream) {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            stream.set_write_timeout(Some(self.limits.packet))?;
            let packets = &reaction.packets;
            packets
                .iter()
                .try_for_each(|packet| stream.write_all(packet))
        };
        let sent = write();
        if sent.is_err()
            && let Some(undo) = reaction.undo
        {
            undo();
        }
        sent
    }

    /// The next packet; `None` at the end of the connection, or after a header that was refused.
    fn read_packet(
        &self,
        mut stream: &TcpStream,
        until: Instant,
    ) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut header = [0; HEADER_LENGTH];
        let [first, ..] = &mut header;
        if read(stream, std::slice::from_mut(first), until)? == 0 {
            return Ok(None);
        }
        let until = until.min(Instant::now() + self.limits.packet);
        let [_, rest @ ..] = &mut header;
        read_exact(stream, rest, until)?;
        let about = Header::read(&header);
        if let Err(error) = about.check() {
            if let Some(refused) = refusal(&about, error) {
                stream.set_write_timeout(Some(self.limits.packet))?;
                stream.write_all(refused.bytes())?;
            }
            return Ok(None);
        }
        // The check has bounded it.
        let mut packet = Zeroizing::new(vec![0; usize::from(about.fragment_length)]);
        if let Some((place, rest)) = packet.split_at_mut_checked(HEADER_LENGTH) {
            place.copy_from_slice(&header);
            read_exact(stream, rest, until)?;
        }
        Ok(Some(packet))
    }
}

/// A connection among those that are counted.
struct Place {
    server: Arc<Server>,
    address: IpAddr,
    number: u64,
    is_known: bool,
}

impl Place {
    fn take(server: &Arc<Server>, address: IpAddr, stream: &Arc<TcpStream>) -> Option<Self> {
        let limits = server.limits;
        let mut counts = server.counts();
        // Those that were ended to make room end in a moment: whoever floods waits for that, and takes no more threads.
        while counts.connections >= 2 * limits.connections && !counts.stopping {
            let waited = server.rest.wait(counts);
            counts = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let counts = &mut *counts;
        let of_address = counts.addresses.get(&address).copied().unwrap_or(0);
        if counts.stopping
            || counts.known + counts.strangers.len() >= limits.connections
            || of_address >= limits.of_one_address
        {
            return None;
        }
        if counts.strangers.len() >= limits.strangers {
            counts.make_room();
        }
        counts.connections += 1;
        let number = counts.next;
        counts.next += 1;
        let stranger = Stranger {
            address,
            stream: Arc::clone(stream),
        };
        counts.strangers.insert(number, stranger);
        counts.addresses.insert(address, of_address + 1);
        Some(Self {
            server: Arc::clone(server),
            address,
            number,
            is_known: false,
        })
    }

    /// The other end has authenticated.
    fn is_known(&mut self) {
        if !std::mem::replace(&mut self.is_known, true) {
            let mut counts = self.server.counts();
            counts.strangers.remove(&self.number);
            counts.known += 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.server.counts();
        counts.strangers.remove(&self.number);
        counts.known -= usize::from(self.is_known);
        counts.connections -= 1;
        if let Some(of_address) = counts.addresses.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.addresses.remove(&self.address);
            }
        }
        self.server.rest.notify_all();
    }
}

/// A packet that is being worked on.
struct Work<'a>(&'a Server);

impl<'a> Work<'a> {
    fn begin(server: &'a Server) -> Option<Self> {
        let mut counts = server.counts();
        if counts.stopping {
            return None;
        }
        counts.busy += 1;
        Some(Self(server))
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.counts().busy -= 1;
        self.0.rest.notify_all();
    }
}

/// Whether the other end has closed the connection.
fn is_gone(stream: &TcpStream) -> bool {
    let mut ready = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    !matches!(poll(&mut ready, Some(&at_once)), Ok(0))
}
