//! The audit: what happened, when, to which card and by whom.
//!
//! One line of JSON for each event, appended and synced before the caller is answered. Each record has the hash of
//! the one before it, so that a record that was changed, taken out or moved breaks the chain; the newest
//! sequence number and hash, which tell of a cut end, go to a file of their own and to the journal.
//! `docs/formats/audit.md` describes the bytes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cardea_card::Event;
use cardea_card::record::CardId;
use cardea_client::message::FailureKind;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::host::hosted::HostedCard;
use crate::sync::lock;
use crate::system::unix_time;

/// Uses of a key by one process, and refusals of one, are told once in this time, with their number.
const USE_INTERVAL: Duration = Duration::from_secs(60);

/// Callers for whom that is counted; beyond, all are forgotten and told anew.
const MAX_USERS: usize = 4096;

/// Longest record.
const MAX_RECORD: usize = 4096;

/// Longest path of a program in the audit.
const MAX_PROGRAM: usize = 500;

/// The file of records and the one of the newest.
const RECORDS: &str = "audit.jsonl";
const HEAD: &str = "audit.head";

/// Who caused an event.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// Path of the program, as the kernel tells it; empty when it does not.
    pub(crate) program: String,
    /// Whom it says that it does it for; empty = itself.
    pub(crate) on_behalf_of: String,
}

impl Actor {
    /// A process of a user. The program is the one that runs now, which may have come after the one that connected;
    /// the process may be gone.
    pub(crate) fn of_process(uid: u32, pid: u32) -> Self {
        Self {
            uid,
            pid,
            program: program(pid),
            on_behalf_of: String::new(),
        }
    }

    /// Nobody asked for it.
    pub(crate) fn daemon() -> Self {
        Self {
            uid: rustix::process::getuid().as_raw(),
            pid: std::process::id(),
            program: String::new(),
            on_behalf_of: String::new(),
        }
    }
}

/// Path of the program that a process runs; empty when the kernel does not tell.
fn program(pid: u32) -> String {
    std::fs::read_link(format!("/proc/{pid}/exe"))
        .map(|path| path.to_string_lossy().chars().take(MAX_PROGRAM).collect())
        .unwrap_or_default()
}

/// How it came to the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Bus,
    Daemon,
    Reader,
    Socket,
}

impl Door {
    /// Its word in records and dialogs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bus => "dbus",
            Self::Daemon => "daemon",
            Self::Reader => "reader",
            Self::Socket => "socket",
        }
    }
}

