//! Tells clients that cards come, go and change: each only of those that it sees.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Bus;
use super::link::{Dictionary, Link, path};
use super::names::{CARD, OBJECT_MANAGER, PROPERTIES, PROVISIONING, READER, ROOT};
use super::objects::{card_path, reader_path};
use super::{logind, plain};
use cardea_host::ActiveUsers;
use cardea_host::HostedCard;

/// How long a change of a card may go unnoticed; coming and going is noticed at once.
const INTERVAL: Duration = Duration::from_millis(500);

/// logind tells of changes; this is for those that were missed.
const PRESENCE_INTERVAL: Duration = Duration::from_secs(30);

/// How long the cards of people wait for a bus at the start, of which nobody knows whether there will be one.
const PATIENCE: Duration = Duration::from_secs(3);

/// The state whose changes are signalled to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    owner: Option<u32>,
    state: u8,
    revision: u64,
    pin_left: Option<u32>,
    puk_left: Option<u32>,
    slot: Option<u8>,
    gone: usize,
    name: String,
}

/// The properties of a card that change.
const CHANGING: &[&str] = &[
    "AdminBlocked",
    "CardId",
    "CertificateCount",
    "CertificatesIssued",
    "Formatted",
    "FriendlyName",
    "KeyCount",
    "MissingParts",
    "PinBlocked",
    "PinPad",
    "PinTriesLeft",
    "PinTriesMax",
    "PukTriesLeft",
    "Reader",
    "ReaderName",
    "Reason",
    "Status",
    "UnblockMode",
];

impl Bus {
    /// The thread that looks.
    pub(crate) fn watch(&self) {
        let mut known: HashMap<String, Seen> = HashMap::new();
        let mut slots = Vec::new();
        let (mut looked, started) = (None::<Instant>, Instant::now());
        while !self.is_stopped() {
            self.host().await_cards(INTERVAL);
            let link = self.link();
            let awaited = self.host().presence().is_awaited();
            let due = awaited || looked.is_none_or(|looked| looked.elapsed() > PRESENCE_INTERVAL);
            if self.host().presence().wants_look() || due {
                looked = Some(Instant::now());
                self.look_for_people(link.as_ref(), started);
            }
            let now = self.snapshot(&known);
            let now_slots = self.host().slots().states().inserted;
            if let Some(link) = &link {
                self.tell_cards(link, &known, &now);
                self.tell_readers(link, &slots, &now_slots);
            }
            known = now;
            slots = now_slots;
        }
    }

    /// Who has a session, which decides whose cards are in the reader.
    fn look_for_people(&self, link: Option<&Link>, started: Instant) {
        let presence = self.host().presence();
        let sessions = match link.map(logind::active_users) {
            Some(Ok(Some(users))) => ActiveUsers::Known(users),
            Some(Ok(None)) => ActiveUsers::Unknown,
            // Without a bus nobody knows. While it restarts, what was known last holds.
            None if self.coming => return,
            None if presence.is_awaited() && started.elapsed() > PATIENCE => ActiveUsers::Unknown,
            None => return,
            Some(Err(error)) => {
                tracing::debug!(%error, "logind not asked");
                return;
            }
        };
        if presence.set(sessions) {
            self.host().wake_keeper();
        }
    }

    /// All cards; one at work is as it was.
    fn snapshot(&self, known: &HashMap<String, Seen>) -> HashMap<String, Seen> {
        let mut now = HashMap::new();
        for card in self.host().present_cards() {
            // Of several with one id, this host's own comes first.
            if let Some(path) = card_path(&card)
                && !now.contains_key(&path)
            {
                let seen = self.seen(&card, known.get(&path));
                now.insert(path, seen);
            }
        }
        now
    }

    fn seen(&self, card: &Arc<HostedCard>, before: Option<&Seen>) -> Seen {
        let mut seen = Seen {
            owner: card.owner,
            state: card.state() as u8,
            revision: before.map_or(0, |before| before.revision),
            pin_left: before.and_then(|before| before.pin_left),
            puk_left: before.and_then(|before| before.puk_left),
            slot: self.host().slots().slot_of(card),
            gone: card.gone_parts().len(),
            name: card.name(),
        };
        if let Some(counts) = card.counts() {
            seen.pin_left = counts.pin_left;
            seen.puk_left = counts.puk_left;
            seen.revision = counts.revision;
        }
        seen
    }

    fn tell_cards(&self, link: &Link, before: &HashMap<String, Seen>, now: &HashMap<String, Seen>) {
        if before == now {
            return;
        }
        for client in self.clients.all() {
            for (path, seen) in now {
                if !client.caller.may_see(seen.owner) {
                    continue;
                }
                match before.get(path) {
                    None => {
                        if let Some((object, true)) = self.object(&client, path)
                            && let Ok(described) = self.described(&client, &object)
                        {
                            let described: HashMap<_, _> = described
                                .into_iter()
                                .map(|(name, properties)| (name, plain(properties)))
                                .collect();
                            let body = (self::path(Some(path.clone())), described);
                            let member = "InterfacesAdded";
                            link.signal(&client.name, ROOT, OBJECT_MANAGER, member, &body);
                        }
                    }
                    Some(before) if before != seen => {
                        changed(link, &client.name, path, CARD, CHANGING)
                    }
                    Some(_) => {}
                }
            }
            for (path, seen) in before {
                if !now.contains_key(path) && client.caller.may_see(seen.owner) {
                    let body = (
                        self::path(Some(path.clone())),
                        [CARD, PROVISIONING].as_slice(),
                    );
                    let member = "InterfacesRemoved";
                    link.signal(&client.name, ROOT, OBJECT_MANAGER, member, &body);
                }
            }
        }
    }

    fn tell_readers(&self, link: &Link, before: &[u64], now: &[u64]) {
        let changes: HashSet<u8> = (0_u8..)
            .zip(now)
            .filter(|(slot, inserted)| before.get(usize::from(*slot)) != Some(inserted))
            .map(|(slot, _)| slot)
            .collect();
        if changes.is_empty() {
            return;
        }
        for client in self.clients.all() {
            for slot in &changes {
                let path = reader_path(*slot);
                changed(
                    link,
                    &client.name,
                    &path,
                    READER,
                    &["Card", "DeviceId", "Status"],
                );
            }
        }
    }
}

/// Says which properties are to be read again.
fn changed(link: &Link, client: &str, path: &str, interface: &str, properties: &[&str]) {
    let body = (interface, Dictionary::new(), properties);
    link.signal(client, path, PROPERTIES, "PropertiesChanged", &body);
}
