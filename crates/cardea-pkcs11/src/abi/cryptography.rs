//! Encryption, decryption, digests, signatures and their verification.

use cryptoki_sys::*;

use super::{bytes, copied, export, mechanism_or_end, output, unsupported};
use crate::module::with;
use crate::running::Family;

/// Init functions with a key.
macro_rules! init {
    ($($name:ident $family:ident;)+) => {$(
        export! {
            fn $name(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
            with let chosen = mechanism_or_end(chosen);
            { with(|module| module.begin(session, Family::$family, chosen, key)) }
        }
    )+};
}

/// Functions that take all data and return the result.
macro_rules! one_part {
    ($($name:ident $family:ident;)+) => {$(
        export! {
            fn $name(
                session: CK_SESSION_HANDLE,
                data: *mut CK_BYTE,
                length: CK_ULONG,
                result: *mut CK_BYTE,
                result_length: *mut CK_ULONG,
            )
            with
                let data = copied(data, length);
                let result = output(result, result_length);
            { with(|module| module.finish(session, Family::$family, Some(&data), result)) }
        }
    )+};
}

/// Update functions that return nothing.
macro_rules! update {
    ($($name:ident $family:ident;)+) => {$(
        export! {
            fn $name(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG)
            with let data = bytes(data, length);
            { with(|module| module.update(session, Family::$family, data)) }
        }
    )+};
}

/// Update functions that could return a part of the result. It comes as a whole from the Final function.
macro_rules! update_with_result {
    ($($name:ident $family:ident;)+) => {$(
        export! {
            fn $name(
                session: CK_SESSION_HANDLE,
                data: *mut CK_BYTE,
                length: CK_ULONG,
                result: *mut CK_BYTE,
                result_length: *mut CK_ULONG,
            )
            with
                let data = copied(data, length);
                let result = output(result, result_length);
            {
                with(|module| module.update(session, Family::$family, &data))?;
                { result }.room(0).map(drop)
            }
        }
    )+};
}

/// Final functions that return the result.
macro_rules! last {
    ($($name:ident $family:ident;)+) => {$(
        export! {
            fn $name(session: CK_SESSION_HANDLE, result: *mut CK_BYTE, result_length: *mut CK_ULONG)
            with let result = output(result, result_length);
            { with(|module| module.finish(session, Family::$family, None, result)) }
        }
    )+};
}

init! {
    C_DecryptInit Decrypt;
    C_EncryptInit Encrypt;
    C_SignInit Sign;
    C_VerifyInit Verify;
}

one_part! {
    C_Decrypt Decrypt;
    C_Digest Digest;
    C_Encrypt Encrypt;
    C_Sign Sign;
}

update! {
    C_DigestUpdate Digest;
    C_SignUpdate Sign;
    C_VerifyUpdate Verify;
}

update_with_result! {
    C_DecryptUpdate Decrypt;
    C_EncryptUpdate Encrypt;
}

last! {
    C_DecryptFinal Decrypt;
    C_DigestFinal Digest;
    C_EncryptFinal Encrypt;
    C_SignFinal Sign;
}

export! {
    fn C_DigestInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM)
    with let chosen = mechanism_or_end(chosen);
    { with(|module| module.begin(session, Family::Digest, chosen, CK_INVALID_HANDLE)) }
}

export! {
    fn C_DigestKey(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE)
    { with(|module| module.digest_key(session, key)) }
}

export! {
    fn C_Verify(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        signature: *mut CK_BYTE,
        signature_length: CK_ULONG,
    )
    with
        let data = bytes(data, length);
        let signature = bytes(signature, signature_length);
    { with(|module| module.verify_end(session, Some(data), signature)) }
}

export! {
    fn C_VerifyFinal(session: CK_SESSION_HANDLE, signature: *mut CK_BYTE, length: CK_ULONG)
    with let signature = bytes(signature, length);
    { with(|module| module.verify_end(session, None, signature)) }
}

unsupported! { CKR_FUNCTION_NOT_SUPPORTED:
    C_SignRecoverInit(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE);
    C_SignRecover(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_VerifyRecoverInit(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE);
    C_VerifyRecover(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_DigestEncryptUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_DecryptDigestUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_SignEncryptUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_DecryptVerifyUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
}
