//! What the connections of one program share: the cards on which it has verified the PIN.
//!
//! A connection is a program of its own until it brings the ticket of another one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};

use cardea_card::{Connection, SessionKeyOwner};
use cardea_client::message::{Failure, FailureKind, SecretBytes};

use crate::failure::fail;
use crate::host::hosted::{Body, HostedCard};
use crate::host::redirected::{Carrier, RedirectedClient};
use crate::sync::lock;

/// Bytes of a ticket: nobody guesses one.
const TICKET: usize = 32;

/// One program, as long as any of its connections lives.
#[derive(Debug)]
pub(crate) struct LoginGroup {
    uid: u32,
    logins: Mutex<Vec<Arc<Login>>>,
    /// Its session keys end with it.
    pub(crate) session_keys: SessionKeyOwner,
    /// Its ways to the cards of other machines, where its logins on those are.
    elsewhere: Mutex<Vec<Arc<RedirectedClient>>>,
    ticket: OnceLock<SecretBytes>,
}

/// A card on which a program has verified the PIN, until it says so or goes away.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) card: Arc<HostedCard>,
    /// Locked under the card's body.
    pub(crate) connection: Mutex<Option<Connection>>,
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut body = self.card.body();
        if let (Body::Live(live), Some(connection)) = (&mut *body, lock(&self.connection).take()) {
            live.disconnect(connection);
        }
    }
}

impl LoginGroup {
    pub(crate) fn new(uid: u32) -> Arc<Self> {
        Arc::new(Self {
            uid,
            logins: Mutex::default(),
            session_keys: SessionKeyOwner::default(),
            elsewhere: Mutex::default(),
            ticket: OnceLock::new(),
        })
    }

    /// Whether there is a login, a session key, or a way to cards of another machine, where logins may be.
    pub(crate) fn has_any(&self) -> bool {
        has_any(&self.logins) || has_any(&self.elsewhere) || self.session_keys.has_any()
    }

    pub(crate) fn login(&self, card: &Arc<HostedCard>) -> Option<Arc<Login>> {
        let logins = lock(&self.logins);
        let found = logins.iter().find(|login| Arc::ptr_eq(&login.card, card));
        found.cloned()
    }

    /// Its way to the cards of another machine.
    pub(crate) fn elsewhere(
        &self,
        carrier: &Arc<Carrier>,
    ) -> Result<Arc<RedirectedClient>, Failure> {
        let mut ways = lock(&self.elsewhere);
        ways.retain(|way| !way.is_lost());
        if let Some(way) = ways.iter().find(|way| way.is_of(carrier)) {
            return Ok(Arc::clone(way));
        }
        let way = Arc::new(carrier.client()?);
        ways.push(Arc::clone(&way));
        Ok(way)
    }

    pub(crate) fn add(&self, login: Arc<Login>) {
        lock(&self.logins).push(login);
    }

    /// Ends the login, if there is one. What is being done under it is done.
    pub(crate) fn remove(&self, card: &Arc<HostedCard>) {
        let mut logins = lock(&self.logins);
        let position = logins
            .iter()
            .position(|login| Arc::ptr_eq(&login.card, card));
        let ended = position.map(|position| logins.swap_remove(position));
        // Its end waits for the card, which the others need not.
        drop(logins);
        drop(ended);
    }
}

/// Whether a list has entries, for those who cannot wait for its lock: one that is in use has some, or soon.
fn has_any<T>(list: &Mutex<Vec<T>>) -> bool {
    match list.try_lock() {
        Ok(list) => !list.is_empty(),
        Err(TryLockError::Poisoned(list)) => !list.into_inner().is_empty(),
        Err(TryLockError::WouldBlock) => true,
    }
}

/// Programs that have asked for a ticket.
#[derive(Debug, Default)]
pub(crate) struct LoginGroups(Mutex<HashMap<[u8; TICKET], Weak<LoginGroup>>>);

impl LoginGroups {
    /// The program's ticket, made when it is first asked for.
    pub(crate) fn ticket(&self, group: &Arc<LoginGroup>) -> Result<SecretBytes, Failure> {
        if let Some(ticket) = group.ticket.get() {
            return Ok(ticket.clone());
        }
        let mut bytes = [0; TICKET];
        getrandom::fill(&mut bytes).map_err(|error| {
            let text = format!("no random bytes from the kernel: {error}");
            fail(FailureKind::Failed, text)
        })?;
        let ticket = group
            .ticket
            .get_or_init(|| SecretBytes::new(bytes.to_vec()))
            .clone();
        let mut known = lock(&self.0);
        known.retain(|_, group| group.strong_count() > 0);
        known.insert(bytes, Arc::downgrade(group));
        Ok(ticket)
    }

    /// The program whose ticket this is, if it is still there and the same user's.
    pub(crate) fn find(&self, ticket: &SecretBytes, uid: u32) -> Result<Arc<LoginGroup>, Failure> {
        let bytes: Option<[u8; TICKET]> = ticket.expose().try_into().ok();
        bytes
            .and_then(|bytes| lock(&self.0).get(&bytes)?.upgrade())
            .filter(|group| group.uid == uid)
            .ok_or_else(|| {
                fail(
                    FailureKind::NotFound,
                    "this login ticket is no longer valid",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_is_for_the_same_user_while_the_program_lives() {
        let groups = LoginGroups::default();
        let one = LoginGroup::new(1000);
        let ticket = groups.ticket(&one).unwrap();
        assert_eq!(groups.ticket(&one).unwrap(), ticket);
        assert!(Arc::ptr_eq(&groups.find(&ticket, 1000).unwrap(), &one));
        assert!(groups.find(&ticket, 1001).is_err());
        assert!(groups.find(&SecretBytes::new(vec![0; 32]), 1000).is_err());
        assert!(groups.find(&SecretBytes::new(Vec::new()), 1000).is_err());
        let other = groups.ticket(&LoginGroup::new(1000)).unwrap();
        assert_ne!(other, ticket);
        assert!(groups.find(&other, 1000).is_err());
        drop(one);
        assert!(groups.find(&ticket, 1000).is_err());
    }

    #[test]
    fn list_in_use_counts_as_one_with_entries() {
        let list = Mutex::new(Vec::new());
        assert!(!has_any(&list));
        let mut entries = lock(&list);
        assert!(has_any(&list));
        entries.push(());
        drop(entries);
        assert!(has_any(&list));
    }
}
