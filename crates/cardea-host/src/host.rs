//! What all connections share: the cards, their slots, the TPM and the store.

pub(crate) mod accounts;
pub(crate) mod admission;
#[cfg(test)]
pub(crate) mod always_away;
pub(crate) mod audit;
pub(crate) mod caller_process;
pub(crate) mod counters;
pub(crate) mod credential;
pub(crate) mod describe;
pub(crate) mod drive;
pub(crate) mod foreign;
pub(crate) mod hosted;
pub(crate) mod keeper_signal;
pub(crate) mod lease;
pub(crate) mod logins;
pub(crate) mod pad_pace;
pub(crate) mod partial;
pub(crate) mod permission;
pub(crate) mod presence;
pub(crate) mod prompt;
pub(crate) mod redirected;
pub(crate) mod selection;
pub(crate) mod slot_connection;
pub(crate) mod slots;
pub(crate) mod tpm;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::Duration;

use cardea_card::record::CardId;
use cardea_client::message::Failure;
use cardea_store::{Intent, Store};
use cardea_terms::Step;

use self::accounts::Accounts;
use self::audit::Audit;
use self::counters::Counters;
use self::hosted::{Body, HostedCard};
use self::keeper_signal::KeeperSignal;
use self::permission::{Caller, Roles};
use self::presence::Presence;
use self::prompt::Prompter;
use self::selection::{is_exactly, select};
use self::slots::Slots;
use self::tpm::{Connect, Tpm};
use crate::sync::lock;

/// The daemon without its socket.
///
/// Order of locks: `provisioning`, then a card's body, then the others, which are held for moments only.
pub struct Host {
    pub(crate) roles: Roles,
    /// Whose a user id is, where limits count users.
    accounts: Arc<Accounts>,
    pub(crate) store: Store,
    pub(crate) tpm: Tpm,
    /// Whether that one counts wrong PINs.
    pub(crate) counters: Counters,
    pub(crate) slots: Slots<HostedCard>,
    /// The bus, once it is there.
    pub(crate) prompter: OnceLock<Arc<dyn Prompter>>,
    pub(crate) audit: Audit,
    /// Who has a session.
    pub(crate) presence: Presence,
    /// Whether cards that are redirected to here may be in the reader.
    pub(crate) redirect_to_reader: bool,
    /// What `--admin-key` is where the creator of a card says nothing.
    pub(crate) admin_key: String,
    cards: Mutex<Vec<Arc<HostedCard>>>,
    cards_changed: Condvar,
    /// Held by whoever makes, destroys or checks cards.
    provisioning: Mutex<()>,
    /// Intents that were not finished before.
    pub(crate) intents: Mutex<Vec<Intent>>,
    /// What was last told of those that cannot be finished yet.
    pub(crate) told: Mutex<HashMap<CardId, String>>,
    pub(crate) keeper: KeeperSignal,
}

