//! Rights beyond one's own cards: polkit decides.

use std::collections::HashMap;

use cardea_client::message::FailureKind;

use super::clients::Client;
use super::error::{BusError, Name};
use super::link::{CallError, Dictionary, Link, Target, entry};
use super::names::SERVICE;
use cardea_host::ANSWER_TIME;
use cardea_host::HostedCard;
use cardea_host::fail;
use cardea_host::{Grant, Right};

/// The word of a right; `packaging/org.cardea.virtualsmartcard.policy` has the same.
fn word(right: Right) -> &'static str {
    match right {
        Right::ChangePin => "change-pin",
        Right::CreateCard => "create-card",
        Right::DestroyCard => "destroy-card",
        Right::Provision => "provision",
        Right::RenameCard => "rename-card",
        Right::ResetPin => "reset-pin",
        Right::ResetTpmLockout => "reset-tpm-lockout",
    }
}

/// Lets the caller do something: by their own right, which needs no grant, or by one of polkit.
pub(crate) fn authorize(
    link: &Link,
    client: &Client,
    right: Right,
    card: Option<&HostedCard>,
    interactive: bool,
) -> Result<Option<Grant>, BusError> {
    let caller = client.caller;
    if caller.has(right, card.and_then(|card| card.owner)) {
        return Ok(None);
    }
    let name = card.map(HostedCard::name).unwrap_or_default();
    let allowed = check(link, client, right, &name, interactive).map_err(|error| {
        tracing::info!(uid = caller.uid(), action = word(right), %error, "polkit did not decide");
        BusError::new(
            Name::NotAuthorized,
            format!("polkit cannot be asked whether you may do this ({error})"),
        )
    })?;
    if !allowed {
        let text = "only root, members of the administrators' group and users authorised by polkit may do this";
        return Err(fail(FailureKind::Denied, text).into());
    }
    Ok(Some(Grant {
        right,
        uid: caller.uid(),
        card: card.and_then(|card| card.id),
    }))
}

/// CheckAuthorization of org.freedesktop.PolicyKit1.Authority, for the connection that called us.
fn check(
    link: &Link,
    client: &Client,
    right: Right,
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
            word(right)
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

    const ALL: [Right; 7] = [
        Right::ChangePin,
        Right::CreateCard,
        Right::DestroyCard,
        Right::Provision,
        Right::RenameCard,
        Right::ResetPin,
        Right::ResetTpmLockout,
    ];

    #[test]
    fn every_action_is_in_the_installed_file() {
        let file = include_str!("../../../../../packaging/org.cardea.virtualsmartcard.policy");
        for right in ALL {
            let id = format!("id=\"org.cardea.virtualsmartcard.{}\"", word(right));
            assert_eq!(file.matches(&id).count(), 1, "{id}");
        }
        assert_eq!(file.matches("<action ").count(), ALL.len());
    }
}
