//! What a behaviour is given: an initialised module, a token, and words for what was seen.

use cryptoki_sys::*;

use crate::module::{Attribute, Module, Result};

pub(crate) type Outcome = std::result::Result<(), String>;

/// What the suite is run against.
#[derive(Clone, Debug, Default)]
pub(crate) struct Token {
    pub(crate) module: String,
    pub(crate) label: String,
    pub(crate) pin: String,
    pub(crate) so_pin: String,
}

/// An initialised module and its token.
pub(crate) struct Context {
    pub(crate) token: Token,
    pub(crate) module: Module,
    pub(crate) slot: CK_SLOT_ID,
}

/// Labels of the keys that are always there.
pub(crate) const RSA: &str = "suite rsa";
pub(crate) const EC: &str = "suite ec";

pub(crate) const P256: [u8; 10] = [6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
pub(crate) const P384: [u8; 7] = [6, 5, 0x2B, 0x81, 0x04, 0x00, 0x22];

/// Flags of sessions.
pub(crate) const RO: CK_FLAGS = CKF_SERIAL_SESSION;
pub(crate) const RW: CK_FLAGS = CKF_SERIAL_SESSION | CKF_RW_SESSION;

/// `Err` with what was expected, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}
pub(crate) use ensure;

/// Names of behaviours from the names of their functions.
macro_rules! behaviours {
    ($($name:ident)+) => {
        pub(crate) fn behaviours() -> Vec<crate::Behaviour> {
            vec![$((stringify!($name).to_owned(), Box::new($name))),+]
        }
    };
}
pub(crate) use behaviours;

impl Context {
    pub(crate) fn begin(token: Token) -> Self {
        let module = Module::load(&token.module);
        module.initialize().expect("C_Initialize");
        let mut slots = module.slots(true).expect("C_GetSlotList").into_iter();
        let slot = slots.find(|slot| {
            let info = module.token_info(*slot);
            info.is_ok_and(|info| text(&info.label) == token.label)
        });
        Self {
            slot: slot.expect("the token is there"),
            token,
            module,
        }
    }

    /// The keys that the behaviours use.
    pub(crate) fn make_keys(&self) {
        let session = self.user().unwrap();
        for (label, kind, public, uses) in [
            (
                RSA,
                CKM_RSA_PKCS_KEY_PAIR_GEN,
                rsa_public(2048),
                &[CKA_SIGN, CKA_DECRYPT, CKA_UNWRAP][..],
            ),
            (
                EC,
                CKM_EC_KEY_PAIR_GEN,
                vec![(CKA_EC_PARAMS, P256.to_vec())],
                &[CKA_SIGN, CKA_DERIVE],
            ),
        ] {
            if self.find(session, CKO_PRIVATE_KEY, label).is_ok() {
                continue;
            }
            let (mut public, mut private) = key_templates(label, public);
            private.extend(uses.iter().map(|use_| flag(*use_, true)));
            private.extend([flag(CKA_SENSITIVE, true), flag(CKA_EXTRACTABLE, false)]);
            public.push(flag(CKA_VERIFY, true));
            if label == RSA {
                public.extend([flag(CKA_ENCRYPT, true), flag(CKA_WRAP, true)]);
            }
            self.module
                .generate(session, kind, &public, &private)
                .expect("C_GenerateKeyPair");
        }
    }

    /// A read-write session with the user logged in.
    pub(crate) fn user(&self) -> std::result::Result<CK_SESSION_HANDLE, String> {
        let session = done(self.module.open(self.slot, RW))?;
        match self.module.login(session, CKU_USER, &self.token.pin) {
            Ok(()) | Err(CKR_USER_ALREADY_LOGGED_IN) => Ok(session),
            Err(value) => Err(format!("C_Login failed with {}", name(value))),
        }
    }

    pub(crate) fn public(&self) -> std::result::Result<CK_SESSION_HANDLE, String> {
        done(self.module.open(self.slot, RW))
    }

    /// The one object of this class and label.
    pub(crate) fn find(
        &self,
        session: CK_SESSION_HANDLE,
        class: CK_OBJECT_CLASS,
        label: &str,
    ) -> std::result::Result<CK_OBJECT_HANDLE, String> {
        let found = done(self.module.find(
            session,
            &[long(CKA_CLASS, class), (CKA_LABEL, label.into())],
        ))?;
        match found.as_slice() {
            [object] => Ok(*object),
            several => Err(format!("{} objects {label}", several.len())),
        }
    }

    pub(crate) fn private(
        &self,
        session: CK_SESSION_HANDLE,
        label: &str,
    ) -> std::result::Result<CK_OBJECT_HANDLE, String> {
        self.find(session, CKO_PRIVATE_KEY, label)
    }

    pub(crate) fn public_key(
        &self,
        session: CK_SESSION_HANDLE,
        label: &str,
    ) -> std::result::Result<CK_OBJECT_HANDLE, String> {
        self.find(session, CKO_PUBLIC_KEY, label)
    }

    /// Modulus and exponent of the RSA key, or the point of the other one, for who checks its work.
    pub(crate) fn attribute(
        &self,
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        kind: CK_ATTRIBUTE_TYPE,
    ) -> std::result::Result<Vec<u8>, String> {
        done(self.module.get(session, object, kind))
    }
}

pub(crate) fn rsa_public(bits: CK_ULONG) -> Vec<Attribute> {
    vec![
        long(CKA_MODULUS_BITS, bits),
        (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]),
    ]
}

