//! Objects of sessions (PKCS#11 3.1 §4.1): they are kept in the module, the private keys among them in the daemon, and
//! end with their session. Copies of objects (§5.7.2), from a session to the card and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardea_client::message::{CardRequest, Reply, Request, SessionKeyMaterial};
use cardea_terms::{KeyClass, PublicKey};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::attributes::{self, Value};
use crate::keys::{is_sign_only, key_class, named_key};
use crate::module::Module;
use crate::object::{Body, Given, Key, KeyReference, Location, Object};
use crate::rv::{About, Result, Rv};
use crate::state::{State, TokenSlot};
use crate::template::Template;

/// Objects of all sessions of a process.
const MAX_OBJECTS: usize = 4096;
/// Bytes of all of them.
const MAX_BYTES: usize = 16 * 1024 * 1024;

impl Module {
    /// A key pair of the session: the private key is made by the TPM and lives in the daemon.
    pub(crate) fn make_session_pair(
        &self,
        session: CK_SESSION_HANDLE,
        material: SessionKeyMaterial,
        public: &Template,
        private: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        public.refuse_token()?;
        let (first, public_label, public_id) = described(public, private, CKO_PUBLIC_KEY)?;
        let (second, private_label, private_id) = described(private, public, CKO_PRIVATE_KEY)?;
        let key = self.make_session_key(session, material, private)?;
        let body = Body::PublicKey(Arc::clone(&key));
        let mut state = self.state();
        let made = state
            .add_object(session, public_label, public_id, first, body)
            .and_then(|one| {
                let body = Body::PrivateKey(Arc::clone(&key));
                let other = state.add_object(session, private_label, private_id, second, body);
                // No half without the other.
                other
                    .inspect_err(|_| state.remove_object(session, one))
                    .map(|other| (one, other))
            });
        drop(state);
        self.unless_kept(session, &key, made)
    }

    /// A private key of the session that was generated elsewhere.
    pub(crate) fn import_for_session(
        &self,
        session: CK_SESSION_HANDLE,
        material: SessionKeyMaterial,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let (given, label, id) = described(template, template, CKO_PRIVATE_KEY)?;
        let key = self.make_session_key(session, material, template)?;
        let body = Body::PrivateKey(Arc::clone(&key));
        let made = self.state().add_object(session, label, id, given, body);
        self.unless_kept(session, &key, made)
    }

    fn make_session_key(
        &self,
        session: CK_SESSION_HANDLE,
        material: SessionKeyMaterial,
        private: &Template,
    ) -> Result<Arc<Key>> {
        let class = key_class(private)?;
        let generated = matches!(material, SessionKeyMaterial::Generated(_));
        let sign_only = is_sign_only(private)?;
        let slot = self.slot_of(session)?;
        let request = Request::card(
            self.card(slot)?,
            CardRequest::MakeSessionKey { class, material },
        );
        match self.change(slot, &request)? {
            Reply::SessionKey { key, public } => Ok(Arc::new(Key {
                reference: Some(KeyReference::Session(key)),
                generated,
                is_recoverable: false,
                always: class == KeyClass::Always,
                sign_only,
                public,
                subject: private.get(CKA_SUBJECT).unwrap_or_default().to_vec(),
            })),
            _ => Err(Rv(CKR_DEVICE_ERROR)),
        }
    }

    /// A key that no object has, because its session was closed meanwhile or there are too many, must not stay in the
    /// daemon.
    fn unless_kept<T>(&self, session: CK_SESSION_HANDLE, key: &Key, made: Result<T>) -> Result<T> {
        if let (Err(_), Some(KeyReference::Session(name))) = (&made, key.reference) {
            // A session that is gone had its slot before; without it, the keys of every slot are looked through.
            let slots: Vec<_> = match self.slot_of(session) {
                Ok(slot) => vec![slot],
                Err(_) => self.state().slots.keys().copied().collect(),
            };
            for slot in slots {
                self.delete_session_keys(slot, [name]);
            }
        }
        made
    }

    /// Ends session keys in the daemon. One that is not there has ended before.
    pub(crate) fn delete_session_keys(
        &self,
        slot: CK_SLOT_ID,
        names: impl IntoIterator<Item = u64>,
    ) {
        for key in names {
            if let Ok(card) = self.card(slot) {
                let request = Request::card(card, CardRequest::DeleteSessionKey { key });
                // The connection that has the logins is surely one of those whose key it is.
                let _ = self.ask_primary(&request, About::Object);
            }
        }
    }

