//! What the module knows between two calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cardea_client::message::{CardState, Reply, Request, SecretBytes};
use cryptoki_sys::{
    CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SLOT_ID, CKR_CRYPTOKI_NOT_INITIALIZED,
    CKR_DEVICE_ERROR, CKR_SESSION_HANDLE_INVALID, CKR_SLOT_ID_INVALID, CKR_USER_NOT_LOGGED_IN,
};

use crate::objects::Object;
use crate::pool::{Pool, Trouble};
use crate::rv::{About, Result, Rv};
use crate::sessions::Session;

/// Longest time for what needs no key generation.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// A person gets two minutes for each of three tries.
pub(crate) const PERSON_LIMIT: Duration = Duration::from_secs(400);
/// Longest time for a key generation.
pub(crate) const LONG_LIMIT: Duration = Duration::from_secs(180);

/// The module between C_Initialize and C_Finalize.
///
/// The state is locked for moments only, never while the daemon is asked.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) pool: Pool,
    state: Mutex<State>,
    /// Told when C_Finalize ends all waiting.
    pub(crate) ending: Condvar,
}

/// Slots, sessions and handles.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) slots: BTreeMap<CK_SLOT_ID, Slot>,
    pub(crate) sessions: BTreeMap<CK_SESSION_HANDLE, Session>,
    last_session: CK_SESSION_HANDLE,
    last_object: CK_OBJECT_HANDLE,
    /// Slots whose coming or going was not told by C_WaitForSlotEvent yet.
    pub(crate) events: Vec<CK_SLOT_ID>,
    /// Of the cards as last seen.
    pub(crate) generation: u64,
    pub(crate) ended: bool,
}

/// A card's slot. It keeps its number when the card goes.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) card: String,
    pub(crate) name: String,
    pub(crate) present: bool,
    /// Why it is not, in words.
    pub(crate) reason: String,
    pub(crate) login: LoginState,
    pub(crate) objects: BTreeMap<CK_OBJECT_HANDLE, Arc<Object>>,
    /// Of the objects.
    pub(crate) revision: u64,
    /// Handles of keys whose other half was destroyed, and they with it.
    pub(crate) gone: BTreeSet<CK_OBJECT_HANDLE>,
}

/// Who is logged in on all sessions of a slot.
#[derive(Clone, Debug, Default)]
pub(crate) enum LoginState {
    #[default]
    Nobody,
    /// What C_InitPIN needs again.
    SecurityOfficer(Officer),
    /// Since so many losses of logins.
    User(u64),
}

/// Who sets a PIN without the old one.
#[derive(Clone, Debug)]
pub(crate) enum Officer {
    AdminKey(SecretBytes),
    Puk(SecretBytes),
}

/// One process's module. A child has its own: it must not wait for locks that only its parent can open
/// (PKCS#11 3.1 §5.4, C_Initialize).
struct Process {
    pid: u32,
    module: Mutex<Option<Arc<Module>>>,
    next: OnceLock<&'static Process>,
}

static FIRST: OnceLock<&'static Process> = OnceLock::new();

/// This process's place, made if need be. Nobody takes one away: a few words for each generation of processes.
fn this_process() -> &'static Process {
    let pid = std::process::id();
    let mut place = &FIRST;
    loop {
        let process = place.get_or_init(|| {
            Box::leak(Box::new(Process {
                pid,
                module: Mutex::new(None),
                next: OnceLock::new(),
            }))
        });
        if process.pid == pid {
            return process;
        }
        place = &process.next;
    }
}

/// Begins the module of this process; false: there is one.
pub(crate) fn begin() -> bool {
    let process = this_process();
    let mut module = lock(&process.module);
    if module.is_some() {
        return false;
    }
    *module = Some(Arc::new(Module::new()));
    drop(module);
    close_ancestors(process.pid);
    true
}

/// What was inherited is closed without a word to the daemon: it is the parent's. What is in use by one of its
/// threads stays.
fn close_ancestors(pid: u32) {
    let mut place = &FIRST;
    while let Some(process) = place.get() {
        if process.pid != pid
            && let Ok(mut module) = process.module.try_lock()
        {
            drop(module.take());
        }
        place = &process.next;
    }
}

/// Ends the module of this process; none was begun.
pub(crate) fn end() -> Option<Arc<Module>> {
    lock(&this_process().module).take()
}

/// Works with the module of this process.
pub(crate) fn with<R>(work: impl FnOnce(&Module) -> Result<R>) -> Result<R> {
    let module = lock(&this_process().module).clone();
    work(&*module.ok_or(Rv(CKR_CRYPTOKI_NOT_INITIALIZED))?)
}

