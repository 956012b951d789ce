//! The entry points: pointers become slices and references, results become return values, panics stay here.
//!
//! All unsafe code of the crate. Each function relies on what the standard has the caller promise: a pointer is
//! null or valid for the length that comes with it, for the time of the call, and nobody else writes there.

#![expect(unsafe_code, reason = "the interface is C")]
#![expect(non_snake_case, reason = "the standard's names")]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::attributes::{self, Value};
use crate::decryption::oaep_parameters;
use crate::general::{self, CRYPTOKI};
use crate::module::with;
use crate::rv::{Output, Result, Rv};
use crate::signing::{Mechanism, Parameters, pss_parameters};
use crate::slots::MECHANISMS;

/// More attributes than any template has, and longer values than any object.
const MAX_ATTRIBUTES: usize = 256;
const MAX_LENGTH: usize = 1 << 24;

/// A template, copied; values that are secret are erased by who takes them.
type Template = Vec<(CK_ATTRIBUTE_TYPE, Vec<u8>)>;

/// Runs a function's body. A panic is the module's own fault, and stays here.
fn guard(body: impl FnOnce() -> Result) -> CK_RV {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CKR_OK,
        Ok(Err(Rv(value))) => value,
        Err(_) => CKR_GENERAL_ERROR,
    }
}

/// Defines an entry point: each pointer argument is taken with `with`, the body is safe.
macro_rules! export {
    (
        fn $name:ident($($argument:ident: $type:ty),* $(,)?)
        $(with $(let $value:ident = $conversion:ident($($from:ident),+);)+)?
        $body:block
    ) => {
        unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            guard(|| {
                $($(
                    // SAFETY: the caller promises valid pointers, or null, for this call (see the module).
                    let $value = unsafe { $conversion($($from),+) }?;
                )+)?
                $body
            })
        }
    };
}

/// Functions of mechanisms that no card has, and of the standard's past.
macro_rules! unsupported {
    ($result:ident: $($name:ident($($type:ty),*);)+) => {
        $(unsafe extern "C" fn $name($(_: $type),*) -> CK_RV { $result })+
    };
}

/// Input bytes.
///
/// # Safety
///
/// `data` is null or valid for `length` bytes as long as the result is used.
unsafe fn bytes<'a>(data: *const CK_BYTE, length: CK_ULONG) -> Result<&'a [u8]> {
    let length = usize::try_from(length).map_err(|_| Rv(CKR_ARGUMENTS_BAD))?;
    if length == 0 {
        return Ok(&[]);
    }
    if data.is_null() || length > MAX_LENGTH {
        return Err(Rv(CKR_ARGUMENTS_BAD));
    }
    // SAFETY: not null, and valid by the contract.
    Ok(unsafe { slice::from_raw_parts(data, length) })
}

/// The one place of a result.
///
/// # Safety
///
/// `place` is null or valid for writing as long as the result is used.
unsafe fn place<'a, T>(place: *mut T) -> Result<&'a mut MaybeUninit<T>> {
    // SAFETY: valid by the contract; null gives none.
    unsafe { place.cast::<MaybeUninit<T>>().as_mut() }.ok_or(Rv(CKR_ARGUMENTS_BAD))
}

/// Buffer and length of a result (PKCS#11 2.40 §5.2).
///
/// # Safety
///
/// `length` is null or valid; `buffer` is null or valid for writing that many bytes.
unsafe fn output<'a>(buffer: *mut CK_BYTE, length: *mut CK_ULONG) -> Result<Output<'a>> {
    // SAFETY: null or valid by the contract.
    let length = unsafe { length.as_mut() }.ok_or(Rv(CKR_ARGUMENTS_BAD))?;
    if buffer.is_null() {
        return Ok(Output::Length(length));
    }
    let size = usize::try_from(*length).map_or(MAX_LENGTH, |size| size.min(MAX_LENGTH));
    // SAFETY: not null, and valid for `length` bytes by the contract. It is only written.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer, size) };
    Ok(Output::Buffer(buffer, length))
}

