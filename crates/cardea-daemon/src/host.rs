//! What all connections share: the cards, their slots, the TPM and the store.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

use cardea_card::record::CardId;
use cardea_card::token::Clock;
use cardea_client::message::Failure;
use cardea_store::{Intent, Store};
use cardea_tpm::{Address, Resting, Service, TpmError, TpmTime};

use crate::ambient::BootClock;
use crate::application::Applications;
use crate::audit::Audit;
use crate::counters::Counters;
use crate::drive::Reading;
use crate::hosted::{Body, HostedCard};
use crate::peer::Roles;
use crate::permission::Caller;
use crate::presence::Presence;
use crate::prompt::Prompter;
use crate::redirected::Redirections;
use crate::selection::{is_exactly, select};
use crate::slots::Slots;

/// The daemon without its socket.
///
/// Order of locks: `provisioning`, then a card's body, then the others, which are held for moments only.
pub(crate) struct Host {
    pub(crate) roles: Roles,
    pub(crate) store: Store,
    pub(crate) tpm: Tpm,
    /// Whether that one counts wrong PINs.
    pub(crate) counters: Counters,
    pub(crate) slots: Slots<HostedCard>,
    pub(crate) applications: Applications,
    /// The bus, once it is there.
    pub(crate) prompter: OnceLock<Arc<dyn Prompter>>,
    pub(crate) audit: Audit,
    /// Who has a session.
    pub(crate) presence: Presence,
    pub(crate) redirections: Redirections,
    /// Whether cards that are redirected to here may be in the reader.
    pub(crate) redirect_to_reader: bool,
    /// What `--admin-key` is where the creator of a card says nothing.
    pub(crate) admin_key: String,
    /// Who has a drive read.
    pub(crate) reading: Reading,
    cards: Mutex<Vec<Arc<HostedCard>>>,
    cards_changed: Condvar,
    /// Held by whoever makes, destroys or checks cards.
    provisioning: Mutex<()>,
    /// Intents that were not finished before.
    pub(crate) intents: Mutex<Vec<Intent>>,
    /// What was last told of those that cannot be finished yet.
    pub(crate) told: Mutex<HashMap<CardId, String>>,
    duty: Mutex<Duty>,
    duty_changed: Condvar,
}

/// What the keeper thread has to do.
#[derive(Debug, Default)]
pub(crate) struct Duty {
    pub(crate) wanted: bool,
    pub(crate) stop: bool,
    pub(crate) passes: u64,
}

impl Host {
    pub(crate) fn new(
        roles: Roles,
        store: Store,
        audit: Audit,
        address: Address,
        slots: u8,
        redirect_to_reader: bool,
        admin_key: String,
    ) -> Self {
        Self {
            roles,
            store,
            tpm: Tpm::new(address),
            counters: Counters::default(),
            slots: Slots::new(slots),
            applications: Applications::default(),
            prompter: OnceLock::new(),
            audit,
            presence: Presence::default(),
            redirections: Redirections::default(),
            redirect_to_reader,
            admin_key,
            reading: Reading::default(),
            cards: Mutex::default(),
            cards_changed: Condvar::new(),
            provisioning: Mutex::default(),
            intents: Mutex::default(),
            told: Mutex::default(),
            duty: Mutex::default(),
            duty_changed: Condvar::new(),
        }
    }

    /// All cards, in order of their instance numbers.
    pub(crate) fn cards(&self) -> Vec<Arc<HostedCard>> {
        lock(&self.cards).clone()
    }

    /// The same without those whose drive is not there.
    pub(crate) fn present_cards(&self) -> Vec<Arc<HostedCard>> {
        let mut cards = self.cards();
        cards.retain(|card| card.is_here());
        cards
    }

    pub(crate) fn add(&self, card: Arc<HostedCard>) {
        let mut cards = lock(&self.cards);
        cards.push(card);
        cards.sort_by_key(|card| (card.instance.is_none(), card.instance));
        self.cards_changed.notify_all();
    }

    /// Adds a card unless one of the same id is here, whoever's that is.
    pub(crate) fn add_new(&self, card: &Arc<HostedCard>) -> bool {
        let mut cards = lock(&self.cards);
        if cards.iter().any(|known| known.id == card.id) {
            return false;
        }
        cards.push(Arc::clone(card));
        self.cards_changed.notify_all();
        true
    }

    pub(crate) fn forget(&self, card: &Arc<HostedCard>) {
        lock(&self.cards).retain(|other| !Arc::ptr_eq(other, card));
        self.cards_changed.notify_all();
    }

    /// Tells those who wait that something about a card is not as it was.
    pub(crate) fn cards_changed(&self) {
        let _cards = lock(&self.cards);
        self.cards_changed.notify_all();
    }

    /// Sleeps until a card comes or goes, or the time is over. What else changes is for the caller to see.
    pub(crate) fn await_cards(&self, limit: Duration) {
        let cards = lock(&self.cards);
        drop(self.cards_changed.wait_timeout(cards, limit));
    }

