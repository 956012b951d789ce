//! The objects of the bus as one client sees them: paths, interfaces, properties.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cardea_client::message::{CardState, LockoutRoom};
use cardea_host::CardId;
use cardea_terms::{CharacterClass, CharacterRule, PinPolicy, PinPolicyError};
use cardea_terms::{CounterMode, hierarchy_word};

use super::challenge::ChallengeContext;
use super::clients::Client;
use super::error::BusError;
use super::guid::guid;
use super::link::{Dictionary, entry, path, value};
use super::names::{
    CARD, CHALLENGE_CONTEXT, MANAGER, OPERATION, PIN_RESET_REQUEST, PROVISIONING, READER, ROOT,
};
use super::operation::Operation;
use super::options::{Options, Value};
use super::pin_reset::PinResetRequest;
use crate::doors::bus::Bus;
use cardea_host::Counter;
use cardea_host::Host;
use cardea_host::HostedCard;
use cardea_host::reader_name;
use cardea_host::{InUse, details};

/// A number that nobody knows.
const UNKNOWN: u32 = u32::MAX;

/// Keys of one card.
const KEY_LIMIT: u32 = 30;

/// Certificates over the life of a card on Windows; here nothing counts against it.
const CERTIFICATE_LIFETIME_LIMIT: u32 = 90;

/// What is at a path.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Card(Arc<HostedCard>),
    Challenge(Arc<ChallengeContext>),
    Manager,
    Operation(Arc<Operation>),
    PinReset(Arc<PinResetRequest>),
    Reader(u8),
}

impl Object {
    /// The interfaces of its own.
    pub(crate) fn interfaces(&self) -> &'static [&'static str] {
        match self {
            Self::Card(_) => &[CARD, PROVISIONING],
            Self::Challenge(_) => &[CHALLENGE_CONTEXT],
            Self::Manager => &[MANAGER],
            Self::Operation(_) => &[OPERATION],
            Self::PinReset(_) => &[PIN_RESET_REQUEST],
            Self::Reader(_) => &[READER],
        }
    }
}

/// An object that only the client that has it made knows of.
#[derive(Clone, Debug)]
pub(crate) struct Private {
    pub(crate) client: String,
    pub(crate) object: Object,
}

/// Path of a card; a file that tells no id has none. Nor has a card that is redirected from another machine: it is
/// managed there.
pub(crate) fn card_path(card: &HostedCard) -> Option<String> {
    if card.is_redirected() {
        return None;
    }
    card.id.map(|id| format!("{ROOT}/cards/{id}"))
}

pub(crate) fn reader_path(slot: u8) -> String {
    format!("{ROOT}/readers/{slot}")
}

impl Bus {
    /// Everything that the client sees below the manager.
    pub(crate) fn objects(&self, client: &Client) -> Vec<(String, Object)> {
        let readers =
            (0..self.host().slots().count()).map(|slot| (reader_path(slot), Object::Reader(slot)));
        let cards = self.host().present_cards().into_iter();
        let mut paths = HashSet::new();
        let cards = cards
            .filter(|card| client.caller.may_see(card.owner))
            .filter_map(|card| Some((card_path(&card)?, Object::Card(card))))
            .filter(|(path, _)| paths.insert(path.clone()));
        let private = self.private_of(client);
        readers.chain(cards).chain(private).collect()
    }

    /// The object at a path, and whether the client sees it.
    pub(crate) fn object(&self, client: &Client, path: &str) -> Option<(Object, bool)> {
        let below = path.strip_prefix(ROOT)?;
        if below.is_empty() {
            return Some((Object::Manager, true));
        }
        if let Some(id) = below.strip_prefix("/cards/") {
            let id: CardId = id.parse().ok()?;
            let mut cards = self.host().present_cards();
            cards.retain(|card| card.id == Some(id) && !card.is_redirected());
            // This host's own comes first.
            let own = cards.iter().find(|card| client.caller.may_see(card.owner));
            let card = own.or_else(|| cards.first())?;
            return Some((Object::Card(Arc::clone(card)), own.is_some()));
        }
        if let Some(slot) = below.strip_prefix("/readers/") {
            let slot: u8 = slot.parse().ok()?;
            let known = slot < self.host().slots().count() && reader_path(slot) == path;
            return known.then_some((Object::Reader(slot), true));
        }
        let private = self.private_of(client);
        let found = private.into_iter().find(|(known, _)| known == path);
        found.map(|(_, object)| (object, true))
    }

