//! `cardea audit`: the daemon's records, and whether their chain is intact.

use std::io;
use std::time::Duration;

use cardea_client::message::{AuditHead, CardsRequest, Reply, Request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::daemon::Daemon;
use crate::describe::owner_name;
use crate::exit::{Exit, Failure};
use crate::terminal::clock::local;
use crate::terminal::output::{print, print_json, printable};
use crate::terminal::width::{of_terminal, wrapped};

/// Bytes of records asked for at once.
const PART: u32 = 64 * 1024;

/// How often `--follow` looks.
const PAUSE: Duration = Duration::from_millis(300);

/// A part of the records and what the daemon says of the newest.
struct Part {
    records: Vec<u8>,
    next: u64,
    head: AuditHead,
    stored: Option<AuditHead>,
}

fn read(offset: u64, daemon: &mut Daemon) -> Result<Part, Failure> {
    let request = Request::Cards(CardsRequest::ReadAudit { offset, most: PART });
    match daemon.call(&request, "reading the audit log")? {
        Reply::Audit {
            records,
            next,
            head,
            stored,
        } => Ok(Part {
            records,
            next,
            head,
            stored,
        }),
        _ => Err(Daemon::unexpected()),
    }
}

fn lines(records: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = records.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

/// Prints the records, oldest first.
pub(crate) fn show(json: bool, follow: bool, daemon: &mut Daemon) -> Result<(), Failure> {
    let mut offset = 0;
    loop {
        let part = read(offset, daemon)?;
        let mut text = String::new();
        for line in lines(&part.records) {
            if json {
                text.push_str(&String::from_utf8_lossy(line));
            } else {
                text.push_str(&sentence(line));
            }
            text.push('\n');
        }
        print(&text)?;
        if part.next > offset {
            offset = part.next;
        } else if follow {
            std::thread::sleep(PAUSE);
        } else {
            return Ok(());
        }
    }
}

/// One record for people.
fn sentence(line: &[u8]) -> String {
    let Ok(record) = serde_json::from_slice::<Value>(line) else {
        return "a record that cannot be read".into();
    };
    let text = |field: &str| match record.get(field) {
        Some(Value::String(text)) => printable(text),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let time = record.get("time").and_then(Value::as_i64);
    let mut parts = vec![time.map(local).unwrap_or_default(), text("event")];
    for (field, word) in [
        ("name", "card"),
        ("key", "key"),
        ("left", "tries left"),
        ("count", "times"),
    ] {
        if record.get(field).is_some() {
            parts.push(format!("{word} {}", text(field)));
        }
    }
    let unit = match text("unit") {
        unit if unit.is_empty() => unit,
        unit => format!(" in {unit}"),
    };
    let user = record.get("uid").and_then(Value::as_u64);
    let user = user.and_then(|uid| u32::try_from(uid).ok());
    let user = user.map(owner_name).unwrap_or_default();
    parts.push(format!("by {user} ({}{unit})", text("program")));
    // What only the caller says is told as such.
    if record.get("principal").is_some() {
        let (principal, address) = (text("principal"), text("address"));
        parts.push(format!("for {principal} at {address}, according to {user}"));
    } else if record.get("for").is_some() {
        parts.push(format!("for {}, according to {user}", text("for")));
    }
    wrapped(&parts.join("  "), 2, of_terminal(io::stdout()))
}

/// Where a chain is broken, and how.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    /// Number of the record, counted from 1.
    record: u64,
    what: &'static str,
}

/// The chain so far.
#[derive(Debug, Default)]
struct Chain {
    count: u64,
    hash: [u8; 32],
    /// Records that must follow.
    wanted: Vec<(u64, Vec<u8>)>,
}

impl Chain {
    fn add(&mut self, line: &[u8]) -> Result<(), Broken> {
        let record = self.count + 1;
        let broken = |what| Broken { record, what };
        let parsed: Value =
            serde_json::from_slice(line).map_err(|_| broken("it cannot be read"))?;
        if parsed.get("sequence").and_then(Value::as_u64) != Some(record) {
            return Err(broken(
                "its number is not the next one: records were removed or moved",
            ));
        }
        if parsed.get("previous").and_then(Value::as_str) != Some(&digits(&self.hash)) {
            return Err(broken(
                "its hash is not that of the previous record, which was changed or moved",
            ));
        }
        self.count = record;
        self.hash = Sha256::digest(line).into();
        let hash = self.hash;
        self.wanted
            .retain(|(sequence, wanted)| *sequence != record || *wanted != hash);
        Ok(())
    }

    fn end(self) -> Result<u64, Broken> {
        match self.wanted.first() {
            None => Ok(self.count),
            Some((sequence, _)) if *sequence > self.count => Err(Broken {
                record: self.count + 1,
                what: "it is missing: the end of the log was cut off",
            }),
            Some((sequence, _)) => Err(Broken {
                record: *sequence,
                what: "it differs from the record known elsewhere",
            }),
        }
    }
}

fn digits(hash: &[u8; 32]) -> String {
    crate::hex::plain(hash).to_ascii_lowercase()
}

/// Checks the whole chain, the newest record as the daemon and the file beside the records know it, and those that
/// the caller has from the journal.
pub(crate) fn verify(json: bool, heads: &[String], daemon: &mut Daemon) -> Result<(), Failure> {
    let mut chain = Chain::default();
    for head in heads {
        let parsed = head.split_once(':').and_then(|(sequence, hash)| {
            let hash = crate::hex::parse::<32>(hash.as_bytes())?;
            Some((sequence.parse().ok()?, hash.to_vec()))
        });
        chain.wanted.push(parsed.ok_or_else(|| {
            Failure::usage("a head is a number, a colon and 64 hexadecimal digits")
        })?);
    }
    let mut offset = 0;
    let mut first = true;
    let result = loop {
        let part = read(offset, daemon)?;
        if first {
            // As of now: what is added meanwhile only makes the chain longer.
            for head in [Some(part.head), part.stored].into_iter().flatten() {
                if head.sequence > 0 {
                    chain.wanted.push((head.sequence, head.hash));
                }
            }
            first = false;
        }
        if let Some(broken) = lines(&part.records).find_map(|line| chain.add(line).err()) {
            break Err(broken);
        }
        if part.next == offset {
            break chain.end();
        }
        offset = part.next;
    };
    if json {
        print_json(&match &result {
            Ok(count) => json!({ "whole": true, "records": count }),
            Err(broken) => {
                json!({ "whole": false, "record": broken.record, "reason": broken.what })
            }
        })?;
    }
    match result {
        Ok(_) if json => Ok(()),
        Ok(count) => Ok(print(&format!(
            "{count} records, none changed, removed, moved or cut off\n"
        ))?),
        Err(broken) => Err(Failure::new(
            Exit::Failed,
            format!(
                "the audit log was altered or cut at record {}: {}",
                broken.record, broken.what
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of so many records.
    fn made(count: u64) -> Vec<Vec<u8>> {
        let mut hash = [0; 32];
        (1..=count)
            .map(|sequence| {
                let previous = digits(&hash);
                let record =
                    json!({ "sequence": sequence, "time": 0, "event": "e", "previous": previous });
                let line = record.to_string().into_bytes();
                hash = Sha256::digest(&line).into();
                line
            })
            .collect()
    }

    fn checked(records: &[Vec<u8>], head: Option<&Vec<u8>>) -> Result<u64, Broken> {
        let mut chain = Chain::default();
        if let Some(head) = head {
            let sequence = serde_json::from_slice::<Value>(head).unwrap()["sequence"].as_u64();
            chain
                .wanted
                .push((sequence.unwrap(), Sha256::digest(head).to_vec()));
        }
        for line in records {
            chain.add(line)?;
        }
        chain.end()
    }

    #[test]
    fn changed_removed_moved_and_cut_records_are_found() {
        let records = made(5);
        let head = records.last();
        assert_eq!(checked(&records, head), Ok(5));
        let record = |result: Result<u64, Broken>| result.unwrap_err().record;

        let mut changed = records.clone();
        changed[2] = String::from_utf8(changed[2].clone())
            .unwrap()
            .replace("\"e\"", "\"f\"")
            .into();
        assert_eq!(record(checked(&changed, head)), 4);
        let mut last_changed = records.clone();
        last_changed[4] = String::from_utf8(last_changed[4].clone())
            .unwrap()
            .replace("\"e\"", "\"f\"")
            .into();
        assert_eq!(record(checked(&last_changed, head)), 5);
        let mut removed = records.clone();
        removed.remove(1);
        assert_eq!(record(checked(&removed, head)), 2);
        let mut moved = records.clone();
        moved.swap(1, 2);
        assert_eq!(record(checked(&moved, head)), 2);
        assert_eq!(record(checked(&records[..3], head)), 4);
        assert_eq!(record(checked(&[], head)), 1);
        assert_eq!(checked(&records[..3], None), Ok(3));
        assert_eq!(record(checked(&[b"{".to_vec()], None)), 1);
    }

    #[test]
    fn records_are_put_into_words() {
        let line = json!({
            "sequence": 1, "time": 1_700_000_000, "id": 202, "event": "pin-failed", "card": "00",
            "name": "Alice\u{1b}", "left": 4, "uid": 0, "pid": 7, "program": "/usr/bin/ssh",
            "door": "socket", "previous": "0"
        });
        let told = sentence(line.to_string().as_bytes());
        assert!(told.starts_with("2023-11-14"), "{told}");
        assert!(told.contains("pin-failed  card Alice"), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
        assert!(
            told.ends_with("tries left 4  by root (/usr/bin/ssh)"),
            "{told}"
        );
        let line = json!({
            "sequence": 2, "time": 1_700_000_000, "id": 101, "event": "card-created", "card": "00", "name": "Bob",
            "uid": 0, "pid": 7, "program": "[cardea-tpmvsc]", "unit": "cardea-tpmvsc.service",
            "principal": "ann@FIRM.EXAMPLE\u{1b}", "address": "192.0.2.7", "door": "socket", "previous": "0"
        });
        let told = sentence(line.to_string().as_bytes()).replace("\n ", "");
        assert!(
            told.contains("by root ([cardea-tpmvsc] in cardea-tpmvsc.service)"),
            "{told}"
        );
        assert!(
            told.ends_with(" at 192.0.2.7, according to root") && !told.contains('\u{1b}'),
            "{told}"
        );
        let line = json!({"event": "key-used", "uid": 0, "program": "ssh", "for": "far"});
        let told = sentence(line.to_string().as_bytes());
        assert!(told.ends_with("for far, according to root"), "{told}");
        assert_eq!(sentence(b"garbage"), "a record that cannot be read");
    }
}
