//! What the module knows between two calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{CardDetails, Reply, Request};
use cryptoki_sys::{
    CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SLOT_ID, CKR_CRYPTOKI_NOT_INITIALIZED,
    CKR_DEVICE_ERROR, CKR_SESSION_HANDLE_INVALID, CKR_SLOT_ID_INVALID, CKR_TOKEN_NOT_PRESENT,
};

use crate::objects::Object;
use crate::rv::{About, Result, Rv};
use crate::sessions::Session;

/// Where the daemon listens unless the environment says otherwise.
const SOCKET: &str = "/run/cardea/cardea.sock";
const SOCKET_VARIABLE: &str = "CARDEA_SOCKET";

/// Longest time for what needs no key generation.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Longest time for a key generation.
pub(crate) const LONG_LIMIT: Duration = Duration::from_secs(180);

/// The module between C_Initialize and C_Finalize.
#[derive(Debug)]
pub(crate) struct Module {
    /// The process that initialised it; a child has to do that again (PKCS#11 2.40 §6.6.1).
    pid: u32,
    client: Client,
    pub(crate) slots: BTreeMap<CK_SLOT_ID, Slot>,
    pub(crate) sessions: BTreeMap<CK_SESSION_HANDLE, Session>,
    next_session: CK_SESSION_HANDLE,
    next_object: CK_OBJECT_HANDLE,
    /// Slots whose coming or going was not told by C_WaitForSlotEvent yet.
    pub(crate) events: Vec<CK_SLOT_ID>,
}

/// A card's slot. It keeps its number when the card goes.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) card: String,
    pub(crate) name: String,
    pub(crate) present: bool,
    pub(crate) login: LoginState,
    pub(crate) objects: BTreeMap<CK_OBJECT_HANDLE, Object>,
}

/// Who is logged in on all sessions of a slot.
#[derive(Debug, Default)]
pub(crate) enum LoginState {
    #[default]
    Nobody,
    /// The PUK, until C_InitPIN uses it.
    SecurityOfficer(cardea_client::message::SecretBytes),
    User,
}

static MODULE: Mutex<Option<Module>> = Mutex::new(None);

/// The state, whoever holds it; a panic in another call has left it usable.
pub(crate) fn lock() -> MutexGuard<'static, Option<Module>> {
    MODULE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works with the module of this process.
pub(crate) fn with<R>(work: impl FnOnce(&mut Module) -> Result<R>) -> Result<R> {
    let mut module = lock();
    match &mut *module {
        Some(module) if module.pid == std::process::id() => work(module),
        _ => Err(Rv(CKR_CRYPTOKI_NOT_INITIALIZED)),
    }
}

impl Module {
    pub(crate) fn new() -> Self {
        let path = std::env::var_os(SOCKET_VARIABLE).map_or_else(|| SOCKET.into(), PathBuf::from);
        Self {
            pid: std::process::id(),
            client: Client::new(path),
            slots: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            next_object: 1,
            events: Vec::new(),
        }
    }

    /// Whether it is this process's.
    pub(crate) fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    pub(crate) fn ask(&mut self, request: &Request, about: About) -> Result<Reply> {
        self.ask_for(request, about, LIMIT)
    }

    pub(crate) fn ask_for(
        &mut self,
        request: &Request,
        about: About,
        limit: Duration,
    ) -> Result<Reply> {
        match self.client.call_with_progress(request, limit, &mut |_| {}) {
            Ok(Reply::Failed(failure)) => Err(Rv::of(&failure, about)),
            Ok(reply) => Ok(reply),
            Err(error) => {
                // Another connection knows nothing of what was verified on this one.
                for slot in self.slots.values_mut() {
                    slot.login = LoginState::Nobody;
                }
                Err(error.into())
            }
        }
    }

    /// The cards that there are now. Without a daemon there are none.
    pub(crate) fn refresh_slots(&mut self) {
        let cards = match self.ask(&Request::ListCards, About::Object) {
            Ok(Reply::Cards(cards)) => cards,
            _ => Vec::new(),
        };
        for (id, slot) in &mut self.slots {
            let there = cards.iter().any(|card| card.card_id == slot.card);
            if slot.present && !there {
                slot.login = LoginState::Nobody;
                self.sessions.retain(|_, session| session.slot != *id);
            }
            if slot.present != there {
                slot.present = there;
                self.events.push(*id);
            }
        }
        for card in cards {
            if self.slots.values().any(|slot| slot.card == card.card_id) {
                continue;
            }
            let id = self.slots.keys().next_back().map_or(0, |last| last + 1);
            self.events.push(id);
            self.slots.insert(
                id,
                Slot {
                    card: card.card_id,
                    name: card.name,
                    present: true,
                    login: LoginState::Nobody,
                    objects: BTreeMap::new(),
                },
            );
        }
    }

    pub(crate) fn slot(&mut self, id: CK_SLOT_ID) -> Result<&mut Slot> {
        self.slots.get_mut(&id).ok_or(Rv(CKR_SLOT_ID_INVALID))
    }

    /// The card in a slot, as the daemon describes it now.
    pub(crate) fn details(&mut self, id: CK_SLOT_ID) -> Result<CardDetails> {
        let slot = self.slot(id)?;
        if !slot.present {
            return Err(Rv(CKR_TOKEN_NOT_PRESENT));
        }
        let card = slot.card.clone();
        match self.ask(&Request::ShowCard { card }, About::Object)? {
            Reply::Card(details) => Ok(*details),
            _ => Err(Rv(CKR_DEVICE_ERROR)),
        }
    }

    pub(crate) fn session(&mut self, handle: CK_SESSION_HANDLE) -> Result<&mut Session> {
        self.sessions
            .get_mut(&handle)
            .ok_or(Rv(CKR_SESSION_HANDLE_INVALID))
    }

    pub(crate) fn slot_of(&mut self, handle: CK_SESSION_HANDLE) -> Result<&mut Slot> {
        let id = self.session(handle)?.slot;
        self.slot(id)
    }

    pub(crate) fn add_session(&mut self, session: Session) -> CK_SESSION_HANDLE {
        let handle = self.next_session;
        self.next_session += 1;
        self.sessions.insert(handle, session);
        handle
    }

    pub(crate) fn new_object_handle(&mut self) -> CK_OBJECT_HANDLE {
        let handle = self.next_object;
        self.next_object += 1;
        handle
    }
}
