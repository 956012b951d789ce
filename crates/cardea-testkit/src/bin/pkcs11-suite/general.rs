//! The module, its slots, tokens and mechanisms (§5.4, §5.5).

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::context::{Context, NONE, Outcome, Row, ensure, refused, text};
use crate::module::{call, raw, result};

pub(crate) const ROWS: &[Row] = &[
    ("second_initialize_is_refused", |c| {
        refused(c.initialize(), [CKR_CRYPTOKI_ALREADY_INITIALIZED])
    }),
    ("finalize_then_initialize_begins_anew", |c| {
        let s = c.user()?;
        c.finalize()?;
        c.initialize()?;
        refused(s.info(), [CKR_SESSION_HANDLE_INVALID])
    }),
    ("finalize_with_an_argument_is_refused", |c| {
        let mut byte = 0u8;
        let value = call!(c, C_Finalize((&raw mut byte).cast()));
        refused(value, [CKR_ARGUMENTS_BAD])
    }),
    ("initialize_with_a_reserved_argument_is_refused", |c| {
        c.finalize()?;
        let mut byte = 0u8;
        let value = c.initialize_with(CKF_OS_LOCKING_OK, (&raw mut byte).cast());
        refused(value, [CKR_ARGUMENTS_BAD])
    }),
    ("initialize_without_arguments_is_fine", |c| {
        c.finalize()?;
        Ok(call!(c, C_Initialize(null_mut()))?)
    }),
    ("info_tells_version_and_maker", |c| {
        let info = c.info()?;
        let version = info.cryptokiVersion.major;
        ensure!(
            version >= 2 && info.flags == 0,
            "version {version}, flags {}",
            info.flags
        );
        ensure!(!text(&info.manufacturerID).is_empty(), "no manufacturer");
        Ok(())
    }),
    ("interfaces_of_version_3_begin_with_the_newest", |c| {
        let interfaces = c.interfaces().ok_or("no C_GetInterfaceList")?;
        let named = interfaces.iter().all(|(name, _)| name == "PKCS 11");
        ensure!(named, "{interfaces:?}");
        let versions: Vec<_> = interfaces.iter().map(|(_, version)| *version).collect();
        let sorted = versions.is_sorted_by(|a, b| a > b);
        ensure!(
            sorted && versions.contains(&(2, 40)) && versions[0].0 == 3,
            "{versions:?}"
        );
        Ok(())
    }),
    ("slot_list_is_the_same_twice", |c| {
        for with_token in [false, true] {
            let (first, second) = (c.slots(with_token)?, c.slots(with_token)?);
            ensure!(first == second, "{first:?}, then {second:?}");
            ensure!(first.contains(&c.slot), "the token's slot is missing");
        }
        Ok(())
    }),
    ("slot_list_without_room_tells_how_much", |c| {
        let (mut place, mut count) = (0, 0);
        let value = call!(c, C_GetSlotList(CK_TRUE, &raw mut place, &raw mut count));
        refused(value, [CKR_BUFFER_TOO_SMALL])?;
        is_count(count, c.slots(true)?.len())
    }),
    ("slot_info_shows_the_token", |c| {
        let info = c.slot_info(c.slot)?;
        ensure!(
            info.flags & CKF_TOKEN_PRESENT != 0,
            "flags {:X}",
            info.flags
        );
        ensure!(!text(&info.slotDescription).is_empty(), "no description");
        Ok(())
    }),
    ("slot_that_is_none_is_refused", |c| {
        let invalid = [CKR_SLOT_ID_INVALID];
        refused(c.slot_info(NONE), invalid)?;
        refused(c.token_info(NONE), invalid)?;
        refused(c.mechanisms(NONE), invalid)?;
        refused(c.mechanism_info(NONE, CKM_RSA_PKCS), invalid)?;
        refused(c.open_session(NONE, CKF_SERIAL_SESSION), invalid)?;
        refused(c.close_all(NONE), invalid)
    }),
    ("token_info_is_padded_with_blanks", |c| {
        let info = c.token_info(c.slot)?;
        let names = [
            &info.label[..],
            &info.manufacturerID,
            &info.model,
            &info.serialNumber,
        ];
        for field in names {
            ensure!(!field.contains(&0), "{field:?} has a zero byte");
        }
        Ok(())
    }),
    ("token_is_initialised_and_wants_a_login", |c| {
        let flags = c.token_flags()?;
        has(
            flags,
            CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | CKF_LOGIN_REQUIRED | CKF_RNG,
        )?;
        let none = CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW;
        ensure!(flags & none == 0, "flags {flags:X}");
        Ok(())
    }),
    ("token_has_a_serial_number", |c| {
        ensure!(
            !text(&c.token_info(c.slot)?.serialNumber).is_empty(),
            "none"
        );
        Ok(())
    }),
    ("pin_lengths_are_told", |c| {
        let info = c.token_info(c.slot)?;
        let lengths = info.ulMinPinLen..=info.ulMaxPinLen;
        ensure!(
            lengths.contains(&(c.token.pin.len() as CK_ULONG)),
            "{lengths:?}"
        );
        Ok(())
    }),
    ("mechanisms_are_listed_once", |c| {
        let mut kinds = c.mechanisms(c.slot)?;
        let count = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        ensure!(kinds.len() == count, "{} twice", count - kinds.len());
        for kind in [CKM_RSA_PKCS, CKM_ECDSA, CKM_SHA256_RSA_PKCS, CKM_SHA256] {
            ensure!(kinds.contains(&kind), "{kind:X} is missing");
        }
        Ok(())
    }),
    ("mechanism_list_without_room_tells_how_much", |c| {
        let (mut place, mut count) = (0, 1);
        let value = call!(
            c,
            C_GetMechanismList(c.slot, &raw mut place, &raw mut count)
        );
        refused(value, [CKR_BUFFER_TOO_SMALL])?;
        is_count(count, c.mechanisms(c.slot)?.len())
    }),
    ("mechanism_that_is_none_is_refused", |c| {
        refused(c.mechanism_info(c.slot, NONE), [CKR_MECHANISM_INVALID])
    }),
    ("rsa_mechanisms_tell_their_sizes", |c| {
        let info = c.mechanism_info(c.slot, CKM_RSA_PKCS)?;
        let sizes = info.ulMinKeySize..=info.ulMaxKeySize;
        ensure!(sizes.contains(&2048), "{sizes:?} bits");
        has(
            info.flags,
            CKF_SIGN | CKF_VERIFY | CKF_ENCRYPT | CKF_DECRYPT,
        )
    }),
    ("signing_mechanisms_sign", |c| {
        [CKM_SHA256_RSA_PKCS, CKM_SHA256_RSA_PKCS_PSS, CKM_ECDSA]
            .into_iter()
            .try_for_each(|kind| signs(c, kind))
    }),
    ("wait_without_blocking_tells_of_no_event", |c| {
        let mut slot = 0;
        let value = call!(
            c,
            C_WaitForSlotEvent(CKF_DONT_BLOCK, &raw mut slot, null_mut())
        );
        refused(value, [CKR_NO_EVENT])
    }),
    ("function_status_is_not_parallel", |c| {
        let s = c.public()?.handle;
        for value in [
            raw!(c, C_GetFunctionStatus(s)),
            raw!(c, C_CancelFunction(s)),
        ] {
            refused(result(value), [CKR_FUNCTION_NOT_PARALLEL])?;
        }
        Ok(())
    }),
];

fn is_count(stored: CK_ULONG, count: usize) -> Outcome {
    ensure!(stored as usize == count, "{stored} instead of {count}");
    Ok(())
}

fn has(flags: CK_FLAGS, wanted: CK_FLAGS) -> Outcome {
    ensure!(flags & wanted == wanted, "flags {flags:X}");
    Ok(())
}

fn signs(c: &Context, kind: CK_MECHANISM_TYPE) -> Outcome {
    has(c.mechanism_info(c.slot, kind)?.flags, CKF_SIGN | CKF_VERIFY)
}
