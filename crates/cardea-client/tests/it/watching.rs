//! Watching the slots, across restarts of the daemon.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::message::{ReaderRequest, Reply, Request};
use cardea_client::{ServerEnd, Wake, Watch, Woken};
use tempfile::tempdir;

use crate::support::{LIMIT, until};

/// Slots that a test changes, and the daemon that shows them.
#[derive(Default)]
struct Slots {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    generation: u64,
    inserted: Vec<u64>,
    stopped: bool,
}

struct Daemon(Arc<Slots>);

impl Daemon {
    fn start(socket: &Path, inserted: &[u64]) -> Self {
        let _ = fs::remove_file(socket);
        let slots = Arc::new(Slots::default());
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::clone(&slots);
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            drop(listener);
            let other = stream.try_clone().unwrap();
            let serving = Arc::clone(&shared);
            thread::spawn(move || serve(stream, &serving));
            let state = shared.state.lock().unwrap();
            drop(
                shared
                    .changed
                    .wait_while(state, |state| !state.stopped)
                    .unwrap(),
            );
            other.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let daemon = Self(slots);
        daemon.set(inserted);
        daemon
    }

    fn set(&self, inserted: &[u64]) {
        let mut state = self.0.state.lock().unwrap();
        state.generation += 1;
        state.inserted = inserted.to_vec();
        self.0.changed.notify_all();
    }

    fn stop(&self) {
        self.0.state.lock().unwrap().stopped = true;
        self.0.changed.notify_all();
    }
}

fn serve(stream: UnixStream, slots: &Slots) {
    let Ok(mut client) = ServerEnd::accept(stream, LIMIT) else {
        return;
    };
    while let Ok(Some(request)) = client.request(None) {
        let Request::Reader(ReaderRequest::WaitStates { generation, .. }) = request else {
            panic!("{request:?}");
        };
        let state = slots.state.lock().unwrap();
        let state = slots
            .changed
            .wait_while(state, |state| {
                state.generation == generation && !state.stopped
            })
            .unwrap();
        let reply = Reply::Slots {
            generation: state.generation,
            inserted: state.inserted.clone(),
        };
        drop(state);
        if client.reply(&reply).is_err() {
            return;
        }
    }
}

/// Waits until the slot holds a card or not.
fn await_presence(watch: &mut Watch, wake: &Wake, slot: u8, present: bool) -> Duration {
    let start = Instant::now();
    while watch.inserted(slot).is_some() != present {
        let left = LIMIT.saturating_sub(start.elapsed());
        assert_ne!(watch.wait(wake, left), Woken::TimedOut);
    }
    start.elapsed()
}

#[test]
fn refresh_knows_the_slots_at_once_and_changes_wake() {
    let folder = tempdir().unwrap();
    let socket = folder.path().join("socket");
    let daemon = Daemon::start(&socket, &[0, 5]);
    let mut watch = Watch::new(&socket);
    let wake = Wake::new().unwrap();
    watch.refresh(LIMIT);
    assert!(watch.inserted(0).is_none());
    let first = watch.inserted(1).unwrap();
    assert!(watch.inserted(2).is_none());
    daemon.set(&[0, 6]);
    assert_eq!(watch.wait(&wake, LIMIT), Woken::Changed);
    assert_ne!(watch.inserted(1).unwrap(), first);
    daemon.set(&[0, 0]);
    assert_eq!(watch.wait(&wake, LIMIT), Woken::Changed);
    assert!(watch.inserted(1).is_none());
    assert_eq!(
        watch.wait(&wake, Duration::from_millis(20)),
        Woken::TimedOut
    );
}

#[test]
fn daemon_that_ends_takes_its_cards_away_and_the_next_brings_other_ones() {
    let folder = tempdir().unwrap();
    // The folder itself comes with the daemon.
    let socket = folder.path().join("run/socket");
    let mut watch = Watch::new(&socket);
    let wake = Wake::new().unwrap();
    watch.refresh(LIMIT);
    let mut last = None;
    for _ in 0..3 {
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let starter = socket.clone();
        let starting = thread::spawn(move || Daemon::start(&starter, &[7]));
        let time = await_presence(&mut watch, &wake, 0, true);
        assert!(time < Duration::from_secs(4), "found by itself: {time:?}");
        let daemon = starting.join().unwrap();
        let now = watch.inserted(0);
        assert_ne!(now, last, "the same number of another daemon");
        last = now;
        daemon.stop();
        await_presence(&mut watch, &wake, 0, false);
        fs::remove_dir_all(socket.parent().unwrap()).unwrap();
    }
}

#[test]
fn call_from_another_thread_ends_the_present_or_the_next_wait() {
    let folder = tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _daemon = Daemon::start(&socket, &[0]);
    let wake = Wake::new().unwrap();
    for watch in [Watch::new(&socket), Watch::new("/nonexistent/socket")] {
        let mut watch = watch;
        watch.refresh(LIMIT);
        wake.wake();
        assert_eq!(watch.wait(&wake, LIMIT), Woken::Called);
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::park_timeout(Duration::from_millis(10));
                wake.wake();
            });
            until("called", || watch.wait(&wake, LIMIT) == Woken::Called);
        });
        assert!(start.elapsed() < LIMIT);
    }
}

#[test]
fn daemon_that_takes_the_connection_and_says_nothing_is_no_daemon() {
    let folder = tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let mut watch = Watch::new(&socket);
    let start = Instant::now();
    watch.refresh(Duration::from_millis(20));
    assert!(watch.inserted(0).is_none());
    watch.look();
    let wake = Wake::new().unwrap();
    assert_eq!(
        watch.wait(&wake, Duration::from_millis(20)),
        Woken::TimedOut
    );
    assert!(start.elapsed() < LIMIT);
}
