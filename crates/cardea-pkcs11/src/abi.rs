//! The entry points: pointers become slices and references, results become return values, panics are caught.
//!
//! All unsafe code of the crate is here. Each function relies on what the standard requires of its caller: a pointer
//! is null or valid for the length that is passed with it, during the call, and no one else writes there meanwhile.
//!
//! The functions are in chapters like those of the standard. This file converts their arguments.

#![expect(unsafe_code, reason = "the interface is C")]

mod cryptography;
mod interfaces;
mod keys;
mod messages;
mod objects;
mod process;
mod tokens;

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::kdf::MAX_SHARED;
use crate::mechanisms::{self, Form, Mechanism, Scheme};
use crate::output::Output;
use crate::rv::{Result, Rv};
use crate::template::Template;

/// More attributes than any template has.
const MAX_ATTRIBUTES: usize = 256;
/// Longer than any value.
const MAX_LENGTH: usize = 1 << 24;
/// Longer than the public key of any curve.
const MAX_POINT: usize = 256;

/// Runs the body of a function. A panic, which is a defect of the module, must not reach the program.
pub(crate) fn guard(body: impl FnOnce() -> Result) -> CK_RV {
    process::look();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CKR_OK,
        Ok(Err(Rv(value))) => value,
        Err(_) => CKR_GENERAL_ERROR,
    }
}

/// Defines an entry point that requires an initialised module. `with` converts the pointer arguments; the body is
/// safe.
macro_rules! export {
    (
        fn $name:ident($($argument:ident: $type:ty),* $(,)?)
        $(with $(let $value:ident = $conversion:ident($($from:ident),+);)+)?
        $body:block
    ) => {
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            $crate::abi::guard(|| {
                $crate::module::with(|_| Ok(()))?;
                $($(
                    // SAFETY: the caller promises valid pointers, or null, for this call (see the module).
                    let $value = unsafe { $conversion($($from),+) }?;
                )+)?
                $body
            })
        }
    };
}

/// Defines functions for mechanisms that no card has, and functions that the standard has abandoned.
macro_rules! unsupported {
    ($result:ident: $($name:ident($($type:ty),* $(,)?);)+) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) unsafe extern "C" fn $name($(_: $type),*) -> CK_RV {
                $crate::abi::guard(|| {
                    $crate::module::with(|_| Ok(()))?;
                    Err($crate::rv::Rv($result))
                })
            }
        )+
    };
}

pub(crate) use {export, unsupported};

