//! The files of the audit: appended to, sealed at a size, read as one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cardea_store::fault::{self, Area, Step};
use rustix::fs::FallocateFlags;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The file of records and the one of the newest.
const RECORDS: &str = "audit.jsonl";
const HEAD: &str = "audit.head";

/// Longest record.
const MAX_RECORD: u64 = 4096;

/// Room on the disk that is taken in advance, so that a disk that others have filled still takes what happens until
/// somebody notices.
const RESERVE: u64 = 256 * 1024;

/// Size at which a file is sealed and another one begun.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Newest record: its number, from 1, and its hash; 0 and zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 32],
}

/// The records of a state folder, oldest in the sealed files.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    file: File,
    /// Bytes of whole records in the file.
    length: u64,
    /// Bytes of the file for which the disk has room, whatever others do.
    reserved: u64,
    /// Whether an unfinished record may follow the whole ones.
    torn: bool,
    head: Head,
    max_file: u64,
    #[cfg(test)]
    fails: bool,
    #[cfg(test)]
    writes: u32,
}

impl Log {
    /// Opens the records. One that was not finished, because the power went, was acknowledged to nobody and is
    /// removed.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut file = appended(&folder.join(RECORDS))?;
        let length = file.seek(SeekFrom::End(0))?;
        let (mut head, whole) = last(&mut file, length)?;
        if whole < length {
            tracing::warn!("removing an incomplete audit record");
            file.set_len(whole)?;
            file.sync_all()?;
        }
        if whole == 0
            && let Some((_, path)) = sealed(folder)?.pop()
        {
            let mut before = File::open(path)?;
            let length = before.seek(SeekFrom::End(0))?;
            (head, _) = last(&mut before, length)?;
        }
        File::open(folder)?.sync_all()?;
        let mut log = Self {
            folder: folder.to_owned(),
            file,
            length: whole,
            reserved: 0,
            torn: false,
            head,
            max_file: MAX_FILE,
            #[cfg(test)]
            fails: false,
            #[cfg(test)]
            writes: 0,
        };
        log.reserve();
        Ok(log)
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Appends records, numbered and chained, and syncs them. If that fails, nothing of them stays, and neither the
    /// numbers nor the chain advance.
    pub(super) fn append(&mut self, records: Vec<Map<String, Value>>) -> io::Result<Vec<Head>> {
        let mut head = self.head;
        let mut bytes = Vec::new();
        let mut heads = Vec::with_capacity(records.len());
        for mut record in records {
            record.insert("sequence".into(), (head.sequence + 1).into());
            record.insert("previous".into(), hex(&head.hash).into());
            let line = Value::Object(record).to_string();
            head = Head {
                sequence: head.sequence + 1,
                hash: Sha256::digest(&line).into(),
            };
            heads.push(head);
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
        }
        if self.length > 0
            && self.length + bytes.len() as u64 > self.max_file
            && let Err(error) = self.seal()
        {
            tracing::warn!(%error, "the audit log could not be sealed, and keeps growing");
        }
        self.mend()?;
        let written = self.write(&bytes);
        if let Err(error) = written {
            self.torn = true;
            drop(self.mend());
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.head = head;
        if let Err(error) = self.store_head() {
            tracing::warn!(%error, "the number of the newest audit record could not be stored");
        }
        if self.reserved < self.length + RESERVE / 2 {
            self.reserve();
        }
        Ok(heads)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        {
            self.writes += 1;
        }
        #[cfg(test)]
        if self.fails {
            self.file.write_all(b"{\"half of a record")?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Err(error) = fault(Step::Write) {
            let (half, _) = bytes.split_at(bytes.len() / 2);
            drop(self.file.write_all(half));
            return Err(error);
        }
        self.file.write_all(bytes)?;
        fault(Step::Sync)?;
        self.file.sync_data()
    }

    /// As on a disk that gets full in the middle of a record.
    #[cfg(test)]
    pub(super) fn fail(&mut self, fails: bool) {
        self.fails = fails;
    }

    /// How often records were appended.
    #[cfg(test)]
    pub(super) fn writes(&self) -> u32 {
        self.writes
    }

    /// Removes what a failed write may have left.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            fault(Step::Write)?;
            self.file.set_len(self.length)?;
            self.torn = false;
            // Truncating gives the reserve back.
            self.reserve();
        }
        Ok(())
    }

