//! Objects, attributes and searches (§4, §5.7).

use cryptoki_sys::*;

use crate::context::{
    Context, EC, Outcome, P256, RSA, behaviours, done, ensure, flag, long, refused,
};
use crate::module::{raw, result};

behaviours! {
    private_keys_are_hidden_without_login
    public_keys_are_seen_without_login
    search_by_class_and_label_finds_one
    search_by_nothing_finds_all
    search_by_what_is_not_there_finds_nothing
    search_is_given_in_parts
    search_for_no_objects_gives_none
    second_search_is_refused
    search_that_was_not_begun_is_refused
    finished_search_is_over
    search_ends_without_being_read
    handles_stay_between_searches
    attributes_of_a_private_key_are_a_cards
    attributes_of_an_rsa_public_key_are_its_numbers
    attributes_of_a_curve_public_key_are_its_point
    public_key_info_is_the_same_for_both_halves
    secret_attributes_are_not_told
    one_secret_attribute_does_not_hide_the_others
    attribute_that_is_none_is_told_apart
    attribute_without_room_is_told_apart
    attributes_of_no_object_are_refused
    sizes_of_objects_are_told
    data_objects_are_kept
    private_data_objects_are_hidden_without_login
    secret_keys_are_kept_on_the_token
    session_objects_end_with_their_session
    session_objects_are_seen_by_other_sessions
    certificate_objects_show_their_fields
    labels_and_identifiers_can_be_changed
    attributes_that_never_change_are_refused
    object_without_class_is_incomplete
    object_of_unknown_class_is_refused
    destroyed_object_is_gone
    private_key_cannot_be_made_extractable
}

fn class(value: CK_OBJECT_CLASS) -> crate::module::Attribute {
    long(CKA_CLASS, value)
}

fn private_keys_are_hidden_without_login(context: &Context) -> Outcome {
    let session = context.public()?;
    let found = done(context.module.find(session, &[class(CKO_PRIVATE_KEY)]))?;
    ensure!(found.is_empty(), "{} are seen", found.len());
    Ok(())
}

fn public_keys_are_seen_without_login(context: &Context) -> Outcome {
    let session = context.public()?;
    context.public_key(session, RSA)?;
    context.public_key(session, EC).map(drop)
}

fn search_by_class_and_label_finds_one(context: &Context) -> Outcome {
    let session = context.user()?;
    let rsa = context.private(session, RSA)?;
    let ec = context.private(session, EC)?;
    ensure!(rsa != ec, "one handle for two keys");
    let id = context.attribute(session, rsa, CKA_ID)?;
    let by_type = [class(CKO_PRIVATE_KEY), long(CKA_KEY_TYPE, CKK_RSA)];
    let found = done(context.module.find(session, &by_type))?;
    ensure!(
        found.contains(&rsa) && !found.contains(&ec),
        "by type: {found:?}"
    );
    let by_id = [
        class(CKO_PRIVATE_KEY),
        (CKA_ID, id),
        long(CKA_KEY_TYPE, CKK_RSA),
    ];
    let found = done(context.module.find(session, &by_id))?;
    ensure!(found.contains(&rsa), "by identifier: {found:?}");
    Ok(())
}

fn search_by_nothing_finds_all(context: &Context) -> Outcome {
    let session = context.user()?;
    let all = done(context.module.find(session, &[]))?;
    for label in [RSA, EC] {
        let (private, public) = (
            context.private(session, label)?,
            context.public_key(session, label)?,
        );
        ensure!(
            all.contains(&private) && all.contains(&public),
            "{label} is missing"
        );
    }
    Ok(())
}

fn search_by_what_is_not_there_finds_nothing(context: &Context) -> Outcome {
    let session = context.user()?;
    for template in [
        vec![(CKA_LABEL, b"nothing has this name".to_vec())],
        vec![class(CKO_PRIVATE_KEY), long(CKA_KEY_TYPE, CKK_DSA)],
        // An attribute that such objects do not have fits nothing.
        vec![class(CKO_PRIVATE_KEY), (CKA_SERIAL_NUMBER, vec![1])],
    ] {
        let found = done(context.module.find(session, &template))?;
        ensure!(found.is_empty(), "{} fit {template:?}", found.len());
    }
    Ok(())
}