/// An array of results of type `T` and its length in elements.
///
/// # Safety
///
/// As [`output`].
unsafe fn list<'a, T>(array: *mut T, count: *mut CK_ULONG) -> Result<List<'a, T>> {
    // SAFETY: null or valid by the contract.
    let count = unsafe { count.as_mut() }.ok_or(Rv(CKR_ARGUMENTS_BAD))?;
    let room = usize::try_from(*count).map_or(MAX_LENGTH, |count| count.min(MAX_LENGTH));
    // SAFETY: not null, and valid for `count` elements by the contract.
    let array =
        (!array.is_null()).then(|| unsafe { slice::from_raw_parts_mut(array.cast(), room) });
    Ok(List { array, count })
}

struct List<'a, T> {
    array: Option<&'a mut [MaybeUninit<T>]>,
    count: &'a mut CK_ULONG,
}

impl<T: Copy> List<'_, T> {
    fn put(self, elements: &[T]) -> Result {
        *self.count = ulong(elements.len());
        let Some(array) = self.array else {
            return Ok(());
        };
        let target = array
            .get_mut(..elements.len())
            .ok_or(Rv(CKR_BUFFER_TOO_SMALL))?;
        for (place, element) in target.iter_mut().zip(elements) {
            place.write(*element);
        }
        Ok(())
    }
}

fn ulong(length: usize) -> CK_ULONG {
    CK_ULONG::try_from(length).unwrap_or(CK_ULONG::MAX)
}

/// The attributes that a caller brings.
///
/// # Safety
///
/// `attributes` is null or valid for `count` elements, each with a value that is null or valid for its length.
unsafe fn template(attributes: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Result<Template> {
    // SAFETY: as this function's contract.
    let attributes = unsafe { attribute_slice(attributes, count) }?;
    attributes
        .iter()
        .map(|attribute| {
            // SAFETY: value and length belong together by the contract.
            let value = unsafe { bytes(attribute.pValue.cast(), attribute.ulValueLen) };
            let value = value.map_err(|_| Rv(CKR_ATTRIBUTE_VALUE_INVALID))?;
            Ok((attribute.type_, value.to_vec()))
        })
        .collect()
}

/// # Safety
///
/// As [`template`].
unsafe fn attribute_slice<'a>(
    attributes: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Result<&'a mut [CK_ATTRIBUTE]> {
    match usize::try_from(count) {
        Ok(0) => Ok(&mut []),
        Ok(count) if count <= MAX_ATTRIBUTES && !attributes.is_null() => {
            // SAFETY: not null, and valid by the contract.
            Ok(unsafe { slice::from_raw_parts_mut(attributes, count) })
        }
        _ => Err(Rv(CKR_ARGUMENTS_BAD)),
    }
}

/// A mechanism and a copy of its parameters.
///
/// # Safety
///
/// `mechanism` is null or valid, its parameter null or valid for its length and of the type that the mechanism has.
unsafe fn mechanism(mechanism: *mut CK_MECHANISM) -> Result<Mechanism> {
    // SAFETY: null or valid by the contract.
    let mechanism = unsafe { mechanism.as_ref() }.ok_or(Rv(CKR_ARGUMENTS_BAD))?;
    let kind = mechanism.mechanism;
    let parameters = match kind {
        CKM_RSA_PKCS_PSS
        | CKM_SHA1_RSA_PKCS_PSS
        | CKM_SHA256_RSA_PKCS_PSS
        | CKM_SHA384_RSA_PKCS_PSS
        | CKM_SHA512_RSA_PKCS_PSS => {
            // SAFETY: of this type by the contract; the length is compared.
            let pss: CK_RSA_PKCS_PSS_PARAMS = unsafe { parameter(mechanism) }?;
            pss_parameters(pss.hashAlg, pss.mgf, pss.sLen)?
        }
        CKM_RSA_PKCS_OAEP => {
            // SAFETY: as above.
            let oaep: CK_RSA_PKCS_OAEP_PARAMS = unsafe { parameter(mechanism) }?;
            // SAFETY: source and length belong together by the contract.
            let label = unsafe { bytes(oaep.pSourceData.cast(), oaep.ulSourceDataLen) };
            let label = label.map_err(|_| Rv(CKR_MECHANISM_PARAM_INVALID))?;
            oaep_parameters(oaep.hashAlg, oaep.mgf, label.to_vec())?
        }
        CKM_ECDH1_DERIVE => {
            // SAFETY: as above.
            let ecdh: CK_ECDH1_DERIVE_PARAMS = unsafe { parameter(mechanism) }?;
            if ecdh.kdf != CKD_NULL || ecdh.ulSharedDataLen != 0 {
                return Err(Rv(CKR_MECHANISM_PARAM_INVALID));
            }
            // SAFETY: point and length belong together by the contract.
            let public = unsafe { bytes(ecdh.pPublicData, ecdh.ulPublicDataLen) };
            Parameters::Ecdh {
                public: public
                    .map_err(|_| Rv(CKR_MECHANISM_PARAM_INVALID))?
                    .to_vec(),
            }
        }
        // OpenSSL's and NSS's callers set lengths for mechanisms without parameters; they mean nothing.
        _ => Parameters::None,
    };
    Ok(Mechanism { kind, parameters })
}