    fn reserve(&mut self) {
        let kept =
            rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, RESERVE);
        match kept {
            Ok(()) => self.reserved = self.length + RESERVE,
            // Also file systems that cannot do it.
            Err(error) => tracing::debug!(%error, "no room is reserved for the audit log"),
        }
    }

    /// Puts the file aside, and begins another one. The first record there has the hash of the last one here.
    fn seal(&mut self) -> io::Result<()> {
        let number = sealed(&self.folder)?.pop().map_or(1, |(last, _)| last + 1);
        let current = self.folder.join(RECORDS);
        let aside = self.folder.join(format!("audit.{number:06}.jsonl"));
        let begun = self.folder.join(format!("{RECORDS}.new"));
        let file = appended(&begun)?;
        file.set_len(0)?;
        std::fs::rename(&current, &aside)?;
        if let Err(error) = std::fs::rename(&begun, &current) {
            std::fs::rename(&aside, &current)?;
            return Err(error);
        }
        File::open(&self.folder)?.sync_all()?;
        // What was reserved behind the last record.
        drop(self.file.set_len(self.length));
        self.file = file;
        self.length = 0;
        self.torn = false;
        self.reserve();
        Ok(())
    }

    /// Replaced by renaming, without a sync: it may be behind after a power cut, never ahead.
    fn store_head(&self) -> io::Result<()> {
        let new = self.folder.join(format!("{HEAD}.new"));
        fault(Step::Create)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        fault(Step::Write)?;
        writeln!(file, "{} {}", self.head.sequence, hex(&self.head.hash))?;
        fault(Step::Rename)?;
        std::fs::rename(&new, self.folder.join(HEAD))
    }

    /// The newest record as the file beside the records has it; none before the first.
    pub(super) fn stored_head(&self) -> Option<Head> {
        let text = std::fs::read_to_string(self.folder.join(HEAD)).ok()?;
        let (sequence, hash) = text.trim_end().split_once(' ')?;
        Some(Head {
            sequence: sequence.parse().ok()?,
            hash: from_hex(hash)?,
        })
    }

    /// Whole records from an offset on, up to so many bytes; the next offset. Offsets count through all files.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut skip = offset;
        for (_, path) in sealed(&self.folder)? {
            let mut file = File::open(path)?;
            let length = file.metadata()?.len();
            if skip < length {
                return part(&mut file, offset, skip, length, most);
            }
            skip -= length;
        }
        let mut file = File::open(self.folder.join(RECORDS))?;
        part(&mut file, offset, skip, self.length, most)
    }
}

/// A place where a test may have the disk fail.
fn fault(step: Step) -> io::Result<()> {
    fault::step(Area::Audit, step)
}

/// Whole records from a place in one file on.
fn part(
    file: &mut File,
    offset: u64,
    from: u64,
    end: u64,
    most: usize,
) -> io::Result<(Vec<u8>, u64)> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    let most = (most as u64).min(end.saturating_sub(from));
    file.take(most).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n');
    bytes.truncate(whole.map_or(0, |at| at + 1));
    let next = offset + bytes.len() as u64;
    Ok((bytes, next))
}

fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// The sealed files, oldest first, with their numbers.
fn sealed(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| {
            let digits = name.strip_prefix("audit.")?.strip_suffix(".jsonl")?;
            digits.parse::<u64>().ok()
        });
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// The last whole record, and where it ends.
fn last(file: &mut File, length: u64) -> io::Result<(Head, u64)> {
    let window = length.min(2 * MAX_RECORD);
    file.seek(SeekFrom::Start(length - window))?;
    let mut end = Vec::new();
    file.take(window).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n');
    let whole = whole.map_or(0, |at| at + 1);
    let ends_at = length - (end.len() - whole) as u64;
    let lines = end.get(..whole).unwrap_or_default();
    let line = lines.split(|byte| *byte == b'\n').rev().nth(1);
    let Some(line) = line.filter(|line| !line.is_empty()) else {
        return Ok((Head::default(), ends_at));
    };
    let sequence = serde_json::from_slice::<Value>(line)
        .ok()
        .and_then(|record| record.get("sequence")?.as_u64());
    let head = Head {
        // Whoever verifies finds what is wrong with it.
        sequence: sequence.unwrap_or_default(),
        hash: Sha256::digest(line).into(),
    };
    Ok((head, ends_at))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    base16ct::mixed::decode_vec(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(number: u32) -> Map<String, Value> {
        let mut record = Map::new();
        record.insert("event".into(), number.into());
        record
    }

    fn append(log: &mut Log, count: u32) {
        for number in 0..count {
            log.append(vec![record(number)]).unwrap();
        }
    }

    /// Every record, by as many reads as it takes; each follows the one before.
    fn chained(log: &Log) -> Vec<Value> {
        let mut found: Vec<Value> = Vec::new();
        let (mut offset, mut hash) = (0, [0; 32]);
        loop {
            let (bytes, next) = log.read(offset, 400).unwrap();
            if next == offset {
                return found;
            }
            for line in bytes.split(|byte| *byte == b'\n') {
                if line.is_empty() {
                    continue;
                }
                let record: Value = serde_json::from_slice(line).unwrap();
                assert_eq!(record["sequence"], found.len() + 1);
                assert_eq!(record["previous"], hex(&hash));
                hash = Sha256::digest(line).into();
                found.push(record);
            }
            offset = next;
        }
    }

    #[test]
    fn records_of_one_write_are_chained() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path()).unwrap();
        assert_eq!((log.head(), log.stored_head()), (Head::default(), None));
        let heads = log.append((0..3).map(record).collect()).unwrap();
        assert_eq!(heads.last(), Some(&log.head()));
        assert_eq!(log.stored_head(), Some(log.head()));
        assert_eq!(chained(&log).len(), 3);
        let again = Log::open(folder.path()).unwrap();
        assert_eq!(again.head(), log.head());
    }

    #[test]
    fn sealed_files_are_read_with_the_others_and_continue_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path()).unwrap();
        log.max_file = 500;
        append(&mut log, 20);
        assert!(sealed(folder.path()).unwrap().len() > 3);
        assert_eq!(chained(&log).len(), 20);
        let head = log.head();
        drop(log);
        let mut again = Log::open(folder.path()).unwrap();
        assert_eq!(again.head(), head);
        append(&mut again, 1);
        assert_eq!(chained(&again).len(), 21);
    }

    #[test]
    fn power_cut_between_sealing_and_the_next_file_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path()).unwrap();
        append(&mut log, 3);
        let head = log.head();
        drop(log);
        let path = |name: &str| folder.path().join(name);
        std::fs::rename(path(RECORDS), path("audit.000001.jsonl")).unwrap();
        std::fs::write(path("audit.jsonl.new"), b"left over").unwrap();
        let mut log = Log::open(folder.path()).unwrap();
        assert_eq!(log.head(), head);
        log.max_file = 1;
        append(&mut log, 2);
        assert_eq!(chained(&log).len(), 5);
    }

    #[test]
    fn disk_keeps_room_for_the_next_records() {
        use std::os::unix::fs::MetadataExt;

        let folder = tempfile::tempdir().unwrap();
        let other = File::create(folder.path().join("other")).unwrap();
        if rustix::fs::fallocate(&other, FallocateFlags::KEEP_SIZE, 0, 4096).is_err() {
            // This file system cannot do it.
            return;
        }
        let mut log = Log::open(folder.path()).unwrap();
        let room = |log: &Log| {
            let metadata = log.file.metadata().unwrap();
            assert_eq!(metadata.len(), log.length);
            metadata.blocks() * 512 - metadata.len()
        };
        assert!(room(&log) >= RESERVE);
        // Also when the room has been used, and after a write that failed.
        while log.length < RESERVE {
            append(&mut log, 100);
        }
        assert!(room(&log) >= RESERVE / 2);
        log.fail(true);
        assert!(log.append(vec![record(1)]).is_err());
        assert!(room(&log) >= RESERVE / 2);
    }

    #[test]
    fn unfinished_record_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path()).unwrap();
        append(&mut log, 1);
        let head = log.head();
        drop(log);
        let mut file = appended(&folder.path().join(RECORDS)).unwrap();
        file.write_all(b"{\"sequence\":2,\"ti").unwrap();
        let again = Log::open(folder.path()).unwrap();
        assert_eq!(again.head(), head);
        assert_eq!(chained(&again).len(), 1);
    }

    #[test]
    fn failed_write_leaves_no_half_record_and_does_not_advance() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path()).unwrap();
        append(&mut log, 2);
        let head = log.head();
        // A file that is open for reading only takes no record.
        let good = std::mem::replace(
            &mut log.file,
            File::open(folder.path().join(RECORDS)).unwrap(),
        );
        assert!(log.append(vec![record(9)]).is_err());
        assert_eq!(log.head(), head);
        assert!(log.torn, "what could not be cut back is remembered");
        log.file = good;
        // As if half of it had been written.
        log.file.write_all(b"{\"half").unwrap();
        append(&mut log, 1);
        assert_eq!(chained(&log)[2]["event"], json!(0));
    }

    #[test]
    fn only_whole_records_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(folder.path()).unwrap();
        append(&mut log, 3);
        let (first, next) = log.read(0, 200).unwrap();
        assert!(first.ends_with(b"\n") && next == first.len() as u64);
        let (rest, end) = log.read(next, 1 << 20).unwrap();
        assert_eq!(first.len() + rest.len(), end as usize);
        assert_eq!(log.read(end, 1 << 20).unwrap(), (Vec::new(), end));
    }
}