fn search_is_given_in_parts(context: &Context) -> Outcome {
    let session = context.user()?;
    let all = done(context.module.find(session, &[]))?;
    done(context.module.find_begin(session, &[]))?;
    let mut parts = Vec::new();
    loop {
        let part = done(context.module.find_next(session, 1))?;
        ensure!(part.len() <= 1, "{} for one", part.len());
        if part.is_empty() {
            break;
        }
        parts.extend(part);
    }
    done(context.module.find_end(session))?;
    parts.sort_unstable();
    let mut all = all;
    all.sort_unstable();
    ensure!(parts == all, "{parts:?} in parts, {all:?} at once");
    Ok(())
}

fn search_for_no_objects_gives_none(context: &Context) -> Outcome {
    let session = context.user()?;
    done(context.module.find_begin(session, &[]))?;
    let none = done(context.module.find_next(session, 0))?;
    ensure!(none.is_empty(), "{} objects", none.len());
    let some = done(context.module.find_next(session, 1))?;
    ensure!(some.len() == 1, "{} objects afterwards", some.len());
    Ok(())
}

fn second_search_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    done(context.module.find_begin(session, &[]))?;
    refused(
        context.module.find_begin(session, &[]),
        &[CKR_OPERATION_ACTIVE],
    )
}

fn search_that_was_not_begun_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let none = &[CKR_OPERATION_NOT_INITIALIZED];
    refused(context.module.find_next(session, 1), none)?;
    refused(context.module.find_end(session), none)
}

fn finished_search_is_over(context: &Context) -> Outcome {
    let session = context.user()?;
    done(context.module.find(session, &[]))?;
    refused(
        context.module.find_next(session, 1),
        &[CKR_OPERATION_NOT_INITIALIZED],
    )
}

fn search_ends_without_being_read(context: &Context) -> Outcome {
    let session = context.user()?;
    done(context.module.find_begin(session, &[]))?;
    done(context.module.find_end(session))?;
    done(context.module.find_begin(session, &[]))
}

fn handles_stay_between_searches(context: &Context) -> Outcome {
    let session = context.user()?;
    let first = context.private(session, EC)?;
    let other = context.public()?;
    let second = context.private(other, EC)?;
    ensure!(first == second, "{first} and {second}");
    Ok(())
}

fn attributes_of_a_private_key_are_a_cards(context: &Context) -> Outcome {
    let session = context.user()?;
    for label in [RSA, EC] {
        let key = context.private(session, label)?;
        for (kind, wanted) in [
            (CKA_TOKEN, true),
            (CKA_PRIVATE, true),
            (CKA_SENSITIVE, true),
            (CKA_ALWAYS_SENSITIVE, true),
            (CKA_EXTRACTABLE, false),
            (CKA_NEVER_EXTRACTABLE, true),
            (CKA_LOCAL, true),
            (CKA_SIGN, true),
            (CKA_ALWAYS_AUTHENTICATE, false),
            (CKA_WRAP_WITH_TRUSTED, false),
        ] {
            let value = context.attribute(session, key, kind)?;
            ensure!(
                value == [u8::from(wanted)],
                "{label}: {kind:X} is {value:?}"
            );
        }
        let mechanism = context.attribute(session, key, CKA_KEY_GEN_MECHANISM)?;
        let wanted = if label == RSA {
            CKM_RSA_PKCS_KEY_PAIR_GEN
        } else {
            CKM_EC_KEY_PAIR_GEN
        };
        ensure!(
            mechanism == wanted.to_ne_bytes(),
            "{label}: made by {mechanism:?}"
        );
    }
    Ok(())
}

fn attributes_of_an_rsa_public_key_are_its_numbers(context: &Context) -> Outcome {
    let session = context.public()?;
    let key = context.public_key(session, RSA)?;
    let modulus = context.attribute(session, key, CKA_MODULUS)?;
    ensure!(
        modulus.len() == 256 && modulus[0] >= 0x80,
        "{} bytes",
        modulus.len()
    );
    let bits = context.attribute(session, key, CKA_MODULUS_BITS)?;
    ensure!(bits == 2048u64.to_ne_bytes(), "{bits:?}");
    let exponent = context.attribute(session, key, CKA_PUBLIC_EXPONENT)?;
    ensure!(exponent == [1, 0, 1], "{exponent:?}");
    let verifies = context.attribute(session, key, CKA_VERIFY)?;
    ensure!(verifies == [1], "it does not verify");
    Ok(())
}

