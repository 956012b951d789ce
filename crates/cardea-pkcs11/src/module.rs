//! The module of a process, and how it asks the daemon.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cardea_client::ProcessMark;
use cardea_client::message::{CardRequest, Reply, Request};
use cardea_client::slot_number::{SlotNumbers, number_in};
use cryptoki_sys::{
    CK_SESSION_HANDLE, CK_SLOT_ID, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_USER_NOT_LOGGED_IN,
};

use crate::pool::{LIMIT, PERSON_LIMIT, Pool, SHORT_LIMIT};
use crate::rv::{About, PoolError, Result, Rv};
use crate::state::{LoginState, State};

/// The module between C_Initialize and C_Finalize.
///
/// INVARIANT: the state is locked for moments only, never during a request to the daemon. The slot numbers are locked
/// after it.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) pool: Pool,
    state: Mutex<State>,
    /// The process's.
    pub(crate) numbers: &'static Mutex<SlotNumbers>,
    /// Notified when C_Finalize ends all waiting.
    pub(crate) ending: Condvar,
}

/// The module of one process. A child process has its own: it must not wait for locks that only its parent can
/// release (PKCS#11 3.1 §5.4, C_Initialize).
struct Process {
    mark: ProcessMark,
    module: Mutex<Option<Arc<Module>>>,
    /// Slots keep their numbers over C_Finalize, and in a child.
    numbers: Mutex<SlotNumbers>,
    next: OnceLock<&'static Process>,
}

static FIRST: OnceLock<&'static Process> = OnceLock::new();

/// The entry of this process, created if necessary. Entries are never removed: they are a few words for each
/// generation of processes.
fn this_process() -> &'static Process {
    let mark = ProcessMark::current();
    let mut place = &FIRST;
    loop {
        let process = place.get_or_init(|| {
            Box::leak(Box::new(Process {
                mark,
                module: Mutex::new(None),
                numbers: Mutex::default(),
                next: OnceLock::new(),
            }))
        });
        if process.mark == mark {
            return process;
        }
        place = &process.next;
    }
}

/// Begins the module of this process. Returns false if there is one already.
pub(crate) fn begin() -> bool {
    let process = this_process();
    let mut module = lock(&process.module);
    if module.is_some() {
        return false;
    }
    inherit_numbers(process);
    *module = Some(Arc::new(Module::new(&process.numbers)));
    drop(module);
    close_ancestors(process.mark);
    true
}

/// Slots that the parent has seen mean the same cards here. Numbers that a thread of the parent was giving at the fork
/// are given anew, from the cards' ids.
fn inherit_numbers(process: &Process) {
    let mut place = &FIRST;
    while let Some(ancestor) = place.get() {
        if ancestor.mark != process.mark
            && let Ok(known) = ancestor.numbers.try_lock()
        {
            let mut own = lock(&process.numbers);
            for (number, card) in &*known {
                if number_in(&own, card).is_none() {
                    own.entry(*number).or_insert_with(|| card.clone());
                }
            }
        }
        place = &ancestor.next;
    }
}

/// Closes inherited connections without a message to the daemon, because they are the parent's. A module that was
/// locked by a thread of the parent at the fork is left alone.
fn close_ancestors(mark: ProcessMark) {
    let mut place = &FIRST;
    while let Some(process) = place.get() {
        if process.mark != mark
            && let Ok(mut module) = process.module.try_lock()
        {
            drop(module.take());
        }
        place = &process.next;
    }
}

/// Ends the module of this process. `None` if there is none.
pub(crate) fn end() -> Option<Arc<Module>> {
    lock(&this_process().module).take()
}

/// Runs a function with the module of this process.
pub(crate) fn with<R>(work: impl FnOnce(&Module) -> Result<R>) -> Result<R> {
    let module = lock(&this_process().module).clone();
    work(&*module.ok_or(Rv(CKR_CRYPTOKI_NOT_INITIALIZED))?)
}

