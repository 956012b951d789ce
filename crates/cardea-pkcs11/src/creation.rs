//! Creation of objects from templates, and changes of attributes (PKCS#11 3.1 §5.7, §5.18.4).

use cardea_client::message::{
    CardRequest, KeyAlgorithm, NewObject, ObjectKind, PrivateKey, Reply, Request,
    SessionKeyMaterial, Thing,
};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::attributes::{self, Value};
use crate::key_material::{pkcs8, private_key, public_key, require_same_public};
use crate::keys::{SecretTemplate, new_key};
use crate::mechanisms::Mechanism;
use crate::module::Module;
use crate::object::{Body, Key, Location};
use crate::rv::{Result, Rv};
use crate::template::Template;

/// Longest content of an object.
const MAX_VALUE: usize = 64 * 1024;

impl Module {
    /// C_CreateObject.
    pub(crate) fn create_object(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        self.slot_of(session)?;
        match template
            .long(CKA_CLASS)?
            .ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))?
        {
            CKO_CERTIFICATE => self.create_certificate(session, template),
            CKO_DATA => self.create_data(session, template),
            CKO_PRIVATE_KEY => {
                let material = private_key(template)?;
                self.import(session, template, material)
            }
            CKO_PUBLIC_KEY => self.create_public_key(session, template),
            CKO_SECRET_KEY => {
                let value = Zeroizing::new(template.need(CKA_VALUE)?.to_vec());
                if value.is_empty() {
                    return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
                }
                SecretTemplate::new(self, session, template)?.make(self, session, value)
            }
            _ => Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID)),
        }
    }

    fn create_data(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        self.require_seen(session, template)?;
        let value = template.get(CKA_VALUE).unwrap_or_default();
        let application = template.short_text(CKA_APPLICATION)?;
        let (label, id) = (
            template.short_text(CKA_LABEL)?,
            template.short_bytes(CKA_OBJECT_ID)?,
        );
        if !template.is_for_token()? {
            let given = template.given(CKO_DATA)?;
            let body = Body::Data {
                application,
                value: value.to_vec(),
            };
            return self.state().add_object(session, label, id, given, body);
        }
        let slot = self.require_writable(session)?;
        let object = NewObject {
            kind: ObjectKind::Data,
            label,
            id,
            application,
            value: content(value)?,
        };
        let location = self.store(slot, object)?;
        self.refresh_objects(slot)?;
        self.handle_of(slot, |_, at| at == location)
    }

    /// Refuses private objects on the card, where anyone who sees it can read whatever is not a key. Those of a session
    /// are made by the user alone.
    pub(crate) fn require_seen(&self, session: CK_SESSION_HANDLE, template: &Template) -> Result {
        if template.flag(CKA_PRIVATE)? != Some(true) {
            return Ok(());
        }
        template.refuse_token()?;
        self.require_user(session).map(drop)
    }

    pub(crate) fn store(&self, slot: CK_SLOT_ID, object: NewObject) -> Result<Location> {
        let request = CardRequest::StoreObject { pin: None, object };
        let request = Request::card(self.card(slot)?, request);
        match self.change(slot, &request)? {
            Reply::Object { number } => Ok(Location::Object(number)),
            _ => Err(Rv(CKR_DEVICE_ERROR)),
        }
    }

    /// Creates a public key of the session. On the card there are only the public keys of its private keys: asked for
    /// one of these, it returns the existing object.
    fn create_public_key(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let public = public_key(template)?;
        self.require_seen(session, template)?;
        if template.is_for_token()? {
            let slot = self.require_writable(session)?;
            self.refresh_objects(slot)?;
            return self
                .handle_of(slot, |body, at| {
                    matches!(body, Body::PublicKey(key) if key.public == public)
                        && matches!(at, Location::Key(_))
                })
                .map_err(|_| Rv(CKR_TEMPLATE_INCONSISTENT));
        }
        let key = Key {
            reference: None,
            generated: false,
            is_recoverable: false,
            always: false,
            sign_only: template.flag(CKA_ENCRYPT)? == Some(false)
                && template.flag(CKA_WRAP)? != Some(true),
            public,
            subject: template.get(CKA_SUBJECT).unwrap_or_default().to_vec(),
        };
        let (label, id) = (
            template.short_text(CKA_LABEL)?,
            template.short_bytes(CKA_ID)?,
        );
        let given = template.given(CKO_PUBLIC_KEY)?;
        let body = Body::PublicKey(key.into());
        self.state().add_object(session, label, id, given, body)
    }

    /// Imports a private key that was generated elsewhere. It cannot be extracted from the TPM again.
    fn import(
        &self,
        session: CK_SESSION_HANDLE,
        template: &Template,
        material: PrivateKey,
    ) -> Result<CK_OBJECT_HANDLE> {
        template.require_sensitive()?;
        require_same_public(template, &material)?;
        // The daemon refuses other sizes.
        if let Some(algorithm) = algorithm_of(&material) {
            self.require_algorithm(self.slot_of(session)?, algorithm)?;
        }
        if !template.is_for_token()? {
            self.require_user(session)?;
            let material = SessionKeyMaterial::Imported(material);
            let made = self.import_for_session(session, material, template);
            return made.map_err(of_parts);
        }
        let key = new_key(template, None)?;
        let slot = self.require_writable(session)?;
        let request = Request::card(
            self.card(slot)?,
            CardRequest::ImportKey {
                pin: None,
                key,
                material,
            },
        );
        let Reply::Key(made) = self.change(slot, &request).map_err(of_parts)? else {
            return Err(Rv(CKR_DEVICE_ERROR));
        };
        self.refresh_objects(slot)?;
        Ok(self.state().key_pair(slot, made.reference)?.1)
    }

    /// C_UnwrapKey: a secret key for this session, or a private key (PKCS#8) for the card.
    pub(crate) fn unwrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: &[u8],
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        self.slot_of(session)?;
        let class = template.long(CKA_CLASS)?;
        let secret = match class.ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))? {
            CKO_PRIVATE_KEY => {
                template.require_sensitive()?;
                if template.is_for_token()? {
                    self.require_writable(session)?;
                } else {
                    self.require_user(session)?;
                }
                None
            }
            CKO_SECRET_KEY => Some(SecretTemplate::new(self, session, template)?),
            _ => return Err(Rv(CKR_TEMPLATE_INCONSISTENT)),
        };
        let plain = self.unwrapped(session, mechanism, unwrapping, wrapped)?;
        match secret {
            Some(secret) => secret.make(self, session, plain),
            None => {
                let material = pkcs8(&plain).ok_or(Rv(CKR_WRAPPED_KEY_INVALID))?;
                self.import(session, template, material)
            }
        }
    }

    /// C_SetAttributeValue: labels and identifiers. Other attributes may be set only to the value that they have.
    pub(crate) fn set_attributes(
        &self,
        session: CK_SESSION_HANDLE,
        handle: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result {
        let object = self.object(session, handle)?;
        if let Location::Session(_) = object.location {
            return self.set_session_attributes(session, handle, &object, template);
        }
        let (mut label, mut id) = (None, None);
        for (kind, value) in template.attributes() {
            match (*kind, attributes::get(&object, *kind)) {
                (_, Value::Known(known)) if known == **value => {}
                (CKA_LABEL, Value::Known(_)) => label = template.text(CKA_LABEL)?,
                (CKA_ID, Value::Known(_)) | (CKA_OBJECT_ID, Value::Known(_)) => {
                    id = Some(value.to_vec());
                }
                // NSS and Java set the subject of a key before they store its certificate.
                (CKA_SUBJECT, Value::Known(_)) if object.is_on_card() => {}
                (_, Value::Absent) => return Err(Rv(CKR_ATTRIBUTE_TYPE_INVALID)),
                _ => return Err(Rv(CKR_ATTRIBUTE_READ_ONLY)),
            }
        }
        let thing = match (object.location, &object.body) {
            (Location::Key(_), Body::Certificate { .. }) if id.is_some() => {
                // The identifier is that of the key.
                return Err(Rv(CKR_ATTRIBUTE_READ_ONLY));
            }
            (Location::Key(reference), Body::Certificate { .. }) => Thing::Certificate(reference),
            (Location::Key(reference), _) => Thing::Key(reference),
            (Location::Object(number), _) => Thing::Object(number),
            (Location::Module | Location::Session(_), _) => return Err(Rv(CKR_ACTION_PROHIBITED)),
        };
        let slot = self.require_writable(session)?;
        if label.is_none() && id.is_none() {
            return Ok(());
        }
        self.rename(slot, thing, label, id)?;
        self.refresh_objects(slot)
    }

    /// Changes label and identifier of what is on the card, those that are given.
    pub(crate) fn rename(
        &self,
        slot: CK_SLOT_ID,
        thing: Thing,
        label: Option<String>,
        id: Option<Vec<u8>>,
    ) -> Result {
        let request = CardRequest::Rename {
            pin: None,
            thing,
            label,
            id,
        };
        let request = Request::card(self.card(slot)?, request);
        self.change(slot, &request).map_err(of_value).map(drop)
    }

    pub(crate) fn handle_of(
        &self,
        slot: CK_SLOT_ID,
        wanted: impl Fn(&Body, Location) -> bool,
    ) -> Result<CK_OBJECT_HANDLE> {
        let mut state = self.state();
        let mut objects = state.slot(slot)?.objects.iter();
        let found = objects.find(|(_, object)| wanted(&object.body, object.location));
        found.map(|(handle, _)| *handle).ok_or(Rv(CKR_DEVICE_ERROR))
    }
}

