//! A daemon made of the server's end, as good or bad as a test wants it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use cardea_client::ServerEnd;
use cardea_client::message::{Hello, MAGIC};
use tempfile::TempDir;

/// The longest that anything may take here.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) type Peer = ServerEnd<UnixStream>;

/// A folder with a socket.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn listen(&self) -> UnixListener {
        let _ = std::fs::remove_file(self.socket());
        UnixListener::bind(self.socket()).unwrap()
    }

    /// Runs `daemon` once for each connection that is expected, one after the other; gives what it gave.
    pub(crate) fn serve<T: Send + 'static>(
        &self,
        connections: usize,
        mut daemon: impl FnMut(usize, Peer) -> T + Send + 'static,
    ) -> Receiver<T> {
        let listener = self.listen();
        let (sender, results) = channel();
        thread::spawn(move || {
            for number in 0..connections {
                let (stream, _) = listener.accept().unwrap();
                let peer = ServerEnd::accept(stream, LIMIT).unwrap();
                sender.send(daemon(number, peer)).unwrap();
            }
        });
        results
    }
}

/// A connection on which nothing is polite.
pub(crate) struct Raw(pub(crate) UnixStream);

impl Raw {
    pub(crate) fn hello(&mut self, version: u32) {
        let hello = Hello {
            magic: MAGIC.to_owned(),
            version,
        };
        self.frame(&minicbor::to_vec(&hello).unwrap());
    }

    pub(crate) fn frame(&mut self, content: &[u8]) {
        let length = u32::try_from(content.len()).unwrap();
        let frame = [&length.to_be_bytes()[..], content].concat();
        self.0.write_all(&frame).unwrap();
    }

    pub(crate) fn read(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut content = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut content).unwrap();
        content
    }
}

/// Polls until the condition holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "timed out: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

impl Raw {
    /// Until the other end closes.
    pub(crate) fn read_end(&mut self) {
        let _ = self.0.read_to_end(&mut Vec::new());
    }
}
