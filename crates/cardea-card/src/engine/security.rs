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

/// Whose word a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Answered the card's challenge.
    Admin,
    /// Verified the PUK.
    Puk,
    /// Verified the PIN.
    User,
}

impl From<PinReference> for Role {
    fn from(reference: PinReference) -> Self {
        match reference {
            PinReference::Pin => Self::User,
            PinReference::Puk => Self::Puk,
        }
    }
}

/// How long roles last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The user's, since the verification.
    pub(crate) session: Duration,
    /// The user's, since the PIN was last needed.
    pub(crate) idle: Option<Duration>,
}

/// The administrator's and the PUK's roles end this long after they were last needed.
const ADMIN_IDLE: Duration = Duration::from_secs(60);

/// Roles of all connections of a card.
#[derive(Debug, Default)]
pub(crate) struct Security {
    connections: Vec<ConnectionRoles>,
    /// The connection whose verification armed one operation with an always-class key, and when.
    armed: Option<(Weak<()>, Duration)>,
}

/// The TPM lets an armed operation wait as long.
const ARMED_LIFE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct ConnectionRoles {
    mark: Weak<()>,
    admin: Option<Period>,
    puk: Option<Period>,
    user: Option<Period>,
}

/// Since when a role is held and when it was last needed.
#[derive(Clone, Copy, Debug)]
struct Period {
    since: Duration,
    used: Duration,
}

impl Period {
    fn is_within(self, now: Duration, total: Option<Duration>, idle: Option<Duration>) -> bool {
        total.is_none_or(|limit| now.saturating_sub(self.since) <= limit)
            && idle.is_none_or(|limit| now.saturating_sub(self.used) <= limit)
    }
}

impl Security {
    /// This connection has the role from now on.
    pub(crate) fn grant(&mut self, mark: &Mark, role: Role, now: Duration) {
        self.change(mark, |connection| {
            *connection.role(role) = Some(Period {
                since: now,
                used: now,
            });
        });
    }

    /// This connection has the role no longer.
    pub(crate) fn revoke(&mut self, mark: &Mark, role: Role) {
        self.change(mark, |connection| *connection.role(role) = None);
    }

    /// Ends all roles of this connection.
    pub(crate) fn revoke_all(&mut self, mark: &Mark) {
        self.connections
            .retain(|connection| !connection.belongs_to(mark));
        if self.is_armed_by(mark) {
            self.armed = None;
        }
    }

    /// Ends the verification of the PIN on all connections.
    pub(crate) fn clear_users(&mut self) {
        for connection in &mut self.connections {
            connection.user = None;
        }
        self.armed = None;
        self.tidy();
    }

    /// Nobody has any role on any connection.
    pub(crate) fn clear(&mut self) {
        self.connections.clear();
        self.armed = None;
    }

    /// Ends what is older than its limits and what belongs to dropped connections.
    pub(crate) fn expire(&mut self, now: Duration, limits: Limits) {
        for connection in &mut self.connections {
            connection.user = connection
                .user
                .filter(|period| period.is_within(now, Some(limits.session), limits.idle));
            for role in [&mut connection.admin, &mut connection.puk] {
                *role = role.filter(|period| period.is_within(now, None, Some(ADMIN_IDLE)));
            }
        }
        self.connections
            .retain(|connection| connection.mark.strong_count() > 0);
        self.armed = self.armed.take().filter(|(mark, since)| {
            mark.strong_count() > 0 && now.saturating_sub(*since) <= ARMED_LIFE
        });
        self.tidy();
    }

    /// A role of this connection was needed just now.
    pub(crate) fn touch(&mut self, mark: &Mark, role: Role, now: Duration) {
        self.change(mark, |connection| {
            if let Some(period) = connection.role(role) {
                period.used = now;
            }
        });
    }

    /// Whether this connection has the role.
    pub(crate) fn has(&self, mark: &Mark, role: Role) -> bool {
        self.connections
            .iter()
            .find(|connection| connection.belongs_to(mark))
            .is_some_and(|connection| {
                match role {
                    Role::Admin => connection.admin,
                    Role::Puk => connection.puk,
                    Role::User => connection.user,
                }
                .is_some()
            })
    }

