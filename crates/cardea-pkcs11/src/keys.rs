//! Key generation and agreement (PKCS#11 3.1 §5.18) and random numbers (§5.20).

use cardea_client::message::{
    CardRequest, NewKey, Operation, PublicKey, Reply, Request, SessionKeyMaterial, TpmRequest,
};
use cardea_terms::{KeyAlgorithm, KeyClass};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::attributes::{P256, P384};
use crate::kdf::MAX_DERIVED;
use crate::key_material::{ec_point, is_f4};
use crate::mechanisms::{Keys, Mechanism, Scheme};
use crate::module::Module;
use crate::object::{Body, Given};
use crate::random;
use crate::rv::{About, Result, Rv};
use crate::template::Template;

/// Longest label of a key of the card, in bytes.
const MAX_LABEL: usize = 127;
/// Longest identifier of a key of the card.
const MAX_ID: usize = 255;

impl Module {
    /// C_GenerateKeyPair: returns the public and the private handle.
    pub(crate) fn generate(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        public: &Template,
        private: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        let slot = self.slot_of(session)?;
        let (row, _) = mechanism.for_function(CKF_GENERATE_KEY_PAIR)?;
        let (algorithm, key_type) = match row.keys {
            Keys::Ec => (ec_algorithm(public)?, CKK_EC),
            Keys::None => return Err(Rv(CKR_MECHANISM_INVALID)),
            Keys::Rsa => (rsa_algorithm(public)?, CKK_RSA),
        };
        for (template, class) in [(public, CKO_PUBLIC_KEY), (private, CKO_PRIVATE_KEY)] {
            template.require_long(CKA_CLASS, class)?;
            template.require_long(CKA_KEY_TYPE, key_type)?;
        }
        private.require_sensitive()?;
        self.require_algorithm(slot, algorithm)?;
        if !private.is_for_token()? {
            let material = SessionKeyMaterial::Generated(algorithm);
            return self.make_session_pair(session, material, public, private);
        }
        let key = new_key(private, Some(public))?;
        let slot = self.require_writable(session)?;
        let request = Request::card(
            self.card(slot)?,
            CardRequest::GenerateKey {
                pin: None,
                key,
                algorithm,
            },
        );
        let Reply::Key(made) = self.change(slot, &request)? else {
            return Err(Rv(CKR_DEVICE_ERROR));
        };
        self.refresh_objects(slot)?;
        self.state().key_pair(slot, made.reference)
    }

    /// C_DeriveKey by ECDH, with or without a derivation function. The result is a secret key of this session.
    pub(crate) fn derive(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        base: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        self.slot_of(session)?;
        let (_, Scheme::Ecdh { public, kdf }) = mechanism.for_function(CKF_DERIVE)? else {
            return Err(Rv(CKR_MECHANISM_INVALID));
        };
        let key = self.private_key(session, base)?;
        let size = key.size();
        if key.is_rsa() {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        }
        let secret = SecretTemplate::new(self, session, template)?;
        // Before the TPM is asked, and before anything is as long as the program says.
        let length = match (&kdf, secret.length()) {
            (None, None) => size,
            (None, Some(length)) if (1..=size).contains(&length) => length,
            // A function's output is as long as is asked for; there is no length to take instead.
            (Some(_), None) => return Err(Rv(CKR_TEMPLATE_INCOMPLETE)),
            (Some(_), Some(length)) if (1..=MAX_DERIVED).contains(&length) => length,
            _ => return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID)),
        };
        let Some(PublicKey::Ec { x, y }) = ec_point(size, &public) else {
            return Err(Rv(CKR_MECHANISM_PARAM_INVALID));
        };
        let operation = Operation::Ecdh { x, y };
        let shared = self
            .use_key(session, &key, operation, None)
            .map_err(|error| match error {
                // The point is not on the curve.
                Rv(CKR_DATA_INVALID) => Rv(CKR_MECHANISM_PARAM_INVALID),
                other => other,
            })?;
        let value = match kdf {
            Some(kdf) => kdf.derive(&shared, length),
            None => {
                // The leading bytes are dropped (PKCS#11 3.1 §6.3.16).
                let end = shared.get(shared.len() - length..).unwrap_or_default();
                Zeroizing::new(end.to_vec())
            }
        };
        secret.make(self, session, value)
    }

    /// C_GenerateRandom: the kernel's random bytes, mixed with the TPM's.
    pub(crate) fn random_bytes(&self, session: CK_SESSION_HANDLE, buffer: &mut [u8]) -> Result {
        self.slot_of(session)?;
        random::fill(buffer)?;
        let reply = self.ask(&Request::Tpm(TpmRequest::Random), About::Token)?;
        let Reply::Result(seed) = reply else {
            return Err(Rv(CKR_DEVICE_ERROR));
        };
        random::mix(seed.expose(), buffer);
        Ok(())
    }
}

