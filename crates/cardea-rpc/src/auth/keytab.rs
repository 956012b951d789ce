//! The keys of the service, in a keytab as MIT Kerberos, Samba and Heimdal write it: version 5.2.

use std::fmt;
use std::path::{Path, PathBuf};

use super::kerberos_crypto::{Etype, Key};
use super::kerberos_messages::{Encrypted, MAX_PARTS, Principal};
use crate::secret_file::{self, Fault};

/// The keys of the service.
pub struct Keytab(Vec<Entry>);

struct Entry {
    service: Principal,
    kvno: u32,
    key: Key,
}

/// Why there is no keytab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeytabError {
    /// The file cannot be read, or must not be used.
    #[error(transparent)]
    File(#[from] Fault),
    /// It is not a keytab.
    #[error("{} is not a keytab: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Keytab {
    /// Reads a file, whose owner and mode are checked first.
    ///
    /// # Errors
    ///
    /// [`KeytabError`].
    pub fn read(path: &Path) -> Result<Self, KeytabError> {
        let path = path.to_owned();
        let bytes = secret_file::read(&path, MAX_FILE)?;
        Self::parse(&bytes).map_err(|reason| KeytabError::Malformed { path, reason })
    }

    /// Reads the bytes of a keytab. Keys of RC4, DES and other encryptions than AES with SHA-1 are passed over: nothing
    /// that needs them is accepted.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let [5, 2, rest @ ..] = bytes else {
            return Err("it does not begin as version 5.2 does");
        };
        let mut rest = rest;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (length, following) = rest.split_first_chunk().ok_or(CUT)?;
            let length = i32::from_be_bytes(*length);
            let size = usize::try_from(length.unsigned_abs()).map_err(|_| CUT)?;
            let (content, following) = following.split_at_checked(size).ok_or(CUT)?;
            rest = following;
            match length {
                // What follows was never written.
                0 => break,
                // An entry that was removed.
                ..0 => {}
                _ => entries.extend(Entry::parse(content)?),
            }
        }
        match entries.is_empty() {
            true => Err("it has no key for AES (aes256-cts-hmac-sha1-96, aes128-cts-hmac-sha1-96)"),
            false => Ok(Self(entries)),
        }
    }

    /// The names of the services, each once.
    #[must_use]
    pub fn services(&self) -> Vec<&Principal> {
        let mut services: Vec<&Principal> = Vec::new();
        for entry in &self.0 {
            if !services.contains(&&entry.service) {
                services.push(&entry.service);
            }
        }
        services
    }

    /// The keys that may open a ticket for this service: one, or all of its versions where the ticket names none.
    pub(super) fn keys(&self, service: &Principal, ticket: &Encrypted<'_>) -> Vec<&Key> {
        let etype = Etype::from_wire(ticket.etype);
        let entries = self.0.iter().filter(|entry| {
            Some(entry.key.etype()) == etype
                && is_same_service(&entry.service, service)
                && ticket.kvno.is_none_or(|kvno| kvno == entry.kvno)
        });
        entries.map(|entry| &entry.key).collect()
    }
}

/// Windows asks for services without regard to case, and its KDC puts the name into the ticket as it was asked for. The
/// name is not what shows for whom a ticket is, but the key.
fn is_same_service(one: &Principal, other: &Principal) -> bool {
    let same = |(one, other): (&String, &String)| one.eq_ignore_ascii_case(other);
    one.realm == other.realm
        && one.parts.len() == other.parts.len()
        && one.parts.iter().zip(&other.parts).all(same)
}

impl fmt::Debug for Keytab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keytab({})", self.0.len())
    }
}

impl Entry {
    /// `None` if its key is for another encryption.
    fn parse(content: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut reader = Reader(content);
        let count = usize::from(reader.u16()?);
        if count == 0 || count > MAX_PARTS {
            return Err("a name without parts, or with too many");
        }
        let realm = reader.text()?;
        let parts = (0..count)
            .map(|_| reader.text())
            .collect::<Result<Vec<_>, _>>()?;
        // The type of the name, and the time at which the key was written.
        reader.take(8)?;
        let [short_kvno] = reader.array()?;
        let etype = reader.u16()?;
        let length = usize::from(reader.u16()?);
        let key = reader.take(length)?;
        // Of a later extension, where it is there.
        let kvno = match reader.array() {
            Ok([0, 0, 0, 0]) | Err(_) => u32::from(short_kvno),
            Ok(kvno) => u32::from_be_bytes(kvno),
        };
        let Some(etype) = Etype::from_wire(i64::from(etype)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            service: Principal { parts, realm },
            kvno,
            key: Key::new(etype, key).ok_or("a key of another length")?,
        }))
    }
}

