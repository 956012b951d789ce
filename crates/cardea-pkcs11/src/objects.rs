//! Objects and their search (PKCS#11 3.1 §5.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use cardea_client::message::{CardRequest, Contents, ObjectKind, Reply, Request};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::attributes::{self, Value};
use crate::module::Module;
use crate::object::{Body, Given, Key, Location, Object};
use crate::pool::LONG_LIMIT;
use crate::rv::{About, Result, Rv};
use crate::x509;

/// Profiles of the standard to which every card conforms (PKCS#11 Profiles 3.1 §3).
const PROFILES: [CK_PROFILE_ID; 3] = [
    CKP_BASELINE_PROVIDER,
    CKP_AUTHENTICATION_TOKEN,
    CKP_PUBLIC_CERTIFICATES_TOKEN,
];

impl Module {
    /// Reads the card's objects if they have changed. Objects that are still present keep their handles.
    pub(crate) fn refresh_objects(&self, slot: CK_SLOT_ID) -> Result {
        let (card, known) = {
            let mut state = self.state();
            let slot = state.slot(slot)?;
            (slot.card.clone(), slot.revision)
        };
        let request = Request::card(card.clone(), CardRequest::Contents { known });
        let (revision, contents) = match self.ask(&request, About::Token)? {
            Reply::Contents { revision, contents } => (revision, contents),
            _ => return Err(Rv(CKR_DEVICE_ERROR)),
        };
        let Some(contents) = contents else {
            return Ok(());
        };
        let found = self.read_contents(slot, &card, &contents)?;
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.slot(slot)?.objects);
        let handles = kept_handles(&mut before, &found);
        let mut objects = BTreeMap::new();
        for (object, handle) in found.into_iter().zip(handles) {
            let handle = handle.unwrap_or_else(|| state.new_object_handle());
            objects.insert(handle, Arc::new(object));
        }
        before.retain(|_, object| matches!(object.location, Location::Session(_)));
        objects.append(&mut before);
        let slot = state.slot(slot)?;
        slot.objects = objects;
        slot.revision = revision;
        Ok(())
    }

    fn read_contents(
        &self,
        slot: CK_SLOT_ID,
        card: &str,
        contents: &Contents,
    ) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        for summary in &contents.keys {
            let object = |body| Object {
                location: Location::Key(summary.reference),
                label: match (&body, &summary.certificate_label) {
                    (Body::Certificate { .. }, Some(own)) => own.clone(),
                    _ => summary.label.clone(),
                },
                id: summary.id.clone(),
                given: Given::new(),
                body,
            };
            let mut subject = Vec::new();
            if summary.certificate {
                let request = Request::card(
                    card,
                    CardRequest::ReadCertificate {
                        reference: summary.reference,
                    },
                );
                // It may have been deleted in the meantime; then the revision has changed.
                if let Ok(Reply::Certificate(der)) = self.ask(&request, About::Object) {
                    let fields = x509::fields(&der).unwrap_or_default();
                    subject = fields.subject.to_vec();
                    found.push(object(Body::Certificate { der }));
                }
            }
            let key = Arc::new(Key::new(summary, subject));
            found.push(object(Body::PublicKey(Arc::clone(&key))));
            found.push(object(Body::PrivateKey(key)));
        }
        for summary in &contents.objects {
            let Some(value) = self.object_value(slot, card, summary.number)? else {
                continue;
            };
            found.push(Object {
                location: Location::Object(summary.number),
                label: summary.label.clone(),
                id: summary.id.clone(),
                given: Given::new(),
                body: match summary.kind {
                    ObjectKind::Certificate => Body::Certificate { der: value },
                    ObjectKind::Data => Body::Data {
                        application: summary.application.clone(),
                        value,
                    },
                },
            });
        }
        hide_copies(&mut found);
        found.extend(PROFILES.map(|profile| Object {
            location: Location::Module,
            label: String::new(),
            id: Vec::new(),
            given: Given::new(),
            body: Body::Profile(profile),
        }));
        Ok(found)
    }

    /// The content of an object. It never changes under the same number, so it is read once.
    fn object_value(&self, slot: CK_SLOT_ID, card: &str, number: u32) -> Result<Option<Vec<u8>>> {
        let mut state = self.state();
        let mut objects = state.slot(slot)?.objects.values();
        let known = objects.find(|object| object.location == Location::Object(number));
        if let Some(Body::Certificate { der: value } | Body::Data { value, .. }) =
            known.map(|object| &object.body)
        {
            return Ok(Some(value.clone()));
        }
        drop(state);
        let request = Request::card(card, CardRequest::ReadObject { number });
        match self.ask(&request, About::Object) {
            Ok(Reply::Certificate(value)) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// An object that this session may use. A private object keeps its handle over logins; without one the program is to
    /// log in, not to look for the object again.
    pub(crate) fn object(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<Arc<Object>> {
        let slot = self.slot_of(session)?;
        let is_user = self.is_user(slot);
        let mut state = self.state();
        match state.slot(slot)?.objects.get(&handle) {
            None => Err(Rv(CKR_OBJECT_HANDLE_INVALID)),
            Some(object) if object.is_private() && !is_user => Err(Rv(CKR_USER_NOT_LOGGED_IN)),
            Some(object) => Ok(Arc::clone(object)),
        }
    }

    /// A key object for an operation.
    fn key_object(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<Arc<Object>> {
        self.object(session, handle).map_err(|error| match error {
            Rv(CKR_OBJECT_HANDLE_INVALID) => Rv(CKR_KEY_HANDLE_INVALID),
            other => other,
        })
    }

    pub(crate) fn private_key(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<Arc<Key>> {
        match &self.key_object(session, handle)?.body {
            Body::PrivateKey(key) => Ok(Arc::clone(key)),
            Body::PublicKey(_) | Body::Secret { .. } => Err(Rv(CKR_KEY_TYPE_INCONSISTENT)),
            _ => Err(Rv(CKR_KEY_HANDLE_INVALID)),
        }
    }

    pub(crate) fn public_key(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<Arc<Key>> {
        match &self.key_object(session, handle)?.body {
            Body::PublicKey(key) => Ok(Arc::clone(key)),
            Body::PrivateKey(_) | Body::Secret { .. } => Err(Rv(CKR_KEY_TYPE_INCONSISTENT)),
            _ => Err(Rv(CKR_KEY_HANDLE_INVALID)),
        }
    }

    /// The value of a secret key.
    pub(crate) fn secret(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<Zeroizing<Vec<u8>>> {
        match &self.key_object(session, handle)?.body {
            Body::Secret { value, .. } => Ok(value.clone()),
            Body::PrivateKey(_) | Body::PublicKey(_) => Err(Rv(CKR_KEY_TYPE_INCONSISTENT)),
            _ => Err(Rv(CKR_KEY_HANDLE_INVALID)),
        }
    }

    /// C_FindObjectsInit.
    pub(crate) fn find_begin(
        &self,
        session: CK_SESSION_HANDLE,
        template: &[(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)],
    ) -> Result {
        let slot = self.slot_of(session)?;
        if self.state().session(session)?.search.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        self.refresh_objects(slot)?;
        let is_user = self.is_user(slot);
        // Profiles are hidden like hardware features unless the class is given: pkcs11-tool 0.23 and others cannot
        // handle them.
        let profiles = template.iter().any(|(kind, _)| *kind == CKA_CLASS);
        let mut state = self.state();
        let fits = |object: &Object| {
            (is_user || !object.is_private())
                && (profiles || object.location != Location::Module)
                && template.iter().all(|(kind, wanted)| {
                    matches!(attributes::get(object, *kind), Value::Known(value) if value == **wanted)
                })
        };
        let objects = state.slot(slot)?.objects.iter();
        let found = objects.filter(|(_, object)| fits(object));
        let found = found.map(|(handle, _)| *handle).rev().collect();
        state.session(session)?.search = Some(found);
        Ok(())
    }

    /// C_FindObjects.
    pub(crate) fn find_next(
        &self,
        session: CK_SESSION_HANDLE,
        most: usize,
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let mut state = self.state();
        let search = &mut state.session(session)?.search;
        let found = search.as_mut().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        let rest = found.len().saturating_sub(most);
        let mut part = found.split_off(rest);
        part.reverse();
        Ok(part)
    }

    /// C_FindObjectsFinal.
    pub(crate) fn find_end(&self, session: CK_SESSION_HANDLE) -> Result {
        let search = self.state().session(session)?.search.take();
        search.map(drop).ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))
    }

    /// C_DestroyObject. Destroying one half of a key also destroys the other half and its certificate.
    pub(crate) fn destroy_object(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result {
        let slot = self.slot_of(session)?;
        if self.state().slot(slot)?.gone.remove(&handle) {
            return Ok(());
        }
        let object = self.object(session, handle)?;
        match object.location {
            Location::Module => return Err(Rv(CKR_ACTION_PROHIBITED)),
            Location::Session(_) => return self.destroy_session_object(slot, handle, &object),
            Location::Key(_) | Location::Object(_) => {}
        }
        self.require_writable(session)?;
        let card = self.card(slot)?;
        if let Body::Certificate { der } = &object.body {
            return self.delete_certificate(slot, object.location, der);
        }
        let request = match (object.location, &object.body) {
            (Location::Key(reference), _) => Request::card(
                card,
                CardRequest::DeleteKey {
                    pin: None,
                    reference,
                },
            ),
            (Location::Object(number), _) => {
                Request::card(card, CardRequest::DeleteObject { pin: None, number })
            }
            (Location::Module | Location::Session(_), _) => return Ok(()),
        };
        self.change(slot, &request)?;
        if let Body::PrivateKey(_) | Body::PublicKey(_) = object.body {
            // Programs destroy the other half too (pkcs11-tool --test-ec), which must not fail.
            let mut state = self.state();
            let slot = state.slot(slot)?;
            let halves = slot.objects.iter().filter(|(other, half)| {
                **other != handle
                    && half.location == object.location
                    && matches!(half.body, Body::PrivateKey(_) | Body::PublicKey(_))
            });
            let halves: Vec<_> = halves.map(|(handle, _)| *handle).collect();
            slot.gone.extend(halves);
        }
        self.refresh_objects(slot)
    }

    /// C_GetObjectSize: approximately the size of the content.
    pub(crate) fn object_size(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<usize> {
        Ok(self.object(session, handle)?.size())
    }

    /// The slot of a session that may change objects on the card: read-write, with the user logged in.
    pub(crate) fn require_writable(&self, session: CK_SESSION_HANDLE) -> Result<CK_SLOT_ID> {
        let mut state = self.state();
        let session = state.session(session)?;
        let (slot, read_write) = (session.slot, session.read_write);
        drop(state);
        if !read_write {
            return Err(Rv(CKR_SESSION_READ_ONLY));
        }
        if !self.is_user(slot) {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        }
        Ok(slot)
    }

    /// The slot of a session in which the user is logged in.
    pub(crate) fn require_user(&self, session: CK_SESSION_HANDLE) -> Result<CK_SLOT_ID> {
        let slot = self.slot_of(session)?;
        if self.is_user(slot) {
            Ok(slot)
        } else {
            Err(Rv(CKR_USER_NOT_LOGGED_IN))
        }
    }

    /// Sends a request that changes the card or makes a key, under the login of the slot.
    pub(crate) fn change(&self, slot: CK_SLOT_ID, request: &Request) -> Result<Reply> {
        self.ask_verified(slot, request, About::Object, LONG_LIMIT)
    }
}

/// Takes the handles of the objects that are still present. One that stayed where it was comes before one that moved.
fn kept_handles(
    before: &mut BTreeMap<CK_OBJECT_HANDLE, Arc<Object>>,
    found: &[Object],
) -> Vec<Option<CK_OBJECT_HANDLE>> {
    let mut handles = vec![None; found.len()];
    for may_move in [false, true] {
        for (object, handle) in found.iter().zip(&mut handles) {
            if handle.is_none() {
                let mut known = before.iter();
                let same = known.find(|(_, known)| {
                    object.continues(known) && (may_move || object.location == known.location)
                });
                *handle = same.map(|(handle, _)| *handle);
                handle.map(|handle| before.remove(&handle));
            }
        }
    }
    handles
}

/// A certificate that is in its key's container and among the other objects has the attributes that it has there.
fn hide_copies(found: &mut Vec<Object>) {
    let others: Vec<Vec<u8>> = found
        .iter()
        .filter_map(|object| match (&object.location, &object.body) {
            (Location::Object(_), Body::Certificate { der }) => Some(der.clone()),
            _ => None,
        })
        .collect();
    found.retain(|object| match (&object.location, &object.body) {
        (Location::Key(_), Body::Certificate { der }) => !others.contains(der),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(location: Location) -> Object {
        Object {
            location,
            label: String::new(),
            id: Vec::new(),
            given: Given::new(),
            body: Body::Certificate { der: vec![1, 2, 3] },
        }
    }

    #[test]
    fn certificate_that_is_left_keeps_its_handle_not_that_of_a_deleted_copy() {
        let known = |numbers: &[u32]| -> BTreeMap<CK_OBJECT_HANDLE, Arc<Object>> {
            let objects = numbers.iter().map(|number| {
                let object = certificate(Location::Object(*number));
                (CK_OBJECT_HANDLE::from(*number), Arc::new(object))
            });
            objects.collect()
        };
        let object = |number| certificate(Location::Object(number));
        let kept = |before: &[u32], found: &[Object]| kept_handles(&mut known(before), found);
        assert_eq!(kept(&[5, 6], &[object(6)]), [Some(6)]);
        assert_eq!(kept(&[5, 6], &[object(5)]), [Some(5)]);
        assert_eq!(kept(&[5, 6], &[object(7), object(6)]), [Some(5), Some(6)]);
        // It moved into its key's container.
        let moved = certificate(Location::Key(0x81));
        assert_eq!(kept(&[5], &[moved]), [Some(5)]);
        assert_eq!(kept(&[], &[object(5)]), [None]);
    }
}