impl Host {
    /// A host without cards; [`load`](crate::load) reads its files.
    #[must_use]
    pub fn new(
        roles: Roles,
        store: Store,
        audit: Audit,
        connect: Connect,
        slots: u8,
        redirect_to_reader: bool,
        admin_key: String,
    ) -> Self {
        let accounts: Arc<Accounts> = Arc::default();
        let audit = audit.counting_by(Arc::clone(&accounts));
        Self {
            roles,
            accounts,
            store,
            tpm: Tpm::new(connect),
            counters: Counters::default(),
            slots: Slots::new(slots),
            prompter: OnceLock::new(),
            audit,
            presence: Presence::default(),
            redirect_to_reader,
            admin_key,
            cards: Mutex::default(),
            cards_changed: Condvar::new(),
            provisioning: Mutex::default(),
            intents: Mutex::default(),
            told: Mutex::default(),
            keeper: KeeperSignal::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn counting_by(self, accounts: Accounts) -> Self {
        let accounts = Arc::new(accounts);
        Self {
            audit: self.audit.counting_by(Arc::clone(&accounts)),
            accounts,
            ..self
        }
    }

    /// Whose a user id is, where limits count users.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The user that pcscd runs as.
    #[must_use]
    pub fn reader_uid(&self) -> u32 {
        self.roles.pcscd()
    }

    /// Whether the TPM is served: a command may take its time, but none waits while nothing moves.
    #[must_use]
    pub fn is_tpm_served(&self) -> bool {
        self.tpm.is_served()
    }

    /// All cards: this host's own in order of their instance numbers, then those that users have brought along.
    pub(crate) fn cards(&self) -> Vec<Arc<HostedCard>> {
        lock(&self.cards).clone()
    }

    /// The cards whose drive is there, or that are on none.
    pub fn present_cards(&self) -> Vec<Arc<HostedCard>> {
        let mut cards = self.cards();
        cards.retain(|card| card.is_here());
        cards
    }

    pub(crate) fn add(&self, card: Arc<HostedCard>) {
        let mut cards = lock(&self.cards);
        cards.push(card);
        cards.sort_by_key(|card| (card.is_guest(), card.instance.is_none(), card.instance));
        self.cards_changed.notify_all();
    }

    /// Adds a card that is not this host's, unless its user has one of the same id. Cards of others are not compared:
    /// whoever invents ids neither learns of them nor keeps them away.
    pub(crate) fn add_guest(&self, card: &Arc<HostedCard>) -> bool {
        let mut cards = lock(&self.cards);
        let same = |known: &&Arc<HostedCard>| known.id == card.id && known.owner == card.owner;
        if cards.iter().any(|known| same(&known)) {
            return false;
        }
        cards.push(Arc::clone(card));
        self.cards_changed.notify_all();
        true
    }

    /// A card as the host has it now: one whose destruction has failed is another value for the same card.
    pub(crate) fn current(&self, card: &Arc<HostedCard>) -> Arc<HostedCard> {
        let cards = lock(&self.cards);
        let same = |other: &&Arc<HostedCard>| {
            let is_id = other.id.is_some() && other.id == card.id;
            is_id && !other.is_guest() && !card.is_guest()
        };
        let stays = cards.iter().any(|other| Arc::ptr_eq(other, card));
        let found = cards.iter().find(same).filter(|_| !stays);
        Arc::clone(found.unwrap_or(card))
    }

    /// The card of this host with this id, whoever's it is.
    pub(crate) fn own_card(&self, id: CardId) -> Option<Arc<HostedCard>> {
        let cards = lock(&self.cards);
        let mut own = cards.iter().filter(|card| !card.is_guest());
        own.find(|card| card.id == Some(id)).cloned()
    }

    pub(crate) fn forget(&self, card: &Arc<HostedCard>) {
        card.set_forgotten();
        lock(&self.cards).retain(|other| !Arc::ptr_eq(other, card));
        self.cards_changed.notify_all();
    }

    /// Tells those who wait that something about a card is not as it was.
    pub fn cards_changed(&self) {
        let _cards = lock(&self.cards);
        self.cards_changed.notify_all();
    }

    /// Sleeps until a card comes or goes, or the time is over. What else changes is for the caller to see.
    pub fn await_cards(&self, limit: Duration) {
        let cards = lock(&self.cards);
        drop(self.cards_changed.wait_timeout(cards, limit));
    }

    /// Waits until nobody else makes or destroys cards; `waiting` is called when that takes time.
    pub(crate) fn provision(&self, waiting: &mut dyn FnMut(Step)) -> MutexGuard<'_, ()> {
        self.try_provision().unwrap_or_else(|| {
            waiting(Step::WaitForTurn);
            lock(&self.provisioning)
        })
    }

    /// Like [`Self::provision`] where nobody else does.
    pub(crate) fn try_provision(&self) -> Option<MutexGuard<'_, ()>> {
        match self.provisioning.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Every handle that some card or interrupted operation names, whether it is in the TPM or not.
    pub(crate) fn claimed_handles(&self) -> Vec<u32> {
        let cards = self.cards();
        let cards = cards.iter().flat_map(|card| card.handles.iter().copied());
        let mut claimed: Vec<u32> = cards.collect();
        let intents = lock(&self.intents);
        let named = intents.iter().flat_map(|intent| &intent.indices);
        claimed.extend(named.map(|(handle, _)| *handle));
        claimed
    }

    /// Puts live cards without a slot into free slots, and takes those out that are not to be seen. The caller holds the provisioning lock.
    pub(crate) fn seat_cards(&self) {
        for card in self.cards() {
            let live = match card.carrier() {
                Some(carrier) => carrier.in_reader,
                None => card
                    .try_body()
                    .map_or_else(|| card.looks_live(), |body| matches!(*body, Body::Live(_))),
            };
            if live && card.is_here() && self.presence.admits(&card) {
                self.slots.insert(&card);
                // Whoever has the card may have put it out of use meanwhile.
                if card.carrier().is_none() && !card.looks_live() {
                    self.slots.remove(&card);
                }
            } else if self.slots.remove(&card) {
                tracing::debug!(card = %card.selector(), "removed from its reader");
            }
        }
    }

    /// The card that a user means.
    pub(crate) fn find(&self, selector: &str, caller: Caller) -> Result<Arc<HostedCard>, Failure> {
        // Programs give the id: the way there must not grow with the number of cards.
        if let Ok(id) = selector.parse::<CardId>() {
            let cards = lock(&self.cards);
            // This host's own has the id to itself; of others' that were brought along there may be more.
            let mut named = cards.iter().filter(|card| card.id == Some(id));
            if let Some(card) = named.find(|card| !card.is_guest())
                && caller.may_see(card.owner)
            {
                return Ok(Arc::clone(card));
            }
        }
        let mut cards = self.cards();
        // Another user's redirected card never shadows a name.
        cards.retain(|card| card.serves(caller.uid()) || card.selector() == selector);
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

    /// How many cards there are, on drives that are away too.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.cards).len()
    }

    /// The slots of the reader.
    #[must_use]
    pub fn slots(&self) -> &Slots<HostedCard> {
        &self.slots
    }

    /// Who is signed in.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// From now on there is somebody who asks people. False: there was already.
    pub fn set_prompter(&self, prompter: Arc<dyn Prompter>) -> bool {
        self.prompter.set(prompter).is_ok()
    }

    /// Ends the keeper thread.
    pub fn stop_keeper(&self) {
        self.keeper.stop();
    }

    /// Waits until the keeper has looked at everything once, whatever came of it.
    pub fn await_first_pass(&self, limit: Duration) {
        self.keeper.await_first_pass(limit);
    }

    /// Asks the keeper for another look at what waits.
    pub fn wake_keeper(&self) {
        self.keeper.wake();
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
