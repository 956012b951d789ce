//! What whoever uses the TPM holds: the connection, the SRK, the channel, loaded keys, the cards' sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cardea_card::record::SrkRecord;
use cardea_card::token::KeyAlgorithm;
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use zeroize::Zeroizing;

use crate::commands::SessionKind;
use crate::error::{ResponseCode, TpmError};
use crate::grant::{Grants, Purpose};
use crate::policy::name_of;
use crate::promise::Wake;
use crate::session::Session;
use crate::simulator::Simulator;
use crate::srk::{self, Parent, RecordedRoot};
use crate::tpm::{CommandCount, Progress, ProgressMark, Tpm};
use crate::transport::{Address, open};

/// Sessions that every TPM can hold loaded (PC Client profile).
const LOADED_SESSIONS: usize = 3;
/// TPM_PT_HR_TRANSIENT_MIN.
const TRANSIENT_MIN: u32 = 0x10E;
/// Longest time for a software TPM of our own to take its state over.
const SIMULATOR_TIME: Duration = Duration::from_secs(5);
/// Before an operation is done again because the TPM asked for it.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long an armed `once` session may wait for its operation.
pub(crate) const ONCE_TIME: Duration = Duration::from_secs(30);

/// Proof of a PIN verification, good for PolicyTicket until its time is over or the TPM restarts.
///
/// It was asked for with the nonce of one session, which fixes from when its time runs; the ticket itself
/// holds the absolute time (TPM 2.0 Part 3 §23.2.5) and works in any session. So a card's session may be
/// flushed for another card's and begun anew. Saving it instead (TPM2_ContextSave) would spare one command
/// and the salt's millisecond where more than two cards sign in turn; but a saved session has to be watched
/// against the 64 active ones and the context gap, and is lost with every reset. The test with ten cards
/// shows that the ticket is enough.
pub(crate) struct Ticket {
    /// Name of the PIN index, which PolicyTicket repeats.
    pub(crate) pin_name: [u8; 34],
    pub(crate) timeout: Vec<u8>,
    pub(crate) ticket: Zeroizing<Vec<u8>>,
}

/// A card's state in the TPM between two operations.
#[derive(Default)]
pub(crate) struct Runtime {
    /// The policy session for session-class keys.
    pub(crate) session: Option<Session>,
    /// Whether that session's policy is satisfied at this moment.
    pub(crate) armed: bool,
    pub(crate) ticket: Option<Ticket>,
    /// Policy session for one operation with an always-class key.
    pub(crate) once: Option<Once>,
    /// An operation has emptied the session; arm it again when there is time.
    pub(crate) rearm: bool,
    used: u64,
}

/// An armed policy session for one operation. Nothing but the PIN can arm another, so it is never flushed for
/// another card's sake but saved (TPM2_ContextSave).
pub(crate) struct Once {
    pub(crate) session: Session,
    armed: Instant,
    saved: Option<Zeroizing<Vec<u8>>>,
}

impl Once {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            armed: Instant::now(),
            saved: None,
        }
    }

    /// Whether its time is over; the TPM would refuse it too.
    pub(crate) fn is_over(&self) -> bool {
        self.armed.elapsed() >= ONCE_TIME
    }
}

struct LoadedKey {
    name: [u8; 34],
    handle: u32,
    used: u64,
}

/// A live connection and what is loaded through it.
pub(crate) struct Link {
    pub(crate) tpm: Tpm,
    /// Storage root keys in use, and the one that the channel is salted to.
    srks: Vec<Parent>,
    srk: Option<usize>,
    /// The one of new cards.
    new_srk: Option<usize>,
    /// One whose Name a card has recorded.
    recorded_srk: Option<usize>,
    /// Names that this TPM does not make from the templates recorded with them.
    foreign: Vec<[u8; 34]>,
    channel: Option<Session>,
    keys: Vec<LoadedKey>,
    key_slots: usize,
    algorithms: Vec<(KeyAlgorithm, bool)>,
}