/// # Safety
///
/// The parameter is null or valid for its length; every bit pattern of `T` is a `T`.
unsafe fn parameter<T: Copy>(mechanism: &CK_MECHANISM) -> Result<T> {
    let length = usize::try_from(mechanism.ulParameterLen).unwrap_or(0);
    if mechanism.pParameter.is_null() || length != size_of::<T>() {
        return Err(Rv(CKR_MECHANISM_PARAM_INVALID));
    }
    // SAFETY: not null, long enough; programs in other languages need not align it.
    Ok(unsafe { mechanism.pParameter.cast::<T>().read_unaligned() })
}

/// # Safety
///
/// `arguments` is null or a valid `CK_C_INITIALIZE_ARGS`.
unsafe fn initialize_arguments(arguments: *mut c_void) -> Result<Option<CK_C_INITIALIZE_ARGS>> {
    // SAFETY: null or valid by the contract.
    Ok(unsafe { arguments.cast::<CK_C_INITIALIZE_ARGS>().as_ref() }.copied())
}

export! {
    fn C_Initialize(arguments: *mut c_void)
    with let arguments = initialize_arguments(arguments);
    {
        if let Some(given) = arguments {
            let functions = [
                given.CreateMutex.is_some(),
                given.DestroyMutex.is_some(),
                given.LockMutex.is_some(),
                given.UnlockMutex.is_some(),
            ];
            let some = functions.contains(&true);
            if !given.pReserved.is_null() || (some && functions.contains(&false)) {
                return Err(Rv(CKR_ARGUMENTS_BAD));
            }
            // The caller's locks instead of the system's: there is no use for them here.
            if some && given.flags & CKF_OS_LOCKING_OK == 0 {
                return Err(Rv(CKR_CANT_LOCK));
            }
        }
        general::initialize()
    }
}

export! {
    fn C_Finalize(reserved: *mut c_void)
    {
        if !reserved.is_null() {
            return Err(Rv(CKR_ARGUMENTS_BAD));
        }
        general::finalize()
    }
}

export! {
    fn C_GetInfo(info: *mut CK_INFO)
    with let info = place(info);
    {
        with(|_| {
            info.write(general::info());
            Ok(())
        })
    }
}

export! {
    fn C_GetSlotList(with_token: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG)
    with let slots = list(slots, count);
    {
        with(|module| {
            let refresh = slots.array.is_none();
            let found = module.slot_list(with_token != CK_FALSE, refresh);
            slots.put(&found)
        })
    }
}

export! {
    fn C_GetSlotInfo(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO)
    with let info = place(info);
    {
        with(|module| {
            info.write(module.slot_info(slot)?);
            Ok(())
        })
    }
}

export! {
    fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO)
    with let info = place(info);
    {
        with(|module| {
            info.write(module.token_info(slot)?);
            Ok(())
        })
    }
}

