//! The machine stops: from some moment on, neither the TPM nor the store does anything more.
//!
//! Moments are counted before and after every TPM command and every save, so that a test can stop the machine at
//! each of them in turn.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use cardea_card::record::CardRecord;
use cardea_card::token::{CardStore, StoreError};

use crate::software::MemoryStore;

/// When the machine stops. Clones are the same moment.
#[derive(Clone, Debug, Default)]
pub struct PowerCut(Arc<State>);

#[derive(Debug, Default)]
struct State {
    armed: AtomicBool,
    left: AtomicI64,
    stopped: AtomicBool,
}

impl PowerCut {
    /// From now on so many moments pass before the machine stops.
    pub fn arm(&self, moments: i64) {
        self.0.left.store(moments, Ordering::SeqCst);
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// The machine does not stop any more, unless it has.
    pub fn disarm(&self) {
        self.0.armed.store(false, Ordering::SeqCst);
    }

    /// Whether it has stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// A moment passes; false when the machine stands still.
    fn pass(&self) -> bool {
        if self.has_stopped() {
            return false;
        }
        if self.0.armed.load(Ordering::SeqCst) && self.0.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.0.stopped.store(true, Ordering::SeqCst);
            return false;
        }
        true
    }
}

/// A card file in memory on a machine that may stop.
#[derive(Clone, Debug, Default)]
pub struct CutStore {
    /// What is on the disk.
    pub disk: MemoryStore,
    cut: PowerCut,
}

impl CutStore {
    /// An empty disk.
    #[must_use]
    pub fn new(cut: &PowerCut) -> Self {
        Self {
            disk: MemoryStore::default(),
            cut: cut.clone(),
        }
    }
}

impl CardStore for CutStore {
    fn save(&mut self, record: &CardRecord) -> Result<(), StoreError> {
        let stopped = || StoreError("the machine has stopped".into());
        if !self.cut.pass() {
            return Err(stopped());
        }
        self.disk.save(record)?;
        // On disk, but nobody lives to hear of it.
        if self.cut.pass() {
            Ok(())
        } else {
            Err(stopped())
        }
    }
}

/// A way to a software TPM that ends when the machine stops.
#[derive(Debug)]
pub struct CutLine {
    socket: PathBuf,
}

impl CutLine {
    /// Listens in a folder for one client after the other. Its thread ends when the machine stops, or with the
    /// test.
    ///
    /// # Panics
    ///
    /// When the socket cannot be made.
    #[must_use]
    pub fn start(folder: &Path, tpm: &Path, cut: &PowerCut) -> Self {
        std::fs::create_dir_all(folder).expect("the folder is made");
        let socket = folder.join("line");
        let listener = UnixListener::bind(&socket).expect("the socket is made");
        let (tpm, cut) = (tpm.to_owned(), cut.clone());
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if serve(client, &tpm, &cut).is_none() {
                    return;
                }
            }
        });
        Self { socket }
    }

    /// Its address for `--tpm`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("swtpm:unix={}", self.socket.display())
    }
}

/// `None` when the machine has stopped.
fn serve(mut client: UnixStream, tpm: &Path, cut: &PowerCut) -> Option<()> {
    let mut upstream = UnixStream::connect(tpm).ok()?;
    while let Some(command) = message(&mut client) {
        if !cut.pass() {
            return None;
        }
        upstream.write_all(&command).ok()?;
        let response = message(&mut upstream)?;
        if !cut.pass() {
            return None;
        }
        if client.write_all(&response).is_err() {
            break;
        }
    }
    Some(())
}

/// One whole command or response: its length is in its header (TPM 2.0 Part 1 §18).
fn message(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 10];
    stream.read_exact(&mut message).ok()?;
    let (_, rest) = message.split_first_chunk::<2>()?;
    let length = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    message.resize(usize::try_from(length).ok()?, 0);
    stream.read_exact(message.get_mut(10..)?).ok()?;
    Some(message)
}
