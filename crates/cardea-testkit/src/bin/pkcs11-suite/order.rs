//! Every function before C_Initialize, after C_Finalize and with a session that is none.

use cryptoki_sys::*;

use crate::Behaviour;
use crate::context::{Context, Outcome, done, refused};
use crate::module::{Module, raw, result};

type Call = fn(&Module, CK_SESSION_HANDLE) -> CK_RV;

/// Places for whatever a function writes; no call comes so far.
struct Places {
    mechanism: CK_MECHANISM,
    attribute: CK_ATTRIBUTE,
    long: CK_ULONG,
    bytes: [u8; 600],
}

impl Places {
    fn new() -> Self {
        Self {
            mechanism: CK_MECHANISM {
                mechanism: CKM_SHA256,
                pParameter: std::ptr::null_mut(),
                ulParameterLen: 0,
            },
            attribute: CK_ATTRIBUTE {
                type_: CKA_LABEL,
                pValue: std::ptr::null_mut(),
                ulValueLen: 0,
            },
            long: 16,
            bytes: [0; 600],
        }
    }
}

/// Functions without a session.
const OF_MODULES: &[(&str, Call)] = &[
    ("C_GetInfo", |m, _| {
        raw!(m, C_GetInfo(Places::new().bytes.as_mut_ptr().cast()))
    }),
    ("C_GetSlotList", |m, _| {
        raw!(
            m,
            C_GetSlotList(0, std::ptr::null_mut(), &mut Places::new().long)
        )
    }),
    ("C_GetSlotInfo", |m, _| {
        raw!(m, C_GetSlotInfo(0, Places::new().bytes.as_mut_ptr().cast()))
    }),
    ("C_GetTokenInfo", |m, _| {
        raw!(
            m,
            C_GetTokenInfo(0, Places::new().bytes.as_mut_ptr().cast())
        )
    }),
    ("C_WaitForSlotEvent", |m, _| {
        raw!(
            m,
            C_WaitForSlotEvent(
                CKF_DONT_BLOCK,
                &mut Places::new().long,
                std::ptr::null_mut()
            )
        )
    }),
    ("C_GetMechanismList", |m, _| {
        raw!(
            m,
            C_GetMechanismList(0, std::ptr::null_mut(), &mut Places::new().long)
        )
    }),
    ("C_GetMechanismInfo", |m, _| {
        raw!(
            m,
            C_GetMechanismInfo(0, CKM_RSA_PKCS, Places::new().bytes.as_mut_ptr().cast())
        )
    }),
    ("C_InitToken", |m, _| {
        raw!(
            m,
            C_InitToken(
                0,
                Places::new().bytes.as_mut_ptr(),
                8,
                Places::new().bytes.as_mut_ptr()
            )
        )
    }),
    ("C_OpenSession", |m, _| {
        raw!(
            m,
            C_OpenSession(
                0,
                CKF_SERIAL_SESSION,
                std::ptr::null_mut(),
                None,
                &mut Places::new().long
            )
        )
    }),
    ("C_CloseAllSessions", |m, _| raw!(m, C_CloseAllSessions(0))),
    ("C_Finalize", |m, _| {
        raw!(m, C_Finalize(std::ptr::null_mut()))
    }),
];

macro_rules! data {
    ($name:ident) => {
        |m, s| raw!(m, $name(s, Places::new().bytes.as_mut_ptr(), 16))
    };
}
macro_rules! data_and_result {
    ($name:ident) => {
        |m, s| {
            raw!(
                m,
                $name(
                    s,
                    Places::new().bytes.as_mut_ptr(),
                    16,
                    Places::new().bytes.as_mut_ptr(),
                    &mut Places::new().long
                )
            )
        }
    };
}
macro_rules! only_result {
    ($name:ident) => {
        |m, s| {
            raw!(
                m,
                $name(s, Places::new().bytes.as_mut_ptr(), &mut Places::new().long)
            )
        }
    };
}
macro_rules! begin {
    ($name:ident) => {
        |m, s| raw!(m, $name(s, &mut Places::new().mechanism, 1))
    };
}
macro_rules! bare {
    ($name:ident) => {
        |m, s| raw!(m, $name(s))
    };
}