fn attributes_of_a_curve_public_key_are_its_point(context: &Context) -> Outcome {
    let session = context.public()?;
    let key = context.public_key(session, EC)?;
    let curve = context.attribute(session, key, CKA_EC_PARAMS)?;
    ensure!(curve == P256, "{curve:X?}");
    let point = context.attribute(session, key, CKA_EC_POINT)?;
    ensure!(
        point.starts_with(&[4, 65, 4]) && point.len() == 67,
        "{point:X?}"
    );
    Ok(())
}

/// SubjectPublicKeyInfo of both halves (3.1 §4.8, §4.9).
fn public_key_info_is_the_same_for_both_halves(context: &Context) -> Outcome {
    let session = context.user()?;
    for label in [RSA, EC] {
        let private = context.private(session, label)?;
        let public = context.public_key(session, label)?;
        let one = context.attribute(session, private, CKA_PUBLIC_KEY_INFO)?;
        let other = context.attribute(session, public, CKA_PUBLIC_KEY_INFO)?;
        ensure!(
            one == other && one.first() == Some(&0x30),
            "{label}: {one:X?}, {other:X?}"
        );
    }
    Ok(())
}

fn secret_attributes_are_not_told(context: &Context) -> Outcome {
    let session = context.user()?;
    for (label, kinds) in [
        (
            RSA,
            &[
                CKA_PRIVATE_EXPONENT,
                CKA_PRIME_1,
                CKA_PRIME_2,
                CKA_EXPONENT_1,
                CKA_COEFFICIENT,
            ][..],
        ),
        (EC, &[CKA_VALUE]),
    ] {
        let key = context.private(session, label)?;
        for kind in kinds {
            refused(
                context.module.get(session, key, *kind),
                &[CKR_ATTRIBUTE_SENSITIVE],
            )?;
        }
    }
    Ok(())
}

/// The others are still filled in (§5.7.5, C_GetAttributeValue, the note below its cases).
fn one_secret_attribute_does_not_hide_the_others(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let wanted = [(CKA_LABEL, 64), (CKA_VALUE, 64), (CKA_KEY_TYPE, 8)];
    let (value, told) = context.module.get_sized(session, key, &wanted);
    ensure!(
        value == CKR_ATTRIBUTE_SENSITIVE,
        "{}",
        crate::context::name(value)
    );
    ensure!(
        told[1].0 == CK_UNAVAILABLE_INFORMATION,
        "the secret has length {}",
        told[1].0
    );
    ensure!(
        told[0].1.starts_with(EC.as_bytes()) && told[2].1 == CKK_EC.to_ne_bytes(),
        "the others are {told:?}"
    );
    Ok(())
}

fn attribute_that_is_none_is_told_apart(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let wanted = [(CKA_MODULUS, 600), (CKA_LABEL, 64)];
    let (value, told) = context.module.get_sized(session, key, &wanted);
    ensure!(
        value == CKR_ATTRIBUTE_TYPE_INVALID,
        "{}",
        crate::context::name(value)
    );
    ensure!(
        told[0].0 == CK_UNAVAILABLE_INFORMATION,
        "length {}",
        told[0].0
    );
    ensure!(
        told[1].1.starts_with(EC.as_bytes()),
        "the label is {told:?}"
    );
    Ok(())
}

fn attribute_without_room_is_told_apart(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let wanted = [(CKA_LABEL, 2), (CKA_KEY_TYPE, 8)];
    let (value, told) = context.module.get_sized(session, key, &wanted);
    ensure!(
        value == CKR_BUFFER_TOO_SMALL,
        "{}",
        crate::context::name(value)
    );
    ensure!(
        told[0].0 == CK_UNAVAILABLE_INFORMATION,
        "length {}",
        told[0].0
    );
    ensure!(
        told[1].1 == CKK_EC.to_ne_bytes(),
        "the key type is {told:?}"
    );
    Ok(())
}

