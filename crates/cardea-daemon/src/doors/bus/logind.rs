//! Who has an active session, as logind knows it (org.freedesktop.login1(5)).

use std::collections::HashSet;

use super::clients::BUS;
use super::link::{CallError, Link, Target};

const LOGIND: &str = "org.freedesktop.login1";

/// The users with an active session; none where there is no logind. Early in the boot this starts it.
pub(crate) fn active_users(link: &Link) -> Result<Option<HashSet<u32>>, CallError> {
    let target = |member| Target { member, ..BUS };
    let answer = link.ask(target("NameHasOwner"), &LOGIND)?;
    if !answer.body().deserialize::<bool>()? {
        match link.ask(target("StartServiceByName"), &(LOGIND, 0_u32)) {
            Err(CallError::Refused(..)) => return Ok(None),
            started => drop(started?),
        }
    }
    let target = Target {
        destination: LOGIND,
        path: "/org/freedesktop/login1",
        interface: "org.freedesktop.login1.Manager",
        member: "ListUsers",
    };
    let answer = link.ask(target, &())?;
    let body = answer.body();
    let users: Vec<(u32, String, zbus::OwnedObjectPath)> = body.deserialize()?;
    let mut active = HashSet::new();
    for (uid, _, path) in users {
        let target = Target {
            destination: LOGIND,
            path: path.as_str(),
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
        };
        let state = link.ask(target, &("org.freedesktop.login1.User", "State"));
        // A user may leave meanwhile.
        let Ok(state) = state else { continue };
        let body = state.body();
        let value: zbus::Variant<'_> = body.deserialize()?;
        if matches!(&value, zbus::Variant::Str(state) if state.as_str() == "active") {
            active.insert(uid);
        }
    }
    Ok(Some(active))
}
