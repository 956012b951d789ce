//! Certificates on the card (PKCS#11 3.1 §4.6).
//!
//! GIDS has room for one certificate in a key's container. Further certificates of the key, and one with an identifier
//! that is not the key's, are objects of the card; one that is in both places is shown once, with the object's
//! attributes. In the container is the newest valid one, unless somebody puts another one there by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cardea_client::message::{CardRequest, NewObject, ObjectKind, Reply, Request, Thing};
use cardea_terms::civil_from_days;
use cryptoki_sys::*;

use crate::attributes;
use crate::creation::{content, of_value};
use crate::module::Module;
use crate::object::{Body, KeyReference, Location, Object};
use crate::rv::{About, Result, Rv};
use crate::template::Template;
use crate::x509;

/// A key of the card that a certificate certifies.
struct CertifiedKey {
    reference: u8,
    /// `CKA_ID` of the key.
    id: Vec<u8>,
    /// Name of the certificate in its container, or its own.
    label: String,
}

/// Its container, which has room for one certificate.
struct Container {
    key: CertifiedKey,
    stored: Option<Vec<u8>>,
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
        if !template.is_for_token()? {
            let given = template.given(CKO_CERTIFICATE)?;
            let body = Body::Certificate { der: der.to_vec() };
            return self.state().add_object(session, label, id, given, body);
        }
        let slot = self.require_writable(session)?;
        self.refresh_objects(slot)?;
        let known = self.object_with(slot, der)?;
        let container = self.container_for(slot, der)?;
        let (mut wins, mut is_own_id) = (false, false);
        if let Some(Container { key, stored }) = &container {
            let before = stored.as_deref().filter(|stored| *stored != der);
            wins = before.is_none_or(|other| rank(der) >= rank(other));
            is_own_id = id.is_empty() || id == key.id;
            if wins
                && let Some(other) = before
                && self.object_with(slot, other)?.is_none()
            {
                // First, so that it is there at each moment.
                let kept = new_object(key.label.clone(), key.id.clone(), other)?;
                self.store(slot, kept)?;
            }
        }
        match known {
            // The card has each certificate once: a second object would have the same unique identifier.
            Some(number) => {
                let given_label = template.get(CKA_LABEL).map(|_| label.clone());
                let given_id = template.get(CKA_ID).map(|_| id);
                if given_label.is_some() || given_id.is_some() {
                    self.rename(slot, Thing::Object(number), given_label, given_id)?;
                }
            }
            None if wins && is_own_id => {}
            None => drop(self.store(slot, new_object(label.clone(), id, der)?)?),
        }
        if wins && let Some(Container { key, stored }) = container {
            let is_there = known.is_some() && stored.as_deref() == Some(der);
            if !is_there {
                self.put_in_container(slot, key.reference, der, Some(label))?;
            }
        }
        self.refresh_objects(slot)?;
        self.handle_of(slot, |body, at| {
            matches!(at, Location::Key(_) | Location::Object(_))
                && matches!(body, Body::Certificate { der: stored } if stored == der)
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
        let emptied = container.map(|container| container.key.reference);
        if let Some(reference) = emptied {
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
        let Some(reference) = emptied else {
            return Ok(());
        };
        let next = {
            let mut state = self.state();
            let objects = &state.slot(slot)?.objects;
            let others = objects.values().filter_map(|object| match &object.body {
                Body::Certificate { der } if object.is_on_card() => Some(der),
                _ => None,
            });
            let is_of_key = |other: &&Vec<u8>| {
                key_of(objects, other).is_some_and(|key| key.reference == reference)
            };
            let next = others.filter(is_of_key).max_by_key(|other| rank(other));
            next.cloned()
        };
        match next {
            Some(next) => {
                self.put_in_container(slot, reference, &next, None)?;
                self.refresh_objects(slot)
            }
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

    /// The key that a certificate certifies, if it is on the card, and what is in its container.
    fn container_for(&self, slot: CK_SLOT_ID, der: &[u8]) -> Result<Option<Container>> {
        let key = key_of(&self.state().slot(slot)?.objects, der);
        let Some(key) = key else {
            return Ok(None);
        };
        let reference = key.reference;
        let request = CardRequest::ReadCertificate { reference };
        let stored = match self.ask(&Request::card(self.card(slot)?, request), About::Object) {
            Ok(Reply::Certificate(der)) => Some(der),
            Ok(_) => return Err(Rv(CKR_DEVICE_ERROR)),
            Err(Rv(CKR_OBJECT_HANDLE_INVALID)) => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Container { key, stored }))
    }

    /// The number of the object of the card, outside of containers, that has this certificate.
    fn object_with(&self, slot: CK_SLOT_ID, wanted: &[u8]) -> Result<Option<u32>> {
        let mut state = self.state();
        let mut objects = state.slot(slot)?.objects.values();
        Ok(
            objects.find_map(|object| match (object.location, &object.body) {
                (Location::Object(number), Body::Certificate { der }) if der == wanted => {
                    Some(number)
                }
                _ => None,
            }),
        )
    }
}

/// The key among these objects that a certificate certifies.
fn key_of(objects: &BTreeMap<CK_OBJECT_HANDLE, Arc<Object>>, der: &[u8]) -> Option<CertifiedKey> {
    let fields = x509::fields(der).unwrap_or_default();
    let (reference, key) = objects.values().find_map(|object| match &object.body {
        Body::PrivateKey(key) if attributes::is_spki_of(fields.key, &key.public) => {
            match key.reference? {
                KeyReference::Card(reference) => Some((reference, object)),
                KeyReference::Session(_) => None,
            }
        }
        _ => None,
    })?;
    let shown = objects.values().find(|object| {
        object.location == Location::Key(reference)
            && matches!(object.body, Body::Certificate { .. })
    });
    Some(CertifiedKey {
        reference,
        id: key.id.clone(),
        label: shown.unwrap_or(key).label.clone(),
    })
}

fn new_object(label: String, id: Vec<u8>, der: &[u8]) -> Result<NewObject> {
    Ok(NewObject {
        kind: ObjectKind::Certificate,
        label,
        id,
        application: String::new(),
        value: content(der)?,
    })
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
    let days = since.map_or(0, |since| since.as_secs() / 86_400);
    let (year, month, day) = civil_from_days(i64::try_from(days).unwrap_or(i64::MAX / 2));
    let text = format!("{year:04}{month:02}{day:02}");
    text.into_bytes().try_into().unwrap_or([b'9'; 8])
}

#[cfg(test)]
mod tests {
    use super::*;

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
