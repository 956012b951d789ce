//! Objects and their search (PKCS#11 2.40 §5.7).

use std::collections::BTreeMap;

use cardea_client::message::{KeySummary, PublicKey, Reply, Request};
use cryptoki_sys::{
    CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CKA_CLASS, CKA_ID, CKA_VALUE,
    CKO_CERTIFICATE, CKR_ATTRIBUTE_VALUE_INVALID, CKR_DEVICE_ERROR, CKR_OBJECT_HANDLE_INVALID,
    CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED, CKR_SESSION_READ_ONLY,
    CKR_TEMPLATE_INCOMPLETE, CKR_USER_NOT_LOGGED_IN,
};

use crate::attributes::{self, Value};
use crate::module::{LoginState, Module};
use crate::rv::{About, Result, Rv};

/// First key reference: the identifier of a key is the number of its container, as with OpenSC.
const FIRST_REFERENCE: u8 = 0x81;

/// An object.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Certificate {
        key: Key,
        der: Vec<u8>,
    },
    PrivateKey(Key),
    PublicKey(Key),
    /// A shared secret of this session.
    Secret {
        session: CK_SESSION_HANDLE,
        value: zeroize::Zeroizing<Vec<u8>>,
    },
}

/// A key of the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) reference: u8,
    pub(crate) label: String,
    pub(crate) generated: bool,
    pub(crate) always: bool,
    pub(crate) public: PublicKey,
    /// Of its certificate.
    pub(crate) subject: Vec<u8>,
}

impl Key {
    fn new(summary: &KeySummary) -> Self {
        Self {
            reference: summary.reference,
            label: summary.label.clone(),
            generated: summary.origin == "generated",
            always: summary.pin == "always",
            public: summary.public.clone(),
            subject: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> u8 {
        self.reference.saturating_sub(FIRST_REFERENCE)
    }

    /// Length in bytes of modulus or coordinate.
    pub(crate) fn size(&self) -> usize {
        match &self.public {
            PublicKey::Rsa { modulus, .. } => modulus.len(),
            PublicKey::Ec { x, .. } => x.len(),
        }
    }

    pub(crate) fn is_rsa(&self) -> bool {
        matches!(self.public, PublicKey::Rsa { .. })
    }
}

impl Object {
    /// Whether it is the same thing as before, so that its handle stays.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PrivateKey(a), Self::PrivateKey(b))
            | (Self::PublicKey(a), Self::PublicKey(b)) => {
                a.reference == b.reference && a.public == b.public
            }
            (Self::Certificate { der: a, key: k }, Self::Certificate { der: b, key: l }) => {
                a == b && k.reference == l.reference
            }
            _ => false,
        }
    }

    fn is_private(&self) -> bool {
        matches!(self, Self::PrivateKey(_))
    }
}

impl Module {
    /// What the card holds now. Handles of what is still there stay.
    pub(crate) fn refresh_objects(&mut self, session: CK_SESSION_HANDLE) -> Result {
        let slot = self.session(session)?.slot;
        let details = self.details(slot)?;
        let card = self.slot(slot)?.card.clone();
        let mut found = Vec::new();
        for summary in &details.keys {
            let mut key = Key::new(summary);
            if summary.certificate {
                let request = Request::ReadCertificate {
                    card: card.clone(),
                    reference: summary.reference,
                };
                if let Reply::Certificate(der) = self.ask(&request, About::Object)? {
                    let fields = crate::x509::fields(&der).unwrap_or_default();
                    key.subject = fields.subject.to_vec();
                    found.push(Object::Certificate {
                        key: key.clone(),
                        der,
                    });
                }
            }
            found.push(Object::PublicKey(key.clone()));
            found.push(Object::PrivateKey(key));
        }
        let mut before = std::mem::take(&mut self.slot(slot)?.objects);
        let mut objects = BTreeMap::new();
        for object in found {
            let known = before
                .iter()
                .find(|(_, known)| known.is_same(&object))
                .map(|(handle, _)| *handle);
            let handle = match known {
                Some(handle) => {
                    before.remove(&handle);
                    handle
                }
                None => self.new_object_handle(),
            };
            objects.insert(handle, object);
        }
        let secrets = before
            .into_iter()
            .filter(|(_, object)| matches!(object, Object::Secret { .. }));
        objects.extend(secrets);
        self.slot(slot)?.objects = objects;
        Ok(())
    }

