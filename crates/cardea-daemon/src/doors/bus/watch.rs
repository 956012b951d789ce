//! Tells clients that cards come, go and change: each only of those that it sees.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Bus;
use super::clients::Client;
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
    path: String,
    owner: Option<u32>,
    state: u8,
    revision: u64,
    pin_left: Option<u32>,
    puk_left: Option<u32>,
    slot: Option<u8>,
    gone: usize,
    name: String,
}

/// All cards in the order of the host, whose own come first. Two users may each have one of the same id, and so of the
/// same path: they are two cards, and each client has one object there, the first that it sees.
#[derive(Debug, Default, PartialEq, Eq)]
struct Snapshot(Vec<Seen>);

impl Snapshot {
    fn find(&self, path: &str, owner: Option<u32>) -> Option<&Seen> {
        let mut cards = self.0.iter();
        cards.find(|seen| seen.path == path && seen.owner == owner)
    }

    /// Of several cards of one owner at one path, the first counts.
    fn add(&mut self, seen: Seen) {
        if self.find(&seen.path, seen.owner).is_none() {
            self.0.push(seen);
        }
    }

    /// The cards as the objects of somebody who sees those of some owners only.
    fn view(&self, sees: impl Fn(Option<u32>) -> bool) -> BTreeMap<&str, &Seen> {
        let mut view = BTreeMap::new();
        for seen in self.0.iter().filter(|seen| sees(seen.owner)) {
            view.entry(seen.path.as_str()).or_insert(seen);
        }
        view
    }

    /// What somebody who sees the cards of some owners only learns of a change from this to another state.
    fn changes<'a>(
        &'a self,
        now: &'a Self,
        sees: impl Fn(Option<u32>) -> bool,
    ) -> Vec<(&'a str, Change)> {
        let (before, now) = (self.view(&sees), now.view(&sees));
        let mut changes = Vec::new();
        for (path, seen) in &before {
            // Another owner's is another card.
            if now.get(path).is_none_or(|now| now.owner != seen.owner) {
                changes.push((*path, Change::Removed));
            }
        }
        for (path, seen) in now {
            match before.get(path) {
                Some(before) if before.owner == seen.owner => {
                    if *before != seen {
                        changes.push((path, Change::Changed));
                    }
                }
                _ => changes.push((path, Change::Added)),
            }
        }
        changes
    }
}

/// What happened to the object at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Changed,
    Removed,
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
        let mut known = Snapshot::default();
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
    fn snapshot(&self, known: &Snapshot) -> Snapshot {
        let mut now = Snapshot::default();
        for card in self.host().present_cards() {
            if let Some(path) = card_path(&card) {
                let before = known.find(&path, card.owner);
                now.add(self.seen(&card, path, before));
            }
        }
        now
    }

    fn seen(&self, card: &Arc<HostedCard>, path: String, before: Option<&Seen>) -> Seen {
        let mut seen = Seen {
            path,
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

    fn tell_cards(&self, link: &Link, before: &Snapshot, now: &Snapshot) {
        if before == now {
            return;
        }
        for client in self.clients.all() {
            for (path, change) in before.changes(now, |owner| client.caller.may_see(owner)) {
                match change {
                    Change::Added => self.tell_new(link, &client, path),
                    Change::Changed => changed(link, &client.name, path, CARD, CHANGING),
                    Change::Removed => {
                        let interfaces = [CARD, PROVISIONING];
                        let body = (self::path(Some(path.to_owned())), interfaces.as_slice());
                        let member = "InterfacesRemoved";
                        link.signal(&client.name, ROOT, OBJECT_MANAGER, member, &body);
                    }
                }
            }
        }
    }

    fn tell_new(&self, link: &Link, client: &Client, path: &str) {
        if let Some((object, true)) = self.object(client, path)
            && let Ok(described) = self.described(client, &object)
        {
            let described: HashMap<_, _> = described
                .into_iter()
                .map(|(name, properties)| (name, plain(properties)))
                .collect();
            let body = (self::path(Some(path.to_owned())), described);
            let member = "InterfacesAdded";
            link.signal(&client.name, ROOT, OBJECT_MANAGER, member, &body);
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

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Option<u32> = Some(1000);
    const BOB: Option<u32> = Some(1001);

    fn card(path: &str, owner: Option<u32>, pin_left: u32) -> Seen {
        Seen {
            path: path.to_owned(),
            owner,
            state: 0,
            revision: 1,
            pin_left: Some(pin_left),
            puk_left: None,
            slot: None,
            gone: 0,
            name: String::new(),
        }
    }

    fn snapshot(cards: impl IntoIterator<Item = Seen>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        cards.into_iter().for_each(|card| snapshot.add(card));
        snapshot
    }

    #[test]
    fn cards_of_one_id_and_two_owners_are_two_cards() {
        let root = |_| true;
        let alice = |owner| owner == ALICE;
        let bob = |owner| owner == BOB;
        let both = snapshot([card("/1", ALICE, 5), card("/1", BOB, 5)]);
        let of_bob = snapshot([card("/1", BOB, 5)]);
        let none = Snapshot::default();
        // Whoever comes or goes, the other learns nothing of it.
        assert_eq!(of_bob.changes(&both, alice), [("/1", Change::Added)]);
        assert_eq!(of_bob.changes(&both, bob), []);
        assert_eq!(both.changes(&of_bob, alice), [("/1", Change::Removed)]);
        assert_eq!(both.changes(&of_bob, bob), []);
        let tried = snapshot([card("/1", ALICE, 5), card("/1", BOB, 4)]);
        assert_eq!(both.changes(&tried, alice), []);
        assert_eq!(both.changes(&tried, bob), [("/1", Change::Changed)]);
        // Root has one object there, the first.
        assert_eq!(both.changes(&tried, root), []);
        let replaced = [("/1", Change::Removed), ("/1", Change::Added)];
        assert_eq!(both.changes(&of_bob, root), replaced);
        assert_eq!(of_bob.changes(&none, root), [("/1", Change::Removed)]);
        assert_eq!(none.changes(&both, root), [("/1", Change::Added)]);
    }

    #[test]
    fn first_of_an_owner_s_cards_of_one_id_counts() {
        let now = snapshot([card("/1", ALICE, 5), card("/1", ALICE, 3)]);
        assert_eq!(now, snapshot([card("/1", ALICE, 5)]));
    }
}
