//! Invalid arguments: null, too short, too long, of another kind.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::context::{Context, EC, NONE, Outcome, RSA, Row, ensure, long, refused};
use crate::module::{Mechanism, Result, call, raw, result};

/// A mechanism whose parameter is invalid.
type Parameter = (&'static str, fn() -> Mechanism);

pub(crate) const PARAMETERS: &[Parameter] = &[
    ("pss_without_parameters_is_refused", || {
        Mechanism::new(CKM_RSA_PKCS_PSS)
    }),
    ("pss_with_short_parameters_is_refused", || {
        cut(pss(CKM_SHA256), 16)
    }),
    ("pss_with_long_parameters_is_refused", || {
        cut(pss(CKM_SHA256), 32)
    }),
    ("pss_with_an_unknown_hash_is_refused", || pss(0x7777)),
    ("pss_with_the_hash_of_another_mechanism_is_refused", || {
        Mechanism::pss(CKM_SHA256_RSA_PKCS_PSS, CKM_SHA384, CKG_MGF1_SHA384, 48)
    }),
    ("oaep_without_parameters_is_refused", || {
        Mechanism::new(CKM_RSA_PKCS_OAEP)
    }),
    ("oaep_with_short_parameters_is_refused", || {
        cut(oaep(CKG_MGF1_SHA1), 24)
    }),
    ("oaep_with_an_unknown_mask_is_refused", || oaep(0x7777)),
    ("ecdh_without_parameters_is_refused", || {
        Mechanism::new(CKM_ECDH1_DERIVE)
    }),
    ("ecdh_with_a_short_point_is_refused", || {
        Mechanism::ecdh(&[4; 20])
    }),
    ("ecdh_with_an_unknown_function_is_refused", || {
        Mechanism::ecdh_with(NONE, &[], &[4; 65])
    }),
    (
        "ecdh_with_shared_information_for_no_function_is_refused",
        || Mechanism::ecdh_with(CKD_NULL, &[7; 16], &[4; 65]),
    ),
    ("ecdh_with_null_shared_information_is_refused", || {
        let mut mechanism = Mechanism::ecdh_with(CKD_SHA256_KDF, &[7; 16], &[4; 65]);
        let pointer = 2 * size_of::<CK_ULONG>();
        mechanism.parameter[pointer..pointer + size_of::<CK_ULONG>()].fill(0);
        mechanism
    }),
    ("ecdh_with_endless_shared_information_is_refused", || {
        let mut mechanism = Mechanism::ecdh_with(CKD_SHA256_KDF, &[7; 16], &[4; 65]);
        let length = size_of::<CK_ULONG>();
        mechanism.parameter[length..2 * length].fill(0x7F);
        mechanism
    }),
];

const NO_KEY: [CK_RV; 2] = [CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID];
const OTHER_KEY: [CK_RV; 2] = [CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED];
const OTHER_HALF: [CK_RV; 3] = [
    CKR_KEY_TYPE_INCONSISTENT,
    CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_KEY_HANDLE_INVALID,
];

pub(crate) const ROWS: &[Row] = &[
    ("null_information_is_refused", |c| {
        let s = c.public()?.handle;
        bad(&[
            raw!(c, C_GetInfo(null_mut())),
            raw!(c, C_GetSlotInfo(c.slot, null_mut())),
            raw!(c, C_GetTokenInfo(c.slot, null_mut())),
            raw!(c, C_GetMechanismInfo(c.slot, CKM_RSA_PKCS, null_mut())),
            raw!(c, C_GetSessionInfo(s, null_mut())),
        ])
    }),
    ("null_counts_are_refused", |c| {
        bad(&[
            raw!(c, C_GetSlotList(CK_FALSE, null_mut(), null_mut())),
            raw!(c, C_GetMechanismList(c.slot, null_mut(), null_mut())),
        ])
    }),
    ("null_session_is_refused", |c| {
        let flags = CKF_SERIAL_SESSION;
        bad(&[raw!(
            c,
            C_OpenSession(c.slot, flags, null_mut(), None, null_mut())
        )])
    }),
    ("null_mechanism_is_refused", |c| {
        let s = c.user()?;
        let (private, public, s) = (s.private(RSA)?, s.public(RSA)?, s.handle);
        bad(&[
            raw!(c, C_SignInit(s, null_mut(), private)),
            raw!(c, C_DecryptInit(s, null_mut(), private)),
            raw!(c, C_DigestInit(s, null_mut())),
            raw!(c, C_VerifyInit(s, null_mut(), public)),
            raw!(c, C_EncryptInit(s, null_mut(), public)),
        ])
    }),
    ("null_template_with_a_count_is_refused", |c| {
        let s = c.user()?;
        let (key, s, mut object) = (s.private(RSA)?, s.handle, 0);
        bad(&[
            raw!(c, C_FindObjectsInit(s, null_mut(), 1)),
            raw!(c, C_CreateObject(s, null_mut(), 1, &raw mut object)),
            raw!(c, C_GetAttributeValue(s, key, null_mut(), 1)),
            raw!(c, C_SetAttributeValue(s, key, null_mut(), 1)),
        ])
    }),
    ("null_data_with_a_length_is_refused", |c| {
        let (s, other) = (c.user()?, c.public()?);
        let (mut buffer, mut length) = ([0; 64], 64);
        s.sign_begin(&Mechanism::new(CKM_ECDSA), s.private(EC)?)?;
        other.digest_begin(CKM_SHA256)?;
        let place = buffer.as_mut_ptr();
        bad(&[
            raw!(c, C_Sign(s.handle, null_mut(), 32, place, &raw mut length)),
            raw!(c, C_DigestUpdate(other.handle, null_mut(), 32)),
        ])
    }),
    ("null_result_length_is_refused", |c| {
        let s = c.user()?;
        s.sign_begin(&Mechanism::new(CKM_ECDSA), s.private(EC)?)?;
        let (mut data, mut buffer) = ([7; 32], [0; 64]);
        let (data, place) = (data.as_mut_ptr(), buffer.as_mut_ptr());
        bad(&[raw!(c, C_Sign(s.handle, data, 32, place, null_mut()))])
    }),
    ("null_object_handle_is_refused", |c| {
        let s = c.user()?;
        let (mut class, mut object, mut count) = (CKO_DATA, 0, 0);
        let mut attribute = CK_ATTRIBUTE {
            type_: CKA_CLASS,
            pValue: (&raw mut class).cast(),
            ulValueLen: 8,
        };
        s.find_begin(&[])?;
        bad(&[
            raw!(
                c,
                C_CreateObject(s.handle, &raw mut attribute, 1, null_mut())
            ),
            raw!(c, C_FindObjects(s.handle, &raw mut object, 1, null_mut())),
            raw!(c, C_FindObjects(s.handle, null_mut(), 1, &raw mut count)),
        ])
    }),
    ("null_random_buffer_is_refused", |c| {
        bad(&[raw!(c, C_GenerateRandom(c.public()?.handle, null_mut(), 8))])
    }),
    ("null_pin_with_a_length_is_refused", |c| {
        bad(&[raw!(
            c,
            C_Login(c.public()?.handle, CKU_USER, null_mut(), 6)
        )])
    }),
    ("null_attribute_value_with_a_length_is_refused", |c| {
        let s = c.user()?.handle;
        let mut object = 0;
        let mut attribute = CK_ATTRIBUTE {
            type_: CKA_CLASS,
            pValue: null_mut(),
            ulValueLen: 8,
        };
        refused(
            call!(c, C_CreateObject(s, &raw mut attribute, 1, &raw mut object)),
            [
                CKR_ARGUMENTS_BAD,
                CKR_ATTRIBUTE_VALUE_INVALID,
                CKR_TEMPLATE_INCOMPLETE,
            ],
        )
    }),
    ("pss_with_an_impossible_salt_is_refused", |c| {
        let s = c.user()?;
        // 222 fit a modulus of 256 bytes.
        for salt in [223, 300, (1 << 31) - 1, 1 << 37, 1 << 62, u64::MAX] {
            let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, salt);
            bad_parameter(s.sign_begin(&mechanism, s.private(RSA)?))?;
            bad_parameter(s.verify_begin(&mechanism, s.public(RSA)?))?;
        }
        let longest = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 222);
        s.sign_begin(&longest, s.private(RSA)?)?;
        Ok(s.sign(&[7; 32]).map(drop)?)
    }),
    ("mechanism_is_looked_at_before_the_key", |c| {
        let (s, none) = (c.user()?, Mechanism::new(NONE));
        let invalid = [CKR_MECHANISM_INVALID];
        let (rsa, ec) = (s.private(RSA)?, s.public(EC)?);
        for key in [0, NONE, rsa, ec] {
            refused(s.sign_begin(&none, key), invalid)?;
            refused(s.decrypt_begin(&none, key), invalid)?;
            refused(s.verify_begin(&none, key), invalid)?;
            refused(s.encrypt_begin(&none, key), invalid)?;
            refused(s.derive(&none, key, &[]).map(drop), invalid)?;
        }
        // One that the card has, for another function.
        refused(s.sign_begin(&Mechanism::new(CKM_SHA256), 0), invalid)?;
        refused(s.decrypt_begin(&Mechanism::new(CKM_ECDSA), 0), invalid)
    }),
    ("unknown_mechanisms_are_refused", |c| {
        let (s, none) = (c.user()?, Mechanism::new(NONE));
        let (private, public) = (s.private(RSA)?, s.public(RSA)?);
        let invalid = [CKR_MECHANISM_INVALID];
        refused(s.sign_begin(&none, private), invalid)?;
        refused(s.decrypt_begin(&none, private), invalid)?;
        refused(s.digest_begin(none.kind), invalid)?;
        refused(s.verify_begin(&none, public), invalid)?;
        refused(s.encrypt_begin(&none, public), invalid)
    }),
    ("mechanisms_of_another_key_type_are_refused", |c| {
        let s = c.user()?;
        let (rsa, ec) = (s.private(RSA)?, s.private(EC)?);
        refused(s.sign_begin(&Mechanism::new(CKM_ECDSA), rsa), OTHER_KEY)?;
        refused(s.sign_begin(&Mechanism::new(CKM_RSA_PKCS), ec), OTHER_KEY)
    }),
    ("public_keys_do_not_sign", |c| {
        let s = c.user()?;
        refused(
            s.sign_begin(&Mechanism::new(CKM_RSA_PKCS), s.public(RSA)?),
            OTHER_HALF,
        )
    }),
    ("private_keys_do_not_verify", |c| {
        let s = c.user()?;
        refused(
            s.verify_begin(&Mechanism::new(CKM_RSA_PKCS), s.private(RSA)?),
            OTHER_HALF,
        )
    }),
    ("objects_that_are_no_keys_are_refused", |c| {
        let (s, rsa) = (c.user()?, Mechanism::new(CKM_RSA_PKCS));
        for none in [0, NONE] {
            refused(s.sign_begin(&rsa, none), NO_KEY)?;
            refused(s.verify_begin(&rsa, none), NO_KEY)?;
            refused(s.decrypt_begin(&rsa, none), NO_KEY)?;
            refused(s.encrypt_begin(&rsa, none), NO_KEY)?;
        }
        Ok(())
    }),
    ("second_operation_is_refused", |c| {
        let (s, other) = (c.user()?, c.public()?);
        let (rsa, ec) = (s.private(RSA)?, s.private(EC)?);
        s.sign_begin(&Mechanism::new(CKM_RSA_PKCS), rsa)?;
        refused(
            s.sign_begin(&Mechanism::new(CKM_ECDSA), ec),
            [CKR_OPERATION_ACTIVE],
        )?;
        other.digest_begin(CKM_SHA256)?;
        refused(other.digest_begin(CKM_SHA256), [CKR_OPERATION_ACTIVE])
    }),
    // The operations of different sessions are independent.
    ("operations_of_different_kinds_go_side_by_side", |c| {
        let sessions = [c.user()?, c.public()?];
        for s in sessions {
            s.sign_begin(&Mechanism::new(CKM_ECDSA), s.private(EC)?)?;
        }
        for s in sessions {
            let length = s.sign(&[7; 32])?.len();
            ensure!(length == 64, "{length} bytes");
        }
        Ok(())
    }),
    ("huge_lengths_are_refused", |c| {
        let s = c.public()?.handle;
        let mut byte = 0;
        bad(&[raw!(c, C_FindObjectsInit(s, null_mut(), CK_ULONG::MAX))])?;
        refused(
            call!(c, C_Login(s, CKU_USER, &raw mut byte, CK_ULONG::MAX)),
            [CKR_ARGUMENTS_BAD, CKR_PIN_LEN_RANGE, CKR_PIN_INCORRECT],
        )
    }),
];

