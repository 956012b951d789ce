//! Keys and random numbers.

use cryptoki_sys::*;

use super::{bytes, copied, export, mechanism, output, place, template, unsupported};
use crate::module::with;
use crate::output::Output;
use crate::rv::Rv;

export! {
    fn C_GenerateKeyPair(
        session: CK_SESSION_HANDLE,
        chosen: *mut CK_MECHANISM,
        public: *mut CK_ATTRIBUTE,
        public_count: CK_ULONG,
        private: *mut CK_ATTRIBUTE,
        private_count: CK_ULONG,
        public_key: *mut CK_OBJECT_HANDLE,
        private_key: *mut CK_OBJECT_HANDLE,
    )
    with
        let chosen = mechanism(chosen);
        let public = template(public, public_count);
        let private = template(private, private_count);
        let public_key = place(public_key);
        let private_key = place(private_key);
    {
        with(|module| {
            let (first, second) = module.generate(session, chosen, &public, &private)?;
            public_key.write(first);
            private_key.write(second);
            Ok(())
        })
    }
}

export! {
    fn C_DeriveKey(
        session: CK_SESSION_HANDLE,
        chosen: *mut CK_MECHANISM,
        base: CK_OBJECT_HANDLE,
        attributes: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    )
    with
        let chosen = mechanism(chosen);
        let attributes = template(attributes, count);
        let key = place(key);
    {
        with(|module| {
            key.write(module.derive(session, chosen, base, &attributes)?);
            Ok(())
        })
    }
}

export! {
    fn C_WrapKey(
        session: CK_SESSION_HANDLE,
        chosen: *mut CK_MECHANISM,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE,
        wrapped_length: *mut CK_ULONG,
    )
    with
        let chosen = mechanism(chosen);
        let result = output(wrapped, wrapped_length);
    { with(|module| module.wrap(session, chosen, wrapping, key, result)) }
}

export! {
    fn C_UnwrapKey(
        session: CK_SESSION_HANDLE,
        chosen: *mut CK_MECHANISM,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE,
        length: CK_ULONG,
        attributes: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    )
    with
        let chosen = mechanism(chosen);
        let wrapped = copied(wrapped, length);
        let attributes = template(attributes, count);
        let key = place(key);
    {
        with(|module| {
            key.write(module.unwrap(session, chosen, unwrapping, &wrapped, &attributes)?);
            Ok(())
        })
    }
}

export! {
    fn C_GenerateRandom(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG)
    {
        if length == 0 {
            return with(|module| module.slot_of(session).map(drop));
        }
        let mut length = length;
        // SAFETY: valid for writing by the caller's promise.
        match unsafe { output(data, &raw mut length) }? {
            Output::Buffer(buffer, _) => with(|module| module.random_bytes(session, buffer)),
            Output::Length(_) => Err(Rv(CKR_ARGUMENTS_BAD)),
        }
    }
}

export! {
    fn C_SeedRandom(session: CK_SESSION_HANDLE, seed: *mut CK_BYTE, length: CK_ULONG)
    with let _seed = bytes(seed, length);
    {
        with(|module| module.slot_of(session))?;
        Err(Rv(CKR_RANDOM_SEED_NOT_SUPPORTED))
    }
}

unsupported! { CKR_FUNCTION_NOT_PARALLEL:
    C_GetFunctionStatus(CK_SESSION_HANDLE);
    C_CancelFunction(CK_SESSION_HANDLE);
}

unsupported! { CKR_FUNCTION_NOT_SUPPORTED:
    C_GenerateKey(CK_SESSION_HANDLE, *mut CK_MECHANISM, *mut CK_ATTRIBUTE, CK_ULONG, *mut CK_OBJECT_HANDLE);
}