/// Functions with a session, which is their first argument.
const OF_SESSIONS: &[(&str, Call)] = &[
    ("C_CloseSession", bare!(C_CloseSession)),
    ("C_GetSessionInfo", |m, s| {
        raw!(
            m,
            C_GetSessionInfo(s, Places::new().bytes.as_mut_ptr().cast())
        )
    }),
    ("C_InitPIN", data!(C_InitPIN)),
    ("C_SetPIN", |m, s| {
        raw!(
            m,
            C_SetPIN(
                s,
                Places::new().bytes.as_mut_ptr(),
                6,
                Places::new().bytes.as_mut_ptr(),
                6
            )
        )
    }),
    ("C_Login", |m, s| {
        raw!(m, C_Login(s, CKU_USER, Places::new().bytes.as_mut_ptr(), 6))
    }),
    ("C_Logout", bare!(C_Logout)),
    ("C_CreateObject", |m, s| {
        raw!(
            m,
            C_CreateObject(s, &mut Places::new().attribute, 1, &mut Places::new().long)
        )
    }),
    ("C_CopyObject", |m, s| {
        raw!(
            m,
            C_CopyObject(
                s,
                1,
                &mut Places::new().attribute,
                1,
                &mut Places::new().long
            )
        )
    }),
    ("C_DestroyObject", |m, s| raw!(m, C_DestroyObject(s, 1))),
    ("C_GetObjectSize", |m, s| {
        raw!(m, C_GetObjectSize(s, 1, &mut Places::new().long))
    }),
    ("C_GetAttributeValue", |m, s| {
        raw!(
            m,
            C_GetAttributeValue(s, 1, &mut Places::new().attribute, 1)
        )
    }),
    ("C_SetAttributeValue", |m, s| {
        raw!(
            m,
            C_SetAttributeValue(s, 1, &mut Places::new().attribute, 1)
        )
    }),
    ("C_FindObjectsInit", |m, s| {
        raw!(m, C_FindObjectsInit(s, std::ptr::null_mut(), 0))
    }),
    ("C_FindObjects", |m, s| {
        raw!(
            m,
            C_FindObjects(s, &mut Places::new().long, 1, &mut Places::new().long)
        )
    }),
    ("C_FindObjectsFinal", bare!(C_FindObjectsFinal)),
    ("C_EncryptInit", begin!(C_EncryptInit)),
    ("C_Encrypt", data_and_result!(C_Encrypt)),
    ("C_EncryptUpdate", data_and_result!(C_EncryptUpdate)),
    ("C_EncryptFinal", only_result!(C_EncryptFinal)),
    ("C_DecryptInit", begin!(C_DecryptInit)),
    ("C_Decrypt", data_and_result!(C_Decrypt)),
    ("C_DecryptUpdate", data_and_result!(C_DecryptUpdate)),
    ("C_DecryptFinal", only_result!(C_DecryptFinal)),
    ("C_DigestInit", |m, s| {
        raw!(m, C_DigestInit(s, &mut Places::new().mechanism))
    }),
    ("C_Digest", data_and_result!(C_Digest)),
    ("C_DigestUpdate", data!(C_DigestUpdate)),
    ("C_DigestKey", |m, s| raw!(m, C_DigestKey(s, 1))),
    ("C_DigestFinal", only_result!(C_DigestFinal)),
    ("C_SignInit", begin!(C_SignInit)),
    ("C_Sign", data_and_result!(C_Sign)),
    ("C_SignUpdate", data!(C_SignUpdate)),
    ("C_SignFinal", only_result!(C_SignFinal)),
    ("C_VerifyInit", begin!(C_VerifyInit)),
    ("C_Verify", |m, s| {
        raw!(
            m,
            C_Verify(
                s,
                Places::new().bytes.as_mut_ptr(),
                16,
                Places::new().bytes.as_mut_ptr(),
                16
            )
        )
    }),
    ("C_VerifyUpdate", data!(C_VerifyUpdate)),
    ("C_VerifyFinal", data!(C_VerifyFinal)),
    ("C_GenerateKeyPair", |m, s| {
        let mut places = Places::new();
        places.mechanism.mechanism = CKM_EC_KEY_PAIR_GEN;
        raw!(
            m,
            C_GenerateKeyPair(
                s,
                &raw mut places.mechanism,
                &raw mut places.attribute,
                1,
                &mut Places::new().attribute,
                1,
                &raw mut places.long,
                &mut Places::new().long
            )
        )
    }),
    ("C_WrapKey", |m, s| {
        raw!(
            m,
            C_WrapKey(
                s,
                &mut Places::new().mechanism,
                1,
                1,
                Places::new().bytes.as_mut_ptr(),
                &mut Places::new().long
            )
        )
    }),
    ("C_UnwrapKey", |m, s| {
        raw!(
            m,
            C_UnwrapKey(
                s,
                &mut Places::new().mechanism,
                1,
                Places::new().bytes.as_mut_ptr(),
                16,
                &mut Places::new().attribute,
                1,
                &mut Places::new().long
            )
        )
    }),
    ("C_DeriveKey", |m, s| {
        let mut places = Places::new();
        places.mechanism.mechanism = CKM_AES_ECB;
        raw!(
            m,
            C_DeriveKey(
                s,
                &raw mut places.mechanism,
                1,
                &raw mut places.attribute,
                1,
                &raw mut places.long
            )
        )
    }),
    ("C_SeedRandom", data!(C_SeedRandom)),
    ("C_GenerateRandom", data!(C_GenerateRandom)),
];

