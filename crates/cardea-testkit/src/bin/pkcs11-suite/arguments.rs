//! Arguments that are wrong: null, too short, too long, of another kind.

use std::ptr::null_mut;

use cryptoki_sys::*;

use crate::context::{Context, EC, Outcome, RSA, behaviours, done, ensure, refused};
use crate::module::{Mechanism, raw, result};

behaviours! {
    null_information_is_refused
    null_counts_are_refused
    null_session_is_refused
    null_mechanism_is_refused
    null_template_with_a_count_is_refused
    null_data_with_a_length_is_refused
    null_result_length_is_refused
    null_object_handle_is_refused
    null_random_buffer_is_refused
    null_pin_with_a_length_is_refused
    null_attribute_value_with_a_length_is_refused
    pss_without_parameters_is_refused
    pss_with_short_parameters_is_refused
    pss_with_long_parameters_is_refused
    pss_with_an_unknown_hash_is_refused
    pss_with_the_hash_of_another_mechanism_is_refused
    pss_with_an_impossible_salt_is_refused
    oaep_without_parameters_is_refused
    oaep_with_short_parameters_is_refused
    oaep_with_an_unknown_mask_is_refused
    ecdh_without_parameters_is_refused
    ecdh_with_a_short_point_is_refused
    unknown_mechanisms_are_refused
    mechanisms_of_another_key_type_are_refused
    public_keys_do_not_sign
    private_keys_do_not_verify
    objects_that_are_no_keys_are_refused
    second_operation_is_refused
    operations_of_different_kinds_go_side_by_side
    huge_lengths_are_refused
}

fn bad(value: CK_RV) -> Outcome {
    refused(result(value), &[CKR_ARGUMENTS_BAD])
}

fn null_information_is_refused(context: &Context) -> Outcome {
    let (m, slot) = (&context.module, context.slot);
    let session = context.public()?;
    bad(raw!(m, C_GetInfo(null_mut())))?;
    bad(raw!(m, C_GetSlotInfo(slot, null_mut())))?;
    bad(raw!(m, C_GetTokenInfo(slot, null_mut())))?;
    bad(raw!(m, C_GetMechanismInfo(slot, CKM_RSA_PKCS, null_mut())))?;
    bad(raw!(m, C_GetSessionInfo(session, null_mut())))
}

fn null_counts_are_refused(context: &Context) -> Outcome {
    let (m, slot) = (&context.module, context.slot);
    bad(raw!(m, C_GetSlotList(CK_FALSE, null_mut(), null_mut())))?;
    bad(raw!(m, C_GetMechanismList(slot, null_mut(), null_mut())))
}

fn null_session_is_refused(context: &Context) -> Outcome {
    let flags = CKF_SERIAL_SESSION;
    bad(raw!(
        context.module,
        C_OpenSession(context.slot, flags, null_mut(), None, null_mut())
    ))
}

fn null_mechanism_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    let m = &context.module;
    bad(raw!(m, C_SignInit(session, null_mut(), key)))?;
    bad(raw!(m, C_DecryptInit(session, null_mut(), key)))?;
    bad(raw!(m, C_DigestInit(session, null_mut())))?;
    let key = context.public_key(session, RSA)?;
    bad(raw!(m, C_VerifyInit(session, null_mut(), key)))?;
    bad(raw!(m, C_EncryptInit(session, null_mut(), key)))
}

fn null_template_with_a_count_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    let (m, mut object) = (&context.module, 0);
    bad(raw!(m, C_FindObjectsInit(session, null_mut(), 1)))?;
    bad(raw!(
        m,
        C_CreateObject(session, null_mut(), 1, &raw mut object)
    ))?;
    bad(raw!(m, C_GetAttributeValue(session, key, null_mut(), 1)))?;
    bad(raw!(m, C_SetAttributeValue(session, key, null_mut(), 1)))
}

fn null_data_with_a_length_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let (mut buffer, mut length) = ([0; 64], 64);
    let m = &context.module;
    done(m.sign_begin(session, &Mechanism::new(CKM_ECDSA), key))?;
    let place = buffer.as_mut_ptr();
    bad(raw!(
        m,
        C_Sign(session, null_mut(), 32, place, &raw mut length)
    ))?;
    let other = context.public()?;
    done(m.digest_begin(other, CKM_SHA256))?;
    bad(raw!(m, C_DigestUpdate(other, null_mut(), 32)))
}

