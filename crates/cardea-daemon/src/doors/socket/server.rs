//! The private socket: a listener, a thread for each client, limits for all of them.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cardea_client::ServerEnd;
use cardea_client::frame::FrameError;
use cardea_client::message::{FailureKind, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};

use crate::doors::socket::arrivals::Arrivals;
use crate::doors::socket::client;
use crate::doors::socket::limits::{Limits, Seat};
use crate::doors::socket::peer;
use crate::process::panics::survives;
use cardea_host::Counter;
use cardea_host::fail;
use cardea_host::lock;

/// Time for the greeting of a client that is going to be refused: those wait for each other.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Refusals that may wait; more connections than these are closed without a word.
pub(crate) const REFUSALS: usize = 16;

/// Clients at work when the daemon stops get this time to finish.
const STOP_TIME: Duration = Duration::from_secs(20);

/// After an error of accept(2) that would come again at once, like too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel keeps for the listener. It has one queue for all users, and whoever connects waits for
/// what is in it: it is short and taken in one go, and whoever connects without a pause waits for room.
const QUEUE: u8 = 12;

/// Before more are taken, when most of them are of users who have begun too many: whoever connects without a pause
/// waits for room meanwhile, and the processors are others'. Everybody else waits so long, and again when others took
/// the room: a pause of 2 ms doubled the time of a login.
const FLOOD_PAUSE: Duration = Duration::from_micros(250);

/// Connections taken from the kernel before those whose turn it is get their threads.
const TAKEN_AT_ONCE: usize = QUEUE as usize;

/// Connections that get their threads before more are taken.
const ADMITTED_AT_ONCE: usize = 8;

/// The socket and its threads.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    socket: SocketFile,
    /// A byte asks the listener for a heartbeat. Dropped at the end, which the listener sees.
    wake: Option<io::PipeWriter>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    counter: Arc<Counter>,
    limits: Arc<Limits>,
    heartbeats: Heartbeats,
}

/// How often the listener has answered.
#[derive(Debug, Default)]
struct Heartbeats {
    count: Mutex<u64>,
    more: Condvar,
}

impl Server {
    pub(crate) fn start(counter: Arc<Counter>, path: &Path) -> io::Result<Self> {
        let (listener, socket) = listen(path)?;
        let (wake_reader, wake) = io::pipe()?;
        let host = counter.host();
        let kept = vec![0, host.reader_uid(), rustix::process::geteuid().as_raw()];
        let shared = Arc::new(Shared {
            counter,
            limits: Arc::new(Limits::new(kept)),
            heartbeats: Heartbeats::default(),
        });
        let (refusals, refused) = sync_channel(REFUSALS);
        let accepting = Arc::clone(&shared);
        let threads = vec![
            thread::Builder::new()
                .name("listener".into())
                .spawn(move || accept(&accepting, &listener, &wake_reader, &refusals))?,
            thread::Builder::new()
                .name("refusals".into())
                .spawn(move || refuse(&refused))?,
        ];
        Ok(Self {
            shared,
            socket,
            wake: Some(wake),
            threads,
        })
    }

    /// Whether the listener answers within the time: it accepts connections, however many there are.
    pub(crate) fn listens(&self, limit: Duration) -> bool {
        let Some(mut wake) = self.wake.as_ref() else {
            return false;
        };
        let heartbeats = &self.shared.heartbeats;
        let count = lock(&heartbeats.count);
        let before = *count;
        if wake.write_all(&[0]).is_err() {
            return false;
        }
        let (count, _) = heartbeats
            .more
            .wait_timeout_while(count, limit, |count| *count == before)
            .unwrap_or_else(PoisonError::into_inner);
        *count != before
    }

