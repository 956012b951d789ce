//! Every function after C_Finalize, with a session that does not exist, and before its Init function.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::context::{Context, NONE, Outcome, refused};
use crate::module::{Module, raw, result};

/// Calls a function with valid arguments and this session.
pub(crate) type Call = fn(&Module, CK_SESSION_HANDLE, &mut Places) -> CK_RV;
/// A function and its name.
pub(crate) type Function = (&'static str, Call);

/// Memory for the arguments; no call gets so far as to use it for its purpose.
pub(crate) struct Places {
    mechanism: CK_MECHANISM,
    attribute: CK_ATTRIBUTE,
    long: CK_ULONG,
    /// Aligned for every structure.
    bytes: [CK_ULONG; 75],
}

macro_rules! argument {
    ($s:ident, $p:ident, session) => {
        $s
    };
    ($s:ident, $p:ident, bytes) => {
        $p.bytes.as_mut_ptr().cast()
    };
    ($s:ident, $p:ident, long) => {
        &raw mut $p.long
    };
    ($s:ident, $p:ident, mechanism) => {
        &raw mut $p.mechanism
    };
    ($s:ident, $p:ident, attribute) => {
        &raw mut $p.attribute
    };
    ($s:ident, $p:ident, null) => {
        null_mut()
    };
    ($s:ident, $p:ident, $value:expr) => {
        $value
    };
}

macro_rules! functions {
    ($($name:ident($($argument:tt),*);)+) => {
        &[$((stringify!($name), |m, s, p| {
            // Not every function takes a session and places.
            let _ = (s, &p);
            raw!(m, $name($(argument!(s, p, $argument)),*))
        })),+]
    };
}

/// Functions without a session.
pub(crate) const OF_MODULE: &[Function] = functions! {
    C_GetInfo(bytes);
    C_GetSlotList(0, null, long);
    C_GetSlotInfo(0, bytes);
    C_GetTokenInfo(0, bytes);
    C_WaitForSlotEvent(CKF_DONT_BLOCK, long, null);
    C_GetMechanismList(0, null, long);
    C_GetMechanismInfo(0, CKM_RSA_PKCS, bytes);
    C_InitToken(0, bytes, 8, bytes);
    C_OpenSession(0, CKF_SERIAL_SESSION, null, None, long);
    C_CloseAllSessions(0);
    C_Finalize(null);
};

/// Functions with a session.
pub(crate) const OF_SESSION: &[Function] = functions! {
    C_CloseSession(session);
    C_GetSessionInfo(session, bytes);
    C_InitPIN(session, bytes, 16);
    C_SetPIN(session, bytes, 6, bytes, 6);
    C_Login(session, CKU_USER, bytes, 6);
    C_Logout(session);
    C_CreateObject(session, attribute, 1, long);
    C_CopyObject(session, 1, attribute, 1, long);
    C_DestroyObject(session, 1);
    C_GetObjectSize(session, 1, long);
    C_GetAttributeValue(session, 1, attribute, 1);
    C_SetAttributeValue(session, 1, attribute, 1);
    C_FindObjectsInit(session, null, 0);
    C_FindObjects(session, bytes, 1, long);
    C_FindObjectsFinal(session);
    C_EncryptInit(session, mechanism, 1);
    C_Encrypt(session, bytes, 16, bytes, long);
    C_EncryptUpdate(session, bytes, 16, bytes, long);
    C_EncryptFinal(session, bytes, long);
    C_DecryptInit(session, mechanism, 1);
    C_Decrypt(session, bytes, 16, bytes, long);
    C_DecryptUpdate(session, bytes, 16, bytes, long);
    C_DecryptFinal(session, bytes, long);
    C_DigestInit(session, mechanism);
    C_Digest(session, bytes, 16, bytes, long);
    C_DigestUpdate(session, bytes, 16);
    C_DigestKey(session, 1);
    C_DigestFinal(session, bytes, long);
    C_SignInit(session, mechanism, 1);
    C_Sign(session, bytes, 16, bytes, long);
    C_SignUpdate(session, bytes, 16);
    C_SignFinal(session, bytes, long);
    C_VerifyInit(session, mechanism, 1);
    C_Verify(session, bytes, 16, bytes, 16);
    C_VerifyUpdate(session, bytes, 16);
    C_VerifyFinal(session, bytes, 16);
    C_GenerateKeyPair(session, mechanism, attribute, 1, attribute, 1, bytes, long);
    C_WrapKey(session, mechanism, 1, 1, bytes, long);
    C_UnwrapKey(session, mechanism, 1, bytes, 16, attribute, 1, long);
    C_DeriveKey(session, mechanism, 1, attribute, 1, long);
    C_SeedRandom(session, bytes, 16);
    C_GenerateRandom(session, bytes, 16);
};

/// Functions that require a running operation.
pub(crate) const OF_OPERATION: &[&str] = &[
    "C_Encrypt",
    "C_Decrypt",
    "C_DecryptFinal",
    "C_Digest",
    "C_DigestUpdate",
    "C_DigestFinal",
    "C_Sign",
    "C_SignUpdate",
    "C_SignFinal",
    "C_Verify",
    "C_VerifyUpdate",
    "C_VerifyFinal",
];

fn call((name, call): Function, module: &Module, session: CK_SESSION_HANDLE) -> CK_RV {
    let kind = match name {
        "C_GenerateKeyPair" => CKM_EC_KEY_PAIR_GEN,
        "C_DeriveKey" => CKM_AES_ECB,
        _ => CKM_SHA256,
    };
    let mut places = Places {
        mechanism: CK_MECHANISM {
            mechanism: kind,
            pParameter: null_mut(),
            ulParameterLen: 0,
        },
        attribute: CK_ATTRIBUTE {
            type_: CKA_LABEL,
            pValue: null_mut(),
            ulValueLen: 0,
        },
        long: 16,
        bytes: [0; 75],
    };
    call(module, session, &mut places)
}

pub(crate) fn after_finalize(c: &Context, function: Function) -> Outcome {
    c.finalize()?;
    refused(result(call(function, c, 1)), [CKR_CRYPTOKI_NOT_INITIALIZED])
}

pub(crate) fn without_session(c: &Context, function: Function) -> Outcome {
    refused(
        result(call(function, c, NONE)),
        [CKR_SESSION_HANDLE_INVALID],
    )
}

pub(crate) fn before_init(c: &Context, name: &str) -> Outcome {
    let function = OF_SESSION.iter().find(|(known, _)| *known == name);
    let value = call(*function.expect("in the table"), c, c.user()?.handle);
    refused(result(value), [CKR_OPERATION_NOT_INITIALIZED])
}
