//! The audit: what happened, when, to which card and by whom.
//!
//! One line of JSON for each event, appended and synced before the caller is answered. Each record has the hash of
//! the one before it, so that a record that was changed, taken out or moved breaks the chain; the newest
//! sequence number and hash, which tell of a cut end, go to a file of their own and to the journal.
//! `docs/formats/audit.md` describes the bytes.
//!
//! Threads that wait for the disk write together: whoever gets the files writes what all have queued, with one sync.
//! What is only counted takes no part in that.

mod frequency;
mod log;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cardea_card::Event;
use cardea_client::message::{CounterCheck, FailureKind, MAX_PRINCIPAL};
use cardea_terms::CounterMode;
use cardea_terms::tame;
use serde_json::{Map, Value};

use crate::host::accounts::Accounts;
use crate::host::caller_process::CallerProcess;
use crate::host::hosted::HostedCard;
use crate::sync::lock;
use crate::system::unix_time;

use self::frequency::{Frequency, Price, Repeated, Whose};
use self::log::{Log, hex};

pub(crate) use self::log::Head;

/// Who caused an event.
#[derive(Clone, Debug)]
pub struct Actor {
    /// User id.
    pub uid: u32,
    /// Process id; 0 where it is not known.
    pub pid: u32,
    /// Path of the program, as the kernel tells it; where it does not, the process's own name in brackets, or empty.
    pub program: String,
    /// The unit of systemd that the process belongs to; empty where there is none.
    pub unit: String,
    /// When the process started, in clock ticks since the start of the computer; 0 where that is not known.
    pub started: u64,
    /// Whom it says that it does it for; empty = itself.
    pub on_behalf_of: String,
    /// Whom it has authenticated on the network, in its word; absent = nobody.
    pub remote: Option<RemoteCaller>,
}

/// Somebody on another machine for whom a service of administrators acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCaller {
    principal: String,
    address: IpAddr,
}

impl RemoteCaller {
    /// From what a service says; what a terminal would obey is replaced. None, if it cannot be.
    pub(crate) fn parse(principal: &str, address: &str) -> Option<Self> {
        let fits = !principal.is_empty() && principal.len() <= MAX_PRINCIPAL;
        fits.then_some(Self {
            principal: tame(principal),
            address: address.parse().ok()?,
        })
    }
}

impl Actor {
    /// A process of a user. The program is the one that runs now, which may have come after the one that connected;
    /// the process may be gone.
    pub fn of_process(uid: u32, pid: u32) -> Self {
        let CallerProcess {
            program,
            unit,
            started,
        } = CallerProcess::of(pid);
        Self {
            uid,
            pid,
            program,
            unit,
            started,
            on_behalf_of: String::new(),
            remote: None,
        }
    }

    /// Nobody asked for it.
    pub fn daemon() -> Self {
        Self {
            uid: rustix::process::getuid().as_raw(),
            pid: std::process::id(),
            program: String::new(),
            unit: String::new(),
            started: 0,
            on_behalf_of: String::new(),
            remote: None,
        }
    }
}

/// How it came to the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// D-Bus.
    Bus,
    /// The daemon by itself.
    Daemon,
    /// The reader.
    Reader,
    /// The private socket.
    Socket,
}

impl Door {
    /// Its word in records and dialogs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bus => "dbus",
            Self::Daemon => "daemon",
            Self::Reader => "reader",
            Self::Socket => "socket",
        }
    }
}

/// An event, its stable number and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AuthorisationChanged,
    CardAdopted,
    CardAttached,
    CardConfigured,
    CardCreated,
    CardDestroyed,
    CardDetached,
    CardLost,
    CardRedirected,
    CardWithdrawn,
    Denied,
    LockoutParametersChanged,
    LockoutReset,
    OnCard(Event),
    /// Records that could not be written.
    RecordsLost,
    /// Records that a user has caused beyond what one user may.
    RecordsWithheld,
    TpmAway,
    /// What it was found to be.
    TpmExamined {
        counters: CounterCheck,
        firmware: [u32; 2],
        /// Of the best cards that it takes.
        cards: Option<CounterMode>,
    },
    TpmLockedOut,
    TpmUnsafe,
}