    /// The properties of an interface of an object.
    pub(crate) fn properties(
        &self,
        client: &Client,
        object: &Object,
        interface: &str,
    ) -> Result<Dictionary, BusError> {
        Ok(match (object, interface) {
            (Object::Card(card), CARD) => card_properties(self.host(), card),
            (Object::Challenge(context), CHALLENGE_CONTEXT) => context.properties(),
            (Object::Manager, MANAGER) => manager_properties(&self.counter),
            (Object::Operation(operation), OPERATION) => operation.properties(),
            (Object::PinReset(request), PIN_RESET_REQUEST) => request.properties(),
            (Object::Reader(slot), READER) => reader_properties(self.host(), client, *slot),
            _ => Dictionary::new(),
        })
    }

    /// All interfaces with properties of an object, for the object manager.
    pub(crate) fn described(
        &self,
        client: &Client,
        object: &Object,
    ) -> Result<HashMap<&'static str, Dictionary>, BusError> {
        let interfaces = object.interfaces().iter();
        interfaces
            .map(|interface| Ok((*interface, self.properties(client, object, interface)?)))
            .collect()
    }
}

fn card_properties(host: &Host, card: &Arc<HostedCard>) -> Dictionary {
    let details = details(host, card);
    let summary = details.summary;
    let live = InUse::of(card);
    let tries = |tries: Option<cardea_client::message::Tries>| match tries {
        Some(tries) => (tries.left.unwrap_or(UNKNOWN), tries.limit),
        None => (UNKNOWN, UNKNOWN),
    };
    let (pin_left, pin_max) = tries(details.pin);
    let (puk_left, _) = tries(details.puk);
    let missing: Vec<&str> = summary.gone.iter().map(|part| part.word()).collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(UNKNOWN);
    let policy_bytes = details.pin_policy;
    let chosen = policy_bytes.and_then(|bytes| PinPolicy::parse(&bytes).ok());
    let attestation = match &details.attestation {
        None => "none",
        Some(attestation) if attestation.certificates.is_empty() => "aik-only",
        Some(_) => "aik-and-certificate",
    };
    let container = details
        .attestation
        .as_ref()
        .map_or_else(String::new, |_| format!("cardea-ak-{}", summary.card_id));
    let mut properties: Dictionary = [
        entry("AdminBlocked", live.admin_blocked),
        entry("Atr", cardea_host::ATR.to_vec()),
        entry("Attestation", attestation),
        entry("AuthorityKeyContainerName", container),
        entry("CardId", live.card_id.map(guid).unwrap_or_default()),
        entry(
            "CertificateCount",
            count(details.keys.iter().filter(|key| key.certificate).count()),
        ),
        entry("CertificatesIssued", live.certificates_issued),
        entry("CountedHere", summary.counted_here),
        entry(
            "CounterMode",
            details.counter_mode.map_or("", CounterMode::word),
        ),
        entry("Created", details.created),
        entry("Formatted", live.card_id.is_some()),
        entry("FriendlyName", summary.name),
        entry("InstanceId", summary.instance_id),
        entry("KeyCount", count(details.keys.len())),
        entry("LockoutSeconds", lockout_seconds(details.lockout)),
        entry("MissingParts", missing),
        entry("Owner", summary.owner),
        entry("PinBlocked", pin_left == 0),
        entry("PinPad", details.pin_pad),
        entry("PinTriesLeft", pin_left),
        entry("PinTriesMax", pin_max),
        entry("PukTriesLeft", puk_left),
        entry("Reader", path(summary.slot.map(reader_path))),
        entry("ReaderName", summary.reader.unwrap_or_default()),
        entry("Reason", summary.reason),
        entry("Status", state_word(summary.state)),
        entry("UnblockMode", live.unblock.word()),
    ]
    .into();
    properties.insert(
        "PinPolicy".to_owned(),
        value(policy(&chosen.unwrap_or_default())),
    );
    properties
}

/// At most so long until the card's next comparison.
fn lockout_seconds(room: Option<LockoutRoom>) -> u32 {
    match room {
        Some(LockoutRoom { left: 0, wait, .. }) => wait.unwrap_or(UNKNOWN),
        Some(_) | None => 0,
    }
}

fn manager_properties(counter: &Counter) -> Dictionary {
    let status = counter.tpm_status();
    // The TPM forgets one failure in each period of recovery, and one is enough (TPM 2.0 Part 1 §19.8.3).
    let seconds = status.as_ref().map_or(0, |status| match status.in_lockout {
        true => status.lockout_recovery,
        false => 0,
    });
    let policies = status
        .as_ref()
        .and_then(|status| status.hierarchy_policies.as_ref());
    let policies: Vec<String> = policies
        .into_iter()
        .flatten()
        .map(|handle| hierarchy_word(*handle))
        .collect();
    [
        // Nothing but the TPM's room limits them.
        entry("CardLimit", UNKNOWN),
        entry("CertificateLifetimeLimit", CERTIFICATE_LIFETIME_LIMIT),
        entry("KeyLimit", KEY_LIMIT),
        entry("RemoteManagementEnabled", false),
        entry("TpmHierarchyPolicies", policies),
        entry(
            "TpmInLockout",
            status.as_ref().is_some_and(|status| status.in_lockout),
        ),
        entry("TpmLockoutSeconds", seconds),
        entry("TpmPresent", status.is_some()),
        entry(
            "TpmManufacturer",
            status.map(|status| status.manufacturer).unwrap_or_default(),
        ),
        entry("Version", env!("CARGO_PKG_VERSION")),
    ]
    .into()
}

