//! Whose a user id is, where limits count users: a user's subordinate ids (subuid(5)) are that user.
//!
//! Whoever has some can make as many user ids as the range has, in user namespaces of their own.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::User;

use crate::sync::lock;

/// Where shadow's newuidmap(1) looks.
const SUBORDINATE_IDS: &str = "/etc/subuid";

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Longest name or number of a user in the file, in bytes.
const MAX_NAME: usize = 256;

/// Ids up to here are people's and services' own, whatever the file says: a line with a slip of a digit must not
/// count strangers together.
const LAST_OWN: u32 = 65_535;

/// Between two looks at the file.
const INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks that fail: the name service may take its time for each user.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The users of a machine, for limits.
#[derive(Debug)]
pub struct Accounts {
    path: PathBuf,
    ranges: Mutex<Vec<Range>>,
    /// Held by the thread that looks at the file.
    look: Mutex<Look>,
}

/// When the file was looked at, and which one was read.
#[derive(Debug, Default)]
struct Look {
    last: Option<Instant>,
    /// None: not read to its end yet. Without a file there is no version.
    read: Option<Option<Version>>,
    has_failed: bool,
}

/// Device, inode, size, and times of the last change in seconds and nanoseconds: all differ for a file that was
/// replaced or written to.
type Version = (u64, u64, u64, [i64; 4]);

/// Subordinate ids, sorted by their first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    last: u32,
    owner: u32,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new(SUBORDINATE_IDS)
    }
}

impl Accounts {
    /// With the ranges of this file, once [`Accounts::refresh`] has read it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ranges: Mutex::default(),
            look: Mutex::default(),
        }
    }

    /// The user whose id this is: the owner of the range that it is in, or itself.
    #[must_use]
    pub fn of(&self, uid: u32) -> u32 {
        if uid <= LAST_OWN {
            return uid;
        }
        let ranges = lock(&self.ranges);
        let after = ranges.partition_point(|range| range.first <= uid);
        let range = after.checked_sub(1).and_then(|last| ranges.get(last));
        range
            .filter(|range| uid <= range.last)
            .map_or(uid, |range| range.owner)
    }

    /// Reads the file if it has changed. Asks the name service, which may take its time; others do not wait for it.
    pub fn refresh(&self) {
        let mut look = match self.look.try_lock() {
            Ok(look) => look,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let interval = match look.has_failed {
            true => RETRY_INTERVAL,
            false => INTERVAL,
        };
        if look.last.is_some_and(|last| last.elapsed() < interval) {
            return;
        }
        look.last = Some(Instant::now());
        self.read_changed(&mut look, user_id);
    }

    fn read_changed(&self, look: &mut Look, user_id: impl Fn(&str) -> io::Result<Option<u32>>) {
        let result = self.read_ranges(look, user_id);
        if let (Err(error), false) = (&result, look.has_failed) {
            tracing::warn!(path = %self.path.display(), %error, "subordinate user ids not read, to be retried");
        }
        look.has_failed = result.is_err();
    }

    /// What cannot be found out at the moment stays as it was: nobody counts as several users meanwhile.
    fn read_ranges(
        &self,
        look: &mut Look,
        user_id: impl Fn(&str) -> io::Result<Option<u32>>,
    ) -> io::Result<()> {
        let version = version(&self.path)?;
        if look.read == Some(version) {
            return Ok(());
        }
        look.read = None;
        let text = match version {
            Some(_) => read(&self.path)?,
            None => Ok(Vec::new()),
        };
        let mut failed = None;
        let ranges = match text {
            Ok(text) => parse(&text, &self.path, |name, first| {
                user_id(name).unwrap_or_else(|error| {
                    failed = Some(error);
                    let owner = self.of(first);
                    (owner != first).then_some(owner).or_else(|| number(name))
                })
            }),
            Err(Unsuitable(what)) => {
                tracing::warn!(path = %self.path.display(), what, "subordinate user ids ignored");
                Vec::new()
            }
        };
        tracing::debug!(path = %self.path.display(), ranges = ranges.len(), "subordinate user ids read");
        *lock(&self.ranges) = ranges;
        match failed {
            Some(error) => Err(error),
            None => {
                look.read = Some(version);
                Ok(())
            }
        }
    }
}

