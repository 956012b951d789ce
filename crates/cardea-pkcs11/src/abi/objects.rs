//! Objects.

use std::slice;

use cryptoki_sys::*;

use super::{attribute_slice, export, list, place, template, ulong, unsupported};
use crate::attributes::{self, Value};
use crate::module::with;
use crate::rv::{Result, Rv};

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
    fn C_CopyObject(
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        attributes: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
        copy: *mut CK_OBJECT_HANDLE,
    )
    with
        let copy = place(copy);
        let attributes = template(attributes, count);
    {
        with(|module| {
            copy.write(module.copy_object(session, object, &attributes)?);
            Ok(())
        })
    }
}

export! {
    fn C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE)
    { with(|module| module.destroy_object(session, object)) }
}

export! {
    fn C_GetObjectSize(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, size: *mut CK_ULONG)
    with let size = place(size);
    {
        with(|module| {
            size.write(ulong(module.object_size(session, object)?));
            Ok(())
        })
    }
}

export! {
    fn C_SetAttributeValue(
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        attributes: *mut CK_ATTRIBUTE,
        count: CK_ULONG,
    )
    with let attributes = template(attributes, count);
    { with(|module| module.set_attributes(session, object, &attributes)) }
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

/// One attribute's value, or only its length (PKCS#11 3.1 §5.7, C_GetAttributeValue).
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
    { with(|module| module.find_begin(session, attributes.attributes())) }
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

unsupported! { CKR_FUNCTION_NOT_SUPPORTED:
    C_GetOperationState(CK_SESSION_HANDLE, *mut CK_BYTE, *mut CK_ULONG);
    C_SetOperationState(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE);
}
