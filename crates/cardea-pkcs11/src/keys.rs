//! Key management (PKCS#11 2.40 §5.13) and random numbers (§5.14).

use cardea_client::message::{NewKey, Operation, Reply, Request};
use cryptoki_sys::*;

use crate::attributes::{P256, P384};
use crate::module::{LoginState, Module};
use crate::objects::Object;
use crate::rv::{Result, Rv};
use crate::signing::{Mechanism, Parameters};

type Template = [(CK_ATTRIBUTE_TYPE, Vec<u8>)];

fn get(template: &Template, wanted: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
    template
        .iter()
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value.as_slice())
}

fn is_set(template: &Template, wanted: CK_ATTRIBUTE_TYPE) -> bool {
    get(template, wanted) == Some(&[CK_TRUE])
}

impl Module {
    /// C_GenerateKeyPair: public and private handle.
    pub(crate) fn generate(
        &mut self,
        session: CK_SESSION_HANDLE,
        mechanism: CK_MECHANISM_TYPE,
        public: &Template,
        private: &Template,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        if !self.session(session)?.read_write {
            return Err(Rv(CKR_SESSION_READ_ONLY));
        }
        let algorithm = match mechanism {
            CKM_RSA_PKCS_KEY_PAIR_GEN => {
                let bits = get(public, CKA_MODULUS_BITS).ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))?;
                let bits = bits.try_into().map(CK_ULONG::from_ne_bytes);
                if get(public, CKA_PUBLIC_EXPONENT).is_some_and(|e| !is_f4(e)) {
                    return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
                }
                match bits {
                    Ok(2048) => "rsa-2048",
                    Ok(3072) => "rsa-3072",
                    Ok(_) => return Err(Rv(CKR_KEY_SIZE_RANGE)),
                    Err(_) => return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID)),
                }
            }
            CKM_EC_KEY_PAIR_GEN => match get(public, CKA_EC_PARAMS) {
                Some(curve) if curve == P256 => "p-256",
                Some(curve) if curve == P384 => "p-384",
                Some(_) => return Err(Rv(CKR_CURVE_NOT_SUPPORTED)),
                None => return Err(Rv(CKR_TEMPLATE_INCOMPLETE)),
            },
            _ => return Err(Rv(CKR_MECHANISM_INVALID)),
        };
        if is_set(private, CKA_EXTRACTABLE) || get(private, CKA_SENSITIVE) == Some(&[CK_FALSE]) {
            return Err(Rv(CKR_TEMPLATE_INCONSISTENT));
        }
        let slot = self.slot_of(session)?;
        if !matches!(slot.login, LoginState::User) {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        }
        let label = get(private, CKA_LABEL).or_else(|| get(public, CKA_LABEL));
        let label = label
            .filter(|label| !label.is_empty())
            .map(|label| String::from_utf8(label.to_vec()))
            .transpose()
            .map_err(|_| Rv(CKR_ATTRIBUTE_VALUE_INVALID))?;
        let request = Request::GenerateKey {
            card: slot.card.clone(),
            pin: None,
            key: NewKey {
                label,
                always: is_set(private, CKA_ALWAYS_AUTHENTICATE),
                sign_only: get(private, CKA_DECRYPT) == Some(&[CK_FALSE]),
                id: None,
            },
            algorithm: algorithm.to_owned(),
        };
        let Reply::Key(made) = self.change(session, &request)? else {
            return Err(Rv(CKR_DEVICE_ERROR));
        };
        self.refresh_objects(session)?;
        let slot = self.slot_of(session)?;
        let (mut public, mut private) = (None, None);
        for (handle, object) in &slot.objects {
            match object {
                Object::PublicKey(key) if key.reference == made.reference => public = Some(*handle),
                Object::PrivateKey(key) if key.reference == made.reference => {
                    private = Some(*handle);
                }
                _ => {}
            }
        }
        public.zip(private).ok_or(Rv(CKR_DEVICE_ERROR))
    }

    /// C_DeriveKey by ECDH, without derivation function: a secret of this session.
    pub(crate) fn derive(
        &mut self,
        session: CK_SESSION_HANDLE,
        mechanism: &Mechanism,
        base: CK_OBJECT_HANDLE,
        template: &Template,
    ) -> Result<CK_OBJECT_HANDLE> {
        let (CKM_ECDH1_DERIVE, Parameters::Ecdh { public }) =
            (mechanism.kind, &mechanism.parameters)
        else {
            return Err(Rv(CKR_MECHANISM_INVALID));
        };
        let key = self.private_key(session, base)?;
        let size = key.size();
        if key.is_rsa() {
            return Err(Rv(CKR_KEY_TYPE_INCONSISTENT));
        }
        if is_set(template, CKA_TOKEN) {
            return Err(Rv(CKR_TEMPLATE_INCONSISTENT));
        }
        // The point as such, or as OCTET STRING, as clients differ.
        let octets = match public.as_slice() {
            [0x04, length, point @ ..]
                if point.len() == usize::from(*length) && point.first() == Some(&4) =>
            {
                point
            }
            point => point,
        };
        let point = octets
            .strip_prefix(&[0x04])
            .filter(|point| point.len() == 2 * size)
            .ok_or(Rv(CKR_MECHANISM_PARAM_INVALID))?;
        let (x, y) = point.split_at(size);
        let operation = Operation::Ecdh {
            x: x.to_vec(),
            y: y.to_vec(),
        };
        let mut value = self.use_key(session, key.reference, operation)?;
        if let Some(length) = get(template, CKA_VALUE_LEN) {
            let length = length.try_into().map(CK_ULONG::from_ne_bytes);
            match length.map(usize::try_from) {
                Ok(Ok(length)) if (1..=value.len()).contains(&length) => {
                    // The leading bytes are dropped (PKCS#11 2.40 §2.3.8).
                    let start = value.len() - length;
                    value.drain(..start);
                }
                _ => return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID)),
            }
        }
        let handle = self.new_object_handle();
        let secret = Object::Secret { session, value };
        self.slot_of(session)?.objects.insert(handle, secret);
        Ok(handle)
    }
}

/// 65537, with leading zeros or without.
fn is_f4(exponent: &[u8]) -> bool {
    let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
    exponent.get(zeros..) == Some(&[1, 0, 1])
}