    /// Ends listening, then all connections, and waits for their threads.
    pub(crate) fn stop(&mut self) {
        if self.wake.take().is_none() {
            return;
        }
        self.socket.remove();
        for thread in self.threads.drain(..) {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
        self.shared.counter.host().slots().stop();
        self.shared.limits.close_all();
        if !self.shared.limits.await_nobody(STOP_TIME) {
            tracing::warn!("ending while clients are still being served");
        }
    }
}

/// Binds the socket for everybody; permission is a matter of the messages.
fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    make_folder(path)?;
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    rustix::net::listen(&listener, QUEUE.into())?;
    let socket = SocketFile::new(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok((listener, socket))
}

/// The folder of the socket, open to all, when only it is missing.
fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    match DirBuilder::new().mode(0o755).create(folder) {
        // The umask of a daemon is strict.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a socket that nobody answers on.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "a file of that name exists and is not a socket",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "another daemon answers there",
        )),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Our own socket in the file system, removed at the end unless somebody put another one there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    fn remove(&self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "socket not removed");
        }
    }
}

/// A connection and whose it is.
#[derive(Debug)]
struct Arrival {
    uid: u32,
    stream: UnixStream,
}

/// Accepts until the other end of `wake` is closed, and answers what comes from there.
fn accept(
    shared: &Arc<Shared>,
    listener: &UnixListener,
    mut wake: &io::PipeReader,
    refusals: &SyncSender<Arc<UnixStream>>,
) {
    let mut arrivals = Arrivals::default();
    let mut retry = Retry::default();
    loop {
        let now = Instant::now();
        let mut events = vec![PollFd::new(&wake, PollFlags::IN)];
        if retry.is_due(now) {
            events.push(PollFd::new(listener, PollFlags::IN));
        }
        let pauses = [arrivals.pause(now), retry.pause(now)];
        let pause = pauses.into_iter().flatten().min();
        // One that the type cannot express is longer than anything here.
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match poll(&mut events, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "listener ended");
                return;
            }
        }
        if events
            .first()
            .is_some_and(|wake| !wake.revents().is_empty())
        {
            if !matches!(wake.read(&mut [0; 64]), Ok(1..)) {
                return;
            }
            *lock(&shared.heartbeats.count) += 1;
            shared.heartbeats.more.notify_all();
        }
        if retry.is_due(Instant::now()) {
            let taken = take(shared, listener, &mut arrivals, refusals);
            retry.after(&taken, Instant::now());
        }
        for _ in 0..ADMITTED_AT_ONCE {
            let Some(arrival) = arrivals.next(Instant::now()) else {
                break;
            };
            survives(|| admit(shared, arrival, refusals));
        }
    }
}

/// When connections are accepted again after an error, whatever wakes the listener meanwhile: heartbeats, and
/// connections whose turn comes.
#[derive(Debug, Default)]
struct Retry {
    at: Option<Instant>,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// How long until then; `None` where nothing is waited for.
    fn pause(&self, now: Instant) -> Option<Duration> {
        let at = self.at.filter(|at| *at > now)?;
        Some(at - now)
    }

    /// After connections were taken, so many of which were refused.
    fn after(&mut self, taken: &io::Result<usize>, now: Instant) {
        self.at = match taken {
            Ok(refused) if *refused > TAKEN_AT_ONCE / 2 => Some(now + FLOOD_PAUSE),
            Ok(_) => None,
            Err(_) => Some(now + ACCEPT_PAUSE),
        };
    }
}

/// Takes connections from the kernel's queue and sorts them by user: how many were refused. Must cost little: see
/// [`Arrivals`].
///
/// # Errors
///
/// Of accept(2), which would come again at once.
fn take(
    shared: &Arc<Shared>,
    listener: &UnixListener,
    arrivals: &mut Arrivals<Arrival>,
    refusals: &SyncSender<Arc<UnixStream>>,
) -> io::Result<usize> {
    let mut count = 0;
    for _ in 0..TAKEN_AT_ONCE {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                return Err(error);
            }
        };
        let uid = match peer::uid(&stream) {
            Ok(uid) => uid,
            Err(error) => {
                tracing::warn!(%error, "unknown peer");
                continue;
            }
        };
        let arrival = Arrival { uid, stream };
        if shared.limits.is_kept(uid) {
            survives(|| admit(shared, arrival, refusals));
            continue;
        }
        let user = shared.counter.host().accounts().of(uid);
        if let Err(arrival) = arrivals.add(user, arrival, Instant::now()) {
            count += 1;
            tracing::warn!(uid = user, refused = true, "too many new connections");
            if !is_gone(&arrival.stream) {
                // When even those who are refused are too many, closing is answer enough.
                let _ = refusals.try_send(Arc::new(arrival.stream));
            }
        }
    }
    Ok(count)
}