/// Why a file is not the one that is meant, however often it is read.
struct Unsuitable(&'static str);

/// None: there is no file.
fn version(path: &Path) -> io::Result<Option<Version>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let times = [
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ];
    Ok(Some((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        times,
    )))
}

fn read(path: &Path) -> io::Result<Result<Vec<u8>, Unsuitable>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Err(Unsuitable("not a regular file")));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    match text.len() as u64 > MAX_FILE {
        true => Ok(Err(Unsuitable("the file is too long"))),
        false => Ok(Ok(text)),
    }
}

/// The ranges of the file: `user:first:count`, the user by name or number. What is not a line of this form, or
/// would take an id that is somebody's own or in an earlier range, is ignored with one warning for all of it.
/// `user_id` is also given the first id of the range.
fn parse(
    text: &[u8],
    path: &Path,
    mut user_id: impl FnMut(&str, u32) -> Option<u32>,
) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut ignored = Vec::new();
    for (number, line) in (1_u32..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match entry(line) {
            // Users that were deleted leave their lines behind.
            Some((name, first, last)) => {
                let owner = user_id(name, first);
                ranges.extend(owner.map(|owner| Range { first, last, owner }));
            }
            None => ignored.push(number),
        }
    }
    // Stable: of those that begin alike, the first one in the file stays.
    ranges.sort_by_key(|range| range.first);
    let all = ranges.len();
    let mut end = LAST_OWN;
    let mut before = None;
    ranges.retain(|range| {
        let stays = range.first > end || before == Some(range.owner);
        if stays {
            end = end.max(range.last);
            before = Some(range.owner);
        }
        stays
    });
    if !ignored.is_empty() || ranges.len() < all {
        ignored.truncate(10);
        let overlapping = all - ranges.len();
        tracing::warn!(path = %path.display(), lines = ?ignored, overlapping, "invalid lines of subordinate user ids ignored");
    }
    merge(ranges)
}

/// Ranges of one owner that overlap become one, so that each id is in one range only.
fn merge(ranges: Vec<Range>) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.owner == range.owner && range.first <= last.last => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// User, first and last id of a line.
fn entry(line: &[u8]) -> Option<(&str, u32, u32)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let first = number(fields.next()?)?;
    let count = number(fields.next()?)?;
    let ends = fields.next().is_none() && name.len() <= MAX_NAME;
    let last = first.checked_add(count.checked_sub(1)?)?;
    // The last number stands for none (chown(2)).
    (ends && first > LAST_OWN && last < u32::MAX).then_some((name, first, last))
}

