//! The function lists, and the functions that return them (PKCS#11 3.1 §5.4).

use std::ffi::{CStr, c_char};

use cryptoki_sys::*;

use super::cryptography::*;
use super::keys::*;
use super::messages::*;
use super::objects::*;
use super::tokens::*;
use super::{guard, list, place};
use crate::general::{CRYPTOKI_2, CRYPTOKI_3};
use crate::rv::Rv;

macro_rules! function_lists {
    ($($name:ident)+; $($newer:ident)+) => {
        static FUNCTIONS_2: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CRYPTOKI_2,
            C_GetInfo: Some(C_GetInfo),
            $($name: Some($name),)+
        };
        static FUNCTIONS_3: CK_FUNCTION_LIST_3_0 = CK_FUNCTION_LIST_3_0 {
            version: CRYPTOKI_3,
            C_GetInfo: Some(info_of_3),
            $($name: Some($name),)+
            $($newer: Some($newer),)+
        };
    };
}

function_lists! {
    C_Initialize C_Finalize C_GetFunctionList C_GetSlotList C_GetSlotInfo C_GetTokenInfo
    C_GetMechanismList C_GetMechanismInfo C_InitToken C_InitPIN C_SetPIN C_OpenSession C_CloseSession
    C_CloseAllSessions C_GetSessionInfo C_GetOperationState C_SetOperationState C_Login C_Logout
    C_CreateObject C_CopyObject C_DestroyObject C_GetObjectSize C_GetAttributeValue C_SetAttributeValue
    C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_EncryptInit C_Encrypt C_EncryptUpdate C_EncryptFinal
    C_DecryptInit C_Decrypt C_DecryptUpdate C_DecryptFinal C_DigestInit C_Digest C_DigestUpdate C_DigestKey
    C_DigestFinal C_SignInit C_Sign C_SignUpdate C_SignFinal C_SignRecoverInit C_SignRecover C_VerifyInit
    C_Verify C_VerifyUpdate C_VerifyFinal C_VerifyRecoverInit C_VerifyRecover C_DigestEncryptUpdate
    C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate C_GenerateKey C_GenerateKeyPair C_WrapKey
    C_UnwrapKey C_DeriveKey C_SeedRandom C_GenerateRandom C_GetFunctionStatus C_CancelFunction
    C_WaitForSlotEvent;
    C_GetInterfaceList C_GetInterface C_LoginUser C_SessionCancel C_MessageEncryptInit C_EncryptMessage
    C_EncryptMessageBegin C_EncryptMessageNext C_MessageEncryptFinal C_MessageDecryptInit C_DecryptMessage
    C_DecryptMessageBegin C_DecryptMessageNext C_MessageDecryptFinal C_MessageSignInit C_SignMessage
    C_SignMessageBegin C_SignMessageNext C_MessageSignFinal C_MessageVerifyInit C_VerifyMessage
    C_VerifyMessageBegin C_VerifyMessageNext C_MessageVerifyFinal
}

/// The name of the standard's own interfaces.
const NAME: &CStr = c"PKCS 11";

/// An interface whose lists are constant.
struct Interface(CK_INTERFACE);

// SAFETY: its pointers are to constants, which are never written.
unsafe impl Sync for Interface {}

/// The interfaces, newest first. The first one is the default.
static INTERFACES: [Interface; 2] = [
    Interface(CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: (&raw const FUNCTIONS_3).cast_mut().cast(),
        flags: CKF_INTERFACE_FORK_SAFE,
    }),
    Interface(CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast_mut().cast(),
        pFunctionList: (&raw const FUNCTIONS_2).cast_mut().cast(),
        flags: CKF_INTERFACE_FORK_SAFE,
    }),
];
const VERSIONS: [CK_VERSION; 2] = [CRYPTOKI_3, CRYPTOKI_2];

/// The symbol that programs for version 2 look up. The list is constant.
///
/// # Safety
///
/// `functions` is null or valid for writing a pointer.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn C_GetFunctionList(functions: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    guard(|| {
        // SAFETY: null or valid by the contract.
        let place = unsafe { place(functions) }?;
        place.write((&raw const FUNCTIONS_2).cast_mut());
        Ok(())
    })
}

/// All interfaces.
///
/// # Safety
///
/// `count` is null or valid; `interfaces` is null or valid for writing that many.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn C_GetInterfaceList(
    interfaces: *mut CK_INTERFACE,
    count: *mut CK_ULONG,
) -> CK_RV {
    guard(|| {
        // SAFETY: null or valid by the contract.
        let places = unsafe { list(interfaces, count) }?;
        places.put(&INTERFACES.each_ref().map(|interface| interface.0))
    })
}

/// The first interface of this name and version with these flags. Null matches any name or version.
///
/// # Safety
///
/// `name` is null or ends with a zero byte; `version` is null or valid; `interface` is null or valid for writing
/// a pointer.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn C_GetInterface(
    name: *mut CK_UTF8CHAR,
    version: *mut CK_VERSION,
    interface: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> CK_RV {
    guard(|| {
        // SAFETY: null or valid by the contract.
        let place = unsafe { place(interface) }?;
        let named = name.is_null() || {
            // SAFETY: not null, and ends with a zero byte by the contract.
            let name = unsafe { CStr::from_ptr(name.cast::<c_char>()) };
            name == NAME
        };
        // SAFETY: null or valid by the contract.
        let wanted = unsafe { version.as_ref() };
        let found = INTERFACES
            .iter()
            .zip(VERSIONS)
            .find(|(interface, version)| {
                named
                    && wanted.is_none_or(|wanted| {
                        (wanted.major, wanted.minor) == (version.major, version.minor)
                    })
                    && flags & !interface.0.flags == 0
            });
        let (found, _) = found.ok_or(Rv(CKR_FUNCTION_FAILED))?;
        place.write((&raw const found.0).cast_mut());
        Ok(())
    })
}