fn rsa_algorithm(public: &Template) -> Result<KeyAlgorithm> {
    if public.get(CKA_PUBLIC_EXPONENT).is_some_and(|e| !is_f4(e)) {
        return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
    }
    let bits = public.long(CKA_MODULUS_BITS)?;
    match bits.ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))? {
        2048 => Ok(KeyAlgorithm::Rsa2048),
        3072 => Ok(KeyAlgorithm::Rsa3072),
        _ => Err(Rv(CKR_KEY_SIZE_RANGE)),
    }
}

fn ec_algorithm(public: &Template) -> Result<KeyAlgorithm> {
    match public.need(CKA_EC_PARAMS)? {
        curve if curve == P256 => Ok(KeyAlgorithm::P256),
        curve if curve == P384 => Ok(KeyAlgorithm::P384),
        _ => Err(Rv(CKR_CURVE_NOT_SUPPORTED)),
    }
}

/// The properties of a secret key of a session, as given by a template.
pub(crate) struct SecretTemplate {
    kind: CK_KEY_TYPE,
    length: Option<usize>,
    sensitive: bool,
    label: String,
    id: Vec<u8>,
    given: Given,
}

impl SecretTemplate {
    pub(crate) fn new(
        module: &Module,
        session: CK_SESSION_HANDLE,
        template: &Template,
    ) -> Result<Self> {
        template.require_long(CKA_CLASS, CKO_SECRET_KEY)?;
        // Cards cannot store secret keys.
        template.refuse_token()?;
        module.require_seen(session, template)?;
        let length = template.long(CKA_VALUE_LEN)?.map(usize::try_from);
        let length = length
            .transpose()
            .map_err(|_| Rv(CKR_ATTRIBUTE_VALUE_INVALID))?;
        Ok(Self {
            kind: template.long(CKA_KEY_TYPE)?.unwrap_or(CKK_GENERIC_SECRET),
            length,
            sensitive: template.flag(CKA_SENSITIVE)? == Some(true)
                || template.flag(CKA_EXTRACTABLE)? == Some(false),
            label: template.short_text(CKA_LABEL)?,
            id: template.short_bytes(CKA_ID)?,
            given: template.given(CKO_SECRET_KEY)?,
        })
    }

    /// `CKA_VALUE_LEN`, or the only length of a key of this type.
    fn length(&self) -> Option<usize> {
        self.length.or(match self.kind {
            CKK_DES => Some(8),
            CKK_DES2 => Some(16),
            CKK_DES3 => Some(24),
            _ => None,
        })
    }

    pub(crate) fn make(
        self,
        module: &Module,
        session: CK_SESSION_HANDLE,
        value: Zeroizing<Vec<u8>>,
    ) -> Result<CK_OBJECT_HANDLE> {
        if self.length.is_some_and(|length| length != value.len()) {
            return Err(Rv(CKR_TEMPLATE_INCONSISTENT));
        }
        let body = Body::Secret {
            kind: self.kind,
            value,
            sensitive: self.sensitive,
        };
        module
            .state()
            .add_object(session, self.label, self.id, self.given, body)
    }
}

/// Label, identifier and usage of a new key of the card.
pub(crate) fn new_key(private: &Template, public: Option<&Template>) -> Result<NewKey> {
    let names = private.names(public.unwrap_or(private))?;
    named_key(names, key_class(private)?, is_sign_only(private)?)
}

/// A new key of the card, with its label and its identifier if they are not empty.
pub(crate) fn named_key(
    (label, id): (String, Vec<u8>),
    class: KeyClass,
    sign_only: bool,
) -> Result<NewKey> {
    if id.len() > MAX_ID || label.len() > MAX_LABEL {
        return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
    }
    Ok(NewKey {
        label: Some(label).filter(|label| !label.is_empty()),
        class,
        sign_only,
        id: Some(id).filter(|id| !id.is_empty()),
    })
}

pub(crate) fn key_class(private: &Template) -> Result<KeyClass> {
    Ok(match private.flag(CKA_ALWAYS_AUTHENTICATE)? {
        Some(true) => KeyClass::Always,
        Some(false) | None => KeyClass::Session,
    })
}

pub(crate) fn is_sign_only(private: &Template) -> Result<bool> {
    Ok(private.flag(CKA_DECRYPT)? == Some(false) && private.flag(CKA_UNWRAP)? != Some(true))
}