    /// Whether the PIN is verified on any connection.
    pub(crate) fn anyone_verified(&self) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.user.is_some())
    }

    /// Whether any connection is the administrator's or has verified the PUK.
    pub(crate) fn anyone_administers(&self) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.admin.is_some() || connection.puk.is_some())
    }

    /// The verification on this connection allows one operation with an always-class key.
    pub(crate) fn arm(&mut self, mark: &Mark, now: Duration) {
        self.armed = Some((Arc::downgrade(&mark.0), now));
    }

    /// The one operation is used up or dropped.
    pub(crate) fn disarm(&mut self) {
        self.armed = None;
    }

    /// Whether the one operation is this connection's.
    pub(crate) fn is_armed_by(&self, mark: &Mark) -> bool {
        self.armed
            .as_ref()
            .is_some_and(|(armed, _)| armed.as_ptr() == Arc::as_ptr(&mark.0))
    }

    /// Whether any connection may do one operation with an always-class key.
    pub(crate) fn anyone_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// Applies a change to the roles of this connection, which get an entry if necessary.
    fn change(&mut self, mark: &Mark, change: impl FnOnce(&mut ConnectionRoles)) {
        if let Some(connection) = self.connections.iter_mut().find(|s| s.belongs_to(mark)) {
            change(connection);
        } else {
            let mut connection = ConnectionRoles {
                mark: Arc::downgrade(&mark.0),
                admin: None,
                puk: None,
                user: None,
            };
            change(&mut connection);
            self.connections.push(connection);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.connections.retain(|connection| {
            connection.user.is_some() || connection.puk.is_some() || connection.admin.is_some()
        });
    }
}

impl ConnectionRoles {
    /// The weak reference keeps the allocation, so an address is never used twice while it counts.
    fn belongs_to(&self, mark: &Mark) -> bool {
        self.mark.as_ptr() == Arc::as_ptr(&mark.0)
    }

    fn role(&mut self, role: Role) -> &mut Option<Period> {
        match role {
            Role::Admin => &mut self.admin,
            Role::Puk => &mut self.puk,
            Role::User => &mut self.user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn limits(session: Duration, idle: Option<Duration>) -> Limits {
        Limits { session, idle }
    }

    #[test]
    fn roles_belong_to_one_connection() {
        let (a, b) = (Mark::default(), Mark::default());
        let mut security = Security::default();
        security.grant(&a, Role::User, Duration::ZERO);
        security.grant(&b, Role::Puk, Duration::ZERO);
        security.grant(&b, Role::Admin, Duration::ZERO);
        assert!(security.has(&a, Role::User));
        assert!(!security.has(&a, Role::Puk) && !security.has(&a, Role::Admin));
        assert!(!security.has(&b, Role::User));
        security.revoke(&a, Role::User);
        assert!(!security.anyone_verified());
        assert!(security.has(&b, Role::Puk) && security.has(&b, Role::Admin));
        security.revoke(&b, Role::Puk);
        assert!(security.anyone_administers());
        security.revoke_all(&b);
        assert!(!security.anyone_administers());
    }

    #[test]
    fn dropped_connection_loses_its_roles() {
        let a = Mark::default();
        let mut security = Security::default();
        security.grant(&a, Role::User, Duration::ZERO);
        security.arm(&a, Duration::ZERO);
        drop(a);
        security.expire(Duration::ZERO, limits(HOUR, None));
        assert!(!security.anyone_verified() && !security.anyone_armed());
    }

    #[test]
    fn verification_ends_at_its_limits() {
        let a = Mark::default();
        let mut security = Security::default();
        security.grant(&a, Role::User, HOUR);
        security.expire(2 * HOUR, limits(HOUR, None));
        assert!(security.anyone_verified());
        security.expire(2 * HOUR + Duration::from_secs(1), limits(HOUR, None));
        assert!(!security.anyone_verified());

        security.grant(&a, Role::User, HOUR);
        security.touch(&a, Role::User, 2 * HOUR);
        security.expire(3 * HOUR, limits(9 * HOUR, Some(HOUR)));
        assert!(security.anyone_verified());
        security.expire(4 * HOUR, limits(9 * HOUR, Some(HOUR)));
        assert!(!security.anyone_verified());
    }

    #[test]
    fn administrator_and_puk_end_a_minute_after_their_last_use() {
        let a = Mark::default();
        let mut security = Security::default();
        security.grant(&a, Role::Admin, Duration::ZERO);
        security.grant(&a, Role::Puk, Duration::ZERO);
        security.touch(&a, Role::Admin, ADMIN_IDLE);
        security.expire(2 * ADMIN_IDLE, limits(HOUR, None));
        assert!(security.has(&a, Role::Admin) && !security.has(&a, Role::Puk));
        security.expire(3 * ADMIN_IDLE, limits(HOUR, None));
        assert!(!security.anyone_administers());
    }

    #[test]
    fn one_operation_is_armed_for_one_connection_and_half_a_minute() {
        let (a, b) = (Mark::default(), Mark::default());
        let mut security = Security::default();
        security.arm(&a, Duration::ZERO);
        assert!(security.is_armed_by(&a) && !security.is_armed_by(&b));
        security.revoke_all(&b);
        security.expire(ARMED_LIFE, limits(HOUR, None));
        assert!(security.is_armed_by(&a));
        security.expire(ARMED_LIFE * 2, limits(HOUR, None));
        assert!(!security.anyone_armed());
        security.arm(&a, Duration::ZERO);
        security.revoke_all(&a);
        assert!(!security.anyone_armed());
    }
}