    /// An object that this session may see.
    pub(crate) fn object(
        &mut self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<Object> {
        let slot = self.slot_of(session)?;
        let logged_in = matches!(slot.login, LoginState::User);
        let object = slot
            .objects
            .get(&handle)
            .filter(|object| logged_in || !object.is_private())
            .ok_or(Rv(CKR_OBJECT_HANDLE_INVALID))?;
        Ok(object.clone())
    }

    pub(crate) fn private_key(
        &mut self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result<Key> {
        match self.object(session, handle)? {
            Object::PrivateKey(key) => Ok(key),
            _ => Err(Rv(cryptoki_sys::CKR_KEY_TYPE_INCONSISTENT)),
        }
    }

    /// C_FindObjectsInit.
    pub(crate) fn find_begin(
        &mut self,
        session: CK_SESSION_HANDLE,
        template: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)],
    ) -> Result {
        if self.session(session)?.search.is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        self.refresh_objects(session)?;
        let slot = self.slot_of(session)?;
        let logged_in = matches!(slot.login, LoginState::User);
        let fits = |object: &Object| {
            template.iter().all(|(kind, wanted)| {
                matches!(attributes::get(object, *kind), Value::Known(value) if value == *wanted)
            })
        };
        let found: Vec<_> = slot
            .objects
            .iter()
            .filter(|(_, object)| (logged_in || !object.is_private()) && fits(object))
            .map(|(handle, _)| *handle)
            .rev()
            .collect();
        self.session(session)?.search = Some(found);
        Ok(())
    }

    /// C_FindObjects.
    pub(crate) fn find_next(
        &mut self,
        session: CK_SESSION_HANDLE,
        most: usize,
    ) -> Result<Vec<CK_OBJECT_HANDLE>> {
        let search = &mut self.session(session)?.search;
        let found = search.as_mut().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        let rest = found.len().saturating_sub(most);
        let mut part = found.split_off(rest);
        part.reverse();
        Ok(part)
    }

    /// C_FindObjectsFinal.
    pub(crate) fn find_end(&mut self, session: CK_SESSION_HANDLE) -> Result {
        let search = self.session(session)?.search.take();
        search.map(drop).ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))
    }

    /// C_CreateObject of a certificate for a key that is there.
    pub(crate) fn create_object(
        &mut self,
        session: CK_SESSION_HANDLE,
        template: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)],
    ) -> Result<CK_OBJECT_HANDLE> {
        let read_write = self.session(session)?.read_write;
        if !read_write {
            return Err(Rv(CKR_SESSION_READ_ONLY));
        }
        let get = |wanted| {
            template
                .iter()
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, value)| value.as_slice())
        };
        let class = get(CKA_CLASS).ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))?;
        if class != CKO_CERTIFICATE.to_ne_bytes() {
            return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
        }
        let der = get(CKA_VALUE).ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))?.to_vec();
        self.refresh_objects(session)?;
        let slot = self.slot_of(session)?;
        if !matches!(slot.login, LoginState::User) {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        }
        let card = slot.card.clone();
        // The key that it certifies; the identifier only where there is one.
        let spki = crate::x509::fields(&der)
            .ok_or(Rv(CKR_ATTRIBUTE_VALUE_INVALID))?
            .key
            .to_vec();
        let id = get(CKA_ID);
        let key = slot
            .objects
            .values()
            .find_map(|object| match object {
                Object::PrivateKey(key)
                    if attributes::spki(&key.public) == spki
                        && id.is_none_or(|id| id == [key.id()]) =>
                {
                    Some(key.reference)
                }
                _ => None,
            })
            .ok_or(Rv(CKR_ATTRIBUTE_VALUE_INVALID))?;
        let request = Request::StoreCertificate {
            card,
            pin: None,
            reference: key,
            der: der.clone(),
        };
        self.change(session, &request)?;
        self.refresh_objects(session)?;
        let slot = self.slot_of(session)?;
        let made = slot.objects.iter().find(
            |(_, object)| matches!(object, Object::Certificate { der: found, .. } if *found == der),
        );
        made.map(|(handle, _)| *handle).ok_or(Rv(CKR_DEVICE_ERROR))
    }

    /// C_DestroyObject. The two halves of a key go together.
    pub(crate) fn destroy_object(
        &mut self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
    ) -> Result {
        let object = self.object(session, handle)?;
        if let Object::Secret { .. } = object {
            self.slot_of(session)?.objects.remove(&handle);
            return Ok(());
        }
        if !self.session(session)?.read_write {
            return Err(Rv(CKR_SESSION_READ_ONLY));
        }
        let slot = self.slot_of(session)?;
        if !matches!(slot.login, LoginState::User) {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        }
        let card = slot.card.clone();
        let request = match object {
            Object::Certificate { key, .. } => Request::DeleteCertificate {
                card,
                pin: None,
                reference: key.reference,
            },
            Object::PrivateKey(key) | Object::PublicKey(key) => Request::DeleteKey {
                card,
                pin: None,
                reference: key.reference,
            },
            Object::Secret { .. } => return Ok(()),
        };
        self.change(session, &request)?;
        self.refresh_objects(session)
    }

    /// A request under the login of this session's slot; when that is over, the slot knows.
    pub(crate) fn change(
        &mut self,
        session: CK_SESSION_HANDLE,
        request: &Request,
    ) -> Result<Reply> {
        let answer = self.ask_for(request, About::Object, crate::module::LONG_LIMIT);
        if answer.as_ref().err() == Some(&Rv(CKR_USER_NOT_LOGGED_IN)) {
            self.slot_of(session)?.login = LoginState::Nobody;
        }
        answer
    }
}