const CUT: &str = "it is cut short";

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| CUT)
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        self.array().map(u16::from_be_bytes)
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let length = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned)
            .map_err(|_| "a name that is not UTF-8")
    }
}

/// Longest file: some thousand keys.
const MAX_FILE: usize = 256 * 1024;

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// An entry of `host/target@FIRM`.
    pub(in crate::auth) fn entry(kvno: u32, etype: u16, key: &[u8]) -> Vec<u8> {
        let mut entry = vec![0, 2];
        for text in ["FIRM", "host", "target"] {
            entry.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            entry.extend(text.bytes());
        }
        entry.extend([0, 0, 0, 1, 0x60, 0, 0, 0]);
        entry.push(kvno.to_be_bytes()[3]);
        entry.extend(etype.to_be_bytes());
        entry.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
        entry.extend(key);
        entry.extend(kvno.to_be_bytes());
        let length = i32::try_from(entry.len()).unwrap();
        [&length.to_be_bytes()[..], &entry].concat()
    }

    pub(in crate::auth) fn keytab(entries: &[Vec<u8>]) -> Vec<u8> {
        [&[5, 2][..], &entries.concat()].concat()
    }

    fn kept() -> Vec<u8> {
        let hole = [&(-7_i32).to_be_bytes()[..], &[0xFF; 7]].concat();
        keytab(&[
            entry(3, 18, &[7; 32]),
            hole,
            entry(3, 23, &[7; 16]),
            entry(300, 17, &[8; 16]),
        ])
    }

    #[test]
    fn keys_are_found_by_service_number_and_encryption() {
        let keytab = Keytab::parse(&kept()).unwrap();
        let names: Vec<_> = keytab.services().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["host/target@FIRM"]);
        let found = |parts: [&str; 2], realm: &str, etype, kvno| {
            let service = Principal {
                parts: parts.map(str::to_owned).to_vec(),
                realm: realm.to_owned(),
            };
            let ticket = Encrypted {
                etype,
                kvno,
                cipher: &[],
            };
            let keys = keytab.keys(&service, &ticket);
            keys.iter().map(|key| key.bytes().len()).collect::<Vec<_>>()
        };
        let host = ["host", "target"];
        assert_eq!(found(host, "FIRM", 18, Some(3)), [32]);
        assert_eq!(found(host, "FIRM", 18, None), [32]);
        assert_eq!(found(["HOST", "Target"], "FIRM", 17, Some(300)), [16]);
        for (service, realm, etype, kvno) in [
            (host, "FIRM", 17, Some(44)),
            (host, "FIRM", 18, Some(4)),
            (host, "FIRM", 23, Some(3)),
            (host, "firm", 18, Some(3)),
            (["host", "targe"], "FIRM", 18, Some(3)),
        ] {
            assert!(found(service, realm, etype, kvno).is_empty(), "{service:?}");
        }
    }

    #[test]
    fn what_is_not_a_keytab_is_refused() {
        let kept = kept();
        let whole: Vec<usize> = [0, 1, 2, 3]
            .iter()
            .map(|count| {
                let hole = 11;
                let sizes = [
                    entry(3, 18, &[7; 32]).len(),
                    hole,
                    entry(3, 23, &[7; 16]).len(),
                ];
                2 + sizes[..*count].iter().sum::<usize>()
            })
            .collect();
        for length in 0..kept.len() {
            let read = Keytab::parse(&kept[..length]);
            // What ends between two entries is a keytab of fewer.
            let is_whole = whole[1..].contains(&length);
            assert_eq!(read.is_ok(), is_whole, "{length}");
        }
        for bad in [
            &b"\x05\x01"[..],
            b"\x05\x02\x7F\xFF\xFF\xFF",
            b"\x05\x02\x80\0\0\0",
            b"\x05\x02\0\0\0\0",
            b"\x05\x02\0\0\0\x04\xFF\xFF\0\0",
        ] {
            assert!(Keytab::parse(bad).is_err(), "{bad:?}");
        }
        let short = keytab(&[entry(1, 18, &[7; 31])]);
        assert!(Keytab::parse(&short).is_err());
        let broken = keytab(&[entry(1, 23, &[7; 16])]);
        assert!(Keytab::parse(&broken).unwrap_err().contains("AES"));
    }

    #[test]
    fn file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keytab");
        fs::write(&path, kept()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(Keytab::read(&path).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = Keytab::read(&path).unwrap_err();
        assert!(
            matches!(error, KeytabError::File(Fault::Mode { .. })),
            "{error}"
        );
        fs::write(&path, vec![5; MAX_FILE + 1]).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = Keytab::read(&path).unwrap_err();
        assert!(
            matches!(error, KeytabError::File(Fault::TooLong { .. })),
            "{error}"
        );
    }
}