/// Digits only: `parse` would also take a sign.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// As newuidmap(1) reads the first field: a name, else a number. An error: the name service cannot say at the moment.
fn user_id(name: &str) -> io::Result<Option<u32>> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user.uid.as_raw())),
        // Different name services say in different ways that there is no such user (getpwnam(3)).
        Ok(None) | Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => {
            Ok(number(name))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, _: u32) -> Option<u32> {
        match name {
            "alice" => Some(1000),
            "bob" => Some(1001),
            _ => number(name),
        }
    }

    fn accounts(text: &str) -> Accounts {
        let accounts = Accounts::new("subuid");
        *lock(&accounts.ranges) = parse(text.as_bytes(), Path::new("subuid"), known);
        accounts
    }

    #[test]
    fn subordinate_ids_are_their_owner() {
        let text =
            "# users\nbob:165536:65536\nalice:100000:65536\n\n1002:300000:1\nalice:400000:2\n";
        let accounts = accounts(text);
        for (uid, account) in [
            (0, 0),
            (1000, 1000),
            (99_999, 99_999),
            (100_000, 1000),
            (165_535, 1000),
            (165_536, 1001),
            (231_071, 1001),
            (231_072, 231_072),
            (300_000, 1002),
            (300_001, 300_001),
            (400_001, 1000),
            (u32::MAX, u32::MAX),
        ] {
            assert_eq!(accounts.of(uid), account, "{uid}");
        }
    }

    #[test]
    fn invalid_lines_take_nobody_along() {
        for line in [
            "alice:0:65536",
            "alice:1000:4000000000",
            "alice:65535:2",
            "alice:100000:0",
            "alice:100000:-1",
            "alice:+100000:5",
            "alice:100000",
            "alice:100000:5:6",
            "alice:4294967295:1",
            "alice:4294967000:4294967000",
            ":100000:65536",
            "nobody-here:100000:65536",
            "alice 100000 65536",
            "alice:0x186A0:65536",
            "alice:100000:99999999999999999999",
        ] {
            let accounts = accounts(&format!("{line}\nbob:200000:10\n"));
            assert_eq!(lock(&accounts.ranges).len(), 1, "{line}");
            assert_eq!(accounts.of(200_005), 1001, "{line}");
        }
        let broken = [b"alice:100000:\xFF\n".as_slice(), b"bob:200000:10"].concat();
        assert_eq!(parse(&broken, Path::new("subuid"), known).len(), 1);
    }

    #[test]
    fn overlapping_range_of_another_owner_is_ignored() {
        let accounts = accounts("alice:100000:1000\nbob:100500:1000\nalice:100900:600\n");
        assert_eq!(accounts.of(100_600), 1000);
        assert_eq!(accounts.of(101_499), 1000);
        assert_eq!(accounts.of(101_500), 101_500);
    }

    #[test]
    fn file_is_read_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subuid");
        let accounts = Accounts::new(&path);
        let of = |uid| {
            accounts.read_changed(&mut lock(&accounts.look), user_id);
            accounts.of(uid)
        };
        assert_eq!(of(100_001), 100_001, "no file");
        fs::write(&path, "1000:100000:10\n").unwrap();
        assert_eq!(of(100_001), 1000);
        fs::write(&path, "1000:100000:10\n1001:200000:10\n").unwrap();
        assert_eq!(of(200_001), 1001);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(of(100_001), 100_001, "not a file");
        fs::remove_dir(&path).unwrap();
        let long = "#".repeat(usize::try_from(MAX_FILE).unwrap());
        fs::write(&path, format!("1000:100000:10\n{long}")).unwrap();
        assert_eq!(of(100_001), 100_001, "too long");
    }

    #[test]
    fn what_cannot_be_found_out_at_the_moment_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subuid");
        let accounts = Accounts::new(&path);
        let answers = std::cell::Cell::new(true);
        let name_service = |name: &str| match answers.get() {
            true => Ok(known(name, 0)),
            false => Err(Errno::EIO.into()),
        };
        let of = |uids: [u32; 3]| {
            accounts.read_changed(&mut lock(&accounts.look), name_service);
            uids.map(|uid| accounts.of(uid))
        };
        let uids = [100_001, 200_001, 300_001];
        fs::write(&path, "alice:100000:10\n").unwrap();
        assert_eq!(of(uids), [1000, 200_001, 300_001]);
        // One user more, while the name service is away; then it is back, and the file as it was.
        answers.set(false);
        fs::write(&path, "alice:100000:10\nbob:200000:10\n1002:300000:10\n").unwrap();
        assert_eq!(of(uids), [1000, 200_001, 1002]);
        assert_eq!(of(uids), [1000, 200_001, 1002]);
        answers.set(true);
        assert_eq!(of(uids), [1000, 1001, 1002]);

        let aside = folder.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!(of(uids), [1000, 1001, 1002], "it cannot be read");
        fs::remove_file(&path).unwrap();
        fs::write(&aside, "alice:100000:10\n").unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!(of(uids), [1000, 200_001, 300_001]);
        fs::write(&path, "alice:100000:10\nbob:200000:10\n").unwrap();
        answers.set(false);
        assert_eq!(of(uids), [1000, 200_001, 300_001]);
        fs::remove_file(&path).unwrap();
        assert_eq!(of(uids), uids, "no file");
    }

    #[test]
    fn user_is_a_name_before_it_is_a_number() {
        assert_eq!(user_id("root").unwrap(), Some(0));
        assert_eq!(user_id("4000000").unwrap(), Some(4_000_000));
        assert_eq!(user_id("no-such-user-here").unwrap(), None);
    }
}
