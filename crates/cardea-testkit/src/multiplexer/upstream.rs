//! The one connection to the TPM.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::client::Clients;
use super::message::read_message;
use crate::process::PATIENCE;

/// A connection with a thread that reads it, so that its end is seen at once.
pub(super) struct Upstream {
    stream: UnixStream,
    responses: Receiver<Vec<u8>>,
    reader: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Connects; when the TPM hangs up, so do all clients.
    pub(super) fn connect(tpm: &Path, clients: &Arc<Clients>) -> io::Result<Self> {
        let stream = UnixStream::connect(tpm)?;
        let mut from = stream.try_clone()?;
        let (sender, responses) = channel();
        let clients = Arc::clone(clients);
        let reader = std::thread::spawn(move || {
            while let Ok(response) = read_message(&mut from) {
                if sender.send(response).is_err() {
                    return;
                }
            }
            clients.drop_all();
        });
        Ok(Self {
            stream,
            responses,
            reader: Some(reader),
        })
    }

    /// Whether the TPM has hung up.
    pub(super) fn over(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        !matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// One command; none when the TPM does not answer any more.
    pub(super) fn transact(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let response = self
            .stream
            .write_all(command)
            .ok()
            .and_then(|()| self.responses.recv_timeout(2 * PATIENCE).ok());
        if response.is_none() {
            // A late response must not become that of the next command.
            drop(self.stream.shutdown(Shutdown::Both));
        }
        response
    }

    /// One command of the multiplexer's own, which must succeed.
    pub(super) fn succeed(&mut self, name: &str, command: &[u8]) -> Result<(), String> {
        match self.transact(command).as_deref().map(super::code_of) {
            Some(0) => Ok(()),
            Some(code) => Err(format!("{name} failed with {code:#x}")),
            None => Err(format!("{name} was not answered")),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