/// One of [`PARAMETERS`].
pub(crate) fn parameter_is_refused(c: &Context, mechanism: &Mechanism) -> Outcome {
    let s = c.user()?;
    bad_parameter(match mechanism.kind {
        CKM_ECDH1_DERIVE => {
            let template = [
                long(CKA_CLASS, CKO_SECRET_KEY),
                long(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
                long(CKA_VALUE_LEN, 32),
            ];
            s.derive(mechanism, s.private(EC)?, &template).map(drop)
        }
        CKM_RSA_PKCS_OAEP => s.decrypt_begin(mechanism, s.private(RSA)?),
        _ => s.sign_begin(mechanism, s.private(RSA)?),
    })
}

fn bad(values: &[CK_RV]) -> Outcome {
    let mut values = values.iter();
    values.try_for_each(|value| refused(result(*value), [CKR_ARGUMENTS_BAD]))
}

fn bad_parameter(value: Result) -> Outcome {
    refused(value, [CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD])
}

fn pss(hash: CK_MECHANISM_TYPE) -> Mechanism {
    Mechanism::pss(CKM_RSA_PKCS_PSS, hash, CKG_MGF1_SHA256, 32)
}

fn oaep(mask: CK_ULONG) -> Mechanism {
    Mechanism::oaep(CKM_SHA_1, mask, b"")
}

/// With a parameter of this many bytes.
fn cut(mut mechanism: Mechanism, length: usize) -> Mechanism {
    mechanism.parameter.resize(length, 0);
    mechanism
}
