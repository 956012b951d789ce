//! A daemon without TPM and without cards that has only the socket: its APDUs do what the tests need.
//!
//! It is this test program again, as a process of its own, so that it can be killed.

use std::io::{BufRead, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cardea_client::ServerEnd;
use cardea_client::message::{
    Failure, FailureKind, PowerAction, ReaderRequest, Reply, Request, SecretBytes, SlotRequest,
};
use tempfile::TempDir;

use crate::support::{LIMIT, Process, until};

/// Answer to reset of the cards here.
pub(crate) const ATR: &str = "3b:80:80:01:01";
const ATR_BYTES: [u8; 5] = [0x3B, 0x80, 0x80, 0x01, 0x01];

/// Tells the process where to listen.
const SOCKET: &str = "CARDEA_TEST_DAEMON";
const SLOTS: &str = "CARDEA_TEST_SLOTS";

/// A daemon's place, and the daemon while there is one.
pub(crate) struct Daemon {
    folder: TempDir,
    slots: usize,
    process: Option<Process>,
}

impl Daemon {
    /// Not started yet.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            slots,
            process: None,
        }
    }

    pub(crate) fn started(slots: usize) -> Self {
        let mut daemon = Self::new(slots);
        daemon.start();
        daemon
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("daemon.sock")
    }

    /// `DEVICENAME` of a reader of this daemon.
    pub(crate) fn device(&self) -> String {
        format!("{}:{}", self.socket().display(), self.slots)
    }

    /// Starts, or starts again, with all slots empty.
    pub(crate) fn start(&mut self) {
        let program = std::env::current_exe().unwrap();
        let mut process = Process::start(
            Command::new(program)
                .args(["--ignored", "--exact", "--nocapture", "daemon::process"])
                .env(SOCKET, self.socket())
                .env(SLOTS, self.slots.to_string())
                .stderr(Stdio::inherit()),
        );
        process.tell("ready");
        process.line_after("done ready");
        self.process = Some(process);
    }

    /// `insert N`, `remove N`, `replace N` or `move A B`; done when this returns.
    pub(crate) fn tell(&mut self, command: &str) {
        let process = self.process.as_mut().unwrap();
        process.tell(command);
        process.line_after(&format!("done {command}"));
    }

    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Stops it without ending it, so that it does not answer.
    pub(crate) fn freeze(&self, frozen: bool) {
        let pid = i32::try_from(self.process.as_ref().unwrap().id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let signal = if frozen {
            rustix::process::Signal::STOP
        } else {
            rustix::process::Signal::CONT
        };
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn await_end(&mut self) {
        let mut process = self.process.take().unwrap();
        until("the daemon ends", || !process.is_running());
    }
}

#[derive(Default)]
struct State {
    generation: u64,
    inserted: Vec<u64>,
    /// Gate of `80 02`.
    open: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap()
}

#[test]
#[ignore = "the process that the other tests start"]
fn process() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let slots = std::env::var(SLOTS).unwrap().parse().unwrap();
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(socket).unwrap();
    // Numbers differ from run to run as those of the real daemon may or may not: here they do not.
    let shared: Shared = Arc::default();
    lock(&shared).inserted = vec![0; slots];
    lock(&shared).generation = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let accepting = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = Arc::clone(&accepting);
            std::thread::spawn(move || serve(stream.unwrap(), &shared));
        }
    });
    let mut next = 1;
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        change(&shared, &line, &mut next);
        // Not `println`, which is captured.
        writeln!(std::io::stdout(), "done {line}").unwrap();
    }
}

fn change(shared: &Shared, line: &str, next: &mut u64) {
    let mut words = line.split(' ');
    let command = words.next().unwrap();
    if command == "ready" {
        return;
    }
    let slots: Vec<usize> = words.map(|word| word.parse().unwrap()).collect();
    let mut state = lock(shared);
    for slot in slots {
        let number = state.inserted.get_mut(slot).unwrap();
        *number = match command {
            "insert" | "replace" => *next,
            "remove" => 0,
            other => panic!("{other}"),
        };
        *next += 1;
    }
    state.generation += 1;
    shared.1.notify_all();
}