fn attributes_of_no_object_are_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let none = &[CKR_OBJECT_HANDLE_INVALID];
    refused(context.module.get(session, 0x7777, CKA_LABEL), none)?;
    refused(context.module.get(session, 0, CKA_LABEL), none)?;
    refused(context.module.size(session, 0x7777), none)?;
    refused(context.module.destroy(session, 0x7777), none)
}

fn sizes_of_objects_are_told(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.public_key(session, RSA)?;
    let size = done(context.module.size(session, key))?;
    ensure!(size >= 256 || size == usize::MAX, "{size} bytes");
    Ok(())
}

fn data(label: &str, token: bool) -> Vec<crate::module::Attribute> {
    vec![
        class(CKO_DATA),
        flag(CKA_TOKEN, token),
        flag(CKA_PRIVATE, false),
        (CKA_LABEL, label.into()),
        (CKA_APPLICATION, b"the suite".to_vec()),
        (CKA_OBJECT_ID, vec![6, 3, 0x2A, 3, 4]),
        (CKA_VALUE, vec![9; 1000]),
    ]
}

fn data_objects_are_kept(context: &Context) -> Outcome {
    let session = context.user()?;
    let made = done(context.module.create(session, &data("kept", true)))?;
    done(context.module.finalize())?;
    done(context.module.initialize())?;
    let session = context.public()?;
    let object = context.find(session, CKO_DATA, "kept")?;
    let value = context.attribute(session, object, CKA_VALUE)?;
    let application = context.attribute(session, object, CKA_APPLICATION)?;
    let id = context.attribute(session, object, CKA_OBJECT_ID)?;
    let session = context.user()?;
    done(context.module.destroy(session, object))?;
    ensure!(value == [9; 1000], "{} bytes of {made}", value.len());
    ensure!(
        application == b"the suite" && id == [6, 3, 0x2A, 3, 4],
        "{application:?}, {id:?}"
    );
    Ok(())
}

fn private_data_objects_are_hidden_without_login(context: &Context) -> Outcome {
    let session = context.user()?;
    let mut template = data("hidden", true);
    template[2] = flag(CKA_PRIVATE, true);
    done(context.module.create(session, &template))?;
    done(context.module.logout(session))?;
    let hidden = context.find(session, CKO_DATA, "hidden").is_err();
    let session = context.user()?;
    // Handles may be others after a login.
    let object = context.find(session, CKO_DATA, "hidden")?;
    done(context.module.destroy(session, object))?;
    ensure!(hidden, "it is seen");
    Ok(())
}

