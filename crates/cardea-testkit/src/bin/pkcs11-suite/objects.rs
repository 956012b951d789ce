//! Objects, attributes and searches (§4, §5.7).

use cryptoki_sys::*;

use crate::context::{
    Context, EC, NONE, Outcome, P256, RSA, Row, bytes, ensure, flag, long, refused,
};
use crate::module::{Attribute, Rv, call};
use crate::session::Session;

/// A read of several attributes of the EC key, one of which fails: name, that attribute with the size of its buffer,
/// and the return value.
type Read = (&'static str, (CK_ATTRIBUTE_TYPE, usize), CK_RV);

pub(crate) const READS: &[Read] = &[
    // The others are still filled in (§5.7.5, C_GetAttributeValue, the note below its cases).
    (
        "one_secret_attribute_does_not_hide_the_others",
        (CKA_VALUE, 64),
        CKR_ATTRIBUTE_SENSITIVE,
    ),
    (
        "attribute_that_is_none_is_told_apart",
        (CKA_MODULUS, 600),
        CKR_ATTRIBUTE_TYPE_INVALID,
    ),
    (
        "attribute_without_room_is_told_apart",
        (CKA_LABEL, 2),
        CKR_BUFFER_TOO_SMALL,
    ),
];

const INVALID: [CK_RV; 1] = [CKR_OBJECT_HANDLE_INVALID];
const CERTIFICATE: &[u8] = include_bytes!("../../../../cardea-pki/tests/data/p256.cert.der");

pub(crate) const ROWS: &[Row] = &[
    ("private_keys_are_hidden_without_login", |c| {
        let found = c.public()?.find(&[class(CKO_PRIVATE_KEY)])?;
        ensure!(found.is_empty(), "{} are visible", found.len());
        Ok(())
    }),
    ("public_keys_are_seen_without_login", |c| {
        let s = c.public()?;
        s.public(RSA)?;
        s.public(EC).map(drop)
    }),
    ("search_by_class_and_label_finds_one", |c| {
        let s = c.user()?;
        let (rsa, ec) = (s.private(RSA)?, s.private(EC)?);
        ensure!(rsa != ec, "one handle for two keys");
        let mut template = vec![class(CKO_PRIVATE_KEY), long(CKA_KEY_TYPE, CKK_RSA)];
        let found = s.find(&template)?;
        ensure!(
            found.contains(&rsa) && !found.contains(&ec),
            "by type: {found:?}"
        );
        template.push(bytes(CKA_ID, s.get(rsa, CKA_ID)?));
        let found = s.find(&template)?;
        ensure!(found.contains(&rsa), "by identifier: {found:?}");
        Ok(())
    }),
    ("search_by_nothing_finds_all", |c| {
        let s = c.user()?;
        let all = s.find(&[])?;
        for label in [RSA, EC] {
            let both = all.contains(&s.private(label)?) && all.contains(&s.public(label)?);
            ensure!(both, "{label} is missing");
        }
        Ok(())
    }),
    ("search_by_what_is_not_there_finds_nothing", |c| {
        let s = c.user()?;
        for template in [
            vec![bytes(CKA_LABEL, "nothing has this name")],
            vec![class(CKO_PRIVATE_KEY), long(CKA_KEY_TYPE, CKK_DSA)],
            // An attribute that such objects do not have matches none.
            vec![class(CKO_PRIVATE_KEY), bytes(CKA_SERIAL_NUMBER, [1])],
        ] {
            let found = s.find(&template)?;
            ensure!(found.is_empty(), "{} match {template:?}", found.len());
        }
        Ok(())
    }),
    ("search_is_given_in_parts", |c| {
        let s = c.user()?;
        let mut all = s.find(&[])?;
        s.find_begin(&[])?;
        let mut parts = Vec::new();
        loop {
            match s.find_next(1)?.as_slice() {
                [] => break,
                [one] => parts.push(*one),
                several => return Err(format!("{} instead of one", several.len()).into()),
            }
        }
        s.find_end()?;
        all.sort_unstable();
        parts.sort_unstable();
        ensure!(parts == all, "{parts:?} in parts, {all:?} at once");
        Ok(())
    }),
    ("search_for_no_objects_gives_none", |c| {
        let s = c.user()?;
        s.find_begin(&[])?;
        let (none, one) = (s.find_next(0)?.len(), s.find_next(1)?.len());
        ensure!((none, one) == (0, 1), "{none} objects, {one} afterwards");
        Ok(())
    }),
    ("second_search_is_refused", |c| {
        let s = c.user()?;
        s.find_begin(&[])?;
        refused(s.find_begin(&[]), [CKR_OPERATION_ACTIVE])
    }),
    ("search_that_was_not_begun_is_refused", |c| {
        let s = c.user()?;
        refused(s.find_next(1), [CKR_OPERATION_NOT_INITIALIZED])?;
        refused(s.find_end(), [CKR_OPERATION_NOT_INITIALIZED])
    }),
    ("finished_search_is_over", |c| {
        let s = c.user()?;
        s.find(&[])?;
        refused(s.find_next(1), [CKR_OPERATION_NOT_INITIALIZED])
    }),
    ("search_ends_without_being_read", |c| {
        let s = c.user()?;
        s.find_begin(&[])?;
        s.find_end()?;
        Ok(s.find_begin(&[])?)
    }),
    ("handles_stay_between_searches", |c| {
        let (first, second) = (c.user()?.private(EC)?, c.public()?.private(EC)?);
        ensure!(first == second, "{first} and {second}");
        Ok(())
    }),
    ("attributes_of_a_private_key_are_a_cards", |c| {
        let s = c.user()?;
        for (label, mechanism) in [(RSA, CKM_RSA_PKCS_KEY_PAIR_GEN), (EC, CKM_EC_KEY_PAIR_GEN)] {
            let flags = [
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
            ];
            let key = s.private(label)?;
            s.expect(key, &flags.map(|(kind, value)| flag(kind, value)))?;
            s.expect(key, &[long(CKA_KEY_GEN_MECHANISM, mechanism)])?;
        }
        Ok(())
    }),
    ("attributes_of_an_rsa_public_key_are_its_numbers", |c| {
        let s = c.public()?;
        let key = s.public(RSA)?;
        let modulus = s.get(key, CKA_MODULUS)?;
        let complete = modulus.len() == 256 && modulus[0] >= 0x80;
        ensure!(complete, "{} bytes", modulus.len());
        let exponent = bytes(CKA_PUBLIC_EXPONENT, [1, 0, 1]);
        s.expect(
            key,
            &[
                long(CKA_MODULUS_BITS, 2048),
                exponent,
                flag(CKA_VERIFY, true),
            ],
        )
    }),
    ("attributes_of_a_curve_public_key_are_its_point", |c| {
        let s = c.public()?;
        let key = s.public(EC)?;
        s.expect(key, &[bytes(CKA_EC_PARAMS, P256)])?;
        let point = s.get(key, CKA_EC_POINT)?;
        ensure!(
            point.starts_with(&[4, 65, 4]) && point.len() == 67,
            "{point:X?}"
        );
        Ok(())
    }),
    // SubjectPublicKeyInfo of both halves (3.1 §4.8, §4.9).
    ("public_key_info_is_the_same_for_both_halves", |c| {
        let s = c.user()?;
        for label in [RSA, EC] {
            let info = s.get(s.private(label)?, CKA_PUBLIC_KEY_INFO)?;
            ensure!(info.first() == Some(&0x30), "{label}: {info:X?}");
            s.expect(s.public(label)?, &[bytes(CKA_PUBLIC_KEY_INFO, info)])?;
        }
        Ok(())
    }),
    ("secret_attributes_are_not_told", |c| {
        let s = c.user()?;
        for (label, kind) in [
            (RSA, CKA_PRIVATE_EXPONENT),
            (RSA, CKA_PRIME_1),
            (RSA, CKA_PRIME_2),
            (RSA, CKA_EXPONENT_1),
            (RSA, CKA_COEFFICIENT),
            (EC, CKA_VALUE),
        ] {
            refused(s.get(s.private(label)?, kind), [CKR_ATTRIBUTE_SENSITIVE])?;
        }
        Ok(())
    }),
    ("attributes_of_no_object_are_refused", |c| {
        let s = c.user()?;
        refused(s.get(NONE, CKA_LABEL), INVALID)?;
        refused(s.get(0, CKA_LABEL), INVALID)?;
        refused(s.size(NONE), INVALID)?;
        refused(s.destroy(NONE), INVALID)
    }),
    ("sizes_of_objects_are_told", |c| {
        let s = c.user()?;
        let size = s.size(s.public(RSA)?)?;
        ensure!(size >= 256, "{size} bytes");
        Ok(())
    }),
    ("data_objects_are_kept", |c| {
        c.user()?.create(&data("kept", true, false))?;
        c.finalize()?;
        c.initialize()?;
        let s = c.public()?;
        let object = s.only(CKO_DATA, "kept")?;
        let seen = s.expect(object, &content());
        c.user()?.destroy(object)?;
        seen
    }),
    ("private_data_objects_are_hidden_without_login", |c| {
        let s = c.user()?;
        s.create(&data("hidden", true, true))?;
        s.logout()?;
        let hidden = s.only(CKO_DATA, "hidden").is_err();
        // Handles may change with a login.
        let s = c.user()?;
        s.destroy(s.only(CKO_DATA, "hidden")?)?;
        ensure!(hidden, "it is visible");
        Ok(())
    }),
    ("secret_keys_are_kept_on_the_token", |c| {
        let s = c.user()?;
        let key = [
            class(CKO_SECRET_KEY),
            long(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        ];
        let value = [flag(CKA_TOKEN, true), bytes(CKA_VALUE, [9; 16])];
        let object = s.create(&[key, value].concat())?;
        Ok(s.destroy(object)?)
    }),
    ("session_objects_end_with_their_session", |c| {
        let (s, other) = (c.public()?, c.public()?);
        let object = s.create(&data("passing", false, false))?;
        s.close()?;
        refused(other.get(object, CKA_LABEL), INVALID)
    }),
    ("session_objects_are_seen_by_other_sessions", |c| {
        let (s, other) = (c.public()?, c.public()?);
        let object = s.create(&data("shared", false, false))?;
        let found = other.only(CKO_DATA, "shared")?;
        ensure!(found == object, "{found}, not {object}");
        Ok(())
    }),
    // Without its key.
    ("certificate_objects_show_their_fields", |c| {
        let s = c.user()?;
        let object = s.create(&certificate(CERTIFICATE, "certificate", &[0xC0, 0xDE]))?;
        let seen = s.expect(
            object,
            &[
                bytes(CKA_VALUE, CERTIFICATE),
                bytes(CKA_ID, [0xC0, 0xDE]),
                bytes(CKA_SUBJECT, subject(CERTIFICATE)),
            ],
        );
        s.destroy(object)?;
        seen
    }),
    // Once or twice, as the token has it.
    ("certificate_is_stored_again", |c| {
        is_stored_again(c, CERTIFICATE, &[])
    }),
    ("certificate_of_a_key_is_stored_again", |c| {
        let s = c.user()?;
        let id = s.get(s.private(EC)?, CKA_ID)?;
        let point = s.get(s.public(EC)?, CKA_EC_POINT)?;
        let mut der = CERTIFICATE.to_vec();
        // The beginning of every uncompressed point on P-256 in a SubjectPublicKeyInfo.
        let header = [3, 66, 0, 4];
        let found = der.windows(4).position(|window| window == header);
        let place = found.expect("a point") + 3;
        der[place..place + 65].copy_from_slice(&point[2..]);
        is_stored_again(c, &der, &id)
    }),
    // A token can have each certificate once.
    (
        "copy_of_a_certificate_on_the_token_is_refused_or_another",
        |c| {
            let s = c.user()?;
            let object = s.create(&certificate(CERTIFICATE, "one", &[1]))?;
            let seen = match s.copy(object, &[bytes(CKA_LABEL, "other")]) {
                Err(Rv(CKR_ACTION_PROHIBITED)) => s.expect(object, &[bytes(CKA_LABEL, "one")]),
                Err(other) => Err(other.into()),
                Ok(copy) => {
                    s.destroy(object)?;
                    s.expect(copy, &[bytes(CKA_LABEL, "other")])
                }
            };
            remove_certificates(s, CERTIFICATE)?;
            seen
        },
    ),
    ("labels_and_identifiers_can_be_changed", |c| {
        let s = c.user()?;
        let key = s.private(EC)?;
        let before = [bytes(CKA_ID, s.get(key, CKA_ID)?), bytes(CKA_LABEL, EC)];
        let changed = [bytes(CKA_ID, [0xAB; 20]), bytes(CKA_LABEL, "renamed")];
        s.set(key, &changed)?;
        let seen = s.expect(key, &changed);
        s.set(key, &before)?;
        s.public(EC)?;
        seen
    }),
    ("attributes_that_never_change_are_refused", |c| {
        let s = c.user()?;
        let key = s.private(EC)?;
        for attribute in [
            long(CKA_KEY_TYPE, CKK_RSA),
            flag(CKA_LOCAL, false),
            flag(CKA_EXTRACTABLE, true),
            flag(CKA_SENSITIVE, false),
        ] {
            let kind = attribute.0;
            let value = s.set(key, &[attribute]);
            refused(value, [CKR_ATTRIBUTE_READ_ONLY, CKR_TEMPLATE_INCONSISTENT])
                .map_err(|seen| format!("{kind:X}: {}", seen.0))?;
        }
        Ok(())
    }),
    ("object_without_class_is_incomplete", |c| {
        let value = c.user()?.create(&[bytes(CKA_LABEL, "nothing")]);
        refused(value, [CKR_TEMPLATE_INCOMPLETE])
    }),
    ("object_of_unknown_class_is_refused", |c| {
        let value = c.user()?.create(&[class(0x7777)]);
        refused(
            value,
            [CKR_ATTRIBUTE_VALUE_INVALID, CKR_TEMPLATE_INCONSISTENT],
        )
    }),
    ("destroyed_object_is_gone", |c| {
        let s = c.public()?;
        let object = s.create(&data("gone", false, false))?;
        s.destroy(object)?;
        refused(s.destroy(object), INVALID)?;
        refused(s.get(object, CKA_LABEL), INVALID)
    }),
    ("private_key_cannot_be_made_extractable", |c| {
        let s = c.user()?;
        let (key, mut copy, mut yes) = (s.private(RSA)?, 0, CK_TRUE);
        let mut attribute = CK_ATTRIBUTE {
            type_: CKA_EXTRACTABLE,
            pValue: (&raw mut yes).cast(),
            ulValueLen: 1,
        };
        refused(
            call!(
                c,
                C_CopyObject(s.handle, key, &raw mut attribute, 1, &raw mut copy)
            ),
            [
                CKR_ACTION_PROHIBITED,
                CKR_ATTRIBUTE_READ_ONLY,
                CKR_TEMPLATE_INCONSISTENT,
            ],
        )
    }),
];

/// One of [`READS`].
pub(crate) fn others_are_filled_in(c: &Context, (_, failing, wanted): Read) -> Outcome {
    let s = c.user()?;
    let attributes = [(CKA_LABEL, 64), failing, (CKA_KEY_TYPE, 8)];
    let (value, values) = s.get_sized(s.private(EC)?, &attributes);
    ensure!(value == Err(Rv(wanted)), "{value:?}");
    let length = values[1].0;
    ensure!(length == CK_UNAVAILABLE_INFORMATION, "length {length}");
    let filled = values[0].1.starts_with(EC.as_bytes()) && values[2].1 == CKK_EC.to_ne_bytes();
    ensure!(filled, "the others are {values:?}");
    Ok(())
}

/// Stores a certificate twice, at last with this identifier: what is left of it has the latest attributes, and is
/// gone when it is destroyed.
fn is_stored_again(c: &Context, der: &[u8], id: &[u8]) -> Outcome {
    let s = c.user()?;
    let seen = (|| {
        let first = s.create(&certificate(der, "first", &[0xC0, 0xDE]))?;
        let second = s.create(&certificate(der, "second", id))?;
        if first != second {
            s.expect(first, &[bytes(CKA_LABEL, "first")])?;
            s.destroy(first)?;
        }
        s.expect(
            second,
            &[
                bytes(CKA_LABEL, "second"),
                bytes(CKA_ID, id),
                bytes(CKA_VALUE, der),
            ],
        )?;
        s.destroy(second)?;
        let left = s.find(&[bytes(CKA_VALUE, der)])?;
        ensure!(left.is_empty(), "{} are left", left.len());
        Ok(())
    })();
    remove_certificates(s, der)?;
    seen
}

fn remove_certificates(s: Session<'_>, der: &[u8]) -> Outcome {
    while let Some(left) = s.find(&[bytes(CKA_VALUE, der)])?.first() {
        s.destroy(*left)?;
    }
    Ok(())
}

/// A certificate on the token, with the attributes that programs pass.
fn certificate(der: &[u8], label: &str, id: &[u8]) -> Vec<Attribute> {
    vec![
        class(CKO_CERTIFICATE),
        long(CKA_CERTIFICATE_TYPE, CKC_X_509),
        flag(CKA_TOKEN, true),
        flag(CKA_PRIVATE, false),
        bytes(CKA_LABEL, label),
        bytes(CKA_VALUE, der),
        bytes(CKA_ID, id),
        bytes(CKA_SUBJECT, subject(der)),
    ]
}

fn class(value: CK_OBJECT_CLASS) -> Attribute {
    long(CKA_CLASS, value)
}

fn content() -> [Attribute; 3] {
    [
        bytes(CKA_APPLICATION, "the suite"),
        bytes(CKA_OBJECT_ID, [6, 3, 0x2A, 3, 4]),
        bytes(CKA_VALUE, [9; 1000]),
    ]
}

fn data(label: &str, token: bool, private: bool) -> Vec<Attribute> {
    let head = [
        class(CKO_DATA),
        flag(CKA_TOKEN, token),
        flag(CKA_PRIVATE, private),
        bytes(CKA_LABEL, label),
    ];
    [&head[..], &content()].concat()
}

/// The sixth element of the certificate's content (RFC 5280 §4.1).
pub(crate) fn subject(der: &[u8]) -> Vec<u8> {
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