/// The TPM and what is known of it, used by one caller at a time.
pub(crate) struct Core {
    address: Address,
    simulator: Option<Simulator>,
    count: CommandCount,
    progress: ProgressMark,
    wake: Wake,
    link: Option<Link>,
    cards: BTreeMap<u64, Runtime>,
    /// What authorities have approved, by card.
    pub(crate) grants: Grants,
    /// Storage root keys of cards that are in this TPM.
    recorded: Vec<RecordedRoot>,
    tick: u64,
    /// Whether this TPM was found fit for cards.
    pub(crate) probed: bool,
    /// Whether it was seen to set a counter back that it should not.
    pub(crate) resets_counts: bool,
}

impl Core {
    pub(crate) fn new(address: Address, count: CommandCount) -> Self {
        Self {
            address,
            simulator: None,
            count,
            progress: ProgressMark::default(),
            wake: Wake::default(),
            link: None,
            cards: BTreeMap::new(),
            grants: Grants::default(),
            recorded: Vec::new(),
            tick: 0,
            probed: false,
            resets_counts: false,
        }
    }

    /// Who is woken when the next command is sent.
    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Runs an operation; once more after what can be mended without harm: a TPM that was reset under us, full
    /// slots, a storage root key that has moved. What has compared a value or changed something is not repeated:
    /// that the TPM did not execute it is what an error says, and an error has no HMAC.
    pub(crate) fn attempt<R>(
        &mut self,
        operation: impl FnMut(&mut Self) -> Result<R, TpmError>,
    ) -> Result<R, TpmError> {
        self.attempt_unless(operation, |_, _| true)
    }

    /// The same; `counted` asks the TPM whether a comparison with an index's value was counted, and one that was
    /// not may be repeated.
    pub(crate) fn attempt_unless<R>(
        &mut self,
        mut operation: impl FnMut(&mut Self) -> Result<R, TpmError>,
        counted: impl FnOnce(&mut Self, u32) -> bool,
    ) -> Result<R, TpmError> {
        self.connect()?;
        self.progress.clear();
        let error = match operation(self) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let progress = self.progress.get();
        if error.breaks_connection() {
            tracing::warn!(error = %error, "the connection to the TPM is given up");
            self.disconnect();
            return Err(error);
        }
        if error.tells_of_reset() {
            tracing::warn!(error = %error, "the TPM has lost its sessions");
            self.disconnect();
            self.connect()?;
        } else if error.code().is_some_and(ResponseCode::out_of_slots) {
            self.make_room();
        } else if self.misses_root(&error) {
            tracing::warn!(error = %error, "a storage root key is gone, it is looked for again");
            self.forget_roots();
        } else if progress != Progress::Harmless
            && error.code().is_some_and(ResponseCode::asks_for_retry)
        {
            std::thread::sleep(RETRY_PAUSE);
        } else {
            return Err(error);
        }
        let repeatable = match progress {
            Progress::Harmless => true,
            Progress::Compared(index) => !counted(self, index),
            Progress::Changed => false,
        };
        if !repeatable && !repeats_everything() {
            return Err(error);
        }
        let again = operation(self);
        if let Err(error) = &again
            && (error.breaks_connection() || error.tells_of_reset())
        {
            self.disconnect();
        }
        again
    }

    /// What follows must not be repeated.
    pub(crate) fn commit(&self) {
        self.progress.changed();
    }

    pub(crate) fn link(&mut self) -> Result<&mut Link, TpmError> {
        self.link.as_mut().ok_or(TpmError::Stopped)
    }

    /// Makes the storage root key of new cards the one in use; makes it where there is none.
    pub(crate) fn use_new_srk(&mut self) -> Result<(), TpmError> {
        let index = match self.link()?.new_srk {
            Some(index) => index,
            None => {
                self.unload_all();
                let recorded = self.recorded.clone();
                let link = self.link()?;
                let found = srk::for_new_cards(&mut link.tpm, &recorded)?;
                let index = link.remember(found);
                link.new_srk = Some(index);
                index
            }
        };
        self.select_srk(index)
    }

