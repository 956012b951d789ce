//! Sessions and logins (§5.6).

use cryptoki_sys::*;

use crate::context::{Context, EC, Outcome, RO, RW, behaviours, done, ensure, flag, long, refused};
use crate::module::Mechanism;

behaviours! {
    session_without_the_serial_flag_is_refused
    sessions_are_counted
    closed_session_is_invalid
    closing_all_closes_all
    session_info_tells_the_state
    login_is_seen_by_all_sessions
    later_sessions_are_logged_in_too
    second_login_is_refused
    officer_after_user_is_refused
    logout_is_seen_by_all_sessions
    logout_without_login_is_refused
    closing_the_last_session_logs_out
    officer_needs_no_read_only_session
    read_only_session_after_officer_is_refused
    officer_has_no_private_keys
    unknown_user_type_is_refused
    context_specific_login_needs_an_operation
    logout_ends_private_operations
    read_only_session_changes_no_token_object
    public_session_makes_no_private_key
}

fn session_without_the_serial_flag_is_refused(context: &Context) -> Outcome {
    refused(
        context.module.open(context.slot, 0),
        &[CKR_SESSION_PARALLEL_NOT_SUPPORTED],
    )
}

fn sessions_are_counted(context: &Context) -> Outcome {
    let count = || {
        let info = done(context.module.token_info(context.slot))?;
        Ok::<_, String>((info.ulSessionCount, info.ulRwSessionCount))
    };
    let unknown = CK_UNAVAILABLE_INFORMATION;
    ensure!(count()?.0 == 0 || count()?.0 == unknown, "{:?}", count()?);
    done(context.module.open(context.slot, RO))?;
    done(context.module.open(context.slot, RW))?;
    let (all, writing) = count()?;
    ensure!(
        (all == 2 || all == unknown) && (writing == 1 || writing == unknown),
        "{all} and {writing}"
    );
    Ok(())
}

fn closed_session_is_invalid(context: &Context) -> Outcome {
    let session = context.public()?;
    done(context.module.close(session))?;
    refused(
        context.module.close(session),
        &[CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED],
    )
}

fn closing_all_closes_all(context: &Context) -> Outcome {
    let sessions = [context.public()?, context.public()?];
    done(context.module.close_all(context.slot))?;
    for session in sessions {
        refused(
            context.module.session_info(session),
            &[CKR_SESSION_HANDLE_INVALID],
        )?;
    }
    Ok(())
}

fn session_info_tells_the_state(context: &Context) -> Outcome {
    let reading = done(context.module.open(context.slot, RO))?;
    let writing = done(context.module.open(context.slot, RW))?;
    let states = || {
        let one = done(context.module.session_info(reading))?;
        let other = done(context.module.session_info(writing))?;
        ensure!(one.slotID == context.slot, "slot {}", one.slotID);
        ensure!(
            (one.flags, other.flags) == (RO, RW),
            "flags {:X}",
            one.flags
        );
        Ok((one.state, other.state))
    };
    let public = states()?;
    ensure!(
        public == (CKS_RO_PUBLIC_SESSION, CKS_RW_PUBLIC_SESSION),
        "{public:?} before"
    );
    done(context.module.login(reading, CKU_USER, &context.token.pin))?;
    let user = states()?;
    ensure!(
        user == (CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS),
        "{user:?} after"
    );
    done(context.module.close(reading))?;
    done(context.module.logout(writing))?;
    done(context.module.login(writing, CKU_SO, &context.token.so_pin))?;
    let officer = done(context.module.session_info(writing))?.state;
    ensure!(officer == CKS_RW_SO_FUNCTIONS, "{officer} for the officer");
    Ok(())
}

fn login_is_seen_by_all_sessions(context: &Context) -> Outcome {
    let other = context.public()?;
    context.user()?;
    context.private(other, EC).map(drop)
}

fn later_sessions_are_logged_in_too(context: &Context) -> Outcome {
    context.user()?;
    let later = context.public()?;
    context.private(later, EC).map(drop)
}

fn second_login_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    refused(
        context.module.login(session, CKU_USER, &context.token.pin),
        &[CKR_USER_ALREADY_LOGGED_IN],
    )
}

