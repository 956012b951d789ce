//! The engine: keys, PINs, administrator, who is verified on which connection, and the transport of APDUs.
//! It knows no application.
//!
//! Flow of a command: parse → class byte → chaining → the application that is selected → its access rules →
//! its handler → [`Reply`] or [`Failure`] → response APDU.
//! Whoever changes the card changes a copy of the record and commits it: saved first, then current.

mod admin;
mod application;
mod catalogue;
mod check;
mod command;
mod error;
mod failure;
pub(crate) mod guest;
mod key_use;
mod keys;
mod pin;
mod security;
mod session_keys;
mod transport;

use std::time::Duration;

pub use self::application::{Application, Applications, SelectedApplication, Verdict};
pub use self::catalogue::{Catalogue, KeyUsage, NewKey};
pub use self::command::{Command, Reply};
pub use self::error::CardError;
pub use self::failure::Failure;
pub use self::key_use::PendingOperation;
pub use self::session_keys::{KeyReference, SessionKeyId, SessionKeyOwner};

pub(crate) use self::application::Selected;
pub(crate) use self::keys::Material;
pub(crate) use self::security::Role;
pub(crate) use self::transport::{SELECT, Transport};

use self::pin::StatusCache;
use self::security::{Limits, Mark, Security};
use self::session_keys::SessionKey;
use crate::event::Event;
use crate::record::CardRecord;
use crate::token::{CardStore, Clock, Rng, StoreError, Token, TokenErrorKind};
use cardea_terms::PinPolicy;

/// One card, shared by all its connections.
pub struct Card {
    applications: Applications,
    record: CardRecord,
    token: Box<dyn Token>,
    store: Box<dyn CardStore>,
    clock: Box<dyn Clock>,
    rng: Box<dyn Rng>,
    pin_policy: PinPolicy,
    security: Security,
    session_keys: Vec<SessionKey>,
    statuses: StatusCache,
    /// What the clock said of sleep when it was last looked at.
    slept: Duration,
    /// Changes with the record.
    revision: u64,
    /// Whether the record is ahead of what was last saved, after [`Card::note_done`].
    unsaved: bool,
    /// What happened since the host last asked.
    events: Vec<Event>,
}

/// Events that are kept for the host; a host that asks after every command never loses one.
const MAX_EVENTS: usize = 256;

/// Two readings of a clock that differ by less do not mean that the machine has slept.
const SHORTEST_SLEEP: Duration = Duration::from_millis(500);

/// State of one client connection: selection, security environment, chaining, pending response.
///
/// What is verified belongs to the connection but is kept by the [`Card`], which can end it for all.
/// Give it back with [`Card::disconnect`]; a connection that is merely dropped loses its rights at the
/// card's next command.
#[derive(Debug)]
pub struct Connection {
    mark: Mark,
    pub(crate) transport: Transport,
    /// Nothing after a reset, until a command comes: the card's first application is current then.
    pub(crate) selected: Option<Selected>,
}

impl Connection {
    pub(crate) fn new() -> Self {
        Self {
            mark: Mark::default(),
            transport: Transport::default(),
            selected: None,
        }
    }
}