    /// Makes a storage root key for what belongs to no card the one in use.
    pub(crate) fn use_found_srk(&mut self) -> Result<(), TpmError> {
        let link = self.link()?;
        if link.srk.is_none() {
            self.unload_all();
            let link = self.link()?;
            let found = srk::for_others(&mut link.tpm)?;
            let index = link.remember(found);
            self.select_srk(index)?;
        }
        Ok(())
    }

    /// Makes the storage root key with this Name the one in use.
    pub(crate) fn use_srk(&mut self, name: &[u8; 34], template: &[u8]) -> Result<(), TpmError> {
        let link = self.link()?;
        let index = match link.srks.iter().position(|srk| srk.name == *name) {
            Some(index) => index,
            None => {
                self.unload_all();
                let link = self.link()?;
                let may_be_made = !link.foreign.contains(name);
                match srk::of_card(&mut link.tpm, name, template, may_be_made) {
                    Ok(found) => link.remember(found),
                    Err(error) => {
                        if matches!(error, TpmError::Foreign) && may_be_made {
                            link.foreign.push(*name);
                        }
                        return Err(error);
                    }
                }
            }
        };
        self.link()?.recorded_srk = Some(index);
        if self.recorded.iter().all(|root| root.name != *name) {
            let template = template.to_vec();
            self.recorded.push(RecordedRoot {
                name: *name,
                template,
            });
        }
        self.select_srk(index)
    }

    /// Whether an error says that a storage root key in use is not at its handle.
    fn misses_root(&self, error: &TpmError) -> bool {
        let TpmError::Response {
            handle: Some(handle),
            ..
        } = error
        else {
            return false;
        };
        error.code() == Some(ResponseCode::HANDLE)
            && self
                .link
                .as_ref()
                .is_some_and(|link| link.srks.iter().any(|srk| srk.handle == *handle))
    }

    /// Storage root keys are looked for again when they are needed.
    fn forget_roots(&mut self) {
        let Some(link) = &mut self.link else { return };
        link.srks.clear();
        link.srk = None;
        link.new_srk = None;
        link.recorded_srk = None;
        if let Some(channel) = link.channel.take() {
            self.flush(channel.handle);
        }
    }

    /// The channel belongs to one storage root key: what a card's values travel in is salted to the key
    /// that the card has recorded. Two of them in one TPM are rare, and changing costs one command.
    fn select_srk(&mut self, index: usize) -> Result<(), TpmError> {
        let link = self.link()?;
        if link.srk != Some(index) {
            link.srk = Some(index);
            if let Some(channel) = link.channel.take() {
                self.flush(channel.handle);
            }
        }
        Ok(())
    }

    /// The storage root key of new cards, for their records.
    pub(crate) fn srk_record(&mut self) -> Result<SrkRecord, TpmError> {
        self.use_new_srk()?;
        self.unload_all();
        let link = self.link()?;
        let srk = link.srk.and_then(|index| link.srks.get_mut(index));
        srk.ok_or(TpmError::Stopped)?.record(&mut link.tpm)
    }

    fn connect(&mut self) -> Result<(), TpmError> {
        if self.link.as_ref().is_some_and(|link| link.tpm.alive()) {
            return Ok(());
        }
        self.disconnect();
        let mut tpm = self.reach()?;
        if tpm.shares_handles() {
            flush_leftovers(&mut tpm)?;
        }
        let slots = tpm
            .properties(TRANSIENT_MIN)?
            .first()
            .filter(|(property, _)| *property == TRANSIENT_MIN)
            .map_or(3, |(_, slots)| *slots);
        // A persistent key takes a slot while it is used: loading a key needs one for the SRK.
        let key_slots = usize::try_from(slots).unwrap_or(3).saturating_sub(1).max(1);
        self.link = Some(Link {
            tpm,
            srks: Vec::new(),
            srk: None,
            new_srk: None,
            recorded_srk: None,
            foreign: Vec::new(),
            channel: None,
            keys: Vec::new(),
            key_slots,
            algorithms: Vec::new(),
        });
        Ok(())
    }