pub(crate) fn behaviours() -> Vec<Behaviour> {
    let mut all: Vec<Behaviour> = Vec::new();
    for (name, call) in OF_MODULES.iter().chain(OF_SESSIONS) {
        all.push((
            format!("{name}_after_finalize_is_refused"),
            Box::new(move |context| after_finalize(context, *call)),
        ));
    }
    for (name, call) in OF_SESSIONS {
        all.push((
            format!("{name}_without_session_is_refused"),
            Box::new(move |context| without_session(context, *call)),
        ));
    }
    let before: &[(&str, Call)] = &[
        ("C_Encrypt", data_and_result!(C_Encrypt)),
        ("C_Decrypt", data_and_result!(C_Decrypt)),
        ("C_DecryptFinal", only_result!(C_DecryptFinal)),
        ("C_Digest", data_and_result!(C_Digest)),
        ("C_DigestUpdate", data!(C_DigestUpdate)),
        ("C_DigestFinal", only_result!(C_DigestFinal)),
        ("C_Sign", data_and_result!(C_Sign)),
        ("C_SignUpdate", data!(C_SignUpdate)),
        ("C_SignFinal", only_result!(C_SignFinal)),
        ("C_Verify", |m, s| {
            raw!(
                m,
                C_Verify(
                    s,
                    Places::new().bytes.as_mut_ptr(),
                    16,
                    Places::new().bytes.as_mut_ptr(),
                    16
                )
            )
        }),
        ("C_VerifyUpdate", data!(C_VerifyUpdate)),
        ("C_VerifyFinal", data!(C_VerifyFinal)),
    ];
    for (name, call) in before {
        all.push((
            format!("{name}_before_its_init_is_refused"),
            Box::new(move |context| before_init(context, *call)),
        ));
    }
    all
}

fn after_finalize(context: &Context, call: Call) -> Outcome {
    done(context.module.finalize())?;
    refused(
        result(call(&context.module, 1)),
        &[CKR_CRYPTOKI_NOT_INITIALIZED],
    )
}

fn without_session(context: &Context, call: Call) -> Outcome {
    // A closed one, so that a module that has no such function still may say so.
    refused(
        result(call(&context.module, 0x7777_7777)),
        &[CKR_SESSION_HANDLE_INVALID],
    )
}

fn before_init(context: &Context, call: Call) -> Outcome {
    let session = context.user()?;
    refused(
        result(call(&context.module, session)),
        &[CKR_OPERATION_NOT_INITIALIZED],
    )
}
