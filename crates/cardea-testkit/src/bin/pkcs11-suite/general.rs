//! The module, its slots, tokens and mechanisms (§5.4, §5.5).

use cryptoki_sys::*;

use crate::context::{Context, Outcome, behaviours, done, ensure, refused, text};
use crate::module::{raw, result};

behaviours! {
    second_initialize_is_refused
    finalize_then_initialize_begins_anew
    finalize_with_an_argument_is_refused
    initialize_with_a_reserved_argument_is_refused
    initialize_without_arguments_is_fine
    info_tells_version_and_maker
    interfaces_of_version_3_begin_with_the_newest
    slot_list_is_the_same_twice
    slot_list_without_room_tells_how_much
    slot_info_shows_the_token
    slot_that_is_none_is_refused
    token_info_is_padded_with_blanks
    token_is_initialised_and_wants_a_login
    token_has_a_serial_number
    pin_lengths_are_told
    mechanisms_are_listed_once
    mechanism_list_without_room_tells_how_much
    mechanism_that_is_none_is_refused
    rsa_mechanisms_tell_their_sizes
    signing_mechanisms_sign
    wait_without_blocking_tells_of_no_event
    function_status_is_not_parallel
}

fn second_initialize_is_refused(context: &Context) -> Outcome {
    refused(
        context.module.initialize(),
        &[CKR_CRYPTOKI_ALREADY_INITIALIZED],
    )
}

fn finalize_then_initialize_begins_anew(context: &Context) -> Outcome {
    let session = context.user()?;
    done(context.module.finalize())?;
    done(context.module.initialize())?;
    refused(
        context.module.session_info(session),
        &[CKR_SESSION_HANDLE_INVALID],
    )
}

fn finalize_with_an_argument_is_refused(context: &Context) -> Outcome {
    let mut byte = 0u8;
    let value = raw!(context.module, C_Finalize((&raw mut byte).cast()));
    refused(result(value), &[CKR_ARGUMENTS_BAD])
}

fn initialize_with_a_reserved_argument_is_refused(context: &Context) -> Outcome {
    done(context.module.finalize())?;
    let mut byte = 0u8;
    let reserved = (&raw mut byte).cast();
    refused(
        context.module.initialize_with(CKF_OS_LOCKING_OK, reserved),
        &[CKR_ARGUMENTS_BAD],
    )
}

fn initialize_without_arguments_is_fine(context: &Context) -> Outcome {
    done(context.module.finalize())?;
    done(result(raw!(
        context.module,
        C_Initialize(std::ptr::null_mut())
    )))
}

fn info_tells_version_and_maker(context: &Context) -> Outcome {
    let info = done(context.module.info())?;
    ensure!(
        info.cryptokiVersion.major >= 2 && info.flags == 0,
        "version {}, flags {}",
        info.cryptokiVersion.major,
        info.flags
    );
    ensure!(!text(&info.manufacturerID).is_empty(), "no maker");
    Ok(())
}

fn interfaces_of_version_3_begin_with_the_newest(context: &Context) -> Outcome {
    let interfaces = context.module.interfaces().ok_or("no C_GetInterfaceList")?;
    ensure!(
        interfaces.iter().all(|(name, _)| name == "PKCS 11"),
        "{interfaces:?}"
    );
    let versions: Vec<_> = interfaces.iter().map(|(_, version)| *version).collect();
    ensure!(
        versions.is_sorted_by(|a, b| a > b) && versions.contains(&(2, 40)),
        "{versions:?}"
    );
    ensure!(versions[0].0 == 3, "{versions:?}");
    Ok(())
}

fn slot_list_is_the_same_twice(context: &Context) -> Outcome {
    for with_token in [false, true] {
        let first = done(context.module.slots(with_token))?;
        let second = done(context.module.slots(with_token))?;
        ensure!(first == second, "{first:?}, then {second:?}");
        ensure!(first.contains(&context.slot), "the token's slot is missing");
    }
    Ok(())
}

fn slot_list_without_room_tells_how_much(context: &Context) -> Outcome {
    let slots = done(context.module.slots(true))?.len() as CK_ULONG;
    let (mut place, mut count) = (0, 0);
    let value = raw!(
        context.module,
        C_GetSlotList(CK_TRUE, &raw mut place, &raw mut count)
    );
    refused(result(value), &[CKR_BUFFER_TOO_SMALL])?;
    ensure!(count == slots, "{count} were told, {slots} are there");
    Ok(())
}

fn slot_info_shows_the_token(context: &Context) -> Outcome {
    let info = done(context.module.slot_info(context.slot))?;
    ensure!(
        info.flags & CKF_TOKEN_PRESENT != 0,
        "flags {:X}",
        info.flags
    );
    ensure!(!text(&info.slotDescription).is_empty(), "no description");
    Ok(())
}