    /// C_DestroyObject for an object of a session.
    pub(crate) fn destroy_session_object(
        &self,
        slot: CK_SLOT_ID,
        handle: CK_OBJECT_HANDLE,
        object: &Object,
    ) -> Result {
        if object.is_given(CKA_DESTROYABLE, CK_FALSE) {
            return Err(Rv(CKR_ACTION_PROHIBITED));
        }
        self.state().slot(slot)?.objects.remove(&handle);
        self.delete_session_keys(slot, object.session_key());
        Ok(())
    }

    /// C_SetAttributeValue for an object of a session.
    pub(crate) fn set_session_attributes(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
        object: &Object,
        template: &Template,
    ) -> Result {
        if object.is_given(CKA_MODIFIABLE, CK_FALSE) {
            return Err(Rv(CKR_ACTION_PROHIBITED));
        }
        let mut changed = object.clone();
        for (kind, value) in template.attributes() {
            match (*kind, attributes::get(object, *kind), &mut changed.body) {
                (_, Value::Known(known), _) if known == **value => {}
                (CKA_LABEL, Value::Known(_), _) => {
                    changed.label = template.short_text(CKA_LABEL)?
                }
                (CKA_ID | CKA_OBJECT_ID, Value::Known(_), _) => {
                    changed.id = template.short_bytes(*kind)?
                }
                (CKA_APPLICATION, _, Body::Data { application, .. }) => {
                    *application = template.short_text(CKA_APPLICATION)?;
                }
                (CKA_VALUE, _, Body::Data { value: content, .. }) => *content = value.to_vec(),
                (CKA_SUBJECT, Value::Known(_), Body::PrivateKey(_) | Body::PublicKey(_)) => {
                    changed.given.insert(CKA_SUBJECT, value.to_vec());
                }
                (_, Value::Absent, _) => return Err(Rv(CKR_ATTRIBUTE_TYPE_INVALID)),
                _ => return Err(Rv(CKR_ATTRIBUTE_READ_ONLY)),
            }
        }
        let mut state = self.state();
        let slot = state.session(session)?.slot;
        state.require_room(changed.size().saturating_sub(object.size()), 0)?;
        match state.slot(slot)?.objects.get_mut(&handle) {
            Some(place) => *place = Arc::new(changed),
            None => return Err(Rv(CKR_OBJECT_HANDLE_INVALID)),
        }
        Ok(())
    }

    /// C_CopyObject: creates an object with the attributes of another one, but for those of the template.
    pub(crate) fn copy_object(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let object = self.object(session, handle)?;
        if let Some(name) = object.session_key() {
            return self.keep_session_key(session, &object, name, template);
        }
        let own = copied(&object.body).ok_or(Rv(CKR_ACTION_PROHIBITED))?;
        if object.is_given(CKA_COPYABLE, CK_FALSE) {
            return Err(Rv(CKR_ACTION_PROHIBITED));
        }
        // The card has each certificate once.
        let is_certificate = matches!(object.body, Body::Certificate { .. });
        if is_certificate && object.is_on_card() && template.flag(CKA_TOKEN)? != Some(false) {
            return Err(Rv(CKR_ACTION_PROHIBITED));
        }
        let given = object.given.keys().filter(|kind| **kind != CKA_UNIQUE_ID);
        let kinds = EVERYWHERE.iter().chain(own).chain(given);
        let mut copy: BTreeMap<_, _> = kinds
            .filter_map(|kind| match attributes::get(&object, *kind) {
                Value::Known(value) => Some((*kind, Zeroizing::new(value))),
                Value::Absent | Value::Sensitive => None,
            })
            .collect();
        for (kind, value) in template.attributes() {
            let present = attributes::get(&object, *kind);
            let same = matches!(&present, Value::Known(known) if *known == **value);
            match present {
                _ if same => {}
                Value::Absent => return Err(Rv(CKR_ATTRIBUTE_TYPE_INVALID)),
                _ if !may_differ(&object.body, *kind, value) => {
                    return Err(Rv(CKR_ATTRIBUTE_READ_ONLY));
                }
                Value::Known(_) | Value::Sensitive => {
                    copy.insert(*kind, value.clone());
                }
            }
        }
        self.create_object(session, &Template::new(copy.into_iter().collect())?)
    }

