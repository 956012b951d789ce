//! Rights beyond one's own cards: polkit decides.

use std::collections::HashMap;

use cardea_client::message::FailureKind;

use super::clients::Client;
use super::error::{BusError, Name};
use super::interfaces::SERVICE;
use super::link::{CallError, Dictionary, Link, Target, entry};
use crate::failure::fail;
use crate::host::hosted::HostedCard;
use crate::host::permission::Caller;
use crate::time_limits::ANSWER_TIME;

/// What needs a right; `packaging/org.cardea.virtualsmartcard.policy` has the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    ChangePin,
    CreateCard,
    DestroyCard,
    Provision,
    RenameCard,
    ResetPin,
    ResetTpmLockout,
}

impl Action {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 7] = [
        Self::ChangePin,
        Self::CreateCard,
        Self::DestroyCard,
        Self::Provision,
        Self::RenameCard,
        Self::ResetPin,
        Self::ResetTpmLockout,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ChangePin => "change-pin",
            Self::CreateCard => "create-card",
            Self::DestroyCard => "destroy-card",
            Self::Provision => "provision",
            Self::RenameCard => "rename-card",
            Self::ResetPin => "reset-pin",
            Self::ResetTpmLockout => "reset-tpm-lockout",
        }
    }

    /// Whether the owner of a card needs nobody's leave: there the PIN, the PUK or the response is the authority.
    fn is_the_owners(self) -> bool {
        matches!(self, Self::ChangePin | Self::ResetPin)
    }
}

/// With what rights the caller does this: their own as administrator or owner, or an administrator's where polkit
/// says so.
pub(crate) fn authorize(
    link: &Link,
    client: &Client,
    action: Action,
    card: Option<&HostedCard>,
    interactive: bool,
) -> Result<Caller, BusError> {
    let caller = client.caller;
    let owner = card.is_some_and(|card| card.owner == Some(caller.uid));
    if caller.administrator || owner && action.is_the_owners() {
        return Ok(caller);
    }
    let name = card.map(HostedCard::name).unwrap_or_default();
    let allowed = check(link, client, action, &name, interactive).map_err(|error| {
        tracing::info!(uid = caller.uid, action = action.word(), %error, "polkit did not decide");
        BusError::new(
            Name::NotAuthorized,
            format!("polkit cannot be asked whether you may do this ({error})"),
        )
    })?;
    if !allowed {
        let text = "only root, members of the administrators' group and those whom polkit lets may do this";
        return Err(fail(FailureKind::Denied, text).into());
    }
    Ok(Caller {
        administrator: true,
        ..caller
    })
}

/// CheckAuthorization of org.freedesktop.PolicyKit1.Authority, for the connection that called us.
fn check(
    link: &Link,
    client: &Client,
    action: Action,
    name: &str,
    interactive: bool,
) -> Result<bool, CallError> {
    let target = Target {
        destination: "org.freedesktop.PolicyKit1",
        path: "/org/freedesktop/PolicyKit1/Authority",
        interface: "org.freedesktop.PolicyKit1.Authority",
        member: "CheckAuthorization",
    };
    let subject: Dictionary = [entry("name", client.name.as_str())].into();
    let details: HashMap<&str, &str> = [("card", name)].into();
    let body = (
        ("system-bus-name", subject),
        format!(
            "{}.{}",
            SERVICE.trim_end_matches('1').to_lowercase(),
            action.word()
        ),
        details,
        u32::from(interactive),
        "",
    );
    let answer = link.call(target, &body, ANSWER_TIME, Some(&client.gone))?;
    let body = answer.body();
    let ((allowed, _, _),): ((bool, bool, HashMap<String, String>),) =
        body.deserialize().map_err(CallError::from)?;
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_in_the_installed_file() {
        let file = include_str!("../../../../../packaging/org.cardea.virtualsmartcard.policy");
        for action in Action::ALL {
            let id = format!("id=\"org.cardea.virtualsmartcard.{}\"", action.word());
            assert_eq!(file.matches(&id).count(), 1, "{id}");
        }
        assert_eq!(file.matches("<action ").count(), Action::ALL.len());
    }
}