export! {
    fn C_GetMechanismList(slot: CK_SLOT_ID, mechanisms: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG)
    with let mechanisms = list(mechanisms, count);
    {
        with(|module| {
            module.require_token(slot)?;
            let kinds: Vec<_> = MECHANISMS.iter().map(|(kind, ..)| *kind).collect();
            mechanisms.put(&kinds)
        })
    }
}

export! {
    fn C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO)
    with let info = place(info);
    {
        with(|module| {
            info.write(module.mechanism_info(slot, kind)?);
            Ok(())
        })
    }
}

export! {
    fn C_InitToken(slot: CK_SLOT_ID, _pin: *mut CK_UTF8CHAR, _length: CK_ULONG, _label: *mut CK_UTF8CHAR)
    {
        // Keys go with their card, and a card goes by the administrator's hand only.
        with(|module| {
            module.require_token(slot)?;
            module.has_sessions(slot)?;
            Err(Rv(CKR_FUNCTION_NOT_SUPPORTED))
        })
    }
}

export! {
    fn C_InitPIN(session: CK_SESSION_HANDLE, pin: *mut CK_UTF8CHAR, length: CK_ULONG)
    with let pin = bytes(pin, length);
    { with(|module| module.init_pin(session, pin)) }
}

export! {
    fn C_SetPIN(
        session: CK_SESSION_HANDLE,
        old: *mut CK_UTF8CHAR,
        old_length: CK_ULONG,
        new: *mut CK_UTF8CHAR,
        new_length: CK_ULONG,
    )
    with
        let old = bytes(old, old_length);
        let new = bytes(new, new_length);
    { with(|module| module.set_pin(session, old, new)) }
}

export! {
    fn C_OpenSession(
        slot: CK_SLOT_ID,
        flags: CK_FLAGS,
        _application: *mut c_void,
        _notify: CK_NOTIFY,
        session: *mut CK_SESSION_HANDLE,
    )
    with let session = place(session);
    {
        with(|module| {
            session.write(module.open_session(slot, flags)?);
            Ok(())
        })
    }
}

export! {
    fn C_CloseSession(session: CK_SESSION_HANDLE)
    { with(|module| module.close_session(session)) }
}

export! {
    fn C_CloseAllSessions(slot: CK_SLOT_ID)
    { with(|module| module.close_all_sessions(slot)) }
}

export! {
    fn C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO)
    with let info = place(info);
    {
        with(|module| {
            info.write(module.session_info(session)?);
            Ok(())
        })
    }
}

export! {
    fn C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG)
    with let pin = bytes(pin, length);
    { with(|module| module.login(session, user, pin)) }
}

export! {
    fn C_Logout(session: CK_SESSION_HANDLE)
    { with(|module| module.logout(session)) }
}

export! {
    fn C_CreateObject(
        session: CK_SESSION_HANDLE,
        attributes: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        object: *mut CK_OBJECT_HANDLE,
    )
    with
        let object = place(object);
        let attributes = template(attributes, count);
    {
        with(|module| {
            object.write(module.create_object(session, &attributes)?);
            Ok(())
        })
    }
}

export! {
    fn C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE)
    { with(|module| module.destroy_object(session, object)) }
}

export! {
    fn C_GetAttributeValue(
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        attributes: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
    )
    with let attributes = attribute_slice(attributes, count);
    {
        let object = with(|module| module.object(session, object))?;
        let mut result = Ok(());
        for attribute in attributes {
            // SAFETY: value and length belong together by the caller's promise.
            if let Err(error) = unsafe { answer(attribute, &attributes::get(&object, attribute.type_)) } {
                result = Err(error);
            }
        }
        result
    }
}