fn null_result_length_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let (mut data, mut buffer) = ([7; 32], [0; 64]);
    let m = &context.module;
    done(m.sign_begin(session, &Mechanism::new(CKM_ECDSA), key))?;
    let (data, place) = (data.as_mut_ptr(), buffer.as_mut_ptr());
    bad(raw!(m, C_Sign(session, data, 32, place, null_mut())))
}

fn null_object_handle_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let mut class = CKO_DATA;
    let mut attribute = CK_ATTRIBUTE {
        type_: CKA_CLASS,
        pValue: (&raw mut class).cast(),
        ulValueLen: 8,
    };
    let m = &context.module;
    bad(raw!(
        m,
        C_CreateObject(session, &raw mut attribute, 1, null_mut())
    ))?;
    done(m.find_begin(session, &[]))?;
    let mut place = 0;
    bad(raw!(
        m,
        C_FindObjects(session, &raw mut place, 1, null_mut())
    ))?;
    let mut count = 0;
    bad(raw!(
        m,
        C_FindObjects(session, null_mut(), 1, &raw mut count)
    ))
}

fn null_random_buffer_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    bad(raw!(
        context.module,
        C_GenerateRandom(session, null_mut(), 8)
    ))
}

fn null_pin_with_a_length_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    bad(raw!(
        context.module,
        C_Login(session, CKU_USER, null_mut(), 6)
    ))
}

fn null_attribute_value_with_a_length_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let (mut object, mut attribute) = (
        0,
        CK_ATTRIBUTE {
            type_: CKA_CLASS,
            pValue: null_mut(),
            ulValueLen: 8,
        },
    );
    let value = raw!(
        context.module,
        C_CreateObject(session, &raw mut attribute, 1, &raw mut object)
    );
    refused(
        result(value),
        &[
            CKR_ARGUMENTS_BAD,
            CKR_ATTRIBUTE_VALUE_INVALID,
            CKR_TEMPLATE_INCOMPLETE,
        ],
    )
}

/// Signing with a mechanism whose parameters are wrong.
fn not_signed(context: &Context, mechanism: &Mechanism) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    refused(
        context.module.sign_begin(session, mechanism, key),
        &[CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD],
    )
}

fn pss_without_parameters_is_refused(context: &Context) -> Outcome {
    not_signed(context, &Mechanism::new(CKM_RSA_PKCS_PSS))
}

fn pss_with_short_parameters_is_refused(context: &Context) -> Outcome {
    let mut mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32);
    mechanism.parameter.truncate(16);
    not_signed(context, &mechanism)
}

fn pss_with_long_parameters_is_refused(context: &Context) -> Outcome {
    let mut mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32);
    mechanism.parameter.extend([0; 8]);
    not_signed(context, &mechanism)
}

fn pss_with_an_unknown_hash_is_refused(context: &Context) -> Outcome {
    not_signed(
        context,
        &Mechanism::pss(CKM_RSA_PKCS_PSS, 0x7777, CKG_MGF1_SHA256, 32),
    )
}

fn pss_with_the_hash_of_another_mechanism_is_refused(context: &Context) -> Outcome {
    not_signed(
        context,
        &Mechanism::pss(CKM_SHA256_RSA_PKCS_PSS, CKM_SHA384, CKG_MGF1_SHA384, 48),
    )
}

fn pss_with_an_impossible_salt_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 300);
    let begun = context.module.sign_begin(session, &mechanism, key);
    let signed = begun.and_then(|()| context.module.sign(session, &[7; 32]));
    refused(signed, &[CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD])
}

fn not_decrypted(context: &Context, mechanism: &Mechanism) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    refused(
        context.module.decrypt_begin(session, mechanism, key),
        &[CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD],
    )
}

fn oaep_without_parameters_is_refused(context: &Context) -> Outcome {
    not_decrypted(context, &Mechanism::new(CKM_RSA_PKCS_OAEP))
}

fn oaep_with_short_parameters_is_refused(context: &Context) -> Outcome {
    let mut mechanism = Mechanism::oaep(CKM_SHA_1, CKG_MGF1_SHA1, b"");
    mechanism.parameter.truncate(24);
    not_decrypted(context, &mechanism)
}

fn oaep_with_an_unknown_mask_is_refused(context: &Context) -> Outcome {
    not_decrypted(context, &Mechanism::oaep(CKM_SHA_1, 0x7777, b""))
}

fn not_derived(context: &Context, mechanism: &Mechanism) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let template = [
        crate::context::long(CKA_CLASS, CKO_SECRET_KEY),
        crate::context::long(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        crate::context::long(CKA_VALUE_LEN, 32),
    ];
    refused(
        context.module.derive(session, mechanism, key, &template),
        &[CKR_MECHANISM_PARAM_INVALID, CKR_ARGUMENTS_BAD],
    )
}

