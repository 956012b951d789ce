//! Whose cards are in the reader: those of people who have an active session, where the system knows sessions.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::host::lock;
use crate::hosted::HostedCard;

/// User ids below are system accounts, which have no sessions (`UID_MIN` of login.defs(5)).
const FIRST_PERSON: u32 = 1000;

/// Who has an active session; nothing where nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    present: Mutex<Option<HashSet<u32>>>,
    stale: AtomicBool,
}

impl Presence {
    /// Whether the card may be in its reader now.
    pub(crate) fn admits(&self, card: &HostedCard) -> bool {
        let known = lock(&self.present);
        match (&*known, card.owner) {
            (Some(present), Some(owner)) if card.is_session_bound() => present.contains(&owner),
            _ => true,
        }
    }

    /// Something about sessions has changed.
    pub(crate) fn look_again(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Whether what is known may be old; asked once for each change.
    pub(crate) fn wants_look(&self) -> bool {
        self.stale.swap(false, Ordering::Relaxed)
    }

    /// Takes over what the system says. True: it was something else.
    pub(crate) fn set(&self, present: Option<HashSet<u32>>) -> bool {
        let mut known = lock(&self.present);
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
