//! PINs (§5.5, §5.6): spends tries and restores them.

use cryptoki_sys::*;

use crate::context::{Context, Outcome, RO, RW, Row, ensure, refused};
use crate::module::{Rv, call};

/// A PIN that is not the token's.
const WRONG: &str = "000000";
/// A PIN to which the token's is changed.
const NEW: &str = "7654321";

pub(crate) const ROWS: &[Row] = &[
    ("wrong_pin_is_told_and_counted", |c| {
        let s = c.public()?;
        refused(s.login(CKU_USER, WRONG), [CKR_PIN_INCORRECT])?;
        let low = c.token_flags()? & CKF_USER_PIN_COUNT_LOW != 0;
        s.close()?;
        restore_tries(c)?;
        let restored = c.token_flags()? & CKF_USER_PIN_COUNT_LOW == 0;
        ensure!(
            low && restored,
            "count low: {low}, not low after a login: {restored}"
        );
        Ok(())
    }),
    ("empty_pin_is_refused", |c| {
        let value = c.public()?.login(CKU_USER, "");
        refused(
            value,
            [CKR_ARGUMENTS_BAD, CKR_PIN_INCORRECT, CKR_PIN_LEN_RANGE],
        )
    }),
    ("long_pin_is_refused", |c| {
        let s = c.public()?;
        let value = s.login(CKU_USER, &"1".repeat(300));
        s.close()?;
        restore_tries(c)?;
        refused(value, [CKR_PIN_INCORRECT, CKR_PIN_LEN_RANGE])
    }),
    ("wrong_officer_pin_is_told", |c| {
        let s = c.public()?;
        let value = s.login(CKU_SO, "00000000");
        s.login_officer()?;
        refused(value, [CKR_PIN_INCORRECT])
    }),
    ("pin_is_changed_and_changed_back", |c| {
        let s = c.public()?;
        let pin = &c.token.pin;
        s.set_pin(pin, NEW)?;
        let value = s.login(CKU_USER, pin);
        s.login(CKU_USER, NEW)?;
        // Also while the user is logged in.
        s.set_pin(NEW, pin)?;
        let state = s.info()?.state;
        ensure!(
            state == CKS_RW_USER_FUNCTIONS,
            "state {state} after the change"
        );
        refused(value, [CKR_PIN_INCORRECT])
    }),
    ("pin_is_not_changed_by_a_wrong_one", |c| {
        let s = c.public()?;
        let value = s.set_pin(WRONG, NEW);
        s.close()?;
        restore_tries(c)?;
        refused(value, [CKR_PIN_INCORRECT])
    }),
    ("pin_is_not_changed_in_a_read_only_session", |c| {
        let value = c.open(RO)?.set_pin(&c.token.pin, NEW);
        refused(value, [CKR_SESSION_READ_ONLY])
    }),
    ("new_pin_that_is_too_short_is_refused", |c| {
        let s = c.public()?;
        let value = s.set_pin(&c.token.pin, "1");
        s.close()?;
        restore_tries(c)?;
        refused(value, [CKR_PIN_INVALID, CKR_PIN_LEN_RANGE])
    }),
    ("init_pin_needs_the_officer", |c| {
        let not_logged_in = [CKR_USER_NOT_LOGGED_IN];
        refused(c.public()?.init_pin(NEW.as_bytes()), not_logged_in)?;
        refused(c.user()?.init_pin(NEW.as_bytes()), not_logged_in)
    }),
    ("init_token_with_open_sessions_is_refused", |c| {
        c.public()?;
        let (pin, mut label) = (&c.token.so_pin, [b' '; 32]);
        let (start, length) = (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
        let value = call!(c, C_InitToken(c.slot, start, length, label.as_mut_ptr()));
        refused(value, [CKR_SESSION_EXISTS])
    }),
    ("officer_sets_the_pin_after_it_was_locked", officer_unlocks),
];

/// A login with the PIN, which gives the tries back.
fn restore_tries(c: &Context) -> Outcome {
    Ok(c.user()?.close()?)
}

/// The flags announce the lock, and the officer ends it. The PIN is the same afterwards.
fn officer_unlocks(c: &Context) -> Outcome {
    let s = c.open(RW)?;
    let (mut locked, mut announced) = (false, false);
    for _ in 0..100 {
        let before = c.token_flags()?;
        match s.login(CKU_USER, WRONG) {
            Err(Rv(CKR_PIN_INCORRECT)) => {}
            Err(Rv(CKR_PIN_LOCKED)) => locked = true,
            other => return Err(format!("{other:?}").into()),
        }
        if locked || c.token_flags()? & CKF_USER_PIN_LOCKED != 0 {
            announced = locked || before & CKF_USER_PIN_FINAL_TRY != 0;
            locked = true;
            break;
        }
    }
    ensure!(
        locked && announced,
        "locked: {locked}, announced: {announced}"
    );
    refused(s.login_user(), [CKR_PIN_LOCKED])?;
    s.login_officer()?;
    s.init_pin(c.token.pin.as_bytes())?;
    s.close()?;
    restore_tries(c)?;
    let bad = CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW;
    let flags = c.token_flags()?;
    ensure!(flags & bad == 0, "flags {flags:X}");
    Ok(())
}