fn officer_after_user_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    refused(
        context.module.login(session, CKU_SO, &context.token.so_pin),
        &[CKR_USER_ANOTHER_ALREADY_LOGGED_IN],
    )
}

fn logout_is_seen_by_all_sessions(context: &Context) -> Outcome {
    let session = context.user()?;
    let other = context.public()?;
    done(context.module.logout(other))?;
    ensure!(
        context.private(session, EC).is_err(),
        "the private key is still seen"
    );
    Ok(())
}

fn logout_without_login_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    refused(context.module.logout(session), &[CKR_USER_NOT_LOGGED_IN])
}

fn closing_the_last_session_logs_out(context: &Context) -> Outcome {
    let session = context.user()?;
    done(context.module.close(session))?;
    let next = context.public()?;
    let state = done(context.module.session_info(next))?.state;
    ensure!(state == CKS_RW_PUBLIC_SESSION, "state {state}");
    Ok(())
}

fn officer_needs_no_read_only_session(context: &Context) -> Outcome {
    let session = context.public()?;
    done(context.module.open(context.slot, RO))?;
    refused(
        context.module.login(session, CKU_SO, &context.token.so_pin),
        &[CKR_SESSION_READ_ONLY_EXISTS],
    )
}

fn read_only_session_after_officer_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    done(context.module.login(session, CKU_SO, &context.token.so_pin))?;
    refused(
        context.module.open(context.slot, RO),
        &[CKR_SESSION_READ_WRITE_SO_EXISTS],
    )
}

fn officer_has_no_private_keys(context: &Context) -> Outcome {
    let session = context.public()?;
    done(context.module.login(session, CKU_SO, &context.token.so_pin))?;
    let found = done(
        context
            .module
            .find(session, &[long(CKA_CLASS, CKO_PRIVATE_KEY)]),
    )?;
    ensure!(found.is_empty(), "{} private keys", found.len());
    Ok(())
}

fn unknown_user_type_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    refused(
        context.module.login(session, 77, &context.token.pin),
        &[CKR_USER_TYPE_INVALID],
    )
}

fn context_specific_login_needs_an_operation(context: &Context) -> Outcome {
    let session = context.user()?;
    refused(
        context
            .module
            .login(session, CKU_CONTEXT_SPECIFIC, &context.token.pin),
        &[CKR_OPERATION_NOT_INITIALIZED],
    )
}

/// The standard has private objects inaccessible at once (§5.6.9, C_Logout).
fn logout_ends_private_operations(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    done(
        context
            .module
            .sign_begin(session, &Mechanism::new(CKM_ECDSA), key),
    )?;
    done(context.module.logout(session))?;
    ensure!(
        context.module.sign(session, &[7; 32]).is_err(),
        "it signs without a login"
    );
    refused(
        context
            .module
            .sign_begin(session, &Mechanism::new(CKM_ECDSA), key),
        &[
            CKR_KEY_HANDLE_INVALID,
            CKR_OBJECT_HANDLE_INVALID,
            CKR_USER_NOT_LOGGED_IN,
        ],
    )
}

fn read_only_session_changes_no_token_object(context: &Context) -> Outcome {
    let session = done(context.module.open(context.slot, RO))?;
    done(context.module.login(session, CKU_USER, &context.token.pin))?;
    let template = [
        long(CKA_CLASS, CKO_DATA),
        flag(CKA_TOKEN, true),
        flag(CKA_PRIVATE, false),
        (CKA_VALUE, vec![1]),
    ];
    let read_only = &[CKR_SESSION_READ_ONLY];
    refused(context.module.create(session, &template), read_only)?;
    let key = context.private(session, EC)?;
    refused(context.module.destroy(session, key), read_only)?;
    let renamed = context
        .module
        .set(session, key, &[(CKA_LABEL, b"other".to_vec())]);
    refused(renamed, read_only)
}

fn public_session_makes_no_private_key(context: &Context) -> Outcome {
    let session = context.public()?;
    let (public, private) =
        crate::context::key_templates("none", vec![(CKA_EC_PARAMS, crate::context::P256.to_vec())]);
    refused(
        context
            .module
            .generate(session, CKM_EC_KEY_PAIR_GEN, &public, &private),
        &[CKR_USER_NOT_LOGGED_IN],
    )
}
