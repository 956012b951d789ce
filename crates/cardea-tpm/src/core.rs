//! What whoever uses the TPM holds: the connection, the SRK, the channel, loaded keys, the cards' sessions.

mod key_links;
mod rest;
mod roots;
mod sessions;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cardea_card::token::KeyAlgorithm;
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use zeroize::Zeroizing;

use self::key_links::KeyLinks;
use crate::error::{ResponseCode, TpmError};
use crate::grant::Grants;
use crate::policy::name_of;
use crate::promise::Wake;
use crate::session::Session;
use crate::simulator::Simulator;
use crate::srk::{Parent, RecordedRoot};
use crate::tpm::{CommandCount, Progress, ProgressMark, Tpm};
use crate::transport::{Address, open};

/// Sessions that every TPM can hold loaded (PC Client profile).
const LOADED_SESSIONS: usize = 3;
/// TPM_PT_HR_TRANSIENT_MIN.
const TRANSIENT_MIN: u32 = 0x10E;
/// TPM_PT_CONTEXT_GAP_MAX.
const CONTEXT_GAP: u32 = 0x114;
/// The least that the PC Client profile allows, where a TPM reports none.
const SMALLEST_GAP: u32 = 255;
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
    /// Greater than that of every earlier one.
    pub(crate) number: u64,
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
    /// Behind a resource manager: the session in which PINs are compared. No key has its policy.
    verifier: Option<Session>,
    keys: Vec<LoadedKey>,
    key_slots: usize,
    key_links: KeyLinks,
    algorithms: Vec<(KeyAlgorithm, bool)>,
    /// How long sessions may be left alone.
    idle_time: Duration,
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

    /// Runs an operation; once more after an error that is safe to recover from: a TPM that was reset under us, full
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

    fn connect(&mut self) -> Result<(), TpmError> {
        if self.link.as_ref().is_some_and(|link| link.tpm.alive()) {
            return Ok(());
        }
        self.disconnect();
        let mut tpm = self.reach()?;
        if !tpm.is_managed() {
            flush_leftovers(&mut tpm)?;
        }
        let key_links = KeyLinks::new(tpm.is_managed());
        if tpm.is_managed() {
            match open(&self.address, &mut self.simulator) {
                Ok(empty) => tpm.ask_by(empty),
                Err(error) => tracing::debug!(%error, "no second connection to the TPM"),
            }
        }
        let properties = tpm.properties(TRANSIENT_MIN)?;
        let property = |wanted| {
            let mut properties = properties.iter();
            let found = properties.find(|(property, _)| *property == wanted);
            found.map(|(_, value)| *value)
        };
        let slots = property(TRANSIENT_MIN).unwrap_or(3);
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
            verifier: None,
            keys: Vec::new(),
            key_slots,
            key_links,
            algorithms: Vec::new(),
            idle_time: rest::idle_time(property(CONTEXT_GAP).unwrap_or(SMALLEST_GAP)),
        });
        Ok(())
    }

    /// A connection, on which nothing was said yet.
    fn open(&mut self) -> Result<Tpm, TpmError> {
        let transport =
            open(&self.address, &mut self.simulator).map_err(|source| TpmError::Transport {
                command: "connection",
                source,
            })?;
        Ok(Tpm::new(
            transport,
            self.count.clone(),
            self.progress.clone(),
            self.wake.clone(),
        ))
    }

    /// A connection to a started TPM.
    ///
    /// A software TPM of our own may listen a moment before it finds its state locked by the one of an
    /// earlier daemon, and end: then another one is started, until the time is over.
    fn reach(&mut self) -> Result<Tpm, TpmError> {
        let deadline = Instant::now() + SIMULATOR_TIME;
        loop {
            let mut tpm = self.open()?;
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

    /// A ticket, as the TPM has given it out.
    pub(crate) fn new_ticket(
        &mut self,
        pin_name: [u8; 34],
        timeout: Vec<u8>,
        ticket: Zeroizing<Vec<u8>>,
    ) -> Ticket {
        self.tick += 1;
        Ticket {
            number: self.tick,
            pin_name,
            timeout,
            ticket,
        }
    }

    /// Connection and card side by side.
    pub(crate) fn split(&mut self, card: u64) -> Result<(&mut Link, &mut Runtime), TpmError> {
        self.tick += 1;
        let runtime = self.cards.entry(card).or_default();
        runtime.used = self.tick;
        let link = self.link.as_mut().ok_or(TpmError::Stopped)?;
        Ok((link, runtime))
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
        link.key_links.close_those_of(&name);
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