impl Kind {
    /// Numbers are never used for another event.
    fn id(self) -> (u32, &'static str) {
        match self {
            Self::CardCreated => (101, "card-created"),
            Self::CardDestroyed => (102, "card-destroyed"),
            Self::CardLost => (104, "card-lost"),
            Self::CardConfigured => (105, "card-configured"),
            Self::CardAttached => (106, "card-attached"),
            Self::CardDetached => (107, "card-detached"),
            Self::CardAdopted => (108, "card-adopted"),
            Self::CardRedirected => (111, "card-redirected"),
            Self::CardWithdrawn => (112, "card-withdrawn"),
            Self::AuthorisationChanged => (501, "tpm-authorisation-changed"),
            Self::LockoutReset => (502, "tpm-lockout-reset"),
            Self::LockoutParametersChanged => (503, "tpm-lockout-parameters-changed"),
            Self::TpmLockedOut => (504, "tpm-locked-out"),
            Self::TpmAway => (505, "tpm-away"),
            Self::TpmUnsafe => (506, "tpm-unsafe"),
            Self::TpmExamined { .. } => (507, "tpm-examined"),
            Self::Denied => (601, "denied"),
            Self::RecordsLost => (701, "records-lost"),
            Self::RecordsWithheld => (702, "records-withheld"),
            Self::OnCard(event) => match event {
                Event::Personalised => (103, "card-personalised"),
                Event::PinChanged => (201, "pin-changed"),
                Event::PinFailed { .. } => (202, "pin-failed"),
                Event::PinBlocked => (203, "pin-blocked"),
                Event::PinUnblocked => (204, "pin-unblocked"),
                Event::PukChanged => (205, "puk-changed"),
                Event::PukFailed { .. } => (206, "puk-failed"),
                Event::PukBlocked => (207, "puk-blocked"),
                Event::KeyGenerated(_) => (301, "key-generated"),
                Event::KeyImported(_) => (302, "key-imported"),
                Event::KeyDeleted(_) => (303, "key-deleted"),
                Event::KeyUsed(_) => (304, "key-used"),
                Event::SessionKeyGenerated => (305, "session-key-generated"),
                Event::SessionKeyImported => (306, "session-key-imported"),
                Event::SessionKeyUsed => (307, "session-key-used"),
                Event::AdminAuthenticated => (401, "admin-authenticated"),
                Event::AdminFailed => (402, "admin-failed"),
                Event::AdminKeyChanged => (403, "admin-key-changed"),
                _ => (999, "other"),
            },
        }
    }

    fn detail(self, record: &mut Map<String, Value>) {
        if let Self::TpmExamined {
            counters,
            firmware,
            cards,
        } = self
        {
            let parts = firmware.map(|half| format!("{}.{}", half >> 16, half & 0xFFFF));
            record.insert("counters".into(), counters.word().into());
            record.insert("firmware".into(), parts.join(".").into());
            record.insert(
                "cards".into(),
                cards.map_or("none", CounterMode::word).into(),
            );
        }
        let Self::OnCard(event) = self else { return };
        match event {
            Event::PinFailed { left } | Event::PukFailed { left } => {
                if let Some(left) = left {
                    record.insert("left".into(), left.into());
                }
            }
            Event::KeyGenerated(key)
            | Event::KeyImported(key)
            | Event::KeyDeleted(key)
            | Event::KeyUsed(key) => {
                record.insert("key".into(), key.to_string().into());
            }
            _ => {}
        }
    }
}

/// The records of one daemon.
#[derive(Debug)]
pub struct Audit {
    frequency: Mutex<Frequency>,
    queue: Mutex<Queue>,
    /// Locked before the queue.
    writer: Mutex<Writer>,
    /// Whose a user id is, for the budgets.
    accounts: Option<Arc<Accounts>>,
}

/// Records that wait for the disk.
#[derive(Debug, Default)]
struct Queue {
    drafts: Vec<Draft>,
    /// How many there have been.
    pushed: u64,
}

