//! Certificates on the card (PKCS#11 3.1 §4.6).
//!
//! GIDS has room for one certificate in a key's container. Further certificates of the key, and one with an identifier
//! that is not the key's, are objects of the card; one that is in both places is shown once, with the object's
//! attributes. In the container is the newest valid one, unless somebody puts another one there by hand.

use std::time::{SystemTime, UNIX_EPOCH};

use cardea_client::message::{CardRequest, NewObject, ObjectKind, Reply, Request};
use cryptoki_sys::*;

use crate::attributes;
use crate::creation::{content, of_value};
use crate::module::Module;
use crate::object::{Body, KeyReference, Location};
use crate::rv::{About, Result, Rv};
use crate::session_objects::given;
use crate::template::Template;
use crate::x509;

/// A key of the card, with what is in its container.
struct Container {
    reference: u8,
    /// `CKA_ID` of the key.
    id: Vec<u8>,
    stored: Option<Vec<u8>>,
    /// Name of the stored certificate.
    label: String,
}

impl Module {
    /// Stores a certificate with the key that it certifies, beside that key's others, or as an object by itself.
    pub(crate) fn create_certificate(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        template.require_long(CKA_CERTIFICATE_TYPE, CKC_X_509)?;
        self.require_seen(session, template)?;
        let invalid = Rv(CKR_ATTRIBUTE_VALUE_INVALID);
        let der = x509::without_padding(template.need(CKA_VALUE)?).ok_or(invalid)?;
        let (label, id) = (
            template.short_text(CKA_LABEL)?,
            template.short_bytes(CKA_ID)?,
        );
        x509::fields(der).ok_or(invalid)?;
        if template.flag(CKA_TOKEN)? != Some(true) {
            let given = given(template, CKO_CERTIFICATE)?;
            let body = Body::Certificate { der: der.to_vec() };
            return self.state().add_object(session, label, id, given, body);
        }
        let slot = self.require_writable(session)?;
        self.refresh_objects(slot)?;
        let object = |label: String, id: Vec<u8>, der: &[u8]| {
            Ok::<_, Rv>(NewObject {
                kind: ObjectKind::Certificate,
                label,
                id,
                application: String::new(),
                value: content(der)?,
            })
        };
        let card = self.card(slot)?;
        let location = match self.container_for(slot, der)? {
            None => self.store(slot, card, object(label, id, der)?)?,
            Some(container) => {
                let before = container.stored.filter(|stored| stored != der);
                let wins = before.as_ref().is_none_or(|other| rank(der) >= rank(other));
                let as_object = !wins || !(id.is_empty() || id == container.id);
                if wins && let Some(other) = before.filter(|other| !self.has_object(slot, other)) {
                    // First, so that it is there at each moment.
                    let kept = object(container.label, container.id, &other)?;
                    self.store(slot, card.clone(), kept)?;
                }
                let mut location = Location::Key(container.reference);
                if as_object {
                    let new = object(label.clone(), id, der)?;
                    location = self.store(slot, card.clone(), new)?;
                }
                if wins {
                    self.put_in_container(slot, container.reference, der, Some(label))?;
                }
                location
            }
        };
        self.refresh_objects(slot)?;
        self.handle_of(slot, |body, at| {
            at == location && matches!(body, Body::Certificate { .. })
        })
    }

    /// Deletes a certificate, wherever it is. Another one of the key takes its place in the container.
    pub(crate) fn delete_certificate(
        &self,
        slot: CK_SLOT_ID,
        location: Location,
        der: &[u8],
    ) -> Result {
        let card = self.card(slot)?;
        let container = self.container_for(slot, der)?;
        let container = container.filter(|found| found.stored.as_deref() == Some(der));
        if let Some(Container { reference, .. }) = container {
            let request = CardRequest::DeleteCertificate {
                pin: None,
                reference,
            };
            self.change(slot, &Request::card(card.clone(), request))?;
        }
        if let Location::Object(number) = location {
            let request = CardRequest::DeleteObject { pin: None, number };
            self.change(slot, &Request::card(card, request))?;
        }
        self.refresh_objects(slot)?;
        let Some(Container { reference, .. }) = container else {
            return Ok(());
        };
        let others: Vec<Vec<u8>> = {
            let mut state = self.state();
            let objects = state.slot(slot)?.objects.values();
            let certificates = objects.filter_map(|object| match &object.body {
                Body::Certificate { der } if object.is_on_card() => Some(der.clone()),
                _ => None,
            });
            certificates.collect()
        };
        let is_of_key = |other: &&Vec<u8>| {
            let found = self.container_for(slot, other);
            found.is_ok_and(|found| found.is_some_and(|found| found.reference == reference))
        };
        match others
            .iter()
            .filter(is_of_key)
            .max_by_key(|other| rank(other))
        {
            Some(next) => self.put_in_container(slot, reference, next, None),
            None => Ok(()),
        }
    }

