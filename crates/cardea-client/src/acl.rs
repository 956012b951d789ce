//! Letting the daemon's user into a folder of ours, where the file system has access control lists (acl(5)).
//!
//! The list is an extended attribute: version 2, then entries of tag, permissions and id, little-endian, in order
//! of tags and ids.

use std::os::fd::OwnedFd;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, fstat};
use rustix::io::Errno;

const ATTRIBUTE: &str = "system.posix_acl_access";
const VERSION: [u8; 4] = [2, 0, 0, 0];

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;
const ALL: u16 = 7;

/// Longest list that is looked at.
const MAX_LIST: usize = 4096;

type Entry = (u16, u32, u16);

/// Gives a user all access to a folder. Whoever does not own it, and file systems without lists, change nothing:
/// then the daemon says what it misses.
pub(crate) fn let_in(folder: &OwnedFd, uid: u32) {
    let Ok(stat) = fstat(folder) else { return };
    // root comes in everywhere, and the owner has its own permissions.
    if uid == 0 || uid == stat.st_uid {
        return;
    }
    let mut list = vec![0; MAX_LIST];
    let before = match fgetxattr(folder, ATTRIBUTE, &mut list[..]) {
        Ok(length) => list.get(..length).and_then(parse),
        Err(Errno::NODATA) => Some(of_mode(stat.st_mode)),
        Err(_) => None,
    };
    if let Some(after) = before.and_then(|before| with_user(before, uid)) {
        let _ = fsetxattr(folder, ATTRIBUTE, &coded(&after), XattrFlags::empty());
    }
}

/// None: the user has all access already.
fn with_user(mut entries: Vec<Entry>, uid: u32) -> Option<Vec<Entry>> {
    let wanted = (USER, uid, ALL);
    let mask = entries.iter().find(|(tag, ..)| *tag == MASK);
    if entries.contains(&wanted) && mask.is_none_or(|(.., allowed)| *allowed == ALL) {
        return None;
    }
    entries.retain(|(tag, id, _)| *tag != MASK && (*tag, *id) != (USER, uid));
    entries.extend([wanted, (MASK, NO_ID, ALL)]);
    entries.sort_unstable();
    Some(entries)
}

fn of_mode(mode: u32) -> Vec<Entry> {
    let bits = |shift: u32| u16::try_from(mode >> shift & 7).unwrap_or_default();
    vec![
        (USER_OBJ, NO_ID, bits(6)),
        (GROUP_OBJ, NO_ID, bits(3)),
        (OTHER, NO_ID, bits(0)),
    ]
}

fn parse(list: &[u8]) -> Option<Vec<Entry>> {
    let (entries, []) = list.strip_prefix(&VERSION)?.as_chunks::<8>() else {
        return None;
    };
    let entry = |[t0, t1, p0, p1, id @ ..]: &[u8; 8]| {
        (
            u16::from_le_bytes([*t0, *t1]),
            u32::from_le_bytes(*id),
            u16::from_le_bytes([*p0, *p1]),
        )
    };
    Some(entries.iter().map(entry).collect())
}

fn coded(entries: &[Entry]) -> Vec<u8> {
    let mut list = VERSION.to_vec();
    for (tag, id, allowed) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&allowed.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_user_is_let_in_and_everybody_else_stays_as_they_were() {
        let closed = of_mode(0o40700);
        let open = with_user(closed, 998).unwrap();
        let written = "0200000001000700ffffffff02000700e603000004000000ffffffff10000700ffffffff20000000ffffffff";
        assert_eq!(base16ct::lower::encode_string(&coded(&open)), written);
        assert_eq!(parse(&coded(&open)).unwrap(), open);
        assert_eq!(with_user(open.clone(), 998), None);
        let two = with_user(open, 5).unwrap();
        assert!(two.contains(&(USER, 998, ALL)) && two.contains(&(USER, 5, ALL)));
        assert!(two.is_sorted());
        assert_eq!(parse(&[2, 0, 0, 0, 1]), None);
        assert_eq!(parse(&[1, 0, 0, 0]), None);
    }
}