#[derive(Debug)]
struct Writer {
    log: Log,
    /// How many of the queue's were written, or lost.
    done: u64,
    /// Records that could not be written, and were not told of yet.
    lost: u64,
}

/// A record without number and chain.
#[derive(Debug)]
struct Draft {
    record: Map<String, Value>,
    kind: Kind,
    card: Option<String>,
    uid: u32,
    pid: u32,
}

impl Draft {
    fn new(card: Option<&HostedCard>, actor: &Actor, door: Door, kind: Kind, count: u64) -> Self {
        let (id, name) = kind.id();
        let mut record = Map::new();
        record.insert("time".into(), unix_time().into());
        record.insert("id".into(), id.into());
        record.insert("event".into(), name.into());
        if let Some(card) = card {
            record.insert("card".into(), card.selector().into());
            record.insert("name".into(), card.name().into());
        }
        kind.detail(&mut record);
        if count > 1 {
            record.insert("count".into(), count.into());
        }
        record.insert("uid".into(), actor.uid.into());
        record.insert("pid".into(), actor.pid.into());
        record.insert("program".into(), actor.program.clone().into());
        if !actor.unit.is_empty() {
            record.insert("unit".into(), actor.unit.clone().into());
        }
        if !actor.on_behalf_of.is_empty() {
            record.insert("for".into(), actor.on_behalf_of.clone().into());
        }
        if let Some(RemoteCaller { principal, address }) = &actor.remote {
            record.insert("principal".into(), principal.clone().into());
            record.insert("address".into(), address.to_string().into());
        }
        record.insert("door".into(), door.word().into());
        Self {
            record,
            kind,
            card: card.map(|card| card.selector().to_string()),
            uid: actor.uid,
            pid: actor.pid,
        }
    }
}