fn reader_properties(host: &Host, client: &Client, slot: u8) -> Dictionary {
    let card = host.slots().card(slot).map(|(_, card)| card);
    let status = match &card {
        Some(_) => "ready",
        None => "disconnected",
    };
    let seen = card.filter(|card| client.caller.may_see(card.owner));
    let instance = seen.as_ref().map(|card| card.instance_id());
    [
        entry("Card", path(seen.as_deref().and_then(card_path))),
        entry("DeviceId", instance.unwrap_or_default()),
        entry("Kind", "tpm"),
        entry("Name", reader_name(slot)),
        entry("Status", status),
    ]
    .into()
}

/// State of a card in words.
fn state_word(state: CardState) -> &'static str {
    match state {
        CardState::Ready => "ready",
        CardState::Blocked => "blocked",
        CardState::Foreign => "foreign",
        CardState::Lost => "lost",
        CardState::NotTrusted => "not-trusted",
        CardState::Unreadable => "unreadable",
        CardState::TpmAway => "tpm-away",
        CardState::DriveAway => "drive-away",
        CardState::SwitchedOff => "switched-off",
        CardState::UnsafeTpm => "unsafe-tpm",
    }
}

/// A PIN policy as `a{sv}`.
pub(crate) fn policy(policy: &PinPolicy) -> HashMap<String, zbus::Variant<'static>> {
    let lengths = [("min-length", policy.min()), ("max-length", policy.max())];
    let lengths = lengths.map(|(key, length)| (key.to_owned(), u32::from(length).into()));
    let rules = policy.rules();
    let rules = rules.map(|(class, rule)| (class.key().to_owned(), rule.word().into()));
    lengths.into_iter().chain(rules).collect()
}

/// The 32 bytes of a policy that came as `a{sv}`. What is not said is as Windows has it: 8 to 127 characters of
/// printable ASCII.
pub(crate) fn policy_bytes(mut given: Options) -> Result<[u8; 32], BusError> {
    let invalid = |key: &str| BusError::invalid(format!("invalid {key} in pin-policy"));
    let mut lengths = [("min-length", 8), ("max-length", 127)];
    for (key, length) in &mut lengths {
        match given.take(key) {
            None => {}
            Some(Value::Number(number)) => *length = number,
            Some(_) => return Err(invalid(key)),
        }
    }
    let mut rules = CharacterClass::ALL.map(|class| match class {
        CharacterClass::Other => CharacterRule::Disallowed,
        _ => CharacterRule::Allowed,
    });
    for (rule, class) in rules.iter_mut().zip(CharacterClass::ALL) {
        *rule = match given.take(class.key()) {
            None => continue,
            Some(Value::Text(word)) => CharacterRule::from_word(&word),
            Some(_) => None,
        }
        .ok_or_else(|| invalid(class.key()))?;
    }
    if let Some(unknown) = given.left() {
        return Err(BusError::invalid(format!(
            "unknown {unknown} in pin-policy"
        )));
    }
    let [min, max] = lengths.map(|(_, length)| u8::try_from(length));
    let made = match (min, max) {
        (Ok(min), Ok(max)) => PinPolicy::new(min, max, rules),
        _ => Err(PinPolicyError::Length),
    };
    let policy = made.map_err(|error| BusError::invalid(error.to_string()))?;
    Ok(policy.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::bus::options::tests::{arrived, option};

    #[test]
    fn policy_survives_the_bus() {
        let given = [
            option("min-length", 6_u32),
            option("digits", "require"),
            option("other", "allow"),
        ];
        let bytes = policy_bytes(arrived(given.into()).unwrap()).unwrap();
        let told = policy(&PinPolicy::parse(&bytes).unwrap());
        let told = told.iter().map(|(key, word)| option(key, word.clone()));
        assert_eq!(policy_bytes(arrived(told.collect()).unwrap()), Ok(bytes));
        assert_eq!(bytes[4], 6);
    }

    #[test]
    fn policies_that_are_none_are_refused() {
        for wrong in [
            option("min-length", "6"),
            option("min-length", 3_u32),
            option("max-length", 128_u32),
            option("digits", "perhaps"),
            option("digits", 7_u32),
            option("colour", "require"),
        ] {
            assert!(policy_bytes(arrived([wrong].into()).unwrap()).is_err());
        }
    }
}