/// Templates of a key on the token.
pub(crate) fn key_templates(
    label: &str,
    mut public: Vec<Attribute>,
) -> (Vec<Attribute>, Vec<Attribute>) {
    let common = [
        (CKA_LABEL, label.as_bytes().to_vec()),
        flag(CKA_TOKEN, true),
    ];
    public.extend_from_slice(&common);
    let mut private = common.to_vec();
    private.push(flag(CKA_PRIVATE, true));
    (public, private)
}

pub(crate) fn long(kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Attribute {
    (kind, value.to_ne_bytes().to_vec())
}

pub(crate) fn flag(kind: CK_ATTRIBUTE_TYPE, value: bool) -> Attribute {
    (kind, vec![u8::from(value)])
}

/// A blank-padded field.
pub(crate) fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim_end().to_owned()
}

/// What was to succeed.
pub(crate) fn done<T>(result: Result<T>) -> std::result::Result<T, String> {
    result.map_err(|value| format!("it failed with {}", name(value)))
}

/// What was to be refused with one of these values.
pub(crate) fn refused<T>(result: Result<T>, allowed: &[CK_RV]) -> Outcome {
    match result {
        Err(value) if allowed.contains(&value) => Ok(()),
        Err(value) => Err(format!("it failed with {}", name(value))),
        Ok(_) => Err("it succeeded".into()),
    }
}

/// Return values by name, as far as they come up here.
pub(crate) fn name(value: CK_RV) -> String {
    macro_rules! names {
        ($($name:ident)+) => {
            match value {
                $($name => stringify!($name).into(),)+
                other => format!("0x{other:X}"),
            }
        };
    }
    names! {
        CKR_OK CKR_HOST_MEMORY CKR_SLOT_ID_INVALID CKR_GENERAL_ERROR CKR_FUNCTION_FAILED CKR_ARGUMENTS_BAD
        CKR_NO_EVENT CKR_CANT_LOCK CKR_ATTRIBUTE_READ_ONLY CKR_ATTRIBUTE_SENSITIVE CKR_ATTRIBUTE_TYPE_INVALID
        CKR_ATTRIBUTE_VALUE_INVALID CKR_ACTION_PROHIBITED CKR_DATA_INVALID CKR_DATA_LEN_RANGE CKR_DEVICE_ERROR
        CKR_DEVICE_MEMORY CKR_DEVICE_REMOVED CKR_ENCRYPTED_DATA_INVALID CKR_ENCRYPTED_DATA_LEN_RANGE
        CKR_FUNCTION_CANCELED CKR_FUNCTION_NOT_PARALLEL CKR_FUNCTION_NOT_SUPPORTED CKR_KEY_HANDLE_INVALID
        CKR_KEY_SIZE_RANGE CKR_KEY_TYPE_INCONSISTENT CKR_KEY_INDIGESTIBLE CKR_KEY_FUNCTION_NOT_PERMITTED
        CKR_KEY_NOT_WRAPPABLE CKR_KEY_UNEXTRACTABLE CKR_MECHANISM_INVALID CKR_MECHANISM_PARAM_INVALID
        CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE CKR_OPERATION_NOT_INITIALIZED CKR_PIN_INCORRECT
        CKR_PIN_INVALID CKR_PIN_LEN_RANGE CKR_PIN_LOCKED CKR_SESSION_CLOSED CKR_SESSION_COUNT
        CKR_SESSION_HANDLE_INVALID CKR_SESSION_PARALLEL_NOT_SUPPORTED CKR_SESSION_READ_ONLY CKR_SESSION_EXISTS
        CKR_SESSION_READ_ONLY_EXISTS CKR_SESSION_READ_WRITE_SO_EXISTS CKR_SIGNATURE_INVALID
        CKR_SIGNATURE_LEN_RANGE CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT CKR_TOKEN_NOT_PRESENT
        CKR_TOKEN_NOT_RECOGNIZED CKR_TOKEN_WRITE_PROTECTED CKR_UNWRAPPING_KEY_HANDLE_INVALID
        CKR_USER_ALREADY_LOGGED_IN CKR_USER_NOT_LOGGED_IN CKR_USER_PIN_NOT_INITIALIZED CKR_USER_TYPE_INVALID
        CKR_USER_ANOTHER_ALREADY_LOGGED_IN CKR_WRAPPED_KEY_INVALID CKR_WRAPPED_KEY_LEN_RANGE
        CKR_RANDOM_SEED_NOT_SUPPORTED CKR_RANDOM_NO_RNG CKR_DOMAIN_PARAMS_INVALID CKR_CURVE_NOT_SUPPORTED
        CKR_BUFFER_TOO_SMALL CKR_STATE_UNSAVEABLE CKR_CRYPTOKI_NOT_INITIALIZED
        CKR_CRYPTOKI_ALREADY_INITIALIZED
    }
}
