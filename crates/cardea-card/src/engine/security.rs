//! Who is verified, connection by connection.
//!
//! The TPM knows one verification per card; which connection may use it is decided here.
//! Nothing of this survives a restart.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::token::PinReference;

/// Identity of a connection. The card keeps only a weak reference, so that the roles of a connection
/// that was dropped without [`Card::disconnect`](crate::Card::disconnect) end at the next command.
#[derive(Debug, Default)]
pub(crate) struct Mark(Arc<()>);

/// Roles of all connections of a card.
#[derive(Debug, Default)]
pub(crate) struct Security {
    sessions: Vec<Session>,
}

#[derive(Debug)]
struct Session {
    mark: Weak<()>,
    user: Option<Period>,
    puk: bool,
}

/// Since when the PIN is verified and when that was last needed.
#[derive(Clone, Copy, Debug)]
struct Period {
    since: Duration,
    used: Duration,
}

impl Security {
    /// The reference was verified on this connection.
    pub(crate) fn grant(&mut self, mark: &Mark, reference: PinReference, now: Duration) {
        self.change(mark, |session| match reference {
            PinReference::Pin => {
                session.user = Some(Period {
                    since: now,
                    used: now,
                });
            }
            PinReference::Puk => session.puk = true,
        });
    }

    /// The reference is no longer verified on this connection.
    pub(crate) fn revoke(&mut self, mark: &Mark, reference: PinReference) {
        self.change(mark, |session| match reference {
            PinReference::Pin => session.user = None,
            PinReference::Puk => session.puk = false,
        });
    }

    /// Nothing is verified on this connection any more.
    pub(crate) fn revoke_all(&mut self, mark: &Mark) {
        self.sessions.retain(|session| !session.belongs_to(mark));
    }

    /// Nothing is verified on any connection any more.
    pub(crate) fn clear(&mut self) {
        self.sessions.clear();
    }

    /// Ends what is older than its limits and what belongs to dropped connections.
    pub(crate) fn expire(
        &mut self,
        now: Duration,
        session_limit: Duration,
        idle: Option<Duration>,
    ) {
        for session in &mut self.sessions {
            session.user = session.user.filter(|period| {
                now.saturating_sub(period.since) <= session_limit
                    && idle.is_none_or(|limit| now.saturating_sub(period.used) <= limit)
            });
        }
        self.sessions
            .retain(|session| session.mark.strong_count() > 0);
        self.tidy();
    }

    /// The verification of the PIN on this connection was needed just now.
    pub(crate) fn touch(&mut self, mark: &Mark, now: Duration) {
        self.change(mark, |session| {
            if let Some(period) = &mut session.user {
                period.used = now;
            }
        });
    }

    /// Whether the reference is verified on this connection.
    pub(crate) fn is_verified(&self, mark: &Mark, reference: PinReference) -> bool {
        self.sessions
            .iter()
            .find(|session| session.belongs_to(mark))
            .is_some_and(|session| match reference {
                PinReference::Pin => session.user.is_some(),
                PinReference::Puk => session.puk,
            })
    }

    /// Whether the PIN is verified on any connection.
    pub(crate) fn anyone_verified(&self) -> bool {
        self.sessions.iter().any(|session| session.user.is_some())
    }

    /// Applies a change to the session of this connection, which is made if need be.
    fn change(&mut self, mark: &Mark, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.iter_mut().find(|s| s.belongs_to(mark)) {
            change(session);
        } else {
            let mut session = Session {
                mark: Arc::downgrade(&mark.0),
                user: None,
                puk: false,
            };
            change(&mut session);
            self.sessions.push(session);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.sessions
            .retain(|session| session.user.is_some() || session.puk);
    }
}

impl Session {
    /// The weak reference keeps the allocation, so an address is never used twice while it counts.
    fn belongs_to(&self, mark: &Mark) -> bool {
        self.mark.as_ptr() == Arc::as_ptr(&mark.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn roles_belong_to_one_connection() {
        let (a, b) = (Mark::default(), Mark::default());
        let mut security = Security::default();
        security.grant(&a, PinReference::Pin, Duration::ZERO);
        security.grant(&b, PinReference::Puk, Duration::ZERO);
        assert!(security.is_verified(&a, PinReference::Pin));
        assert!(!security.is_verified(&a, PinReference::Puk));
        assert!(!security.is_verified(&b, PinReference::Pin));
        security.revoke(&a, PinReference::Pin);
        assert!(!security.anyone_verified());
        assert!(security.is_verified(&b, PinReference::Puk));
    }

    #[test]
    fn dropped_connection_loses_its_roles() {
        let a = Mark::default();
        let mut security = Security::default();
        security.grant(&a, PinReference::Pin, Duration::ZERO);
        drop(a);
        security.expire(Duration::ZERO, HOUR, None);
        assert!(!security.anyone_verified());
    }

    #[test]
    fn verification_ends_at_its_limits() {
        let a = Mark::default();
        let mut security = Security::default();
        security.grant(&a, PinReference::Pin, HOUR);
        security.expire(2 * HOUR, HOUR, None);
        assert!(security.anyone_verified());
        security.expire(2 * HOUR + Duration::from_secs(1), HOUR, None);
        assert!(!security.anyone_verified());

        security.grant(&a, PinReference::Pin, HOUR);
        security.touch(&a, 2 * HOUR);
        security.expire(3 * HOUR, 9 * HOUR, Some(HOUR));
        assert!(security.anyone_verified());
        security.expire(4 * HOUR, 9 * HOUR, Some(HOUR));
        assert!(!security.anyone_verified());
    }
}