fn slot_that_is_none_is_refused(context: &Context) -> Outcome {
    let none = 0x7777_7777;
    let invalid = &[CKR_SLOT_ID_INVALID];
    refused(context.module.slot_info(none), invalid)?;
    refused(context.module.token_info(none), invalid)?;
    refused(context.module.mechanisms(none), invalid)?;
    refused(context.module.mechanism_info(none, CKM_RSA_PKCS), invalid)?;
    refused(context.module.open(none, CKF_SERIAL_SESSION), invalid)?;
    refused(context.module.close_all(none), invalid)
}

fn token_info_is_padded_with_blanks(context: &Context) -> Outcome {
    let info = done(context.module.token_info(context.slot))?;
    for field in [
        &info.label[..],
        &info.manufacturerID,
        &info.model,
        &info.serialNumber,
    ] {
        ensure!(!field.contains(&0), "{field:?} has a zero byte");
    }
    Ok(())
}

fn token_is_initialised_and_wants_a_login(context: &Context) -> Outcome {
    let flags = done(context.module.token_info(context.slot))?.flags;
    let wanted = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | CKF_LOGIN_REQUIRED | CKF_RNG;
    ensure!(flags & wanted == wanted, "flags {flags:X}");
    let none = CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW;
    ensure!(flags & none == 0, "flags {flags:X}");
    Ok(())
}

fn token_has_a_serial_number(context: &Context) -> Outcome {
    let info = done(context.module.token_info(context.slot))?;
    ensure!(!text(&info.serialNumber).is_empty(), "none");
    Ok(())
}

fn pin_lengths_are_told(context: &Context) -> Outcome {
    let info = done(context.module.token_info(context.slot))?;
    let length = context.token.pin.len() as CK_ULONG;
    ensure!(
        (info.ulMinPinLen..=info.ulMaxPinLen).contains(&length),
        "{} to {}",
        info.ulMinPinLen,
        info.ulMaxPinLen
    );
    Ok(())
}

fn mechanisms_are_listed_once(context: &Context) -> Outcome {
    let mut kinds = done(context.module.mechanisms(context.slot))?;
    let count = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    ensure!(kinds.len() == count, "{} twice", count - kinds.len());
    for kind in [CKM_RSA_PKCS, CKM_ECDSA, CKM_SHA256_RSA_PKCS, CKM_SHA256] {
        ensure!(kinds.contains(&kind), "{kind:X} is missing");
    }
    Ok(())
}

fn mechanism_list_without_room_tells_how_much(context: &Context) -> Outcome {
    let kinds = done(context.module.mechanisms(context.slot))?.len() as CK_ULONG;
    let (mut place, mut count) = (0, 1);
    let value = raw!(
        context.module,
        C_GetMechanismList(context.slot, &raw mut place, &raw mut count)
    );
    refused(result(value), &[CKR_BUFFER_TOO_SMALL])?;
    ensure!(count == kinds, "{count} were told, {kinds} are there");
    Ok(())
}

fn mechanism_that_is_none_is_refused(context: &Context) -> Outcome {
    refused(
        context.module.mechanism_info(context.slot, 0x7777_7777),
        &[CKR_MECHANISM_INVALID],
    )
}

fn rsa_mechanisms_tell_their_sizes(context: &Context) -> Outcome {
    let info = done(context.module.mechanism_info(context.slot, CKM_RSA_PKCS))?;
    ensure!(
        info.ulMinKeySize <= 2048 && info.ulMaxKeySize >= 2048,
        "{} to {} bits",
        info.ulMinKeySize,
        info.ulMaxKeySize
    );
    let wanted = CKF_SIGN | CKF_VERIFY | CKF_ENCRYPT | CKF_DECRYPT;
    ensure!(info.flags & wanted == wanted, "flags {:X}", info.flags);
    Ok(())
}

fn signing_mechanisms_sign(context: &Context) -> Outcome {
    for kind in [CKM_SHA256_RSA_PKCS, CKM_SHA256_RSA_PKCS_PSS, CKM_ECDSA] {
        let info = done(context.module.mechanism_info(context.slot, kind))?;
        let wanted = CKF_SIGN | CKF_VERIFY;
        ensure!(
            info.flags & wanted == wanted,
            "{kind:X}: flags {:X}",
            info.flags
        );
    }
    Ok(())
}

fn wait_without_blocking_tells_of_no_event(context: &Context) -> Outcome {
    let mut slot = 0;
    let value = raw!(
        context.module,
        C_WaitForSlotEvent(CKF_DONT_BLOCK, &raw mut slot, std::ptr::null_mut())
    );
    refused(result(value), &[CKR_NO_EVENT])
}

fn function_status_is_not_parallel(context: &Context) -> Outcome {
    let session = context.public()?;
    for value in [
        raw!(context.module, C_GetFunctionStatus(session)),
        raw!(context.module, C_CancelFunction(session)),
    ] {
        refused(result(value), &[CKR_FUNCTION_NOT_PARALLEL])?;
    }
    Ok(())
}