/// Input bytes.
///
/// # Safety
///
/// `data` is null or valid for `length` bytes as long as the result is used.
pub(crate) unsafe fn bytes<'a>(data: *const CK_BYTE, length: CK_ULONG) -> Result<&'a [u8]> {
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

/// The place for a single result.
///
/// # Safety
///
/// `place` is null or valid for writing as long as the result is used.
pub(crate) unsafe fn place<'a, T>(place: *mut T) -> Result<&'a mut MaybeUninit<T>> {
    // SAFETY: null or valid by the contract.
    unsafe { place.cast::<MaybeUninit<T>>().as_mut() }.ok_or(Rv(CKR_ARGUMENTS_BAD))
}

/// Buffer and length of a result (PKCS#11 3.1 §5.2).
///
/// # Safety
///
/// `length` is null or valid; `buffer` is null or valid for writing that many bytes.
pub(crate) unsafe fn output<'a>(buffer: *mut CK_BYTE, length: *mut CK_ULONG) -> Result<Output<'a>> {
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
pub(crate) unsafe fn list<'a, T>(array: *mut T, count: *mut CK_ULONG) -> Result<List<'a, T>> {
    // SAFETY: null or valid by the contract.
    let count = unsafe { count.as_mut() }.ok_or(Rv(CKR_ARGUMENTS_BAD))?;
    let room = usize::try_from(*count).map_or(MAX_LENGTH, |count| count.min(MAX_LENGTH));
    // SAFETY: not null, and valid for `count` elements by the contract.
    let array =
        (!array.is_null()).then(|| unsafe { slice::from_raw_parts_mut(array.cast(), room) });
    Ok(List { array, count })
}

/// The place for an array of results.
pub(crate) struct List<'a, T> {
    pub(crate) array: Option<&'a mut [MaybeUninit<T>]>,
    count: &'a mut CK_ULONG,
}

impl<T: Copy> List<'_, T> {
    pub(crate) fn put(self, elements: &[T]) -> Result {
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

pub(crate) fn ulong(length: usize) -> CK_ULONG {
    CK_ULONG::try_from(length).unwrap_or(CK_ULONG::MAX)
}

/// A copy of the attributes that the program passes.
///
/// # Safety
///
/// `attributes` is null or valid for `count` elements, each with a value that is null or valid for its length.
pub(crate) unsafe fn template(attributes: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Result<Template> {
    // SAFETY: as this function's contract.
    let attributes = unsafe { attribute_slice(attributes, count) }?;
    let copied = attributes
        .iter()
        .map(|attribute| {
            // SAFETY: value and length belong together by the contract.
            let value = unsafe { bytes(attribute.pValue.cast(), attribute.ulValueLen) };
            let value = value.map_err(|_| Rv(CKR_ATTRIBUTE_VALUE_INVALID))?;
            Ok((attribute.type_, Zeroizing::new(value.to_vec())))
        })
        .collect::<Result<_>>()?;
    Template::new(copied)
}

/// # Safety
///
/// As [`template`].
pub(crate) unsafe fn attribute_slice<'a>(
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
pub(crate) unsafe fn mechanism(mechanism: *mut CK_MECHANISM) -> Result<Mechanism> {
    // SAFETY: null or valid by the contract.
    let mechanism = unsafe { mechanism.as_ref() }.ok_or(Rv(CKR_ARGUMENTS_BAD))?;
    let Some(row) = mechanisms::find(mechanism.mechanism) else {
        return Ok(Mechanism::unknown());
    };
    let scheme = match &row.form {
        Form::Ecdh => {
            // SAFETY: of this type by the contract; the length is compared.
            let ecdh: CK_ECDH1_DERIVE_PARAMS = unsafe { parameter(mechanism) }?;
            // SAFETY: point and length belong together by the contract.
            let public = unsafe { part(ecdh.pPublicData, ecdh.ulPublicDataLen, MAX_POINT) }?;
            // SAFETY: so do the shared information and its length.
            let shared = unsafe { part(ecdh.pSharedData, ecdh.ulSharedDataLen, MAX_SHARED) }?;
            Scheme::ecdh(public, ecdh.kdf, shared)?
        }
        Form::Oaep => {
            // SAFETY: as above.
            let oaep: CK_RSA_PKCS_OAEP_PARAMS = unsafe { parameter(mechanism) }?;
            // SAFETY: source and length belong together by the contract.
            let label = unsafe { part(oaep.pSourceData.cast(), oaep.ulSourceDataLen, MAX_LENGTH) }?;
            Scheme::oaep(oaep.hashAlg, oaep.mgf, label.to_vec())?
        }
        Form::Plain(scheme) => scheme.clone(),
        Form::Pss => {
            // SAFETY: as above.
            let pss: CK_RSA_PKCS_PSS_PARAMS = unsafe { parameter(mechanism) }?;
            Scheme::pss(pss.hashAlg, pss.mgf, pss.sLen)?
        }
    };
    Ok(Mechanism::new(row, scheme))
}

/// What a mechanism's parameter points to, of this length at most.
///
/// # Safety
///
/// As [`bytes`].
unsafe fn part<'a>(data: *const CK_BYTE, length: CK_ULONG, most: usize) -> Result<&'a [u8]> {
    // SAFETY: as this function's contract.
    let data = unsafe { bytes(data, length) }.ok();
    data.filter(|data| data.len() <= most)
        .ok_or(Rv(CKR_MECHANISM_PARAM_INVALID))
}

/// Like [`mechanism`], for functions where null cancels the running operation.
///
/// # Safety
///
/// As [`mechanism`].
pub(crate) unsafe fn mechanism_or_end(chosen: *mut CK_MECHANISM) -> Result<Option<Mechanism>> {
    if chosen.is_null() {
        return Ok(None);
    }
    // SAFETY: as this function's contract.
    unsafe { mechanism(chosen) }.map(Some)
}

/// A copy of the input, because the result may overwrite it: programs pass one buffer for both.
///
/// # Safety
///
/// As [`bytes`].
pub(crate) unsafe fn copied(data: *const CK_BYTE, length: CK_ULONG) -> Result<Zeroizing<Vec<u8>>> {
    // SAFETY: as this function's contract.
    unsafe { bytes(data, length) }.map(|data| Zeroizing::new(data.to_vec()))
}

/// # Safety
///
/// The parameter is null or valid for its length; every bit pattern of `T` is a `T`.
unsafe fn parameter<T: Copy>(mechanism: &CK_MECHANISM) -> Result<T> {
    let length = usize::try_from(mechanism.ulParameterLen).unwrap_or(0);
    if mechanism.pParameter.is_null() || length != size_of::<T>() {
        return Err(Rv(CKR_MECHANISM_PARAM_INVALID));
    }
    // SAFETY: not null and long enough; programs in other languages may not align it.
    Ok(unsafe { mechanism.pParameter.cast::<T>().read_unaligned() })
}