    /// A connection to a started TPM.
    ///
    /// A software TPM of our own may listen a moment before it finds its state locked by the one of an
    /// earlier daemon, and end: then another one is started, until the time is over.
    fn reach(&mut self) -> Result<Tpm, TpmError> {
        let deadline = Instant::now() + SIMULATOR_TIME;
        loop {
            let transport =
                open(&self.address, &mut self.simulator).map_err(|source| TpmError::Transport {
                    command: "connection",
                    source,
                })?;
            let mut tpm = Tpm::new(
                transport,
                self.count.clone(),
                self.progress.clone(),
                self.wake.clone(),
            );
            match tpm.startup() {
                Err(error) if error.breaks_connection() => {
                    let own = matches!(self.address, Address::Simulator(_));
                    if !own || Instant::now() > deadline {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) if error.code() != Some(ResponseCode::INITIALIZE) => return Err(error),
                _ => return Ok(tpm),
            }
        }
    }

    /// Drops the connection and all that lived in it: sessions, tickets, loaded keys.
    pub(crate) fn disconnect(&mut self) {
        self.link = None;
        self.grants.clear();
        for runtime in self.cards.values_mut() {
            *runtime = Runtime::default();
        }
    }

    pub(crate) fn runtime(&mut self, card: u64) -> &mut Runtime {
        self.tick += 1;
        let tick = self.tick;
        let runtime = self.cards.entry(card).or_default();
        runtime.used = tick;
        runtime
    }

    /// Connection and card side by side.
    pub(crate) fn split(&mut self, card: u64) -> Result<(&mut Link, &mut Runtime), TpmError> {
        self.tick += 1;
        let runtime = self.cards.entry(card).or_default();
        runtime.used = self.tick;
        let link = self.link.as_mut().ok_or(TpmError::Stopped)?;
        Ok((link, runtime))
    }

    /// The card's token is gone.
    pub(crate) fn remove(&mut self, card: u64) {
        self.drop_grants(card);
        if let Some(runtime) = self.cards.remove(&card) {
            self.flush_sessions(runtime);
        }
    }

    /// Erases everything that would allow the card another operation.
    pub(crate) fn logout(&mut self, card: u64) {
        let runtime = std::mem::take(self.runtime(card));
        self.flush_sessions(runtime);
    }

    /// Drops the one operation with an always-class key.
    pub(crate) fn disarm(&mut self, card: u64) {
        if let Some(once) = self.runtime(card).once.take() {
            self.flush(once.session.handle);
        }
    }

    /// The card's session for one operation, loaded; the caller gives it back or flushes it.
    pub(crate) fn take_once(&mut self, card: u64) -> Result<Option<Once>, TpmError> {
        let Some(mut once) = self.runtime(card).once.take() else {
            return Ok(None);
        };
        if once.is_over() {
            self.flush(once.session.handle);
            return Ok(None);
        }
        if let Some(context) = once.saved.take() {
            self.room_for_session(card);
            let loaded = self.link()?.tpm.context_load(&context);
            if loaded? != once.session.handle {
                return Err(TpmError::Protocol {
                    command: "ContextLoad",
                    what: "another session was loaded",
                });
            }
        }
        Ok(Some(once))
    }

    /// The session in which this was approved, loaded; the caller ends it. None: nobody has approved it, or
    /// too long ago.
    pub(crate) fn take_grant(
        &mut self,
        card: u64,
        purpose: Purpose,
    ) -> Result<Option<Session>, TpmError> {
        let Some(grant) = self.grants.take(card, purpose) else {
            return Ok(None);
        };
        if grant.is_over() {
            self.flush(grant.session.handle);
            return Ok(None);
        }
        self.room_for_session(card);
        let loaded = self.link()?.tpm.context_load(&grant.context);
        if loaded? != grant.session.handle {
            return Err(TpmError::Protocol {
                command: "ContextLoad",
                what: "another session was loaded",
            });
        }
        Ok(Some(grant.session))
    }

    /// Ends what authorities have approved for a card.
    pub(crate) fn drop_grants(&mut self, card: u64) {
        for handle in self.grants.take_all(card) {
            self.flush(handle);
        }
    }

    /// Takes a card's session for one operation out of the TPM's slots.
    fn park(&mut self, card: u64) {
        let Some(mut once) = self
            .cards
            .get_mut(&card)
            .and_then(|runtime| runtime.once.take())
        else {
            return;
        };
        let Some(link) = &mut self.link else { return };
        match link.tpm.context_save(once.session.handle) {
            Ok(context) => {
                once.saved = Some(context);
                self.runtime(card).once = Some(once);
            }
            Err(error) => {
                tracing::debug!(error = %error, "a session could not be saved");
                self.flush(once.session.handle);
            }
        }
    }

    /// Flushes the sessions for one operation, and those of authorities, whose time is over.
    fn drop_old(&mut self) {
        for handle in self.grants.take_old() {
            self.flush(handle);
        }
        let over: Vec<u64> = self
            .cards
            .iter()
            .filter(|(_, runtime)| runtime.once.as_ref().is_some_and(Once::is_over))
            .map(|(card, _)| *card)
            .collect();
        for card in over {
            self.disarm(card);
        }
    }

    fn flush_sessions(&mut self, runtime: Runtime) {
        let handles = runtime.session.iter().map(|session| session.handle);
        let once = runtime.once.iter().map(|once| once.session.handle);
        let handles: Vec<u32> = handles.chain(once).collect();
        for handle in handles {
            self.flush(handle);
        }
    }

    /// Flushes what need not be there for correctness; a failure shows at the next use.
    pub(crate) fn flush(&mut self, handle: u32) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.tpm.flush(handle)
        {
            tracing::debug!(error = %error, "a flush failed");
            if error.breaks_connection() {
                self.disconnect();
            }
        }
    }