/// One attribute's value, or only its length (PKCS#11 2.40 §5.7, C_GetAttributeValue).
///
/// # Safety
///
/// The attribute's value is null or valid for writing its length.
unsafe fn answer(attribute: &mut CK_ATTRIBUTE, value: &Value) -> Result {
    let refused = match value {
        Value::Known(value) => {
            let room = usize::try_from(attribute.ulValueLen).unwrap_or(0);
            if attribute.pValue.is_null() || room >= value.len() {
                attribute.ulValueLen = ulong(value.len());
                if !attribute.pValue.is_null() {
                    // SAFETY: valid for `room` bytes by the contract, and it is enough.
                    let target = unsafe {
                        slice::from_raw_parts_mut(attribute.pValue.cast::<u8>(), value.len())
                    };
                    target.copy_from_slice(value);
                }
                return Ok(());
            }
            CKR_BUFFER_TOO_SMALL
        }
        Value::Absent => CKR_ATTRIBUTE_TYPE_INVALID,
        Value::Sensitive => CKR_ATTRIBUTE_SENSITIVE,
    };
    attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
    Err(Rv(refused))
}

export! {
    fn C_FindObjectsInit(session: CK_SESSION_HANDLE, attributes: *mut CK_ATTRIBUTE, count: CK_ULONG)
    with let attributes = template(attributes, count);
    { with(|module| module.find_begin(session, &attributes)) }
}

export! {
    fn C_FindObjects(
        session: CK_SESSION_HANDLE,
        objects: *mut CK_OBJECT_HANDLE,
        most: CK_ULONG,
        count: *mut CK_ULONG,
    )
    with let count = place(count);
    {
        // SAFETY: valid for `most` elements by the caller's promise.
        let objects = unsafe { list(objects, &raw mut *count.write(most)) }?;
        let room = objects.array.as_ref().map_or(0, |array| array.len());
        if objects.array.is_none() && most != 0 {
            return Err(Rv(CKR_ARGUMENTS_BAD));
        }
        with(|module| objects.put(&module.find_next(session, room)?))
    }
}

export! {
    fn C_FindObjectsFinal(session: CK_SESSION_HANDLE)
    { with(|module| module.find_end(session)) }
}

export! {
    fn C_DecryptInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
    with let chosen = mechanism(chosen);
    { with(|module| module.decrypt_begin(session, &chosen, key)) }
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
        // Everything comes out at the end.
        { result }.room(0)?;
        with(|module| module.decrypt_update(session, &data))
    }
}

export! {
    fn C_DecryptFinal(session: CK_SESSION_HANDLE, plain: *mut CK_BYTE, plain_length: *mut CK_ULONG)
    with let result = output(plain, plain_length);
    { with(|module| module.decrypt_end(session, None, result)) }
}

/// Input that the result may overwrite: callers give the same buffer for both.
///
/// # Safety
///
/// As [`bytes`].
unsafe fn copied(data: *const CK_BYTE, length: CK_ULONG) -> Result<Zeroizing<Vec<u8>>> {
    // SAFETY: as this function's contract.
    unsafe { bytes(data, length) }.map(|data| Zeroizing::new(data.to_vec()))
}

export! {
    fn C_DigestInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM)
    with let chosen = mechanism(chosen);
    { with(|module| module.digest_begin(session, chosen.kind)) }
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
    fn C_DigestFinal(session: CK_SESSION_HANDLE, digest: *mut CK_BYTE, digest_length: *mut CK_ULONG)
    with let result = output(digest, digest_length);
    { with(|module| module.digest_end(session, None, result)) }
}

export! {
    fn C_SignInit(session: CK_SESSION_HANDLE, chosen: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE)
    with let chosen = mechanism(chosen);
    { with(|module| module.sign_begin(session, &chosen, key)) }
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
            let (first, second) = module.generate(session, chosen.kind, &public, &private)?;
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
            key.write(module.derive(session, &chosen, base, &attributes)?);
            Ok(())
        })
    }
}

export! {
    fn C_GenerateRandom(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG)
    {
        with(|module| module.session(session).map(drop))?;
        let mut length = length;
        // SAFETY: valid for writing by the caller's promise.
        match unsafe { output(data, &raw mut length) }? {
            Output::Buffer(buffer, _) => {
                getrandom::fill(buffer).map_err(|_| Rv(CKR_DEVICE_ERROR))
            }
            Output::Length(_) => Err(Rv(CKR_ARGUMENTS_BAD)),
        }
    }
}