/// What one connection has bound, as the real daemon does it.
#[derive(Default)]
struct Binding {
    slot: u8,
    insertion: u64,
    verified: bool,
}

fn serve(stream: UnixStream, shared: &Shared) {
    let Ok(mut client) = ServerEnd::accept(stream, LIMIT) else {
        return;
    };
    let mut binding = Binding::default();
    while let Ok(Some(request)) = client.request(None) {
        let reply = answer(request, &mut binding, shared);
        if client.reply(&reply).is_err() {
            return;
        }
    }
}

fn answer(request: Request, binding: &mut Binding, shared: &Shared) -> Reply {
    match request {
        Request::Reader(ReaderRequest::Info) => Reply::Reader {
            slots: u8::try_from(lock(shared).inserted.len()).unwrap(),
        },
        Request::Reader(ReaderRequest::States) => slots(&lock(shared)),
        Request::Reader(ReaderRequest::WaitStates {
            generation,
            timeout_ms,
        }) => {
            let time = Duration::from_millis(timeout_ms.into());
            let (state, _) = shared
                .1
                .wait_timeout_while(lock(shared), time, |state| state.generation == generation)
                .unwrap();
            slots(&state)
        }
        Request::Slot {
            slot,
            request: SlotRequest::Power { action },
        } => {
            let insertion = inserted(shared, slot);
            if insertion == 0 {
                return failure(FailureKind::NotFound);
            }
            *binding = Binding {
                slot,
                insertion,
                verified: false,
            };
            match action {
                PowerAction::Down => Reply::Done,
                PowerAction::Reset | PowerAction::Up => Reply::Atr(ATR_BYTES.to_vec()),
            }
        }
        Request::Slot {
            slot,
            request: SlotRequest::Transmit { apdu },
        } => {
            let bound = binding.slot == slot
                && binding.insertion != 0
                && binding.insertion == inserted(shared, slot);
            if !bound {
                return failure(FailureKind::NotFound);
            }
            let response = card(apdu.expose(), binding, shared);
            Reply::Response(SecretBytes::new(response))
        }
        _ => failure(FailureKind::Invalid),
    }
}

/// The card of these tests.
fn card(apdu: &[u8], binding: &mut Binding, shared: &Shared) -> Vec<u8> {
    match apdu {
        // So many bytes.
        &[0x80, 0x01, high, low, ..] => {
            let length = usize::from(high) << 8 | usize::from(low);
            let mut response: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            response.extend([0x90, 0x00]);
            response
        }
        // Takes until `80 05` comes on another connection.
        [0x80, 0x02, ..] => {
            let mut state = lock(shared);
            state.open = false;
            drop(shared.1.wait_while(state, |state| !state.open).unwrap());
            vec![0x90, 0x00]
        }
        // More than any response APDU has.
        [0x80, 0x03, ..] => vec![0; 70_000],
        // The daemon dies.
        [0x80, 0x04, ..] => std::process::abort(),
        [0x80, 0x05, ..] => {
            lock(shared).open = true;
            shared.1.notify_all();
            vec![0x90, 0x00]
        }
        // How many bytes came.
        [0x80, 0x06, ..] => {
            let mut response = u32::try_from(apdu.len()).unwrap().to_be_bytes().to_vec();
            response.extend([0x90, 0x00]);
            response
        }
        [0x80, 0x20, ..] => {
            binding.verified = true;
            vec![0x90, 0x00]
        }
        [0x80, 0x21, ..] if binding.verified => vec![0x90, 0x00],
        [0x80, 0x21, ..] => vec![0x69, 0x82],
        [0x00, 0xA4, ..] => vec![0x6A, 0x82],
        _ => vec![0x6D, 0x00],
    }
}

fn inserted(shared: &Shared, slot: u8) -> u64 {
    let state = lock(shared);
    state
        .inserted
        .get(usize::from(slot))
        .copied()
        .unwrap_or_default()
}

fn slots(state: &State) -> Reply {
    Reply::Slots {
        generation: state.generation,
        inserted: state.inserted.clone(),
    }
}

fn failure(kind: FailureKind) -> Reply {
    Reply::Failed(Failure {
        kind,
        message: "refused".into(),
        tries_left: None,
    })
}