    /// Makes sure that one more session can be started for this card.
    ///
    /// Cards' sessions give way before sessions for one operation do: a ticket arms another of the former.
    pub(crate) fn room_for_session(&mut self, card: u64) {
        self.drop_old();
        let channel = self
            .link
            .as_ref()
            .is_some_and(|link| link.channel.is_some());
        let owner = self
            .link
            .as_ref()
            .is_some_and(|link| link.tpm.owner.is_some());
        loop {
            let has_once =
                |runtime: &Runtime| runtime.once.as_ref().is_some_and(|o| o.saved.is_none());
            let loaded: usize = self
                .cards
                .values()
                .map(|runtime| {
                    usize::from(runtime.session.is_some()) + usize::from(has_once(runtime))
                })
                .sum();
            if usize::from(channel) + usize::from(owner) + loaded < LOADED_SESSIONS {
                return;
            }
            let others = self.cards.iter().filter(|(id, _)| **id != card);
            let oldest = |wanted: &dyn Fn(&Runtime) -> bool| {
                others
                    .clone()
                    .filter(|(_, runtime)| wanted(runtime))
                    .min_by_key(|(_, runtime)| runtime.used)
                    .map(|(id, _)| *id)
            };
            let own = self.cards.get(&card).filter(|runtime| has_once(runtime));
            let session = oldest(&|runtime| runtime.session.is_some());
            let once = oldest(&has_once).or(own.map(|_| card));
            if let Some(oldest) = session {
                let Some(runtime) = self.cards.get_mut(&oldest) else {
                    return;
                };
                runtime.armed = false;
                runtime.rearm = false;
                let session = runtime.session.take();
                session
                    .into_iter()
                    .for_each(|session| self.flush(session.handle));
            } else if let Some(oldest) = once {
                self.park(oldest);
            } else {
                return;
            }
        }
    }