fn ecdh_without_parameters_is_refused(context: &Context) -> Outcome {
    not_derived(context, &Mechanism::new(CKM_ECDH1_DERIVE))
}

fn ecdh_with_a_short_point_is_refused(context: &Context) -> Outcome {
    not_derived(context, &Mechanism::ecdh(&[4; 20]))
}

fn unknown_mechanisms_are_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    let none = Mechanism::new(0x7777_7777);
    let invalid = &[CKR_MECHANISM_INVALID];
    refused(context.module.sign_begin(session, &none, key), invalid)?;
    refused(context.module.decrypt_begin(session, &none, key), invalid)?;
    refused(context.module.digest_begin(session, none.kind), invalid)?;
    let key = context.public_key(session, RSA)?;
    refused(context.module.verify_begin(session, &none, key), invalid)?;
    refused(context.module.encrypt_begin(session, &none, key), invalid)
}

fn mechanisms_of_another_key_type_are_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let allowed = &[CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED];
    let (rsa, ec) = (
        context.private(session, RSA)?,
        context.private(session, EC)?,
    );
    let m = &context.module;
    refused(
        m.sign_begin(session, &Mechanism::new(CKM_ECDSA), rsa),
        allowed,
    )?;
    refused(
        m.sign_begin(session, &Mechanism::new(CKM_RSA_PKCS), ec),
        allowed,
    )
}

fn public_keys_do_not_sign(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.public_key(session, RSA)?;
    refused(
        context
            .module
            .sign_begin(session, &Mechanism::new(CKM_RSA_PKCS), key),
        &[
            CKR_KEY_TYPE_INCONSISTENT,
            CKR_KEY_FUNCTION_NOT_PERMITTED,
            CKR_KEY_HANDLE_INVALID,
        ],
    )
}

fn private_keys_do_not_verify(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    refused(
        context
            .module
            .verify_begin(session, &Mechanism::new(CKM_RSA_PKCS), key),
        &[
            CKR_KEY_TYPE_INCONSISTENT,
            CKR_KEY_FUNCTION_NOT_PERMITTED,
            CKR_KEY_HANDLE_INVALID,
        ],
    )
}

fn objects_that_are_no_keys_are_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let allowed = &[CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID];
    let rsa = Mechanism::new(CKM_RSA_PKCS);
    let m = &context.module;
    for none in [0, 0x7777_7777] {
        refused(m.sign_begin(session, &rsa, none), allowed)?;
        refused(m.verify_begin(session, &rsa, none), allowed)?;
        refused(m.decrypt_begin(session, &rsa, none), allowed)?;
        refused(m.encrypt_begin(session, &rsa, none), allowed)?;
    }
    Ok(())
}

fn second_operation_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let (rsa, ec) = (
        context.private(session, RSA)?,
        context.private(session, EC)?,
    );
    let m = &context.module;
    let active = &[CKR_OPERATION_ACTIVE];
    done(m.sign_begin(session, &Mechanism::new(CKM_RSA_PKCS), rsa))?;
    refused(
        m.sign_begin(session, &Mechanism::new(CKM_ECDSA), ec),
        active,
    )?;
    let other = context.public()?;
    done(m.digest_begin(other, CKM_SHA256))?;
    refused(m.digest_begin(other, CKM_SHA256), active)
}

/// What several sessions do has nothing to do with each other.
fn operations_of_different_kinds_go_side_by_side(context: &Context) -> Outcome {
    let session = context.user()?;
    let other = context.public()?;
    let key = context.private(session, EC)?;
    let m = &context.module;
    done(m.sign_begin(session, &Mechanism::new(CKM_ECDSA), key))?;
    done(m.sign_begin(other, &Mechanism::new(CKM_ECDSA), key))?;
    let one = done(m.sign(session, &[7; 32]))?;
    let two = done(m.sign(other, &[7; 32]))?;
    ensure!(
        one.len() == 64 && two.len() == 64,
        "{} and {}",
        one.len(),
        two.len()
    );
    Ok(())
}

fn huge_lengths_are_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    let mut byte = 0;
    let value = raw!(
        context.module,
        C_FindObjectsInit(session, null_mut(), CK_ULONG::MAX)
    );
    bad(value)?;
    let value = raw!(
        context.module,
        C_Login(session, CKU_USER, &raw mut byte, CK_ULONG::MAX)
    );
    refused(
        result(value),
        &[CKR_ARGUMENTS_BAD, CKR_PIN_LEN_RANGE, CKR_PIN_INCORRECT],
    )
}
