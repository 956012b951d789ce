//! The ways to have a use of a key authorised without the PIN.

use super::live::Live;
use super::row::Object;
use crate::raw::{Auth, EMPTY, Entity, SessionKind, cc, sized};

/// How a command may be authorised without a secret.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Value,
    Hmac,
    SaltedHmac,
    BoundHmac,
    Policy,
    PolicyPassword,
    PolicyAuthValue,
    PolicyOr,
    Trial,
}

impl Way {
    pub(super) const ALL: [(&'static str, Self); 9] = [
        ("value", Self::Value),
        ("HMAC", Self::Hmac),
        ("salted HMAC", Self::SaltedHmac),
        ("bound HMAC", Self::BoundHmac),
        ("policy", Self::Policy),
        ("PolicyPassword", Self::PolicyPassword),
        ("PolicyAuthValue", Self::PolicyAuthValue),
        ("PolicyOR", Self::PolicyOr),
        ("trial", Self::Trial),
    ];
}

impl Live {
    /// Has a key's use authorised in one way.
    pub(super) fn by_way(
        &self,
        way: Way,
        object: Object,
        key: &Entity,
        send: impl FnOnce(Auth<'_>) -> u32,
    ) -> u32 {
        let bench = &self.bench;
        let session = match way {
            Way::Value => return send(EMPTY),
            Way::Hmac => bench.session(SessionKind::Hmac, false, None),
            Way::SaltedHmac => bench.session(SessionKind::Hmac, true, None),
            Way::BoundHmac => bench.session(SessionKind::Hmac, false, Some((key, &[]))),
            Way::Trial => bench.session(SessionKind::Trial, false, None),
            Way::Policy | Way::PolicyPassword | Way::PolicyAuthValue | Way::PolicyOr => {
                bench.policy_session()
            }
        };
        let said = match way {
            Way::PolicyPassword => bench.policy(&session, cc::POLICY_PASSWORD, &[]).code,
            Way::PolicyAuthValue => bench.policy(&session, cc::POLICY_AUTH_VALUE, &[]).code,
            Way::PolicyOr => {
                let policy = &self.blob(object).1[10..42];
                let branches = [&[0, 0, 0, 2][..], &sized(&[0; 32]), &sized(policy)].concat();
                bench.policy(&session, cc::POLICY_OR, &branches).code
            }
            _ => 0,
        };
        assert_eq!(said, 0, "{way:?}");
        let code = send(Auth::Session(&session, &[]));
        bench.flush(session.handle);
        code
    }
}