    /// The channel: a salted HMAC session that carries values and authorises with them.
    pub(crate) fn channel(&mut self) -> Result<(), TpmError> {
        let link = self.link()?;
        if let Some(channel) = &mut link.channel
            && channel.doubtful
            && let Err(error) = link.tpm.prove_session(channel)
        {
            tracing::debug!(error = %error, "the channel is begun anew");
            let old = link.channel.take().map(|channel| channel.handle);
            old.into_iter().for_each(|handle| self.flush(handle));
        }
        if self.link()?.channel.is_none() {
            self.room_for_session(u64::MAX);
            let link = self.link()?;
            let srk = link.srk()?.clone();
            link.channel = Some(link.tpm.start_session(SessionKind::Hmac, Some(&srk))?);
        }
        Ok(())
    }

    /// A policy session salted to the SRK, and proven: nothing is armed or signed for a session that is only
    /// said to be ours.
    pub(crate) fn policy_session(&mut self, card: u64) -> Result<Session, TpmError> {
        self.room_for_session(card);
        let link = self.link()?;
        let srk = link.srk()?.clone();
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::UnsaltedSessions) {
            return link.tpm.start_session(SessionKind::Policy, None);
        }
        let mut session = link.tpm.start_session(SessionKind::Policy, Some(&srk))?;
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::UnprovenSessions) || weakened::has(Weakness::BirthKeyUsedAgain) {
            return Ok(session);
        }
        match link.tpm.prove_session(&mut session) {
            Ok(()) => Ok(session),
            Err(error) => {
                self.flush(session.handle);
                Err(error)
            }
        }
    }

    /// A policy session that anybody on the way could use or read: for what anybody may do.
    pub(crate) fn open_policy_session(&mut self, card: u64) -> Result<Session, TpmError> {
        self.room_for_session(card);
        self.link()?.tpm.start_session(SessionKind::Policy, None)
    }

    /// Handle of a key, loaded if it is not; the least recently used one gives way.
    pub(crate) fn load(&mut self, private: &[u8], public: &[u8]) -> Result<u32, TpmError> {
        let name = name_of(public);
        self.tick += 1;
        let tick = self.tick;
        let link = self.link()?;
        if let Some(key) = link.keys.iter_mut().find(|key| key.name == name) {
            key.used = tick;
            return Ok(key.handle);
        }
        self.channel()?;
        self.room_for_key()?;
        let (tpm, srk, channel) = self.link()?.parts()?;
        let handle = tpm.load(srk, channel, private, public)?;
        self.link()?.keys.push(LoadedKey {
            name,
            handle,
            used: tick,
        });
        Ok(handle)
    }

    /// Makes sure that one more object can be loaded or made; the least recently used key gives way.
    pub(crate) fn room_for_key(&mut self) -> Result<(), TpmError> {
        let link = self.link()?;
        while link.keys.len() >= link.key_slots {
            let oldest = link.keys.iter().enumerate().min_by_key(|(_, key)| key.used);
            let Some((index, _)) = oldest else { break };
            let handle = link.keys.swap_remove(index).handle;
            link.tpm.flush(handle)?;
        }
        Ok(())
    }

    /// Unloads a key.
    pub(crate) fn unload(&mut self, public: &[u8]) {
        let name = name_of(public);
        let Some(link) = &mut self.link else { return };
        let Some(index) = link.keys.iter().position(|key| key.name == name) else {
            return;
        };
        let handle = link.keys.swap_remove(index).handle;
        self.flush(handle);
    }

    /// Frees all object slots for commands that need them.
    pub(crate) fn unload_all(&mut self) {
        let Some(link) = &mut self.link else { return };
        for key in std::mem::take(&mut link.keys) {
            self.flush(key.handle);
        }
    }

    /// Frees every slot that we hold; tickets stay, so cards stay verified.
    fn make_room(&mut self) {
        self.unload_all();
        let armed: Vec<u64> = self
            .cards
            .iter()
            .filter(|(_, runtime)| runtime.once.as_ref().is_some_and(|o| o.saved.is_none()))
            .map(|(card, _)| *card)
            .collect();
        for card in armed {
            self.park(card);
        }
        let sessions: Vec<Session> = self
            .cards
            .values_mut()
            .flat_map(|runtime| {
                runtime.armed = false;
                runtime.rearm = false;
                runtime.session.take()
            })
            .chain(self.link.as_mut().and_then(|link| link.channel.take()))
            .collect();
        for session in sessions {
            self.flush(session.handle);
        }
    }

    /// A card whose session waits to be armed again.
    pub(crate) fn next_rearm(&self) -> Option<u64> {
        self.link.as_ref()?;
        self.cards
            .iter()
            .find(|(_, runtime)| {
                runtime.rearm && runtime.session.is_some() && runtime.ticket.is_some()
            })
            .map(|(card, _)| *card)
    }

    /// Whether keys of this algorithm can be made; asked once for each connection.
    pub(crate) fn supports(&mut self, algorithm: KeyAlgorithm) -> Result<bool, TpmError> {
        let link = self.link()?;
        if let Some((_, known)) = link
            .algorithms
            .iter()
            .find(|(found, _)| *found == algorithm)
        {
            return Ok(*known);
        }
        let known = match algorithm {
            KeyAlgorithm::P256 => link.tpm.curves()?.contains(&3),
            KeyAlgorithm::P384 => link.tpm.curves()?.contains(&4),
            KeyAlgorithm::Rsa2048 => link.tpm.supports_rsa(2048)?,
            KeyAlgorithm::Rsa3072 => link.tpm.supports_rsa(3072)?,
        };
        link.algorithms.push((algorithm, known));
        Ok(known)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // A TPM of our own is switched off with us; every other one stays on.
        if let (Some(_), Some(link)) = (&self.simulator, &mut self.link)
            && link.tpm.alive()
            && let Err(error) = link.tpm.shutdown()
        {
            tracing::debug!(error = %error, "the software TPM was not shut down in order");
        }
    }
}

