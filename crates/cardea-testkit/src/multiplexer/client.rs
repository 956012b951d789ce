//! The connections of clients.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::message::read_message;
use super::{Job, Shared};

/// The connections that are open, to be dropped from outside.
#[derive(Default)]
pub(super) struct Clients(Mutex<Open>);

#[derive(Default)]
struct Open {
    last: u64,
    streams: HashMap<u64, UnixStream>,
}

impl Clients {
    /// Hangs up on all.
    pub(super) fn drop_all(&self) {
        for stream in self.open().streams.values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn enter(&self, stream: &UnixStream) -> io::Result<u64> {
        let stream = stream.try_clone()?;
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        open.streams.insert(number, stream);
        Ok(number)
    }

    fn leave(&self, number: u64) {
        self.open().streams.remove(&number);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves clients until the multiplexer stops.
pub(super) fn accept(listener: &UnixListener, shared: &Arc<Shared>, jobs: &Sender<Job>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if shared.stopping() {
            break;
        }
        let Ok(stream) = stream else { continue };
        // Only after the dispatcher has seen the end of an old TPM may a client be counted among the new
        // one's: else it would be dropped with the old one's.
        let (admitted, answer) = channel();
        if jobs.send(Job::Admit { admitted }).is_err() {
            break;
        }
        if answer.recv() != Ok(true) {
            continue;
        }
        let Ok(number) = shared.clients.enter(&stream) else {
            continue;
        };
        let (shared, jobs) = (Arc::clone(shared), jobs.clone());
        threads.retain(|thread: &std::thread::JoinHandle<()>| !thread.is_finished());
        threads.push(std::thread::spawn(move || {
            serve(number, &stream, &jobs);
            shared.clients.leave(number);
            jobs.send(Job::Leave { client: number }).ok();
        }));
    }
    // One that came in between was not there to be dropped.
    shared.clients.drop_all();
    for thread in threads {
        drop(thread.join());
    }
}

fn serve(client: u64, mut stream: &UnixStream, jobs: &Sender<Job>) {
    while let Ok(command) = read_message(&mut stream) {
        let (answer, response) = channel();
        let job = Job::Command {
            client,
            command,
            answer,
        };
        if jobs.send(job).is_err() {
            return;
        }
        let Ok(Some(response)) = response.recv() else {
            // The clone among the open connections would keep this one half alive.
            drop(stream.shutdown(Shutdown::Both));
            return;
        };
        if stream.write_all(&response).is_err() {
            return;
        }
    }
}

/// Carries control connections to the TPM's, one at a time, as that serves them.
pub(super) fn relay_control(listener: &UnixListener, control: &Path, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping() {
            return;
        }
        let (Ok(client), Ok(tpm)) = (stream, UnixStream::connect(control)) else {
            continue;
        };
        let Ok(number) = shared.clients.enter(&client) else {
            continue;
        };
        if shared.stopping() {
            shared.clients.drop_all();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drop(io::copy(&mut &client, &mut &tpm));
                drop(tpm.shutdown(Shutdown::Write));
            });
            drop(io::copy(&mut &tpm, &mut &client));
            drop(client.shutdown(Shutdown::Both));
        });
        shared.clients.leave(number);
    }
}
