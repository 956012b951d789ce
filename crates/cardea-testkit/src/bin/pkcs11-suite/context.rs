//! What a behaviour is tried on: an initialised module with a token, and how its results are judged.

use std::ops::Deref;

use cryptoki_sys::*;

use crate::module::{Attribute, Module, Result, Rv};

/// Whether a behaviour is as the standard requires.
pub(crate) type Outcome<T = ()> = std::result::Result<T, Difference>;

/// What was seen instead.
#[derive(Debug)]
pub(crate) struct Difference(pub(crate) String);

/// A behaviour: its name, and the function that tries it.
pub(crate) type Row = (&'static str, fn(&Context) -> Outcome);

/// The arguments of the suite.
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
    module: Module,
    pub(crate) slot: CK_SLOT_ID,
}

/// Labels of the keys that every behaviour finds on the token.
pub(crate) const RSA: &str = "suite rsa";
pub(crate) const EC: &str = "suite ec";

pub(crate) const P256: [u8; 10] = [6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
pub(crate) const P384: [u8; 7] = [6, 5, 0x2B, 0x81, 0x04, 0x00, 0x22];

/// A handle, slot, mechanism and hash that do not exist.
pub(crate) const NONE: CK_ULONG = 0x7777_7777;

/// Flags of sessions.
pub(crate) const RO: CK_FLAGS = CKF_SERIAL_SESSION;
pub(crate) const RW: CK_FLAGS = CKF_SERIAL_SESSION | CKF_RW_SESSION;

impl From<Rv> for Difference {
    fn from(Rv(value): Rv) -> Self {
        Self(format!("it failed with {}", name(value)))
    }
}

impl<T: Into<String>> From<T> for Difference {
    fn from(seen: T) -> Self {
        Self(seen.into())
    }
}

/// Returns with what was seen unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($seen:tt)+) => {
        if !$condition {
            return Err(format!($($seen)+).into());
        }
    };
}
pub(crate) use ensure;

impl Deref for Context {
    type Target = Module;

    fn deref(&self) -> &Module {
        &self.module
    }
}

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
            slot: slot.expect("the token is present"),
            token,
            module,
        }
    }

    pub(crate) fn token_flags(&self) -> Result<CK_FLAGS> {
        Ok(self.token_info(self.slot)?.flags)
    }
}

pub(crate) fn rsa_public(bits: CK_ULONG) -> Vec<Attribute> {
    vec![
        long(CKA_MODULUS_BITS, bits),
        bytes(CKA_PUBLIC_EXPONENT, [1, 0, 1]),
    ]
}

pub(crate) fn curve() -> Vec<Attribute> {
    vec![bytes(CKA_EC_PARAMS, P256)]
}

/// Templates of a key on the token.
pub(crate) fn key_templates(
    label: &str,
    mut public: Vec<Attribute>,
) -> (Vec<Attribute>, Vec<Attribute>) {
    let mut private = vec![bytes(CKA_LABEL, label), flag(CKA_TOKEN, true)];
    public.extend_from_slice(&private);
    private.push(flag(CKA_PRIVATE, true));
    (public, private)
}

/// A secret key of a session, without its value.
pub(crate) fn session_secret() -> Vec<Attribute> {
    vec![
        long(CKA_CLASS, CKO_SECRET_KEY),
        long(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        flag(CKA_TOKEN, false),
        flag(CKA_SENSITIVE, false),
        flag(CKA_EXTRACTABLE, true),
    ]
}

pub(crate) fn long(kind: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Attribute {
    bytes(kind, value.to_ne_bytes())
}

pub(crate) fn flag(kind: CK_ATTRIBUTE_TYPE, value: bool) -> Attribute {
    bytes(kind, [u8::from(value)])
}

pub(crate) fn bytes(kind: CK_ATTRIBUTE_TYPE, value: impl AsRef<[u8]>) -> Attribute {
    (kind, value.as_ref().to_vec())
}

/// A blank-padded field.
pub(crate) fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim_end().to_owned()
}

/// The call must fail with one of these values.
pub(crate) fn refused<T>(result: Result<T>, allowed: impl AsRef<[CK_RV]>) -> Outcome {
    match result {
        Err(Rv(value)) if allowed.as_ref().contains(&value) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err("it succeeded".into()),
    }
}

/// Return values by name, as far as they occur here.
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