impl Link {
    fn srk(&self) -> Result<&Parent, TpmError> {
        self.srk
            .and_then(|index| self.srks.get(index))
            .ok_or(TpmError::Stopped)
    }

    /// A storage root key that is the one some card was made with, if one is in use.
    pub(crate) fn recorded_srk(&self) -> Option<Parent> {
        self.srks.get(self.recorded_srk?).cloned()
    }

    fn remember(&mut self, found: Parent) -> usize {
        if let Some(index) = self.srks.iter().position(|srk| srk.name == found.name) {
            return index;
        }
        self.srks.push(found);
        self.srks.len() - 1
    }

    /// Connection, storage root key and channel side by side; the channel must have been opened.
    pub(crate) fn parts(&mut self) -> Result<(&mut Tpm, &Parent, &mut Session), TpmError> {
        let srk = self.srk.and_then(|index| self.srks.get(index));
        match (srk, &mut self.channel) {
            (Some(srk), Some(channel)) => Ok((&mut self.tpm, srk, channel)),
            _ => Err(TpmError::Stopped),
        }
    }
}

/// Everything that fails so is done once more.
fn repeats_everything() -> bool {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::RepeatedSecrets) || weakened::has(Weakness::BirthKeyUsedAgain) {
        return true;
    }
    false
}

/// Objects and sessions of a daemon that was killed fill the slots of a TPM without resource manager.
fn flush_leftovers(tpm: &mut Tpm) -> Result<(), TpmError> {
    for range in [0x8000_0000, 0x0200_0000, 0x0300_0000] {
        for handle in tpm.handles(range)? {
            if let Err(error) = tpm.flush(handle) {
                if error.breaks_connection() {
                    return Err(error);
                }
                tracing::debug!(error = %error, "a leftover could not be flushed");
            }
        }
    }
    Ok(())
}
