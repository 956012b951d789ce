//! A ticket for a service, from a file of tickets as MIT's programs write them (ccache, version 4).

use super::AuthError;
use super::kerberos_crypto::{Etype, Key};
use super::kerberos_messages::{MAX_PARTS, Principal};

/// What somebody got from the KDC to show to a service.
#[derive(Clone)]
pub struct Ticket {
    pub(super) client: Principal,
    pub(super) key: Key,
    /// As the KDC encoded it: for the service's eyes.
    pub(super) encoded: Vec<u8>,
    end: u32,
}

impl Ticket {
    /// The ticket for a service on a host, from the bytes of a file; the one that lasts longest.
    ///
    /// # Errors
    ///
    /// [`AuthError`]: the file is damaged, or has no such ticket.
    pub fn find(file: &[u8], service: &str, host: &str) -> Result<Self, AuthError> {
        let mut from = Reader(file);
        if from.array()? != [5, 4] {
            return Err(AuthError::Malformed("not a file of tickets of version 4"));
        }
        let header = usize::from(u16::from_be_bytes(from.array()?));
        from.take(header)?;
        from.principal()?;
        let mut found: Option<Self> = None;
        let mut other_encryption = false;
        while !from.0.is_empty() {
            let entry = from.entry()?;
            // Without its realm: MIT's programs leave it empty where the KDC was asked to find it.
            let is_it = matches!(entry.service.as_slice(), [first, second]
                if first.eq_ignore_ascii_case(service.as_bytes())
                    && second.eq_ignore_ascii_case(host.as_bytes()));
            if !is_it {
                continue;
            }
            match entry.ticket {
                None => other_encryption = true,
                Some(ticket) if found.as_ref().is_none_or(|found| found.end < ticket.end) => {
                    found = Some(ticket);
                }
                Some(_) => {}
            }
        }
        found.ok_or(match other_encryption {
            true => AuthError::Kerberos("the ticket is for another encryption than AES"),
            false => AuthError::Kerberos("there is no ticket for the service"),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn client(&self) -> &Principal {
        &self.client
    }
}

/// What a file has of a service.
struct Entry<'a> {
    service: Vec<&'a [u8]>,
    /// `None`: one that cannot be used here.
    ticket: Option<Ticket>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], AuthError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AuthError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, AuthError> {
        self.array().map(u32::from_be_bytes)
    }

    fn data(&mut self) -> Result<&'a [u8], AuthError> {
        let length = usize::try_from(self.u32()?).map_err(|_| CUT)?;
        self.take(length)
    }

    /// The realm and the parts of a name. MIT keeps its own notes as tickets for principals that no other has.
    fn principal(&mut self) -> Result<(&'a [u8], Vec<&'a [u8]>), AuthError> {
        let _kind = self.u32()?;
        let count = usize::try_from(self.u32()?).map_err(|_| CUT)?;
        if count > MAX_PARTS {
            return Err(AuthError::Malformed("a name of Kerberos"));
        }
        let realm = self.data()?;
        let parts = (0..count).map(|_| self.data()).collect::<Result<_, _>>()?;
        Ok((realm, parts))
    }

    fn entry(&mut self) -> Result<Entry<'a>, AuthError> {
        let ((realm, client), (_, service)) = (self.principal()?, self.principal()?);
        let etype = Etype::from_wire(i64::from(u16::from_be_bytes(self.array()?)));
        let key = self.data()?;
        // Authenticated, valid from, and after the end: renewable until.
        let _: [u8; 8] = self.array()?;
        let end = self.u32()?;
        let _: [u8; 4] = self.array()?;
        // Whether it is under a session key, and flags.
        let _: [u8; 5] = self.array()?;
        // Addresses, and data for authorisation.
        for _ in 0..2 {
            for _ in 0..self.u32()? {
                let _kind: [u8; 2] = self.array()?;
                self.data()?;
            }
        }
        let encoded = self.data()?;
        let _second = self.data()?;
        let client = Principal::of_parts(realm, &client).ok();
        let key = etype.and_then(|etype| Key::new(etype, key));
        let ticket = client.zip(key).map(|(client, key)| Ticket {
            client,
            key,
            encoded: encoded.to_vec(),
            end,
        });
        Ok(Entry { service, ticket })
    }
}

const CUT: AuthError = AuthError::Malformed("a file of tickets that is cut short");

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn data(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    }

    fn principal(realm: &str, parts: &[&str]) -> Vec<u8> {
        let mut encoded = [1_u32, u32::try_from(parts.len()).unwrap()]
            .map(u32::to_be_bytes)
            .concat();
        encoded.extend(data(realm.as_bytes()));
        for part in parts {
            encoded.extend(data(part.as_bytes()));
        }
        encoded
    }

    /// A file of ann's, with a ticket for each service: its parts, encryption, end and bytes.
    pub(in crate::auth) fn file(tickets: &[(&[&str], u16, u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![5, 4, 0, 12, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(principal("FIRM", &["ann"]));
        for (service, etype, end, encoded) in tickets {
            file.extend(principal("FIRM", &["ann"]));
            // As for a realm that the KDC is to find.
            file.extend(principal("", service));
            file.extend(etype.to_be_bytes());
            file.extend(data(&[5; 32]));
            file.extend([1, 1, *end, 0].map(u32::to_be_bytes).concat());
            file.push(0);
            file.extend([0; 4]);
            // An address, and no data for authorisation.
            file.extend([0, 0, 0, 1, 0, 2]);
            file.extend(data(&[127, 0, 0, 1]));
            file.extend([0; 4]);
            file.extend(data(encoded));
            file.extend(data(&[]));
        }
        file
    }

    #[test]
    fn ticket_for_the_service_that_lasts_longest_is_found() {
        let file = file(&[
            (&["krbtgt", "FIRM"], 18, 90, b"tgt"),
            (&["host", "target"], 18, 70, b"short"),
            (&["host", "Target"], 18, 80, b"long"),
            (&["host", "other"], 18, 99, b"other"),
            (&["krb5_ccache_conf_data", "a b"], 0, 0, b"note"),
        ]);
        let found = Ticket::find(&file, "host", "target").unwrap();
        assert_eq!(found.encoded, b"long");
        assert_eq!(found.client().to_string(), "ann@FIRM");
        assert!(Ticket::find(&file, "cifs", "target").is_err());
    }

    #[test]
    fn broken_encryptions_and_damaged_files_are_refused() {
        let rc4 = file(&[(&["host", "target"], 23, 70, b"rc4")]);
        let error = Ticket::find(&rc4, "host", "target").err().unwrap();
        assert!(error.to_string().contains("AES"), "{error}");
        let whole = file(&[(&["host", "target"], 18, 70, b"ticket")]);
        let before = file(&[]).len();
        for length in 0..whole.len() {
            let cut = Ticket::find(&whole[..length], "host", "target").err();
            let error = cut.unwrap();
            let is_empty = length == before;
            assert_eq!(
                matches!(error, AuthError::Kerberos(_)),
                is_empty,
                "{length}"
            );
        }
        let mut old = whole;
        old[1] = 3;
        assert!(Ticket::find(&old, "host", "target").is_err());
    }
}
