//! A daemon for tests: it answers as the test says.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use cardea_client::ServerEnd;
use cardea_client::message::{Reply, Request};
use cardea_client::slot_number::SlotNumbers;
use cryptoki_sys::{CK_SESSION_HANDLE, CK_SLOT_ID};
use tempfile::TempDir;

use crate::module::{Module, lock};
use crate::pool::LIMIT;
use crate::state::{LoginState, Session, TokenSlot};

/// A socket in a folder, which nobody serves at first.
pub(crate) struct FakeDaemon {
    folder: TempDir,
    seen: Arc<Mutex<Vec<Request>>>,
}

static NUMBERS: Mutex<SlotNumbers> = Mutex::new(SlotNumbers::new());

impl FakeDaemon {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            seen: Arc::default(),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Serves every connection from now on. A request without an answer is never answered.
    pub(crate) fn serve(&self, answer: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let answer = Arc::new(answer);
        let seen = Arc::clone(&self.seen);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                thread::spawn(move || {
                    let mut end = ServerEnd::accept(client.unwrap(), LIMIT).unwrap();
                    while let Ok(Some(request)) = end.request(None) {
                        let reply = answer(&request);
                        lock(&seen).push(request);
                        if let Some(reply) = reply {
                            end.reply(&reply).unwrap();
                        }
                    }
                });
            }
        });
    }

    pub(crate) fn module(&self) -> Module {
        Module::at(self.socket(), &NUMBERS)
    }

    /// A module with a slot and a session in which the user is logged in.
    pub(crate) fn logged_in(&self) -> (Module, CK_SLOT_ID, CK_SESSION_HANDLE) {
        let module = self.module();
        let mut slot = TokenSlot::empty("11".repeat(16));
        slot.present = true;
        slot.login = LoginState::User(module.pool.losses());
        let mut state = module.state();
        state.slots.insert(7, slot);
        let session = state.add_session(Session::new(7, true));
        drop(state);
        (module, 7, session)
    }

    /// What was asked of the card so far.
    pub(crate) fn card_requests(&self) -> Vec<String> {
        let seen = lock(&self.seen).drain(..).collect::<Vec<_>>();
        let of_card = seen.into_iter().filter_map(|request| match request {
            Request::Card { request, .. } => Some(format!("{request:?}")),
            _ => None,
        });
        of_card.collect()
    }
}
