//! Encryption, decryption, digests, signatures and their verification.

use cryptoki_sys::*;

use super::{bytes, copied, export, mechanism_or_end, output, unsupported};
use crate::module::with;

export! {
    fn C_EncryptInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
    with let chosen = mechanism_or_end(chosen);
    {
        with(|module| match chosen {
            Some(chosen) => module.encrypt_begin(session, &chosen, key),
            None => module.end_operation(session, |session| session.encryption.take().is_some()),
        })
    }
}

export! {
    fn C_Encrypt(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        cryptogram: *mut CK_BYTE,
        cryptogram_length: *mut CK_ULONG,
    )
    with
        let data = copied(data, length);
        let result = output(cryptogram, cryptogram_length);
    { with(|module| module.encrypt_end(session, Some(&data), result)) }
}

export! {
    fn C_EncryptUpdate(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        cryptogram: *mut CK_BYTE,
        cryptogram_length: *mut CK_ULONG,
    )
    with
        let data = copied(data, length);
        let result = output(cryptogram, cryptogram_length);
    {
        with(|module| module.encrypt_update(session, &data))?;
        // Everything comes out at the end.
        { result }.room(0).map(drop)
    }
}

export! {
    fn C_EncryptFinal(session: CK_SESSION_HANDLE, cryptogram: *mut CK_BYTE, cryptogram_length: *mut CK_ULONG)
    with let result = output(cryptogram, cryptogram_length);
    { with(|module| module.encrypt_end(session, None, result)) }
}

export! {
    fn C_DecryptInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
    with let chosen = mechanism_or_end(chosen);
    {
        with(|module| match chosen {
            Some(chosen) => module.decrypt_begin(session, &chosen, key),
            None => module.end_operation(session, |session| session.decryption.take().is_some()),
        })
    }
}

export! {
    fn C_Decrypt(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        plain: *mut CK_BYTE,
        plain_length: *mut CK_ULONG,
    )
    with
        let data = copied(data, length);
        let result = output(plain, plain_length);
    { with(|module| module.decrypt_end(session, Some(&data), result)) }
}

export! {
    fn C_DecryptUpdate(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        plain: *mut CK_BYTE,
        plain_length: *mut CK_ULONG,
    )
    with
        let data = copied(data, length);
        let result = output(plain, plain_length);
    {
        with(|module| module.decrypt_update(session, &data))?;
        // Everything comes out at the end.
        { result }.room(0).map(drop)
    }
}

export! {
    fn C_DecryptFinal(session: CK_SESSION_HANDLE, plain: *mut CK_BYTE, plain_length: *mut CK_ULONG)
    with let result = output(plain, plain_length);
    { with(|module| module.decrypt_end(session, None, result)) }
}

export! {
    fn C_DigestInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM)
    with let chosen = mechanism_or_end(chosen);
    {
        with(|module| match chosen {
            Some(chosen) => module.digest_begin(session, chosen.kind),
            None => module.end_operation(session, |session| session.digest.take().is_some()),
        })
    }
}

export! {
    fn C_Digest(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        digest: *mut CK_BYTE,
        digest_length: *mut CK_ULONG,
    )
    with
        let data = copied(data, length);
        let result = output(digest, digest_length);
    { with(|module| module.digest_end(session, Some(&data), result)) }
}

export! {
    fn C_DigestUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG)
    with let data = bytes(data, length);
    { with(|module| module.digest_update(session, data)) }
}

export! {
    fn C_DigestKey(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE)
    { with(|module| module.digest_key(session, key)) }
}

export! {
    fn C_DigestFinal(session: CK_SESSION_HANDLE, digest: *mut CK_BYTE, digest_length: *mut CK_ULONG)
    with let result = output(digest, digest_length);
    { with(|module| module.digest_end(session, None, result)) }
}

export! {
    fn C_SignInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
    with let chosen = mechanism_or_end(chosen);
    {
        with(|module| match chosen {
            Some(chosen) => module.sign_begin(session, &chosen, key),
            None => module.end_operation(session, |session| session.signing.take().is_some()),
        })
    }
}

export! {
    fn C_Sign(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE,
        length: CK_ULONG,
        signature: *mut CK_BYTE,
        signature_length: *mut CK_ULONG,
    )
    with
        let data = copied(data, length);
        let result = output(signature, signature_length);
    { with(|module| module.sign_end(session, Some(&data), result)) }
}

export! {
    fn C_SignUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG)
    with let data = bytes(data, length);
    { with(|module| module.sign_update(session, data)) }
}

export! {
    fn C_SignFinal(session: CK_SESSION_HANDLE, signature: *mut CK_BYTE, signature_length: *mut CK_ULONG)
    with let result = output(signature, signature_length);
    { with(|module| module.sign_end(session, None, result)) }
}

export! {
    fn C_VerifyInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
    with let chosen = mechanism_or_end(chosen);
    {
        with(|module| match chosen {
            Some(chosen) => module.verify_begin(session, &chosen, key),
            None => module.end_operation(session, |session| session.verification.take().is_some()),
        })
    }
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
    fn C_VerifyUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG)
    with let data = bytes(data, length);
    { with(|module| module.verify_update(session, data)) }
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
