//! Whose cards are in the reader: those of people who have an active session, where the system knows sessions.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::host::hosted::HostedCard;
use crate::sync::lock;

/// User ids below are system accounts, which have no sessions (`UID_MIN` of login.defs(5)).
const FIRST_PERSON: u32 = 1000;

/// Who has an active session.
#[derive(Debug, Default)]
pub struct Presence {
    sessions: Mutex<ActiveUsers>,
    stale: AtomicBool,
}

/// Whether a card may be in its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted,
    /// Its owner has no active session.
    OwnerAway,
    /// It will be known in a moment.
    Unknown,
}

/// What is known of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ActiveUsers {
    /// The users who have an active one.
    Known(HashSet<u32>),
    /// It will be known in a moment.
    Awaited,
    /// Nobody knows: there is no logind.
    #[default]
    Unknown,
}

impl Presence {
    /// Whether the card may be in its reader now.
    pub(crate) fn admits(&self, card: &HostedCard) -> bool {
        self.admission(card) == Admission::Admitted
    }

    /// Whether the card may be in its reader now, and if not, why.
    pub(crate) fn admission(&self, card: &HostedCard) -> Admission {
        let is_active =
            |users: &HashSet<u32>| card.owner.is_some_and(|owner| users.contains(&owner));
        match &*lock(&self.sessions) {
            _ if !card.is_session_bound() => Admission::Admitted,
            ActiveUsers::Known(users) if is_active(users) => Admission::Admitted,
            ActiveUsers::Known(_) => Admission::OwnerAway,
            // Not for a moment at the start.
            ActiveUsers::Awaited => Admission::Unknown,
            ActiveUsers::Unknown => Admission::Admitted,
        }
    }

    /// Something about sessions has changed.
    pub fn look_again(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    /// Whether what is known may be old; asked once for each change.
    pub fn wants_look(&self) -> bool {
        self.stale.swap(false, Ordering::Relaxed)
    }

    /// Whether it is not known yet.
    pub fn is_awaited(&self) -> bool {
        *lock(&self.sessions) == ActiveUsers::Awaited
    }

    /// Takes over what the system says. True: it was something else.
    pub fn set(&self, sessions: ActiveUsers) -> bool {
        let mut known = lock(&self.sessions);
        let changed = *known != sessions;
        *known = sessions;
        changed
    }
}

/// Whether this is a person's account.
pub(crate) fn is_person(uid: u32) -> bool {
    // 65534 is nobody's.
    uid >= FIRST_PERSON && uid != 65_534
}

#[cfg(test)]
mod tests {
    use cardea_card::record::ReaderVisibility;

    use super::*;

    #[test]
    fn session_bound_card_is_there_with_its_owner() {
        let card = HostedCard::for_test(None, None, "card", Some(1000));
        let presence = Presence::default();
        let admits = |sessions: ActiveUsers| {
            presence.set(sessions);
            presence.admits(&card)
        };
        let all = || {
            [
                ActiveUsers::Unknown,
                ActiveUsers::Awaited,
                ActiveUsers::Known([1000].into()),
                ActiveUsers::Known([1001].into()),
            ]
        };
        assert_eq!(all().map(admits), [true; 4], "this one is always there");
        card.set_visibility(ReaderVisibility::OwnerSession);
        assert_eq!(all().map(admits), [true, false, true, false]);
        presence.set(ActiveUsers::Known([1001].into()));
        assert_eq!(presence.admission(&card), Admission::OwnerAway);
        presence.set(ActiveUsers::Awaited);
        assert_eq!(presence.admission(&card), Admission::Unknown);
    }

    #[test]
    fn people_are_no_system_accounts() {
        for (uid, person) in [
            (0, false),
            (33, false),
            (999, false),
            (1000, true),
            (65_534, false),
            (100_000, true),
        ] {
            assert_eq!(is_person(uid), person, "{uid}");
        }
    }
}