fn algorithm_of(key: &PrivateKey) -> Option<KeyAlgorithm> {
    let (size, is_rsa) = match key {
        PrivateKey::Ec { x, .. } => (x.len(), false),
        PrivateKey::Rsa { modulus, .. } => (modulus.len(), true),
    };
    match (is_rsa, size) {
        (false, 32) => Some(KeyAlgorithm::P256),
        (false, 48) => Some(KeyAlgorithm::P384),
        (true, 256) => Some(KeyAlgorithm::Rsa2048),
        (true, 384) => Some(KeyAlgorithm::Rsa3072),
        _ => None,
    }
}

pub(crate) fn content(value: &[u8]) -> Result<Vec<u8>> {
    if value.len() > MAX_VALUE {
        return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
    }
    Ok(value.to_vec())
}

/// The parts of an imported key do not belong together.
fn of_parts(error: Rv) -> Rv {
    match error {
        Rv(CKR_ARGUMENTS_BAD | CKR_FUNCTION_FAILED) => Rv(CKR_ATTRIBUTE_VALUE_INVALID),
        other => other,
    }
}

pub(crate) fn of_value(error: Rv) -> Rv {
    match error {
        Rv(CKR_ARGUMENTS_BAD) => Rv(CKR_ATTRIBUTE_VALUE_INVALID),
        other => other,
    }
}
