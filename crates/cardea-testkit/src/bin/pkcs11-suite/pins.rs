//! PINs (§5.5, §5.6): spends tries and gives them back.

use cryptoki_sys::*;

use crate::context::{Context, Outcome, RW, behaviours, done, ensure, refused};
use crate::module::{raw, result};

behaviours! {
    wrong_pin_is_told_and_counted
    empty_pin_is_refused
    long_pin_is_refused
    wrong_officer_pin_is_told
    pin_is_changed_and_changed_back
    pin_is_not_changed_by_a_wrong_one
    pin_is_not_changed_in_a_read_only_session
    new_pin_that_is_too_short_is_refused
    init_pin_needs_the_officer
    init_token_with_open_sessions_is_refused
    officer_sets_the_pin_after_it_was_locked
}

fn flags(context: &Context) -> Result<CK_FLAGS, String> {
    Ok(done(context.module.token_info(context.slot))?.flags)
}

fn right(context: &Context) -> Outcome {
    let session = context.user()?;
    done(context.module.close(session))
}

fn wrong_pin_is_told_and_counted(context: &Context) -> Outcome {
    let session = context.public()?;
    refused(
        context.module.login(session, CKU_USER, "000000"),
        &[CKR_PIN_INCORRECT],
    )?;
    let low = flags(context)? & CKF_USER_PIN_COUNT_LOW != 0;
    done(context.module.close(session))?;
    right(context)?;
    let restored = flags(context)? & CKF_USER_PIN_COUNT_LOW == 0;
    ensure!(
        low && restored,
        "count low: {low}, after the right one not: {restored}"
    );
    Ok(())
}

fn empty_pin_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    refused(
        context.module.login(session, CKU_USER, ""),
        &[CKR_ARGUMENTS_BAD, CKR_PIN_INCORRECT, CKR_PIN_LEN_RANGE],
    )
}

fn long_pin_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    let refusal = refused(
        context.module.login(session, CKU_USER, &"1".repeat(300)),
        &[CKR_PIN_INCORRECT, CKR_PIN_LEN_RANGE],
    );
    done(context.module.close(session))?;
    right(context)?;
    refusal
}

fn wrong_officer_pin_is_told(context: &Context) -> Outcome {
    let session = context.public()?;
    let refusal = refused(
        context.module.login(session, CKU_SO, "00000000"),
        &[CKR_PIN_INCORRECT],
    );
    done(context.module.login(session, CKU_SO, &context.token.so_pin))?;
    refusal
}

fn pin_is_changed_and_changed_back(context: &Context) -> Outcome {
    let session = context.public()?;
    let (old, new) = (&context.token.pin, "7654321");
    done(context.module.set_pin(session, old, new))?;
    let seen = refused(
        context.module.login(session, CKU_USER, old),
        &[CKR_PIN_INCORRECT],
    );
    done(context.module.login(session, CKU_USER, new))?;
    // Also while somebody is logged in.
    done(context.module.set_pin(session, new, old))?;
    let state = done(context.module.session_info(session))?.state;
    ensure!(
        state == CKS_RW_USER_FUNCTIONS,
        "state {state} after the change"
    );
    seen
}

fn pin_is_not_changed_by_a_wrong_one(context: &Context) -> Outcome {
    let session = context.public()?;
    let refusal = refused(
        context.module.set_pin(session, "000000", "7654321"),
        &[CKR_PIN_INCORRECT],
    );
    done(context.module.close(session))?;
    right(context)?;
    refusal
}

fn pin_is_not_changed_in_a_read_only_session(context: &Context) -> Outcome {
    let session = done(context.module.open(context.slot, CKF_SERIAL_SESSION))?;
    let pin = &context.token.pin;
    refused(
        context.module.set_pin(session, pin, "7654321"),
        &[CKR_SESSION_READ_ONLY],
    )
}

fn new_pin_that_is_too_short_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    let pin = &context.token.pin;
    let refusal = refused(
        context.module.set_pin(session, pin, "1"),
        &[CKR_PIN_INVALID, CKR_PIN_LEN_RANGE],
    );
    done(context.module.close(session))?;
    right(context)?;
    refusal
}

fn init_pin(context: &Context, session: CK_SESSION_HANDLE, pin: &str) -> crate::module::Result {
    let (start, length) = (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
    result(raw!(context.module, C_InitPIN(session, start, length)))
}

fn init_pin_needs_the_officer(context: &Context) -> Outcome {
    let session = context.public()?;
    let none = &[CKR_USER_NOT_LOGGED_IN];
    refused(init_pin(context, session, "7654321"), none)?;
    let session = context.user()?;
    refused(init_pin(context, session, "7654321"), none)
}

fn init_token_with_open_sessions_is_refused(context: &Context) -> Outcome {
    context.public()?;
    let pin = &context.token.so_pin;
    let mut label = [b' '; 32];
    let (start, length) = (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
    let value = raw!(
        context.module,
        C_InitToken(context.slot, start, length, label.as_mut_ptr())
    );
    refused(result(value), &[CKR_SESSION_EXISTS])
}

/// The flags tell how it comes, and the officer ends it; the PIN is the same again.
fn officer_sets_the_pin_after_it_was_locked(context: &Context) -> Outcome {
    let session = done(context.module.open(context.slot, RW))?;
    let mut last_told = false;
    let mut locked = false;
    for _ in 0..100 {
        let before = flags(context)?;
        match context.module.login(session, CKU_USER, "000000") {
            Err(CKR_PIN_INCORRECT) => {}
            Err(CKR_PIN_LOCKED) => locked = true,
            other => return Err(format!("{other:?}")),
        }
        let after = flags(context)?;
        if after & CKF_USER_PIN_LOCKED != 0 || locked {
            last_told = before & CKF_USER_PIN_FINAL_TRY != 0 || locked;
            locked = true;
            break;
        }
    }
    ensure!(
        locked && last_told,
        "locked: {locked}, told before: {last_told}"
    );
    refused(
        context.module.login(session, CKU_USER, &context.token.pin),
        &[CKR_PIN_LOCKED],
    )?;
    done(context.module.login(session, CKU_SO, &context.token.so_pin))?;
    done(init_pin(context, session, &context.token.pin))?;
    done(context.module.close(session))?;
    right(context)?;
    let bad = CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW;
    ensure!(flags(context)? & bad == 0, "flags {:X}", flags(context)?);
    Ok(())
}