/// The value, also after a panic in another call: every change under these locks is complete at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Module {
    fn new() -> Self {
        Self {
            pool: Pool::new(cardea_client::socket_path()),
            state: Mutex::default(),
            ending: Condvar::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn ask(&self, request: &Request, about: About) -> Result<Reply> {
        self.reply(self.pool.ask(request, LIMIT), about)
    }

    /// For what changes logins.
    pub(crate) fn ask_home(&self, request: &Request, about: About) -> Result<Reply> {
        self.reply(self.pool.ask_home(request, LIMIT), about)
    }

    /// For what a person is asked, which takes its time: other threads do not wait for it.
    pub(crate) fn ask_person(&self, request: &Request) -> Result<Reply> {
        self.reply(
            self.pool.ask_apart(request, LIMIT, PERSON_LIMIT),
            About::Pin,
        )
    }

    /// Under the login of this slot's user. When that is over, the slot knows.
    pub(crate) fn ask_verified(
        &self,
        slot: CK_SLOT_ID,
        request: &Request,
        about: About,
        limit: Duration,
    ) -> Result<Reply> {
        if !self.is_user(slot) {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        }
        let answer = self.reply(self.pool.ask_verified(request, limit), about);
        if answer.as_ref().err() == Some(&Rv(CKR_USER_NOT_LOGGED_IN)) {
            self.forget_login(slot);
        }
        answer
    }

    fn reply(&self, reply: std::result::Result<Reply, Trouble>, about: About) -> Result<Reply> {
        match reply? {
            Reply::Failed(failure) => Err(Rv::of(&failure, about)),
            reply => Ok(reply),
        }
    }

    pub(crate) fn forget_login(&self, slot: CK_SLOT_ID) {
        if let Some(slot) = self.state().slots.get_mut(&slot) {
            slot.login = LoginState::Nobody;
        }
    }

    /// Whether the user is logged in, and the daemon still knows it as far as anybody has noticed.
    pub(crate) fn is_user(&self, slot: CK_SLOT_ID) -> bool {
        matches!(self.login_state(slot), Ok(LoginState::User(_)))
    }

    /// Who is logged in; a login that was lost with the daemon's connection is none.
    pub(crate) fn login_state(&self, slot: CK_SLOT_ID) -> Result<LoginState> {
        let losses = self.pool.losses();
        let mut state = self.state();
        let slot = state.slot(slot)?;
        if matches!(slot.login, LoginState::User(since) if since != losses) {
            slot.login = LoginState::Nobody;
        }
        Ok(slot.login.clone())
    }

    /// The cards that there are now. Without a daemon there are none.
    pub(crate) fn refresh_slots(&self) {
        let reply = self.ask(&Request::CardStates, About::Object);
        self.take_overview(reply);
    }

    /// Makes slots of an answer.
    pub(crate) fn take_overview(&self, reply: Result<Reply>) {
        let (generation, cards) = match reply {
            Ok(Reply::Overview { generation, cards }) => (generation, cards),
            _ => (0, Vec::new()),
        };
        let mut state = self.state();
        let State {
            slots,
            sessions,
            events,
            ..
        } = &mut *state;
        for (id, slot) in slots.iter_mut() {
            let card = cards.iter().find(|card| card.card_id == slot.card);
            let usable = card.is_some_and(|card| {
                matches!(card.state, CardState::Ready | CardState::Blocked) && !card.uninitialised
            });
            slot.reason = match card {
                None => "removed".to_owned(),
                Some(card) if card.uninitialised => "waits for its personalisation".to_owned(),
                Some(card) => card.reason.clone(),
            };
            if slot.present && !usable {
                slot.leave();
                sessions.retain(|_, session| session.slot != *id);
            }
            if slot.present != usable {
                slot.present = usable;
                events.push(*id);
            }
        }
        for card in cards {
            if card.card_id.is_empty() || slots.values().any(|slot| slot.card == card.card_id) {
                continue;
            }
            let id = slots.keys().next_back().map_or(0, |last| last + 1);
            let usable =
                matches!(card.state, CardState::Ready | CardState::Blocked) && !card.uninitialised;
            if usable {
                events.push(id);
            }
            slots.insert(
                id,
                Slot {
                    card: card.card_id,
                    name: card.name,
                    present: usable,
                    reason: if card.uninitialised {
                        "waits for its personalisation".to_owned()
                    } else {
                        card.reason
                    },
                    login: LoginState::Nobody,
                    objects: BTreeMap::new(),
                    revision: 0,
                    gone: BTreeSet::new(),
                },
            );
        }
        state.generation = generation;
    }

    /// The card in a slot that is there.
    pub(crate) fn card(&self, slot: CK_SLOT_ID) -> Result<String> {
        Ok(self.state().slot(slot)?.card.clone())
    }

    /// The slot of a session.
    pub(crate) fn slot_of(&self, session: CK_SESSION_HANDLE) -> Result<CK_SLOT_ID> {
        Ok(self.state().session(session)?.slot)
    }

    /// Random bytes for padding.
    pub(crate) fn random(buffer: &mut [u8]) -> Result {
        getrandom::fill(buffer).map_err(|_| Rv(CKR_DEVICE_ERROR))
    }
}

impl Slot {
    /// The card is gone, and what belonged to it.
    fn leave(&mut self) {
        self.login = LoginState::Nobody;
        self.objects.clear();
        self.gone.clear();
        self.revision = 0;
    }
}

impl State {
    pub(crate) fn slot(&mut self, id: CK_SLOT_ID) -> Result<&mut Slot> {
        self.slots.get_mut(&id).ok_or(Rv(CKR_SLOT_ID_INVALID))
    }

    pub(crate) fn session(&mut self, handle: CK_SESSION_HANDLE) -> Result<&mut Session> {
        self.sessions
            .get_mut(&handle)
            .ok_or(Rv(CKR_SESSION_HANDLE_INVALID))
    }

    pub(crate) fn add_session(&mut self, session: Session) -> CK_SESSION_HANDLE {
        self.last_session += 1;
        self.sessions.insert(self.last_session, session);
        self.last_session
    }

    pub(crate) fn new_object_handle(&mut self) -> CK_OBJECT_HANDLE {
        self.last_object += 1;
        self.last_object
    }
}