impl Card {
    /// [`open`](Self::open) with the applications that are given.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(
        applications: Applications,
        record: CardRecord,
        token: Box<dyn Token>,
        store: Box<dyn CardStore>,
        clock: Box<dyn Clock>,
        rng: Box<dyn Rng>,
    ) -> Result<Self, CardError> {
        let pin_policy = check::record(&record)?;
        for application in applications.iter() {
            application.check(&record)?;
        }
        for key in &record.keys {
            token.describe(key)?;
        }
        let slept = clock.slept();
        let mut rng = rng;
        let mut revision = [0; 8];
        rng.fill(&mut revision);
        Ok(Self {
            slept,
            revision: u64::from_ne_bytes(revision) | 1,
            unsaved: false,
            events: Vec::new(),
            applications,
            record,
            token,
            store,
            clock,
            rng,
            pin_policy,
            security: Security::default(),
            session_keys: Vec::new(),
            statuses: StatusCache::default(),
        })
    }

    /// What the card keeps, as last saved.
    #[must_use]
    pub fn record(&self) -> &CardRecord {
        &self.record
    }

    /// Differs whenever the record may, also between two lives of the host; never 0.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What happened since this was last asked, in order: for the host's audit.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn happened(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    /// Ends verifications that have become too old (session and idle limit of the card's settings), and all
    /// when the machine has slept: somebody else may have woken it. Ends the session keys of programs that are gone.
    /// Happens by itself at every command; for the host's timer, so that it also happens without any.
    pub fn expire(&mut self) {
        let slept = self.clock.slept();
        if slept.saturating_sub(self.slept) >= SHORTEST_SLEEP {
            tracing::debug!("the machine has slept: all verifications are ended");
            self.end_all();
        }
        self.slept = slept;
        let now = self.clock.now();
        let session = Duration::from_secs(self.record.settings.session_limit.into());
        let idle = match self.record.settings.idle_limit {
            0 => None,
            seconds => Some(Duration::from_secs(seconds.into())),
        };
        self.change_security(|security| security.expire(now, Limits { session, idle }));
        self.token.expire_administration();
        self.expire_session_keys();
    }

    /// Ends everything that is verified, on all connections: the host is about to sleep, or an
    /// administrator wants it.
    pub fn end_all(&mut self) {
        self.change_security(Security::clear);
    }

    /// Whether the PIN is verified on this connection.
    #[must_use]
    pub fn is_verified(&self, connection: &Connection) -> bool {
        self.security.has(&connection.mark, Role::User)
    }

    pub(crate) fn applications(&self) -> &Applications {
        &self.applications
    }

    pub(crate) fn catalogue(&self) -> &'static dyn Catalogue {
        self.applications.catalogue()
    }

    pub(crate) fn fill_random(&mut self, buffer: &mut [u8]) {
        self.rng.fill(buffer);
    }

    /// Makes a changed copy of the record the current one: saves it first. If that fails, memory and
    /// file are as they were.
    pub(crate) fn commit(&mut self, record: CardRecord) -> Result<(), StoreError> {
        if record != self.record || self.unsaved {
            self.store.save(&record)?;
            self.unsaved = false;
            self.record = record;
            self.revision = self.revision.wrapping_add(2);
        }
        Ok(())
    }

    /// Makes a changed copy of the record the current one where it states what the token has done already. If it
    /// cannot be saved, the next change saves it too; after a restart the token is asked again.
    pub(crate) fn note_done(&mut self, record: CardRecord) {
        if let Err(error) = self.commit(record.clone()) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a change that the TPM has made could not be saved yet"
            );
            self.record = record;
            self.revision = self.revision.wrapping_add(2);
            self.unsaved = true;
        }
    }

    /// Any command but the choice of the key drops the one operation that a verification has allowed with
    /// keys that want the PIN every time.
    pub(crate) fn disarm(&mut self, connection: &Connection) {
        if self.security.is_armed_by(&connection.mark) {
            self.change_security(Security::disarm);
        }
    }

    pub(crate) fn has_role(&self, connection: &Connection, role: impl Into<Role>) -> bool {
        self.security.has(&connection.mark, role.into())
    }

    /// For doors other than APDUs: the PIN is verified on this connection, and needed just now.
    pub(crate) fn need_user(&mut self, connection: &Connection) -> Result<(), CardError> {
        self.expire();
        if !self.is_verified(connection) {
            return Err(TokenErrorKind::NotAuthenticated.into());
        }
        self.touch(connection);
        Ok(())
    }

    /// This connection is nobody again.
    pub(crate) fn deauthenticate(&mut self, connection: &Connection) {
        self.change_security(|security| security.revoke_all(&connection.mark));
    }

    /// Whether the card is in use; else it waits for its personalisation.
    #[must_use]
    pub fn is_operational(&self) -> bool {
        self.record.provisional.is_none()
    }

    /// The verified PIN or the administrator was needed just now: the idle limits count from here.
    pub(crate) fn touch(&mut self, connection: &Connection) {
        let now = self.clock.now();
        for role in [Role::User, Role::Admin] {
            self.security.touch(&connection.mark, role, now);
        }
    }

    /// Changes who is verified; with the last one goes what would let the token work.
    fn change_security(&mut self, change: impl FnOnce(&mut Security)) {
        let verified = self.security.anyone_verified();
        let administered = self.security.anyone_administers();
        let armed = self.security.anyone_armed();
        change(&mut self.security);
        if verified && !self.security.anyone_verified() {
            self.token.logout();
        } else if armed && !self.security.anyone_armed() {
            self.token.disarm();
        }
        if administered && !self.security.anyone_administers() {
            self.token.end_administration();
        }
    }

    fn end_all_verifications(&mut self) {
        self.change_security(Security::clear_users);
    }

    /// A comparison succeeded in the token but gave nobody a role.
    fn end_unused_verification(&mut self) {
        if !self.security.anyone_verified() {
            self.token.logout();
        }
    }

    /// A PUK or an administrator was accepted in the token but nobody has the role.
    fn end_unused_administration(&mut self) {
        if !self.security.anyone_administers() {
            self.token.end_administration();
        }
    }
}