    fn put_in_container(
        &self,
        slot: CK_SLOT_ID,
        reference: u8,
        der: &[u8],
        label: Option<String>,
    ) -> Result {
        let request = CardRequest::StoreCertificate {
            pin: None,
            reference,
            der: der.to_vec(),
            label: label.filter(|label| !label.is_empty()),
        };
        let request = Request::card(self.card(slot)?, request);
        self.change(slot, &request).map_err(of_value)?;
        Ok(())
    }

    /// The key that a certificate certifies, if it is on the card.
    fn container_for(&self, slot: CK_SLOT_ID, der: &[u8]) -> Result<Option<Container>> {
        let fields = x509::fields(der).unwrap_or_default();
        let mut state = self.state();
        let objects = &state.slot(slot)?.objects;
        let found = objects.values().find_map(|object| match &object.body {
            Body::PrivateKey(key) if attributes::is_spki_of(fields.key, &key.public) => {
                match key.reference? {
                    KeyReference::Card(reference) => {
                        Some((reference, object.id.clone(), object.label.clone()))
                    }
                    KeyReference::Session(_) => None,
                }
            }
            _ => None,
        });
        let Some((reference, id, key_label)) = found else {
            return Ok(None);
        };
        let shown = objects.values().find_map(|object| {
            let is_here = object.location == Location::Key(reference);
            let is_certificate = matches!(object.body, Body::Certificate { .. });
            (is_here && is_certificate).then(|| object.label.clone())
        });
        drop(state);
        let request = CardRequest::ReadCertificate { reference };
        let stored = match self.ask(&Request::card(self.card(slot)?, request), About::Object) {
            Ok(Reply::Certificate(der)) => Some(der),
            Ok(_) => return Err(Rv(CKR_DEVICE_ERROR)),
            Err(Rv(CKR_OBJECT_HANDLE_INVALID)) => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Container {
            reference,
            id,
            stored,
            label: shown.unwrap_or(key_label),
        }))
    }

    /// Whether a certificate is an object of the card, outside of containers.
    fn has_object(&self, slot: CK_SLOT_ID, wanted: &[u8]) -> bool {
        let mut state = self.state();
        state.slot(slot).is_ok_and(|slot| {
            slot.objects.values().any(|object| {
                matches!(object.location, Location::Object(_))
                    && matches!(&object.body, Body::Certificate { der } if der == wanted)
            })
        })
    }
}

/// What decides which certificate of a key is in its container: whether it is valid, or else will be, then its end.
fn rank(der: &[u8]) -> (u8, Option<[u8; 8]>) {
    rank_on(&x509::fields(der).unwrap_or_default(), today())
}

fn rank_on(fields: &x509::Fields<'_>, today: [u8; 8]) -> (u8, Option<[u8; 8]>) {
    let validity = match (fields.not_before, fields.not_after) {
        (Some(begin), Some(end)) if begin <= today && today <= end => 2,
        (Some(begin), Some(end)) if today < begin && begin <= end => 1,
        _ => 0,
    };
    (validity, fields.not_after)
}

/// The date in UTC, YYYYMMDD.
fn today() -> [u8; 8] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date(since.map_or(0, |since| since.as_secs() / 86_400))
}

/// The date of a day, counted from 1970-01-01.
fn date(mut days: u64) -> [u8; 8] {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let text = format!("{year:04}{month:02}{:02}", days + 1);
    text.into_bytes().try_into().unwrap_or([b'9'; 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_with_leap_years() {
        for (days, wanted) in [
            (0, b"19700101"),
            (58, b"19700228"),
            (59, b"19700301"),
            (789, b"19720229"),
            (11_016, b"20000229"),
            (20_787, b"20261130"),
        ] {
            assert_eq!(&date(days), wanted, "{days}");
        }
    }

    #[test]
    fn valid_certificate_comes_before_a_later_and_an_expired_one() {
        let rank = |begin: &[u8; 8], end: &[u8; 8]| {
            let fields = x509::Fields {
                not_before: Some(*begin),
                not_after: Some(*end),
                ..x509::Fields::default()
            };
            rank_on(&fields, *b"20261130")
        };
        let valid = rank(b"20260101", b"20261130");
        assert!(valid > rank(b"20261201", b"20301231"), "not yet valid");
        assert!(valid > rank(b"20200101", b"20261129"), "expired");
        assert!(valid < rank(b"20250101", b"20270101"), "valid for longer");
        assert!(valid > rank_on(&x509::Fields::default(), *b"20261130"));
    }
}
