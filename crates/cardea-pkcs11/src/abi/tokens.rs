//! General purpose, slots, tokens, sessions.

use std::ffi::c_void;

use cryptoki_sys::*;

use super::{List, bytes, export, guard, list, place};
use crate::general::{self, CRYPTOKI_2, CRYPTOKI_3};
use crate::module::with;
use crate::rv::Rv;

/// # Safety
///
/// `arguments` is null or a valid `CK_C_INITIALIZE_ARGS`.
unsafe fn initialize_arguments(arguments: *mut c_void) -> Option<CK_C_INITIALIZE_ARGS> {
    // SAFETY: null or valid by the contract.
    unsafe { arguments.cast::<CK_C_INITIALIZE_ARGS>().as_ref() }.copied()
}

/// # Safety
///
/// `arguments` is null or a valid `CK_C_INITIALIZE_ARGS`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
    guard(|| {
        // SAFETY: as this function's contract.
        if let Some(given) = unsafe { initialize_arguments(arguments) } {
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
            // The program requires its own locks instead of the system's, which the module does not support.
            if some && given.flags & CKF_OS_LOCKING_OK == 0 {
                return Err(Rv(CKR_CANT_LOCK));
            }
        }
        // A panic becomes a return value and must not print to the program's standard error. The hook belongs to this
        // library's own copy of the runtime.
        std::panic::set_hook(Box::new(|_| {}));
        general::initialize()
    })
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
        info.write(general::info(CRYPTOKI_2));
        Ok(())
    }
}

/// C_GetInfo of the newer interface: programs compare the version with that of the functions that they call.
///
/// # Safety
///
/// As [`C_GetInfo`].
pub(super) unsafe extern "C" fn info_of_3(info: *mut CK_INFO) -> CK_RV {
    guard(|| {
        with(|_| Ok(()))?;
        // SAFETY: as this function's contract.
        let info = unsafe { place(info) }?;
        info.write(general::info(CRYPTOKI_3));
        Ok(())
    })
}

export! {
    fn C_GetSlotList(with_token: CK_BBOOL, slots: *mut CK_SLOT_ID, count: *mut CK_ULONG)
    with let slots = list(slots, count);
    {
        with(|module| {
            let refresh = slots.array.is_none();
            slots.put(&module.slot_list(with_token != CK_FALSE, refresh)?)
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
    fn C_WaitForSlotEvent(flags: CK_FLAGS, slot: *mut CK_SLOT_ID, reserved: *mut c_void)
    with let slot = place(slot);
    {
        if !reserved.is_null() {
            return Err(Rv(CKR_ARGUMENTS_BAD));
        }
        with(|module| {
            slot.write(module.wait_for_event(flags & CKF_DONT_BLOCK == 0)?);
            Ok(())
        })
    }
}

export! {
    fn C_GetMechanismList(slot: CK_SLOT_ID, mechanisms: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG)
    with let mechanisms = list(mechanisms, count);
    { with(|module| List::put(mechanisms, &module.mechanisms(slot)?)) }
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
    fn C_InitToken(slot: CK_SLOT_ID, pin: *mut CK_UTF8CHAR, length: CK_ULONG, _label: *mut CK_UTF8CHAR)
    with let _pin = bytes(pin, length);
    { with(|module| module.init_token(slot)) }
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
    fn C_SessionCancel(session: CK_SESSION_HANDLE, flags: CK_FLAGS)
    { with(|module| module.cancel(session, flags)) }
}

export! {
    fn C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG)
    with let pin = bytes(pin, length);
    { with(|module| module.login(session, user, pin)) }
}

export! {
    fn C_LoginUser(
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: *mut CK_UTF8CHAR,
        length: CK_ULONG,
        name: *mut CK_UTF8CHAR,
        name_length: CK_ULONG,
    )
    with
        let pin = bytes(pin, length);
        let name = bytes(name, name_length);
    {
        // A card has a single user without a name.
        if !name.is_empty() {
            return Err(Rv(CKR_ARGUMENTS_BAD));
        }
        with(|module| module.login(session, user, pin))
    }
}

export! {
    fn C_Logout(session: CK_SESSION_HANDLE)
    { with(|module| module.logout(session)) }
}