/// Whether a client has hung up and left nothing to be read: it takes no thread and no answer.
fn is_gone(stream: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(stream, &mut [0; 1], flags), Ok((_, 0)))
}

/// Gives a connection its thread, or refuses it.
fn admit(shared: &Arc<Shared>, arrival: Arrival, refusals: &SyncSender<Arc<UnixStream>>) {
    let Arrival { uid, stream } = arrival;
    if is_gone(&stream) {
        return;
    }
    let stream = Arc::new(stream);
    let accounts = shared.counter.host().accounts();
    let place = Arc::clone(&stream);
    let Some(seat) = shared.limits.enter(uid, place, |uid| accounts.of(uid)) else {
        let uid = accounts.of(uid);
        tracing::warn!(uid, refused = true, "too many connections");
        let _ = refusals.try_send(stream);
        return;
    };
    let shared = Arc::clone(shared);
    let spawned = thread::Builder::new().name("client".into()).spawn(move || {
        // The connection ends with the thread in any case.
        survives(|| serve(&shared, stream, uid, &seat));
        // Who waits for the last client must find nothing of the host in use any more.
        drop(shared);
        drop(seat);
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for a client");
    }
}

/// Tells one after the other that there is no room.
fn refuse(refused: &Receiver<Arc<UnixStream>>) {
    for stream in refused {
        survives(|| refuse_one(stream));
    }
}

fn refuse_one(stream: Arc<UnixStream>) {
    let busy = fail(
        FailureKind::Busy,
        "too many connections to the daemon; try again later",
    );
    let result = ServerEnd::accept(stream, REFUSAL_TIME).and_then(|mut client| {
        client.request(Some(REFUSAL_TIME))?;
        client.reply(&Reply::Failed(busy))
    });
    if let Err(error) = result {
        tracing::debug!(%error, "refused connection");
    }
}

/// One client from greeting to end.
fn serve(shared: &Shared, stream: Arc<UnixStream>, uid: u32, seat: &Seat) {
    shared.counter.host().accounts().refresh();
    if let Err(error) = client::converse(&shared.counter, stream, uid, seat) {
        let is_stranger = matches!(error, FrameError::Stranger { version: Some(_) });
        let error = cardea_host::chain(&error);
        if is_stranger {
            tracing::warn!(uid, error, refused = true, "client of another version");
        } else {
            tracing::debug!(uid, error, "connection ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use cardea_host::{Audit, Host, Roles};
    use cardea_store::Store;
    use cardea_tpm::{Address, Chip, Service};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
    use rustix::thread::{Uid, set_thread_res_uid};
    use tempfile::TempDir;

    use super::*;
    use crate::doors::socket::arrivals::MAX_WAITING_OF_USER;

    const MALLORY: u32 = 4711;
    const ALICE: u32 = 4712;

    /// A server's state over a TPM that nothing here needs.
    fn shared(folder: &TempDir) -> Arc<Shared> {
        let state = folder.path().join("state");
        let (store, audit) = (Store::open(&state).unwrap(), Audit::open(&state).unwrap());
        let roles = Roles {
            admin_group: "no-such-group".into(),
            pcscd_uid: 2,
            pcscd_user: None,
        };
        let address: Address = "swtpm:unix=/nonexistent".parse().unwrap();
        let connect = Box::new(move || {
            let service = Service::start(&address)?;
            Ok(Arc::new(service) as Arc<dyn Chip>)
        });
        let host = Host::new(roles, store, audit, connect, 2, false, "random".into());
        Arc::new(Shared {
            counter: Arc::new(Counter::new(Arc::new(host))),
            limits: Arc::new(Limits::new(vec![0, 2])),
            heartbeats: Heartbeats::default(),
        })
    }

    /// Connections of this user, in order. The kernel takes the credentials of the thread that connects.
    fn connect_as(uid: u32, path: &Path, count: usize) -> Vec<UnixStream> {
        let path = path.to_owned();
        let thread = thread::spawn(move || {
            let own = Uid::from_raw(uid);
            set_thread_res_uid(own, own, own).unwrap();
            let connections = (0..count).map(|_| UnixStream::connect(&path).unwrap());
            connections.collect()
        });
        thread.join().unwrap()
    }

    #[test]
    fn new_connection_of_another_user_is_next_after_a_flood_in_the_kernel_s_queue() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not run: only root can connect as two users");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("socket");
        let (listener, _socket) = listen(&path).unwrap();
        let shared = shared(&folder);
        let mut arrivals = Arrivals::default();
        let (refusals, refused) = sync_channel(2 * MAX_WAITING_OF_USER);
        let mut flood = Vec::new();
        let mut counted = 0;
        let mut take = || take(&shared, &listener, &mut arrivals, &refusals).unwrap();
        // As many as may wait, and as many again.
        while flood.len() < 2 * MAX_WAITING_OF_USER {
            flood.extend(connect_as(MALLORY, &path, TAKEN_AT_ONCE));
            counted += take();
        }
        assert_eq!(counted, flood.len() - MAX_WAITING_OF_USER);
        // The rest of the flood is before it in the kernel's queue.
        flood.extend(connect_as(MALLORY, &path, TAKEN_AT_ONCE / 2));
        let later = connect_as(ALICE, &path, 1);
        counted += take();
        let now = Instant::now();
        let order: Vec<u32> = std::iter::from_fn(|| arrivals.next(now))
            .map(|arrival| arrival.uid)
            .collect();
        assert_eq!(order.get(..3), Some(&[MALLORY, ALICE, MALLORY][..]));
        let of_flood = order.iter().filter(|uid| **uid == MALLORY).count();
        assert_eq!(of_flood, MAX_WAITING_OF_USER);
        assert_eq!(order.len(), MAX_WAITING_OF_USER + 1);
        // Nobody else was refused, and each refused connection gets an answer.
        assert_eq!(counted, flood.len() - MAX_WAITING_OF_USER);
        assert_eq!(refused.try_iter().count(), counted);
        drop((flood, later));
    }

    #[test]
    fn kernel_keeps_no_more_connections_than_are_taken_in_one_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (listener, _socket) = listen(&path).unwrap();
        let address = SocketAddrUnix::new(&path).unwrap();
        let connect = || {
            let flags = SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::connect(&socket, &address).map(|()| socket)
        };
        let mut waiting = Vec::new();
        let refused = loop {
            match connect() {
                Ok(socket) if waiting.len() < 2 * TAKEN_AT_ONCE => waiting.push(socket),
                other => break other.err(),
            }
        };
        assert_eq!(refused, Some(rustix::io::Errno::AGAIN));
        // Linux keeps one more than it was told.
        assert!(waiting.len() <= TAKEN_AT_ONCE + 1, "{}", waiting.len());
        listener.accept().unwrap();
        connect().unwrap();
    }

    #[test]
    fn client_that_has_hung_up_without_a_word_takes_no_thread() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(!is_gone(&ours), "it may still speak");
        theirs.write_all(b"x").unwrap();
        drop(theirs);
        assert!(!is_gone(&ours), "it has spoken");
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(is_gone(&ours));
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn failed_accept_is_repeated_at_its_time_whatever_wakes_the_listener() {
        let start = Instant::now();
        let mut retry = Retry::default();
        let mut tries = 0;
        // Something wakes it each millisecond for a second.
        for milliseconds in 0..1000 {
            let now = start + Duration::from_millis(milliseconds);
            if retry.is_due(now) {
                tries += 1;
                retry.after(&Err(ErrorKind::Other.into()), now);
            }
            assert!(retry.pause(now).is_some_and(|pause| !pause.is_zero()));
        }
        assert_eq!(tries, 10);
        let later = start + Duration::from_secs(1);
        assert!(retry.is_due(later));
        retry.after(&Ok(0), later);
        assert_eq!((retry.is_due(later), retry.pause(later)), (true, None));
        retry.after(&Ok(TAKEN_AT_ONCE), later);
        assert_eq!(retry.pause(later), Some(FLOOD_PAUSE), "a flood");
        assert!(retry.is_due(later + FLOOD_PAUSE));
    }
}