    /// C_CopyObject of a private key of a session, which becomes one of the card's keys: `keytool` keeps new keys so.
    fn keep_session_key(
        &self,
        session: CK_SESSION_HANDLE,
        object: &Object,
        name: u64,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let Body::PrivateKey(key) = &object.body else {
            return Err(Rv(CKR_ACTION_PROHIBITED));
        };
        if object.is_given(CKA_COPYABLE, CK_FALSE) || !template.is_for_token()? {
            return Err(Rv(CKR_ACTION_PROHIBITED));
        }
        for (kind, value) in template.attributes() {
            match attributes::get(object, *kind) {
                Value::Known(known) if known == **value => {}
                Value::Absent => return Err(Rv(CKR_ATTRIBUTE_TYPE_INVALID)),
                _ if matches!(*kind, CKA_TOKEN | CKA_LABEL | CKA_ID | CKA_SUBJECT) => {}
                Value::Known(_) | Value::Sensitive => return Err(Rv(CKR_ATTRIBUTE_READ_ONLY)),
            }
        }
        let label = match template.get(CKA_LABEL) {
            Some(_) => template.short_text(CKA_LABEL)?,
            None => object.label.clone(),
        };
        let id = match template.get(CKA_ID) {
            Some(_) => template.short_bytes(CKA_ID)?,
            None => object.id.clone(),
        };
        let class = match key.always {
            true => KeyClass::Always,
            false => KeyClass::Session,
        };
        let new = named_key((label, id), class, key.sign_only)?;
        let slot = self.require_writable(session)?;
        let request = Request::card(
            self.card(slot)?,
            CardRequest::KeepSessionKey { key: name, new },
        );
        match self.change(slot, &request)? {
            Reply::Key(made) => {
                self.refresh_objects(slot)?;
                Ok(self.state().key_pair(slot, made.reference)?.1)
            }
            _ => Err(Rv(CKR_DEVICE_ERROR)),
        }
    }
}

/// Attributes that every copy has from the original.
const EVERYWHERE: &[CK_ATTRIBUTE_TYPE] = &[CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_LABEL];

/// Those of an object that can be copied, by class.
fn copied(body: &Body) -> Option<&'static [CK_ATTRIBUTE_TYPE]> {
    match body {
        Body::Certificate { .. } => Some(&[
            CKA_CERTIFICATE_TYPE,
            CKA_CERTIFICATE_CATEGORY,
            CKA_ID,
            CKA_VALUE,
        ]),
        Body::Data { .. } => Some(&[CKA_APPLICATION, CKA_OBJECT_ID, CKA_VALUE]),
        Body::PublicKey(key) => Some(match key.public {
            PublicKey::Rsa { .. } => &[
                CKA_KEY_TYPE,
                CKA_ID,
                CKA_SUBJECT,
                CKA_MODULUS,
                CKA_PUBLIC_EXPONENT,
                CKA_ENCRYPT,
                CKA_WRAP,
            ],
            PublicKey::Ec { .. } => &[
                CKA_KEY_TYPE,
                CKA_ID,
                CKA_SUBJECT,
                CKA_EC_PARAMS,
                CKA_EC_POINT,
            ],
        }),
        Body::PrivateKey(_) | Body::Profile(_) | Body::Secret { .. } => None,
    }
}

/// Whether a copy may have another value: the attributes that can be changed later, and those that a copy can choose
/// (PKCS#11 3.1 §5.7.2).
fn may_differ(body: &Body, kind: CK_ATTRIBUTE_TYPE, value: &[u8]) -> bool {
    match kind {
        CKA_TOKEN | CKA_PRIVATE | CKA_MODIFIABLE | CKA_DESTROYABLE | CKA_LABEL => true,
        CKA_COPYABLE => value == [CK_FALSE],
        CKA_ID => !matches!(body, Body::Data { .. }),
        CKA_SUBJECT => matches!(body, Body::PublicKey(_)),
        CKA_APPLICATION | CKA_OBJECT_ID | CKA_VALUE => matches!(body, Body::Data { .. }),
        _ => false,
    }
}

