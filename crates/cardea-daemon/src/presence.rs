//! Whose cards are in the reader: those of people who have an active session, where the system knows sessions.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::host::lock;
use crate::hosted::HostedCard;

/// User ids below are system accounts, which have no sessions (`UID_MIN` of login.defs(5)).
const FIRST_PERSON: u32 = 1000;

/// Who has an active session; nothing where nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<Option<HashSet<u32>>>);

impl Presence {
    /// Whether the card may be in its reader now.
    pub(crate) fn admits(&self, card: &HostedCard) -> bool {
        let known = lock(&self.0);
        match (&*known, card.owner) {
            (Some(present), Some(owner)) if card.is_session_bound() => present.contains(&owner),
            _ => true,
        }
    }

    /// Takes over what the system says. True: it was something else.
    pub(crate) fn set(&self, present: Option<HashSet<u32>>) -> bool {
        let mut known = lock(&self.0);
        let changed = *known != present;
        *known = present;
        changed
    }
}

/// Whether this is a person's account.
pub(crate) fn is_person(uid: u32) -> bool {
    // 65534 is nobody's.
    uid >= FIRST_PERSON && uid != 65_534
}