fn secret_keys_are_kept_on_the_token(context: &Context) -> Outcome {
    let session = context.user()?;
    let template = [
        class(CKO_SECRET_KEY),
        long(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        flag(CKA_TOKEN, true),
        (CKA_VALUE, vec![9; 16]),
    ];
    let object = done(context.module.create(session, &template))?;
    done(context.module.destroy(session, object))
}

fn session_objects_end_with_their_session(context: &Context) -> Outcome {
    let (session, other) = (context.public()?, context.public()?);
    let object = done(context.module.create(session, &data("passing", false)))?;
    done(context.module.close(session))?;
    refused(
        context.module.get(other, object, CKA_LABEL),
        &[CKR_OBJECT_HANDLE_INVALID],
    )
}

fn session_objects_are_seen_by_other_sessions(context: &Context) -> Outcome {
    let (session, other) = (context.public()?, context.public()?);
    let object = done(context.module.create(session, &data("shared", false)))?;
    let found = context.find(other, CKO_DATA, "shared")?;
    ensure!(found == object, "{found}, not {object}");
    Ok(())
}

/// A certificate of nobody's key: subject, issuer and serial number as programs give them.
fn certificate_objects_show_their_fields(context: &Context) -> Outcome {
    let der = include_bytes!("../../../../cardea-pki/tests/data/p256.cert.der");
    let session = context.user()?;
    let template = [
        class(CKO_CERTIFICATE),
        long(CKA_CERTIFICATE_TYPE, CKC_X_509),
        flag(CKA_TOKEN, true),
        flag(CKA_PRIVATE, false),
        (CKA_LABEL, b"certificate".to_vec()),
        (CKA_ID, vec![0xC0, 0xDE]),
        (CKA_SUBJECT, subject(der)),
        (CKA_VALUE, der.to_vec()),
    ];
    let object = done(context.module.create(session, &template))?;
    let seen = (|| {
        let value = context.attribute(session, object, CKA_VALUE)?;
        let id = context.attribute(session, object, CKA_ID)?;
        let named = context.attribute(session, object, CKA_SUBJECT)?;
        Ok::<_, String>((value, id, named))
    })();
    done(context.module.destroy(session, object))?;
    let (value, id, named) = seen?;
    ensure!(value == der && id == [0xC0, 0xDE], "identifier {id:?}");
    ensure!(named == subject(der), "subject {named:X?}");
    Ok(())
}

/// The sixth element of the certificate's content (RFC 5280 §4.1).
fn subject(der: &[u8]) -> Vec<u8> {
    let header = |data: &[u8]| match data[1] {
        0x81 => (3, usize::from(data[2])),
        0x82 => (4, usize::from(data[2]) << 8 | usize::from(data[3])),
        short => (2, usize::from(short)),
    };
    let mut rest = &der[header(der).0..];
    rest = &rest[header(rest).0..];
    for _ in 0..5 {
        let (head, length) = header(rest);
        rest = &rest[head + length..];
    }
    let (head, length) = header(rest);
    rest[..head + length].to_vec()
}

fn labels_and_identifiers_can_be_changed(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let before = context.attribute(session, key, CKA_ID)?;
    let changed = context.module.set(
        session,
        key,
        &[(CKA_ID, vec![0xAB; 20]), (CKA_LABEL, b"renamed".to_vec())],
    );
    done(changed)?;
    let seen = (
        context.attribute(session, key, CKA_ID)?,
        context.attribute(session, key, CKA_LABEL)?,
    );
    let back = [(CKA_ID, before), (CKA_LABEL, EC.into())];
    done(context.module.set(session, key, &back))?;
    let public = done(
        context
            .module
            .find(session, &[class(CKO_PUBLIC_KEY), (CKA_LABEL, EC.into())]),
    )?;
    ensure!(seen == (vec![0xAB; 20], b"renamed".to_vec()), "{seen:?}");
    ensure!(
        public.len() == 1,
        "{} public keys of the old name",
        public.len()
    );
    Ok(())
}

fn attributes_that_never_change_are_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    for attribute in [
        long(CKA_KEY_TYPE, CKK_RSA),
        flag(CKA_LOCAL, false),
        flag(CKA_EXTRACTABLE, true),
        flag(CKA_SENSITIVE, false),
    ] {
        let kind = attribute.0;
        refused(
            context.module.set(session, key, &[attribute]),
            &[CKR_ATTRIBUTE_READ_ONLY, CKR_TEMPLATE_INCONSISTENT],
        )
        .map_err(|seen| format!("{kind:X}: {seen}"))?;
    }
    Ok(())
}

fn object_without_class_is_incomplete(context: &Context) -> Outcome {
    let session = context.user()?;
    refused(
        context
            .module
            .create(session, &[(CKA_LABEL, b"nothing".to_vec())]),
        &[CKR_TEMPLATE_INCOMPLETE],
    )
}

fn object_of_unknown_class_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    refused(
        context.module.create(session, &[class(0x7777)]),
        &[CKR_ATTRIBUTE_VALUE_INVALID, CKR_TEMPLATE_INCONSISTENT],
    )
}

fn destroyed_object_is_gone(context: &Context) -> Outcome {
    let session = context.public()?;
    let object = done(context.module.create(session, &data("gone", false)))?;
    done(context.module.destroy(session, object))?;
    let none = &[CKR_OBJECT_HANDLE_INVALID];
    refused(context.module.destroy(session, object), none)?;
    refused(context.module.get(session, object, CKA_LABEL), none)
}

fn private_key_cannot_be_made_extractable(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    let mut copy = 0;
    let mut yes = CK_TRUE;
    let mut attribute = CK_ATTRIBUTE {
        type_: CKA_EXTRACTABLE,
        pValue: (&raw mut yes).cast(),
        ulValueLen: 1,
    };
    let value = raw!(
        context.module,
        C_CopyObject(session, key, &raw mut attribute, 1, &raw mut copy)
    );
    refused(
        result(value),
        &[
            CKR_ACTION_PROHIBITED,
            CKR_ATTRIBUTE_READ_ONLY,
            CKR_TEMPLATE_INCONSISTENT,
        ],
    )
}