impl Audit {
    /// Opens the records of a state folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            frequency: Mutex::default(),
            queue: Mutex::default(),
            writer: Mutex::new(Writer {
                log: Log::open(folder)?,
                done: 0,
                lost: 0,
            }),
            accounts: None,
        })
    }

    /// With no budgets for a user's subordinate ids but the user's.
    pub(crate) fn counting_by(self, accounts: Arc<Accounts>) -> Self {
        Self {
            accounts: Some(accounts),
            ..self
        }
    }

    fn account(&self, uid: u32) -> u32 {
        let accounts = self.accounts.as_ref();
        accounts.map_or(uid, |accounts| accounts.of(uid))
    }

    /// The newest record.
    pub(crate) fn head(&self) -> Head {
        lock(&self.writer).log.head()
    }

    /// The newest record as the file beside the records has it; none before the first.
    pub(crate) fn stored_head(&self) -> Option<Head> {
        lock(&self.writer).log.stored_head()
    }

    /// Whole records from an offset on, up to so many bytes; the next offset.
    pub(crate) fn read(&self, offset: u64, most: usize) -> io::Result<(Vec<u8>, u64)> {
        lock(&self.writer).log.read(offset, most)
    }

    /// Records events of a card. That they are on the disk when this returns is the reason for the wait; where that
    /// fails, the journal still has them.
    pub(crate) fn card(&self, card: &HostedCard, actor: &Actor, door: Door, events: &[Event]) {
        let now = Instant::now();
        let drafts = events
            .iter()
            .filter_map(|event| self.draft(Some(card), actor, door, Kind::OnCard(*event), now))
            .collect();
        self.write(drafts);
    }

    /// Records what a failure says of the TPM, if it does.
    pub(crate) fn trouble(&self, actor: &Actor, door: Door, kind: FailureKind) {
        match kind {
            FailureKind::Lockout => self.event(None, actor, door, Kind::TpmLockedOut),
            FailureKind::NoTpm => self.event(None, actor, door, Kind::TpmAway),
            _ => {}
        }
    }

    /// Records one event.
    pub(crate) fn event(&self, card: Option<&HostedCard>, actor: &Actor, door: Door, kind: Kind) {
        let draft = self.draft(card, actor, door, kind, Instant::now());
        self.write(draft.into_iter().collect());
    }

    /// Writes what could not be written before, and what was withheld from users who are quiet now.
    pub(crate) fn catch_up(&self) {
        self.write(self.withheld(Instant::now()));
        let mut writer = lock(&self.writer);
        if writer.lost > 0 {
            writer.append(Vec::new());
        }
    }

    /// What is to be recorded now, if anything.
    fn draft(
        &self,
        card: Option<&HostedCard>,
        actor: &Actor,
        door: Door,
        kind: Kind,
        now: Instant,
    ) -> Option<Draft> {
        let often = match kind {
            Kind::Denied => Some(0),
            Kind::TpmAway => Some(1),
            Kind::TpmLockedOut => Some(2),
            Kind::OnCard(Event::SessionKeyUsed) => Some(3),
            Kind::OnCard(Event::KeyUsed(key)) => Some(key.get()),
            _ => None,
        };
        let mut frequency = lock(&self.frequency);
        let count = match often {
            None => 1,
            Some(key) => {
                let repeated = Repeated {
                    card: card.and_then(|card| card.id),
                    what: key,
                    uid: actor.uid,
                    pid: actor.pid,
                    started: actor.started,
                };
                frequency.due(repeated, || self.account(actor.uid), now)?
            }
        };
        let price = price(card, door, kind);
        let admitted = frequency.admits(self.account(actor.uid), price, now);
        admitted.then(|| Draft::new(card, actor, door, kind, count))
    }

    fn withheld(&self, now: Instant) -> Vec<Draft> {
        let withheld = lock(&self.frequency).withheld(now);
        let drafts = withheld.into_iter().map(|(whose, count)| {
            let mut actor = Actor::daemon();
            if let Whose::User(uid) = whose {
                actor.uid = uid;
            }
            let kind = Kind::RecordsWithheld;
            let mut draft = Draft::new(None, &actor, Door::Daemon, kind, count);
            if whose == Whose::Others {
                draft.record.insert("others".into(), true.into());
            }
            draft
        });
        drafts.collect()
    }

    /// Returns when the records are on the disk, or lost.
    fn write(&self, drafts: Vec<Draft>) {
        if drafts.is_empty() {
            return;
        }
        let mine = {
            let mut queue = lock(&self.queue);
            queue.pushed += drafts.len() as u64;
            queue.drafts.extend(drafts);
            queue.pushed
        };
        let mut writer = lock(&self.writer);
        // Somebody else may have written them, who had the files before.
        if writer.done < mine {
            let drafts = std::mem::take(&mut lock(&self.queue).drafts);
            writer.done += drafts.len() as u64;
            writer.append(drafts);
        }
    }
}

impl Writer {
    /// Appends records, after one that counts those that were lost.
    fn append(&mut self, mut drafts: Vec<Draft>) {
        if self.lost > 0 {
            let daemon = Actor::daemon();
            let lost = Draft::new(None, &daemon, Door::Daemon, Kind::RecordsLost, self.lost);
            drafts.insert(0, lost);
        }
        let records = drafts.iter().map(|draft| draft.record.clone()).collect();
        match self.log.append(records) {
            Ok(heads) => {
                self.lost = 0;
                for (draft, head) in drafts.iter().zip(heads) {
                    journal(draft, Some(head));
                }
            }
            Err(error) => {
                tracing::error!(%error, "the audit log could not be written");
                let drafts = drafts
                    .iter()
                    .filter(|draft| draft.kind != Kind::RecordsLost);
                for draft in drafts {
                    self.lost += 1;
                    journal(draft, None);
                }
            }
        }
    }
}

/// Tells the journal of a record, which so has the hash where nobody who can change the files can change it.
fn journal(draft: &Draft, head: Option<Head>) {
    let (id, event) = draft.kind.id();
    tracing::info!(
        target: "cardea::audit",
        sequence = head.map(|head| head.sequence),
        hash = head.map(|head| hex(&head.hash)),
        id,
        event,
        card = draft.card,
        uid = draft.uid,
        pid = draft.pid,
        "audit"
    );
}