/// Locks, also after a panic in another call: every change under these locks leaves a valid value at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Module {
    fn new(numbers: &'static Mutex<SlotNumbers>) -> Self {
        Self::at(cardea_client::socket_path(), numbers)
    }

    /// Like [`Self::new`], with this socket.
    pub(crate) fn at(socket: PathBuf, numbers: &'static Mutex<SlotNumbers>) -> Self {
        let state = State::with_slots_of(&lock(numbers));
        Self {
            pool: Pool::new(socket),
            state: Mutex::new(state),
            numbers,
            ending: Condvar::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sends a request that requires no login.
    pub(crate) fn ask(&self, request: &Request, about: About) -> Result<Reply> {
        reply(self.pool.ask(request, LIMIT), about)
    }

    /// Sends a request that changes logins.
    pub(crate) fn ask_primary(&self, request: &Request, about: About) -> Result<Reply> {
        reply(self.pool.ask_primary(request, LIMIT), about)
    }

    /// Sends a request that waits for a person; other threads do not wait for it.
    pub(crate) fn ask_person(&self, request: &Request) -> Result<Reply> {
        reply(
            self.pool.ask_separately(request, LIMIT, PERSON_LIMIT),
            About::Pin,
        )
    }

    /// Sends a request under the login of this slot's user. If the daemon has ended the login, the slot forgets it.
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
        let answer = reply(self.pool.ask_verified(request, limit), about);
        if answer.as_ref().err() == Some(&Rv(CKR_USER_NOT_LOGGED_IN)) {
            self.forget_login(slot);
        }
        answer
    }

    /// Forgets the login of this slot's user if the daemon has ended it: the program learns of it before it uses a key.
    pub(crate) fn check_login(&self, slot: CK_SLOT_ID) -> Result {
        let request = Request::card(self.card(slot)?, CardRequest::Status);
        if let Ok(Reply::Status(status)) = self.ask_verified(slot, &request, About::Token, LIMIT)
            && status.logged_in == Some(false)
        {
            self.forget_login(slot);
        }
        Ok(())
    }

    /// Like [`Self::check_login`], for a function that reports what is known: a daemon that does not answer soon says
    /// nothing, and the login stays as it was.
    pub(crate) fn look_at_login(&self, slot: CK_SLOT_ID) -> Result {
        if !self.is_user(slot) {
            return Ok(());
        }
        let request = Request::card(self.card(slot)?, CardRequest::Status);
        match reply(self.pool.ask_beside(&request, SHORT_LIMIT), About::Token) {
            Ok(Reply::Status(status)) if status.logged_in == Some(false) => self.forget_login(slot),
            Err(Rv(CKR_USER_NOT_LOGGED_IN)) => self.forget_login(slot),
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    pub(crate) fn forget_login(&self, slot: CK_SLOT_ID) {
        if let Some(slot) = self.state().slots.get_mut(&slot) {
            slot.login = LoginState::Nobody;
        }
    }

    /// Whether the user is logged in and, as far as is known, the daemon has not forgotten it.
    pub(crate) fn is_user(&self, slot: CK_SLOT_ID) -> bool {
        matches!(self.login_state(slot), Ok(LoginState::User(_)))
    }

    /// Who is logged in. A login that was lost with the daemon's connection does not count.
    pub(crate) fn login_state(&self, slot: CK_SLOT_ID) -> Result<LoginState> {
        let losses = self.pool.losses();
        let mut state = self.state();
        let slot = state.slot(slot)?;
        if matches!(slot.login, LoginState::User(since) if since != losses) {
            slot.login = LoginState::Nobody;
        }
        Ok(slot.login.clone())
    }

    /// The id of the card in a slot.
    pub(crate) fn card(&self, slot: CK_SLOT_ID) -> Result<String> {
        Ok(self.state().slot(slot)?.card.clone())
    }

    /// The slot of a session.
    pub(crate) fn slot_of(&self, session: CK_SESSION_HANDLE) -> Result<CK_SLOT_ID> {
        Ok(self.state().session(session)?.slot)
    }
}

fn reply(reply: std::result::Result<Reply, PoolError>, about: About) -> Result<Reply> {
    match reply? {
        Reply::Failed(failure) => Err(Rv::of(&failure, about)),
        reply => Ok(reply),
    }
}