    /// Waits until nobody else makes or destroys cards; `waiting` is called when that takes time.
    pub(crate) fn provision(&self, waiting: &mut dyn FnMut(&str)) -> MutexGuard<'_, ()> {
        match self.provisioning.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => {
                waiting("waiting for another card to be made or destroyed");
                lock(&self.provisioning)
            }
        }
    }

    /// Puts live cards without a slot into free slots, and takes those out that are not to be seen. The caller holds the provisioning lock.
    pub(crate) fn seat_cards(&self) {
        for card in self.cards() {
            let live = match card.carrier() {
                Some(carrier) => carrier.in_reader,
                // A card at work is a live one.
                None => card
                    .try_body()
                    .is_none_or(|body| matches!(*body, Body::Live(_))),
            };
            if live && card.is_here() && self.presence.admits(&card) {
                self.slots.insert(&card);
            } else if self.slots.remove(&card) {
                tracing::debug!(card = %card.selector(), "out of its reader");
            }
        }
    }

    /// The card that a user means.
    pub(crate) fn find(&self, selector: &str, caller: Caller) -> Result<Arc<HostedCard>, Failure> {
        // Programs give the id: the way there must not grow with the number of cards.
        if let Ok(id) = selector.parse::<CardId>() {
            let cards = lock(&self.cards);
            let mut named = cards.iter().filter(|card| card.id == Some(id));
            if let (Some(card), None) = (named.next(), named.next())
                && caller.may_see(card.owner)
            {
                return Ok(Arc::clone(card));
            }
        }
        let mut cards = self.cards();
        // A name that somebody has brought along from elsewhere is in nobody else's way.
        cards.retain(|card| card.serves(caller.uid) || card.selector() == selector);
        select(cards, selector, caller)
    }

    /// The card of somebody else that a caller names.
    pub(crate) fn hidden(&self, selector: &str, caller: Caller) -> Option<Arc<HostedCard>> {
        let mut cards = self.cards().into_iter();
        cards.find(|card| !caller.may_see(card.owner) && is_exactly(card, selector))
    }

    /// Ends what cards have kept verified for too long. A card at work does that by itself.
    pub(crate) fn expire(&self) {
        for card in self.cards() {
            if let Some(mut body) = card.try_body()
                && let Body::Live(live) = &mut *body
            {
                live.expire();
            }
        }
    }

    /// Has the keeper look at a card whose answer, which tells no reason, may mean that the TPM has disowned it.
    pub(crate) fn look_into(&self, card: &HostedCard, response: &[u8]) {
        /// No precise diagnosis (ISO 7816-4 §5.6).
        const NO_DIAGNOSIS: [u8; 2] = [0x6F, 0x00];
        if response.ends_with(&NO_DIAGNOSIS) {
            card.doubt();
            self.wake_keeper();
        }
    }

    /// Asks the keeper for another look at what waits.
    pub(crate) fn wake_keeper(&self) {
        lock(&self.duty).wanted = true;
        self.duty_changed.notify_all();
    }

    pub(crate) fn stop_keeper(&self) {
        lock(&self.duty).stop = true;
        self.duty_changed.notify_all();
    }

    /// Waits for work or the time of another attempt. False = stop.
    pub(crate) fn await_duty(&self, limit: Duration) -> bool {
        let mut duty = lock(&self.duty);
        duty.passes += 1;
        self.duty_changed.notify_all();
        duty = self
            .duty_changed
            .wait_timeout_while(duty, limit, |duty| !duty.wanted && !duty.stop)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        duty.wanted = false;
        !duty.stop
    }

    /// Waits until the keeper has looked at everything once, whatever came of it.
    pub(crate) fn await_first_pass(&self, limit: Duration) {
        let duty = lock(&self.duty);
        drop(
            self.duty_changed
                .wait_timeout_while(duty, limit, |duty| duty.passes == 0 && !duty.stop),
        );
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// The TPM, which may be away when the daemon starts.
pub(crate) struct Tpm {
    address: Address,
    service: Mutex<Option<Service>>,
    /// The TPM's time and ours, as they were first known.
    first_times: Mutex<Option<(TpmTime, Duration)>>,
}

impl Tpm {
    fn new(address: Address) -> Self {
        Self {
            address,
            service: Mutex::default(),
            first_times: Mutex::default(),
        }
    }

    /// Answers a client, and then does what is due at the TPM, if nobody else waits for it.
    pub(crate) fn rest_after<R>(&self, answer: impl FnOnce() -> R) -> R {
        // Dropped in this order, whatever becomes of the answer.
        struct Rest<'a>(&'a Tpm);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                let service = lock(&self.0.service).clone();
                if let Some(service) = service {
                    service.rest();
                }
            }
        }
        let _rest = Rest(self);
        let _resting = Resting::begin();
        answer()
    }

    /// The service, started at the first use that succeeds; from then on it reconnects by itself.
    pub(crate) fn service(&self) -> Result<Service, TpmError> {
        let mut service = lock(&self.service);
        if let Some(service) = &*service {
            return Ok(service.clone());
        }
        let started = Service::start(&self.address)?;
        tracing::info!(address = %self.address, "TPM reached");
        *service = Some(started.clone());
        if let Ok(time) = started.time() {
            self.clock_deviation(time);
        }
        Ok(started)
    }

    /// How much faster the TPM's clock runs than ours, in thousandths. Nobody can tell in the first two seconds.
    pub(crate) fn clock_deviation(&self, time: TpmTime) -> Option<i32> {
        let now = BootClock.now();
        let mut first = lock(&self.first_times);
        match *first {
            Some((known, then)) if known.is_of_the_same_run(time) => {
                let ours = i64::try_from(now.saturating_sub(then).as_millis()).ok()?;
                let theirs =
                    i64::try_from(time.milliseconds.checked_sub(known.milliseconds)?).ok()?;
                let faster = theirs.saturating_sub(ours).saturating_mul(1000);
                (ours >= 2000).then(|| i32::try_from(faster / ours).unwrap_or(i32::MAX))
            }
            _ => {
                *first = Some((time, now));
                None
            }
        }
    }
}

/// Locks what is sound at every moment, also after a panic in another thread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