export! {
    fn C_SeedRandom(session: CK_SESSION_HANDLE, _seed: *mut CK_BYTE, _length: CK_ULONG)
    {
        with(|module| module.session(session).map(drop))?;
        Err(Rv(CKR_RANDOM_SEED_NOT_SUPPORTED))
    }
}

unsupported! { CKR_FUNCTION_NOT_PARALLEL:
    C_GetFunctionStatus(CK_SESSION_HANDLE);
    C_CancelFunction(CK_SESSION_HANDLE);
}

unsupported! { CKR_FUNCTION_NOT_SUPPORTED:
    C_GetOperationState(CK_SESSION_HANDLE, *mut CK_BYTE, *mut CK_ULONG);
    C_SetOperationState(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE);
    C_CopyObject(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, *mut CK_ATTRIBUTE, CK_ULONG, *mut CK_OBJECT_HANDLE);
    C_GetObjectSize(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, *mut CK_ULONG);
    C_SetAttributeValue(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, *mut CK_ATTRIBUTE, CK_ULONG);
    C_EncryptInit(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE);
    C_Encrypt(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_EncryptUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_EncryptFinal(CK_SESSION_HANDLE, *mut CK_BYTE, *mut CK_ULONG);
    C_DigestKey(CK_SESSION_HANDLE, CK_OBJECT_HANDLE);
    C_SignRecoverInit(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE);
    C_SignRecover(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_VerifyInit(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE);
    C_Verify(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, CK_ULONG);
    C_VerifyUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG);
    C_VerifyFinal(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG);
    C_VerifyRecoverInit(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE);
    C_VerifyRecover(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_DigestEncryptUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_DecryptDigestUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_SignEncryptUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_DecryptVerifyUpdate(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG);
    C_GenerateKey(CK_SESSION_HANDLE, *mut CK_MECHANISM, *mut CK_ATTRIBUTE, CK_ULONG, *mut CK_OBJECT_HANDLE);
    C_WrapKey(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE, *mut CK_BYTE, *mut CK_ULONG);
    C_UnwrapKey(CK_SESSION_HANDLE, *mut CK_MECHANISM, CK_OBJECT_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_ATTRIBUTE, CK_ULONG, *mut CK_OBJECT_HANDLE);
    C_WaitForSlotEvent(CK_FLAGS, *mut CK_SLOT_ID, *mut c_void);
}

macro_rules! function_list {
    ($($name:ident)+) => {
        static FUNCTIONS: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CRYPTOKI,
            $($name: Some($name),)+
        };
    };
}

function_list! {
    C_Initialize C_Finalize C_GetInfo C_GetFunctionList C_GetSlotList C_GetSlotInfo C_GetTokenInfo
    C_GetMechanismList C_GetMechanismInfo C_InitToken C_InitPIN C_SetPIN C_OpenSession C_CloseSession
    C_CloseAllSessions C_GetSessionInfo C_GetOperationState C_SetOperationState C_Login C_Logout
    C_CreateObject C_CopyObject C_DestroyObject C_GetObjectSize C_GetAttributeValue C_SetAttributeValue
    C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_EncryptInit C_Encrypt C_EncryptUpdate C_EncryptFinal
    C_DecryptInit C_Decrypt C_DecryptUpdate C_DecryptFinal C_DigestInit C_Digest C_DigestUpdate C_DigestKey
    C_DigestFinal C_SignInit C_Sign C_SignUpdate C_SignFinal C_SignRecoverInit C_SignRecover C_VerifyInit
    C_Verify C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit C_VerifyRecover C_DigestEncryptUpdate
    C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate C_GenerateKey C_GenerateKeyPair C_WrapKey
    C_UnwrapKey C_DeriveKey C_SeedRandom C_GenerateRandom C_GetFunctionStatus C_CancelFunction
    C_WaitForSlotEvent
}

/// The one symbol that programs look up (PKCS#11 2.40 §5.4). The list is constant.
///
/// # Safety
///
/// `list` is null or valid for writing a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    guard(|| {
        // SAFETY: null or valid by the contract.
        let list = unsafe { place(list) }?;
        list.write((&raw const FUNCTIONS).cast_mut());
        Ok(())
    })
}
