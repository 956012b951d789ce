//! Rights beyond one's own cards: polkit decides.

use std::collections::HashMap;

use cardea_client::message::FailureKind;

use super::clients::Client;
use super::error::{BusError, Name};
use super::link::{CallError, Dictionary, Link, Target, entry};
use super::names::SERVICE;
use cardea_host::ANSWER_TIME;
use cardea_host::CardId;
use cardea_host::HostedCard;
use cardea_host::fail;
use cardea_host::user_name;
use cardea_host::{Grant, Right};

/// The word of an action; `packaging/org.cardea.virtualsmartcard.policy` has the same. What is done to one's own
/// card and to somebody else's are two actions: an authentication for the one does not allow the other.
fn word(right: Right, whose: Whose) -> &'static str {
    match (right, whose) {
        // The owner needs no leave for these two.
        (Right::ChangePin, _) => "change-pin",
        (Right::ResetPin, _) => "reset-pin",
        (Right::CreateCard, Whose::Own) => "create-card",
        (Right::CreateCard, Whose::Others) => "create-card-other",
        (Right::DestroyCard, Whose::Own) => "destroy-card",
        (Right::DestroyCard, Whose::Others) => "destroy-card-other",
        (Right::Provision, Whose::Own) => "provision",
        (Right::Provision, Whose::Others) => "provision-other",
        (Right::RenameCard, Whose::Own) => "rename-card",
        (Right::RenameCard, Whose::Others) => "rename-card-other",
        (Right::ResetTpmLockout, _) => "reset-tpm-lockout",
    }
}

/// Whose business it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Somebody else's, or it is not known whose.
    Others,
    /// The caller's, or the machine's.
    Own,
}

/// What a right is asked for.
pub(crate) enum Subject<'a> {
    /// A card.
    Card(&'a HostedCard),
    /// Nothing that is a card.
    Machine,
    /// A card of this name that is going to be this user's.
    NewCard(&'a str, u32),
    /// A card that the caller names and that does not exist: as if it were somebody else's.
    Nobodys(&'a str),
}

impl Subject<'_> {
    fn owner(&self) -> Option<u32> {
        match self {
            Self::Card(card) => card.owner,
            Self::NewCard(_, owner) => Some(*owner),
            Self::Machine | Self::Nobodys(_) => None,
        }
    }

    fn whose(&self, uid: u32) -> Whose {
        match self {
            Self::Machine => Whose::Own,
            Self::Card(_) | Self::NewCard(..) | Self::Nobodys(_) => match self.owner() {
                Some(owner) if owner == uid => Whose::Own,
                _ => Whose::Others,
            },
        }
    }

    /// The card that it is.
    pub(crate) fn card(&self) -> Option<&HostedCard> {
        match self {
            Self::Card(card) => Some(card),
            Self::Machine | Self::NewCard(..) | Self::Nobodys(_) => None,
        }
    }

    fn card_id(&self) -> Option<CardId> {
        self.card().and_then(|card| card.id)
    }

    fn new_owner(&self) -> Option<u32> {
        match self {
            Self::NewCard(_, owner) => Some(*owner),
            Self::Card(_) | Self::Machine | Self::Nobodys(_) => None,
        }
    }

    /// What messages and rules can name.
    fn details(&self) -> HashMap<&'static str, String> {
        let name = match self {
            Self::Card(card) => card.name(),
            Self::NewCard(name, _) | Self::Nobodys(name) => (*name).to_owned(),
            Self::Machine => return HashMap::new(),
        };
        let owner = match self.owner() {
            Some(uid) => user_name(uid),
            None => "unknown".to_owned(),
        };
        // polkit's agent shows them in a dialog.
        let shown = |text: String| cardea_terms::for_dialog(&text);
        let mut details = HashMap::from([("card", shown(name)), ("owner", shown(owner))]);
        if let Some(id) = self.card_id() {
            details.insert("card-id", id.to_string());
        }
        details
    }
}

/// Lets the caller do something: by their own right, which needs no grant, or by one of polkit.
pub(crate) fn authorize(
    link: &Link,
    client: &Client,
    right: Right,
    subject: &Subject<'_>,
    interactive: bool,
) -> Result<Option<Grant>, BusError> {
    let caller = client.caller;
    if caller.has(right, subject.owner()) {
        return Ok(None);
    }
    let action = word(right, subject.whose(caller.uid()));
    let details = subject.details();
    let allowed = check(link, client, action, &details, interactive).map_err(|error| {
        tracing::info!(uid = caller.uid(), action, %error, refused = true, "polkit did not decide");
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
        card: subject.card_id(),
        new_owner: subject.new_owner(),
    }))
}

/// CheckAuthorization of org.freedesktop.PolicyKit1.Authority, for the connection that called us.
fn check(
    link: &Link,
    client: &Client,
    action: &str,
    details: &HashMap<&'static str, String>,
    interactive: bool,
) -> Result<bool, CallError> {
    let target = Target {
        destination: "org.freedesktop.PolicyKit1",
        path: "/org/freedesktop/PolicyKit1/Authority",
        interface: "org.freedesktop.PolicyKit1.Authority",
        member: "CheckAuthorization",
    };
    let subject: Dictionary = [entry("name", client.name.as_str())].into();
    let body = (
        ("system-bus-name", subject),
        format!("{}.{action}", SERVICE.trim_end_matches('1').to_lowercase()),
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
        let mut words: Vec<_> = ALL
            .iter()
            .flat_map(|right| [Whose::Own, Whose::Others].map(|whose| word(*right, whose)))
            .collect();
        words.sort_unstable();
        words.dedup();
        for word in &words {
            let id = format!("id=\"org.cardea.virtualsmartcard.{word}\"");
            assert_eq!(file.matches(&id).count(), 1, "{id}");
        }
        assert_eq!(file.matches("<action ").count(), words.len());
    }

    /// What is between the tags of an element, in each action.
    fn each<'a>(file: &'a str, element: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let actions = file.split("<action id=\"").skip(1);
        actions.map(move |action| {
            let (id, _) = action.split_once('"').unwrap();
            let (_, content) = action.split_once(&format!("<{element}>")).unwrap();
            let (content, _) = content.split_once("</").unwrap();
            (
                id.trim_start_matches("org.cardea.virtualsmartcard."),
                content,
            )
        })
    }

    #[test]
    fn cards_of_others_need_an_administrator_each_time_and_are_named_with_their_owner() {
        let file = include_str!("../../../../../packaging/org.cardea.virtualsmartcard.policy");
        let others = |id: &str| id.ends_with("-other") || ["change-pin", "reset-pin"].contains(&id);
        for element in ["allow_any", "allow_inactive", "allow_active"] {
            for (id, allowed) in each(file, element).filter(|(id, _)| others(id)) {
                assert_eq!(allowed, "auth_admin", "{id}");
            }
        }
        for (id, message) in each(file, "message").filter(|(id, _)| others(id)) {
            assert!(
                message.contains("$(card)") && message.contains("$(owner)"),
                "{id}"
            );
        }
        let owners = file.matches(
            "<annotate key=\"org.freedesktop.policykit.owner\">unix-user:cardea</annotate>",
        );
        assert_eq!(owners.count(), file.matches("<action ").count());
    }
}
