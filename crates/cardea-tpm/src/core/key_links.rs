//! Connections of their own for keys, behind a resource manager.
//!
//! A resource manager loads all that a connection holds before each of its commands, and saves it afterwards: three
//! commands for an object, two for a session, whether the command needs them or not. So each key that is in use has a
//! connection with that key and one session on it, and nothing else: a signature is one command and five for the two,
//! and as many again, when nobody waits, to satisfy the session anew. The channel and what verifies a PIN stay on the
//! service's own connection, without a key beside them.

use std::time::{Duration, Instant};

use cardea_card::record::ObjectBlob;

use super::sessions::{prove, start_policy_session};
use super::{Core, Ticket};
use crate::error::{ResponseCode, TpmError};
use crate::policy::{REF_SESSION, name_of};
use crate::session::Session;
use crate::tpm::{Handle, Tpm};

/// Connections at once. Each takes one of the 64 sessions that every TPM keeps (PC Client profile) and that all its
/// users share.
const MAX_LINKS: usize = 8;

/// A connection with one key, and the policy session that uses it.
pub(crate) struct KeyLink {
    pub(crate) tpm: Tpm,
    /// The number of the ticket by which the session's policy is satisfied.
    pub(crate) armed: Option<u64>,
    session: Session,
    card: u64,
    name: [u8; 34],
    handle: u32,
    /// Those of a recoverable key's policy.
    branches: Option<Vec<[u8; 32]>>,
    /// To be armed when there is time.
    rearm: bool,
}

impl KeyLink {
    /// Connection, key and session side by side.
    pub(crate) fn parts(&mut self) -> (&mut Tpm, Handle<'_>, &mut Session) {
        let key = Handle::named(self.handle, &self.name);
        (&mut self.tpm, key, &mut self.session)
    }

    fn arm(&mut self, ticket: &Ticket) -> Result<(), TpmError> {
        self.rearm = false;
        satisfy(
            &mut self.tpm,
            &self.session,
            ticket,
            self.branches.as_deref(),
        )?;
        self.armed = Some(ticket.number);
        Ok(())
    }
}

/// Satisfies a session's policy, which is empty, by a ticket.
fn satisfy(
    tpm: &mut Tpm,
    session: &Session,
    ticket: &Ticket,
    branches: Option<&[[u8; 32]]>,
) -> Result<(), TpmError> {
    let Ticket {
        timeout,
        pin_name,
        ticket,
        ..
    } = ticket;
    tpm.policy_ticket(session, timeout, REF_SESSION, pin_name, ticket)?;
    match branches {
        Some(branches) => tpm.policy_or(session, branches),
        None => Ok(()),
    }
}

/// Those of one service, the one used last at the end.
pub(crate) struct KeyLinks {
    links: Vec<KeyLink>,
    /// Whether each connection has objects and sessions of its own.
    are_possible: bool,
}