/// What the two halves of a pair are called, each by its own template or else by the other one.
fn described(
    own: &Template,
    other: &Template,
    class: CK_OBJECT_CLASS,
) -> Result<(Given, String, Vec<u8>)> {
    let (label, id) = own.names(other)?;
    Ok((own.given(class)?, label, id))
}

impl TokenSlot {
    /// Removes the objects of sessions for which this holds; returns the names of their session keys.
    pub(crate) fn end_session_objects(
        &mut self,
        ends: impl Fn(CK_SESSION_HANDLE, &Object) -> bool,
    ) -> Vec<u64> {
        let mut keys = Vec::new();
        self.objects.retain(|_, object| {
            let ended = matches!(object.location, Location::Session(of) if ends(of, object));
            if ended {
                keys.extend(object.session_key());
            }
            !ended
        });
        keys
    }

    /// Removes the objects of a session key that has ended in the daemon.
    pub(crate) fn forget_session_key(&mut self, name: u64) {
        self.objects
            .retain(|_, object| object.session_key() != Some(name));
    }
}

impl State {
    /// Adds an object of a session.
    pub(crate) fn add_object(
        &mut self,
        session: CK_SESSION_HANDLE,
        label: String,
        id: Vec<u8>,
        mut given: Given,
        body: Body,
    ) -> Result<CK_OBJECT_HANDLE> {
        let slot = self.session(session)?.slot;
        let handle = self.new_object_handle();
        given.insert(CKA_UNIQUE_ID, format!("session-{handle}").into_bytes());
        let object = Object {
            location: Location::Session(session),
            label,
            id,
            given,
            body,
        };
        self.require_room(object.size(), 1)?;
        self.slot(slot)?.objects.insert(handle, Arc::new(object));
        Ok(handle)
    }

    fn remove_object(&mut self, session: CK_SESSION_HANDLE, handle: CK_OBJECT_HANDLE) {
        if let Ok(slot) = self.session(session).map(|session| session.slot)
            && let Ok(slot) = self.slot(slot)
        {
            slot.objects.remove(&handle);
        }
    }

    /// Refuses more than a process may keep for its sessions.
    fn require_room(&self, bytes: usize, objects: usize) -> Result {
        let all = self.slots.values().flat_map(|slot| slot.objects.values());
        let kept = all.filter(|object| matches!(object.location, Location::Session(_)));
        let (count, total) = kept.fold((objects, bytes), |(count, total), object| {
            (count + 1, total.saturating_add(object.size()))
        });
        if count > MAX_OBJECTS || total > MAX_BYTES {
            return Err(Rv(CKR_DEVICE_MEMORY));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Session;

    fn state() -> (State, CK_SESSION_HANDLE) {
        let mut state = State::default();
        state.slots.insert(7, TokenSlot::default());
        let session = state.add_session(Session::new(7, false));
        (state, session)
    }

    fn data(size: usize) -> Body {
        Body::Data {
            application: String::new(),
            value: vec![0; size],
        }
    }

    fn add(state: &mut State, session: CK_SESSION_HANDLE, size: usize) -> Result<CK_OBJECT_HANDLE> {
        let (label, id) = (String::new(), Vec::new());
        state.add_object(session, label, id, Given::new(), data(size))
    }

    #[test]
    fn process_has_a_limit_of_session_objects_and_of_their_bytes() {
        let (mut state, session) = state();
        for _ in 0..MAX_OBJECTS {
            add(&mut state, session, 1).unwrap();
        }
        let full = Err(Rv(CKR_DEVICE_MEMORY));
        assert_eq!(add(&mut state, session, 1), full);
        state.slot(7).unwrap().end_session_objects(|_, _| true);
        // The bytes of a value, and few for its names.
        add(&mut state, session, MAX_BYTES - 1000).unwrap();
        assert_eq!(add(&mut state, session, 1000), full);
        add(&mut state, session, 100).unwrap();
    }

    #[test]
    fn session_objects_have_names_that_no_other_has() {
        let (mut state, session) = state();
        let name = |state: &mut State, handle| {
            let object = &state.slot(7).unwrap().objects[&handle];
            attributes::get(object, CKA_UNIQUE_ID)
        };
        let (one, other) = (add(&mut state, session, 1), add(&mut state, session, 1));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(name(&mut state, one), name(&mut state, other));
    }
}