/// Newest record: its number, from 1, and its hash; 0 and zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 32],
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
    TpmAway,
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
            Self::Denied => (601, "denied"),
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
                Event::AdminAuthenticated => (401, "admin-authenticated"),
                Event::AdminFailed => (402, "admin-failed"),
                Event::AdminKeyChanged => (403, "admin-key-changed"),
                _ => (999, "other"),
            },
        }
    }

    fn detail(self, record: &mut Map<String, Value>) {
        let Self::OnCard(event) = self else { return };
        match event {
            Event::PinFailed { left } | Event::PukFailed { left } => {
                record.insert("left".into(), left.into());
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
pub(crate) struct Audit {
    folder: PathBuf,
    log: Mutex<Log>,
}

/// Card, key, user id and process of what may happen often.
type User = (Option<CardId>, u8, u32, u32);

#[derive(Debug)]
struct Log {
    file: File,
    head: Head,
    /// When it was last told, and how often it happened since.
    often: HashMap<User, (Instant, u64)>,
}

impl Audit {
    /// Opens the records of a state folder. A record that was not finished, because the power went, was
    /// acknowledged to nobody and is taken away.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(RECORDS);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        let head = last(&mut file)?;
        File::open(folder)?.sync_all()?;
        Ok(Self {
            folder: folder.to_owned(),
            log: Mutex::new(Log {
                file,
                head,
                often: HashMap::new(),
            }),
        })
    }

    /// The newest record.
    pub(crate) fn head(&self) -> Head {
        lock(&self.log).head
    }

    /// The newest record as the file beside the records has it; none before the first.
    pub(crate) fn stored_head(&self) -> Option<Head> {
        let text = std::fs::read_to_string(self.folder.join(HEAD)).ok()?;
        let (sequence, hash) = text.trim_end().split_once(' ')?;
        Some(Head {
            sequence: sequence.parse().ok()?,
            hash: from_hex(hash)?,
        })
    }

    /// Whole records from an offset on, up to so many bytes; the next offset.
    pub(crate) fn read(&self, offset: u64, most: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut file = File::open(self.folder.join(RECORDS))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(whole.map_or(0, |at| at + 1));
        let next = offset + bytes.len() as u64;
        Ok((bytes, next))
    }

    /// Records events of a card. That they are on the disk when this returns is the reason for the wait; where that
    /// fails, the journal has them still.
    pub(crate) fn card(&self, card: &HostedCard, actor: &Actor, door: Door, events: &[Event]) {
        for event in events {
            self.event(Some(card), actor, door, Kind::OnCard(*event));
        }
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
        let mut log = lock(&self.log);
        let mut count = 1;
        // What anybody can do as often as they like must not fill the disk.
        let often = match kind {
            Kind::Denied => Some(0),
            Kind::TpmAway => Some(1),
            Kind::TpmLockedOut => Some(2),
            Kind::OnCard(Event::KeyUsed(key)) => Some(key.get()),
            _ => None,
        };
        if let Some(key) = often {
            let user = (card.and_then(|card| card.id), key, actor.uid, actor.pid);
            match log.due(user) {
                Some(uses) => count = uses,
                None => return,
            }
        }
        let (id, name) = kind.id();
        let mut record = Map::new();
        record.insert("sequence".into(), (log.head.sequence + 1).into());
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
        if !actor.on_behalf_of.is_empty() {
            record.insert("for".into(), actor.on_behalf_of.clone().into());
        }
        record.insert("door".into(), door.word().into());
        record.insert("previous".into(), hex(&log.head.hash).into());
        let line = Value::Object(record).to_string();
        let head = Head {
            sequence: log.head.sequence + 1,
            hash: Sha256::digest(&line).into(),
        };
        let written = log.append(&line).and_then(|()| self.store_head(head));
        log.head = head;
        tracing::info!(
            target: "cardea::audit",
            sequence = head.sequence,
            hash = hex(&head.hash),
            id,
            event = name,
            card = card.map(HostedCard::selector),
            uid = actor.uid,
            pid = actor.pid,
            "audit"
        );
        if let Err(error) = written {
            tracing::error!(%error, sequence = head.sequence, "the audit could not be written");
        }
    }

    /// Renamed into place without a sync: it may be behind after a power cut, never ahead.
    fn store_head(&self, head: Head) -> io::Result<()> {
        let new = self.folder.join(format!("{HEAD}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{} {}", head.sequence, hex(&head.hash))?;
        std::fs::rename(&new, self.folder.join(HEAD))
    }
}

impl Log {
    fn append(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    /// How many uses are to be told now.
    fn due(&mut self, user: User) -> Option<u64> {
        let now = Instant::now();
        if let Some((told, since)) = self.often.get_mut(&user) {
            *since += 1;
            if now.duration_since(*told) < USE_INTERVAL {
                return None;
            }
            *told = now;
            return Some(std::mem::take(since));
        }
        if self.often.len() >= MAX_USERS {
            self.often.clear();
        }
        self.often.insert(user, (now, 0));
        Some(1)
    }
}

/// The last whole record; what follows it is cut off.
fn last(file: &mut File) -> io::Result<Head> {
    let length = file.seek(SeekFrom::End(0))?;
    let window = length.min(2 * MAX_RECORD as u64);
    file.seek(SeekFrom::Start(length - window))?;
    let mut end = Vec::new();
    file.take(window).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n');
    let whole = whole.map_or(0, |at| at + 1);
    if whole < end.len() {
        tracing::warn!("removing an incomplete audit record");
        file.set_len(length - (end.len() - whole) as u64)?;
        file.sync_all()?;
    }
    let lines = end.get(..whole).unwrap_or_default();
    let line = lines.split(|byte| *byte == b'\n').rev().nth(1);
    let Some(line) = line.filter(|line| !line.is_empty()) else {
        return Ok(Head::default());
    };
    let sequence = serde_json::from_slice::<Value>(line)
        .ok()
        .and_then(|record| record.get("sequence")?.as_u64());
    Ok(Head {
        // Whoever verifies finds what is wrong with it.
        sequence: sequence.unwrap_or_default(),
        hash: Sha256::digest(line).into(),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use cardea_card::KeyNumber;

    use super::*;

    fn actor() -> Actor {
        Actor {
            uid: 1000,
            pid: 7,
            program: "/usr/bin/\"program\"".into(),
            on_behalf_of: String::new(),
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
    fn each_record_has_the_hash_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        assert_eq!(audit.head(), Head::default());
        assert_eq!(audit.stored_head(), None);
        for kind in [
            Kind::LockoutReset,
            Kind::OnCard(Event::PinFailed { left: 3 }),
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
    fn unfinished_record_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.event(None, &actor(), Door::Socket, Kind::Denied);
        let head = audit.head();
        drop(audit);
        let path = folder.path().join(RECORDS);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"sequence\":2,\"ti").unwrap();
        let again = Audit::open(folder.path()).unwrap();
        assert_eq!(again.head(), head);
        assert_eq!(lines(&again).len(), 1);
    }

    #[test]
    fn uses_of_a_key_are_told_once_in_a_while() {
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
    fn only_whole_records_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        for _ in 0..3 {
            audit.event(None, &actor(), Door::Socket, Kind::LockoutReset);
        }
        let (first, next) = audit.read(0, 400).unwrap();
        assert!(first.ends_with(b"\n") && next == first.len() as u64);
        let (rest, end) = audit.read(next, 1 << 20).unwrap();
        assert_eq!(first.len() + rest.len(), end as usize);
        assert_eq!(audit.read(end, 1 << 20).unwrap(), (Vec::new(), end));
    }
}