impl KeyLinks {
    pub(super) fn new(are_possible: bool) -> Self {
        Self {
            links: Vec::new(),
            are_possible,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn close_all(&mut self) {
        self.links.clear();
    }

    /// Closes those of a key.
    pub(super) fn close_those_of(&mut self, name: &[u8; 34]) {
        self.links.retain(|link| link.name != *name);
    }

    pub(super) fn close_those_of_card(&mut self, card: u64) {
        self.links.retain(|link| link.card != card);
    }

    /// Closes those that were not used for so long.
    pub(super) fn close_idle(&mut self, now: Instant, idle_time: Duration) {
        self.links
            .retain(|link| now.saturating_duration_since(link.tpm.last_used()) < idle_time);
    }

    /// Leaves no session of a card armed. The key that was used last stays loaded for the next verification.
    pub(super) fn disarm(&mut self, card: u64) {
        let last = self.last_of(card);
        let mut position = 0;
        self.links.retain_mut(|link| {
            let is_last = last == Some(position);
            position += 1;
            if link.card != card {
                return true;
            }
            link.rearm = false;
            link.armed.take().is_none() || is_last && link.tpm.policy_restart(&link.session).is_ok()
        });
    }

    /// The PIN was verified: the key that was used last will be used.
    pub(super) fn expect_use(&mut self, card: u64) {
        let last = self.last_of(card);
        if let Some(link) = last.and_then(|last| self.links.get_mut(last)) {
            link.rearm = link.armed.is_none();
        }
    }

    fn last_of(&self, card: u64) -> Option<usize> {
        self.links.iter().rposition(|link| link.card == card)
    }

    fn take(&mut self, card: u64, name: &[u8; 34]) -> Option<KeyLink> {
        let mut links = self.links.iter();
        let found = links.position(|link| link.card == card && link.name == *name);
        found.map(|found| self.links.remove(found))
    }
}

impl Core {
    /// Whether keys have connections of their own: behind a resource manager, where the storage root key is
    /// persistent and so there for each of them.
    pub(crate) fn uses_key_links(&mut self) -> Result<bool, TpmError> {
        let link = self.link()?;
        let root = link.srk.and_then(|index| link.srks.get(index));
        Ok(link.key_links.are_possible && root.is_some_and(|root| !root.is_transient))
    }

    /// The number of a card's ticket.
    pub(crate) fn ticket(&self, card: u64) -> Option<u64> {
        let runtime = self.cards.get(&card)?;
        runtime.ticket.as_ref().map(|ticket| ticket.number)
    }

    /// A key's connection, armed; the caller gives it back by [`Core::used_key_link`], or ends it. None: there is no
    /// valid verification.
    pub(crate) fn take_key_link(
        &mut self,
        card: u64,
        key: &ObjectBlob,
        branches: Option<&[[u8; 32]]>,
    ) -> Result<Option<KeyLink>, TpmError> {
        if self.ticket(card).is_none() {
            return Ok(None);
        }
        let name = name_of(&key.public);
        match self.link()?.key_links.take(card, &name) {
            Some(link) if link.armed.is_some() => Ok(Some(link)),
            Some(link) => match self.armed(link)? {
                Some(link) => Ok(Some(link)),
                None => self.open_key_link(card, key, branches),
            },
            None => self.open_key_link(card, key, branches),
        }
    }

    /// One more connection to the TPM, for keys or for what is done beside them. None: each would share the service's
    /// slots, or there can be no more.
    pub(crate) fn open_beside(&mut self) -> Result<Option<Tpm>, TpmError> {
        if !self.uses_key_links()? {
            return Ok(None);
        }
        match self.open() {
            Ok(tpm) => Ok(Some(tpm)),
            Err(error) => {
                tracing::warn!(error = %error, "no further connection to the TPM; keys share the first one");
                self.link()?.key_links = KeyLinks::new(false);
                Ok(None)
            }
        }
    }

    /// A policy session for such a connection, salted to the storage root key in use: whatever is answered in it comes
    /// from the TPM, and nothing secret is sent in it before that.
    pub(crate) fn salted_session(&mut self, tpm: &mut Tpm) -> Result<Session, TpmError> {
        let srk = self.link()?.srk()?.clone();
        start_policy_session(tpm, &srk)
    }

    /// The session is first made ours and satisfied, and then the key loaded: so the key is not swapped meanwhile.
    fn open_key_link(
        &mut self,
        card: u64,
        key: &ObjectBlob,
        branches: Option<&[[u8; 32]]>,
    ) -> Result<Option<KeyLink>, TpmError> {
        let link = self.link()?;
        let srk = link.srk()?.clone();
        if link.key_links.links.len() >= MAX_LINKS {
            link.key_links.links.remove(0);
        }
        let Some(mut tpm) = self.open_beside()? else {
            return Ok(None);
        };
        let mut session = start_policy_session(&mut tpm, &srk)?;
        prove(&mut tpm, &mut session)?;
        let ticket = self.cards.get(&card).and_then(|it| it.ticket.as_ref());
        let Some(ticket) = ticket else {
            return Ok(None);
        };
        let armed = ticket.number;
        match satisfy(&mut tpm, &session, ticket, branches) {
            Err(error) if is_over(&error) => {
                self.logout(card);
                return Ok(None);
            }
            satisfied => satisfied?,
        }
        let handle = tpm.load_openly(&srk, &key.private, &key.public)?;
        Ok(Some(KeyLink {
            tpm,
            armed: Some(armed),
            session,
            card,
            name: name_of(&key.public),
            handle,
            branches: branches.map(<[_]>::to_vec),
            rearm: false,
        }))
    }

    /// Use has emptied its session.
    pub(crate) fn used_key_link(&mut self, mut link: KeyLink) -> Result<(), TpmError> {
        link.rearm = true;
        self.link()?.key_links.links.push(link);
        Ok(())
    }

    /// Arms one of the sessions that wait for it. False: none does.
    pub(crate) fn arm_key_link(&mut self) -> Result<bool, TpmError> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let links = &mut link.key_links.links;
        let Some(found) = links.iter().rposition(|link| link.rearm) else {
            return Ok(false);
        };
        let link = links.remove(found);
        if let Some(link) = self.armed(link)? {
            self.link()?.key_links.links.insert(found, link);
        }
        Ok(true)
    }

    /// A connection whose session its card's ticket has satisfied. None: it ends, for there is no ticket, or the TPM
    /// takes none in this session; that of a session from before a restart says nothing about the ticket.
    fn armed(&mut self, mut link: KeyLink) -> Result<Option<KeyLink>, TpmError> {
        let ticket = self.cards.get(&link.card).and_then(|it| it.ticket.as_ref());
        let Some(ticket) = ticket else {
            return Ok(None);
        };
        match link.arm(ticket) {
            Ok(()) => Ok(Some(link)),
            Err(error) if is_over(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether a ticket or its session is over.
fn is_over(error: &TpmError) -> bool {
    matches!(
        error.code(),
        Some(ResponseCode::TICKET | ResponseCode::EXPIRED)
    )
}