/// What a record of this costs the user who caused it.
fn price(card: Option<&HostedCard>, door: Door, kind: Kind) -> Price {
    let elsewhere = card.is_some_and(|card| card.carrier().is_some());
    match kind {
        _ if door == Door::Daemon => Price::Exempt,
        Kind::CardAttached
        | Kind::CardDetached
        | Kind::CardRedirected
        | Kind::CardWithdrawn
        | Kind::Denied
        | Kind::TpmAway
        | Kind::TpmLockedOut => Price::Free,
        _ if elsewhere => Price::Free,
        _ => Price::Card,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use serde_json::json;

    use cardea_card::KeyNumber;
    use sha2::{Digest, Sha256};

    use super::*;

    fn actor() -> Actor {
        Actor {
            uid: 1000,
            pid: 7,
            program: "/usr/bin/\"program\"".into(),
            unit: String::new(),
            started: 0,
            on_behalf_of: String::new(),
            remote: None,
        }
    }

    fn lines(audit: &Audit) -> Vec<Value> {
        let (bytes, _) = audit.read(0, 1 << 20).unwrap();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn somebody_on_another_machine_is_named_with_an_address_and_obeyed_by_no_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for (principal, address) in [
            ("", "192.0.2.7"),
            ("ann", "example.org"),
            ("ann", "192.0.2.7:135"),
            (&*"a".repeat(MAX_PRINCIPAL + 1), "::1"),
        ] {
            assert_eq!(RemoteCaller::parse(principal, address), None, "{address}");
        }
        let service = Actor {
            remote: RemoteCaller::parse("ann\u{1b}[2J\u{202e}@FIRM", "2001:DB8::7"),
            ..actor()
        };
        audit.event(None, &service, Door::Socket, Kind::CardCreated);
        audit.event(None, &actor(), Door::Socket, Kind::CardCreated);
        let found = lines(&audit);
        assert_eq!(found[0]["principal"], "ann\u{fffd}[2J\u{fffd}@FIRM");
        assert_eq!(found[0]["address"], "2001:db8::7");
        assert_eq!(found[0]["uid"], 1000);
        assert!(found[1].get("principal").is_none() && found[1].get("address").is_none());
    }

    #[test]
    fn each_record_has_the_hash_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        assert_eq!(audit.head(), Head::default());
        assert_eq!(audit.stored_head(), None);
        for kind in [
            Kind::LockoutReset,
            Kind::OnCard(Event::PinFailed { left: Some(3) }),
        ] {
            audit.event(None, &actor(), Door::Socket, kind);
        }
        let found = lines(&audit);
        assert_eq!(found[0]["previous"], "0".repeat(64));
        assert_eq!(found[1]["id"], 202);
        assert_eq!(found[1]["left"], 3);
        let (bytes, _) = audit.read(0, 1 << 20).unwrap();
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap();
        assert_eq!(found[1]["previous"], hex(&Sha256::digest(first)));
        assert_eq!(audit.stored_head(), Some(audit.head()));
        let head = audit.head();
        drop(audit);
        let again = Audit::open(folder.path()).unwrap();
        assert_eq!(again.head(), head);
        again.event(None, &actor(), Door::Daemon, Kind::LockoutReset);
        assert_eq!(lines(&again)[2]["previous"], hex(&head.hash));
    }

    #[test]
    fn uses_of_a_key_are_recorded_once_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        let used = |key| {
            audit.event(
                None,
                &actor(),
                Door::Socket,
                Kind::OnCard(Event::KeyUsed(KeyNumber::new(key))),
            )
        };
        for _ in 0..100 {
            used(0x81);
        }
        used(0x82);
        for _ in 0..100 {
            audit.event(None, &actor(), Door::Socket, Kind::Denied);
        }
        let found = lines(&audit);
        assert_eq!(found.len(), 3);
        assert_eq!(
            (&found[0]["key"], &found[1]["key"]),
            (&json!("81"), &json!("82"))
        );
    }

    #[test]
    fn what_was_lost_is_counted_as_soon_as_that_goes() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.event(None, &actor(), Door::Socket, Kind::LockoutReset);
        let head = audit.head();
        lock(&audit.writer).log.fail(true);
        for _ in 0..3 {
            audit.event(None, &actor(), Door::Socket, Kind::LockoutReset);
        }
        assert_eq!(audit.head(), head);
        audit.catch_up();
        lock(&audit.writer).log.fail(false);
        audit.catch_up();
        audit.catch_up();
        audit.event(None, &actor(), Door::Socket, Kind::LockoutReset);
        let found = lines(&audit);
        assert_eq!(found.len(), 3);
        assert_eq!(
            (&found[1]["id"], &found[1]["count"], &found[2]["sequence"]),
            (&json!(701), &json!(3), &json!(3))
        );
    }

    #[test]
    fn threads_write_together_and_each_record_once() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for uid in 0..8 {
                let audit = &audit;
                scope.spawn(move || {
                    let actor = Actor { uid, ..actor() };
                    for _ in 0..50 {
                        let before = audit.head().sequence;
                        audit.event(None, &actor, Door::Socket, Kind::LockoutReset);
                        assert!(audit.head().sequence > before, "not written yet");
                    }
                });
            }
        });
        let found = lines(&audit);
        assert_eq!(found.len(), 400);
        for uid in 0..8 {
            assert_eq!(
                found.iter().filter(|record| record["uid"] == uid).count(),
                50
            );
        }
    }

    #[test]
    fn records_that_wait_for_the_disk_are_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        let is_queued = || lock(&audit.queue).pushed == 8;
        // As a thread that the disk keeps waiting.
        let disk = lock(&audit.writer);
        std::thread::scope(|scope| {
            for uid in 0..8 {
                let actor = Actor { uid, ..actor() };
                let audit = &audit;
                scope.spawn(move || audit.event(None, &actor, Door::Socket, Kind::LockoutReset));
            }
            let limit = Instant::now() + Duration::from_secs(60);
            while !is_queued() && Instant::now() < limit {
                std::thread::yield_now();
            }
            let queued = is_queued();
            drop(disk);
            assert!(queued, "they wait one after the other");
        });
        assert_eq!(lines(&audit).len(), 8);
        assert_eq!(lock(&audit.writer).log.writes(), 1);
    }

    #[test]
    fn what_is_only_counted_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        let denied = || audit.event(None, &actor(), Door::Socket, Kind::Denied);
        denied();
        let (sender, receiver) = mpsc::channel();
        let disk = lock(&audit.writer);
        let counted = std::thread::scope(|scope| {
            scope.spawn(|| {
                denied();
                sender.send(())
            });
            let counted = receiver.recv_timeout(Duration::from_secs(60));
            drop(disk);
            counted
        });
        assert_eq!(counted, Ok(()));
        assert_eq!(lines(&audit).len(), 1);
    }

    #[test]
    fn subordinate_ids_share_the_budget_of_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let ranges = folder.path().join("subuid");
        std::fs::write(&ranges, "1000:100000:65536\n").unwrap();
        let accounts = Arc::new(Accounts::new(ranges));
        accounts.refresh();
        let audit = Audit::open(folder.path()).unwrap().counting_by(accounts);
        for uid in 100_000..100_500 {
            let flooding = Actor { uid, ..actor() };
            audit.event(None, &flooding, Door::Socket, Kind::Denied);
        }
        let found = lines(&audit);
        assert!(found.len() < 100, "{}", found.len());
        assert_eq!(found[0]["uid"], 100_000, "records name the id itself");
    }

    #[test]
    fn flood_of_one_user_is_withheld_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for pid in 0..500 {
            let flooding = Actor { pid, ..actor() };
            audit.event(None, &flooding, Door::Socket, Kind::Denied);
        }
        let other = Actor {
            uid: 2000,
            ..actor()
        };
        audit.event(None, &other, Door::Socket, Kind::Denied);
        let found = lines(&audit);
        assert!(found.len() < 100, "{}", found.len());
        assert_eq!(found.last().unwrap()["uid"], 2000);
        let recorded = found.len() as u64 - 1;
        let later = Instant::now() + std::time::Duration::from_secs(61);
        audit.write(audit.withheld(later));
        let last = lines(&audit).pop().unwrap();
        assert_eq!(
            (&last["id"], &last["uid"], &last["count"]),
            (&json!(702), &json!(1000), &json!(500 - recorded))
        );
    }
}
