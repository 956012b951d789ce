//! Sessions and logins (§5.6).

use cryptoki_sys::*;

use crate::context::{EC, RO, RW, Row, bytes, curve, ensure, flag, key_templates, long, refused};
use crate::module::Mechanism;

pub(crate) const ROWS: &[Row] = &[
    ("session_without_the_serial_flag_is_refused", |c| {
        refused(c.open(0), [CKR_SESSION_PARALLEL_NOT_SUPPORTED])
    }),
    ("sessions_are_counted", |c| {
        let is = |value, wanted| value == wanted || value == CK_UNAVAILABLE_INFORMATION;
        let before = c.token_info(c.slot)?.ulSessionCount;
        ensure!(is(before, 0), "{before} before");
        c.open(RO)?;
        c.open(RW)?;
        let info = c.token_info(c.slot)?;
        let (all, writing) = (info.ulSessionCount, info.ulRwSessionCount);
        ensure!(is(all, 2) && is(writing, 1), "{all} and {writing}");
        Ok(())
    }),
    ("closed_session_is_invalid", |c| {
        let s = c.public()?;
        s.close()?;
        refused(s.close(), [CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED])
    }),
    ("closing_all_closes_all", |c| {
        let sessions = [c.public()?, c.public()?];
        c.close_all(c.slot)?;
        for s in sessions {
            refused(s.info(), [CKR_SESSION_HANDLE_INVALID])?;
        }
        Ok(())
    }),
    ("session_info_tells_the_state", |c| {
        let (reading, writing) = (c.open(RO)?, c.open(RW)?);
        let is = |read_only, read_write| {
            for (s, flags, wanted) in [(reading, RO, read_only), (writing, RW, read_write)] {
                let CK_SESSION_INFO {
                    slotID,
                    state,
                    flags: found,
                    ..
                } = s.info()?;
                ensure!(
                    (slotID, found) == (c.slot, flags),
                    "slot {slotID}, flags {found:X}"
                );
                ensure!(state == wanted, "state {state}, not {wanted}");
            }
            Ok::<_, crate::context::Difference>(())
        };
        is(CKS_RO_PUBLIC_SESSION, CKS_RW_PUBLIC_SESSION)?;
        reading.login_user()?;
        is(CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS)?;
        reading.close()?;
        writing.logout()?;
        writing.login_officer()?;
        let officer = writing.info()?.state;
        ensure!(officer == CKS_RW_SO_FUNCTIONS, "{officer} for the officer");
        Ok(())
    }),
    ("login_is_seen_by_all_sessions", |c| {
        let other = c.public()?;
        c.user()?;
        other.private(EC).map(drop)
    }),
    ("later_sessions_are_logged_in_too", |c| {
        c.user()?;
        c.public()?.private(EC).map(drop)
    }),
    ("second_login_is_refused", |c| {
        refused(c.user()?.login_user(), [CKR_USER_ALREADY_LOGGED_IN])
    }),
    ("officer_after_user_is_refused", |c| {
        refused(
            c.user()?.login_officer(),
            [CKR_USER_ANOTHER_ALREADY_LOGGED_IN],
        )
    }),
    ("logout_is_seen_by_all_sessions", |c| {
        let s = c.user()?;
        c.public()?.logout()?;
        ensure!(s.private(EC).is_err(), "the private key is still visible");
        Ok(())
    }),
    ("logout_without_login_is_refused", |c| {
        refused(c.public()?.logout(), [CKR_USER_NOT_LOGGED_IN])
    }),
    ("closing_the_last_session_logs_out", |c| {
        c.user()?.close()?;
        let state = c.public()?.info()?.state;
        ensure!(state == CKS_RW_PUBLIC_SESSION, "state {state}");
        Ok(())
    }),
    ("officer_needs_no_read_only_session", |c| {
        let s = c.public()?;
        c.open(RO)?;
        refused(s.login_officer(), [CKR_SESSION_READ_ONLY_EXISTS])
    }),
    ("read_only_session_after_officer_is_refused", |c| {
        c.public()?.login_officer()?;
        refused(c.open(RO), [CKR_SESSION_READ_WRITE_SO_EXISTS])
    }),
    ("officer_has_no_private_keys", |c| {
        let s = c.public()?;
        s.login_officer()?;
        let found = s.find(&[long(CKA_CLASS, CKO_PRIVATE_KEY)])?;
        ensure!(found.is_empty(), "{} private keys", found.len());
        Ok(())
    }),
    ("unknown_user_type_is_refused", |c| {
        refused(c.public()?.login(77, &c.token.pin), [CKR_USER_TYPE_INVALID])
    }),
    ("context_specific_login_needs_an_operation", |c| {
        let value = c.user()?.login(CKU_CONTEXT_SPECIFIC, &c.token.pin);
        refused(value, [CKR_OPERATION_NOT_INITIALIZED])
    }),
    // Private objects are inaccessible at once (§5.6.9, C_Logout).
    ("logout_ends_private_operations", |c| {
        let s = c.user()?;
        let (ecdsa, key) = (Mechanism::new(CKM_ECDSA), s.private(EC)?);
        s.sign_begin(&ecdsa, key)?;
        s.logout()?;
        ensure!(s.sign(&[7; 32]).is_err(), "it signs without a login");
        refused(
            s.sign_begin(&ecdsa, key),
            [
                CKR_KEY_HANDLE_INVALID,
                CKR_OBJECT_HANDLE_INVALID,
                CKR_USER_NOT_LOGGED_IN,
            ],
        )
    }),
    ("read_only_session_changes_no_token_object", |c| {
        let s = c.open(RO)?;
        s.login_user()?;
        let read_only = [CKR_SESSION_READ_ONLY];
        let flags = [flag(CKA_TOKEN, true), flag(CKA_PRIVATE, false)];
        let data = [long(CKA_CLASS, CKO_DATA), bytes(CKA_VALUE, [1])];
        refused(s.create(&[flags, data].concat()), read_only)?;
        let key = s.private(EC)?;
        refused(s.destroy(key), read_only)?;
        refused(s.set(key, &[bytes(CKA_LABEL, "other")]), read_only)
    }),
    ("public_session_makes_no_private_key", |c| {
        let (public, private) = key_templates("none", curve());
        let made = c.public()?.generate(CKM_EC_KEY_PAIR_GEN, &public, &private);
        refused(made, [CKR_USER_NOT_LOGGED_IN])
    }),
];
