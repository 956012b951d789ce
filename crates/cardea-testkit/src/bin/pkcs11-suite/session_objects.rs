//! Objects of sessions (§4.1, §4.4), and copies (§5.7.2).

use cryptoki_sys::*;

use crate::context::{
    Context, EC, NONE, Outcome, RO, Row, bytes, curve, ensure, flag, long, refused, rsa_public,
    session_secret,
};
use crate::module::{Attribute, Mechanism, Result, Rv};
use crate::reference::{Rsa, point_of, sha256, shared_secret, verify_ecdsa};
use crate::session::Session;

const INVALID: [CK_RV; 1] = [CKR_OBJECT_HANDLE_INVALID];
const CERTIFICATE: &[u8] = include_bytes!("../../../../cardea-pki/tests/data/p256.cert.der");
const DIGEST: [u8; 32] = [7; 32];
/// Scalar of a peer.
const SCALAR: [u8; 32] = [0x42; 32];

pub(crate) const ROWS: &[Row] = &[
    ("session_key_pair_signs", |c| {
        let s = c.user()?;
        let (public, private) = pair(s)?;
        let flags = [
            (CKA_TOKEN, false),
            (CKA_PRIVATE, true),
            (CKA_SENSITIVE, true),
            (CKA_EXTRACTABLE, false),
            (CKA_LOCAL, true),
        ];
        s.expect(private, &flags.map(|(kind, value)| flag(kind, value)))?;
        s.expect(
            public,
            &[flag(CKA_TOKEN, false), bytes(CKA_LABEL, "passing")],
        )?;
        is_signing(s, public, private)
    }),
    ("rsa_session_key_pair_signs_and_decrypts", |c| {
        let s = c.user()?;
        let uses = |kinds: [CK_ATTRIBUTE_TYPE; 2]| kinds.map(|kind| flag(kind, true)).to_vec();
        let public = [rsa_public(2048), passing(), uses([CKA_VERIFY, CKA_ENCRYPT])].concat();
        let private = [passing(), uses([CKA_SIGN, CKA_DECRYPT])].concat();
        let (public, private) = s.generate(CKM_RSA_PKCS_KEY_PAIR_GEN, &public, &private)?;
        let reference = Rsa::of(s, public)?;
        let pkcs1 = Mechanism::new(CKM_RSA_PKCS);
        s.sign_begin(&Mechanism::new(CKM_SHA256_RSA_PKCS), private)?;
        let signature = s.sign(b"data")?;
        reference.verify_pkcs1(Some(CKM_SHA256), &sha256(b"data"), &signature)?;
        s.decrypt_begin(&pkcs1, private)?;
        let plain = s.decrypt(&reference.encrypt_pkcs1(b"plain"))?;
        ensure!(plain == b"plain", "{plain:X?}");
        Ok(())
    }),
    ("session_key_pair_agrees", |c| {
        let s = c.user()?;
        let (public, private) = pair(s)?;
        let shared = shared_secret(&SCALAR, &s.get(public, CKA_EC_POINT)?)?;
        let template = [session_secret(), vec![long(CKA_VALUE_LEN, 32)]].concat();
        let mechanism = Mechanism::ecdh(&point_of(&SCALAR)[2..]);
        let secret = s.derive(&mechanism, private, &template)?;
        s.expect(secret, &[bytes(CKA_VALUE, shared)])
    }),
    // CKA_TOKEN is false by default (§4.4).
    ("key_pair_without_a_place_is_the_sessions", |c| {
        let s = c.user()?;
        let sign = [flag(CKA_SIGN, true)];
        let (public, private) = s.generate(CKM_EC_KEY_PAIR_GEN, &curve(), &sign)?;
        for half in [public, private] {
            s.expect(half, &[flag(CKA_TOKEN, false)])?;
        }
        is_signing(s, public, private)
    }),
    ("private_key_is_imported_into_the_session", |c| {
        let s = c.user()?;
        let numbers = [
            long(CKA_CLASS, CKO_PRIVATE_KEY),
            long(CKA_KEY_TYPE, CKK_EC),
            flag(CKA_PRIVATE, true),
            flag(CKA_SIGN, true),
            bytes(CKA_VALUE, SCALAR),
        ];
        let key = s.create(&[passing(), curve(), numbers.to_vec()].concat())?;
        s.expect(key, &[flag(CKA_TOKEN, false), flag(CKA_LOCAL, false)])?;
        s.sign_begin(&ecdsa(), key)?;
        verify_ecdsa(&point_of(&SCALAR), &DIGEST, &s.sign(&DIGEST)?)
    }),
    // CKA_ALWAYS_AUTHENTICATE (§4.9).
    ("session_key_can_want_the_pin_each_time", |c| {
        let s = c.user()?;
        let uses = [CKA_PRIVATE, CKA_SIGN, CKA_ALWAYS_AUTHENTICATE].map(|kind| flag(kind, true));
        let private = [passing(), uses.to_vec()].concat();
        let public = [passing(), curve()].concat();
        let (public, private) = s.generate(CKM_EC_KEY_PAIR_GEN, &public, &private)?;
        for _ in 0..2 {
            s.sign_begin(&ecdsa(), private)?;
            ensure!(s.sign(&DIGEST).is_err(), "it signs without the PIN");
            // The standard does not say whether the operation is still active.
            let _ = s.sign_begin(&ecdsa(), private);
            s.login(CKU_CONTEXT_SPECIFIC, &c.token.pin)?;
            let signature = s.sign(&DIGEST)?;
            verify_ecdsa(&s.get(public, CKA_EC_POINT)?, &DIGEST, &signature)?;
        }
        Ok(())
    }),
    ("session_key_pair_needs_the_login", |c| {
        refused(pair(c.public()?), [CKR_USER_NOT_LOGGED_IN])
    }),
    ("read_only_session_has_a_key_pair_of_its_own", |c| {
        let s = read_only(c)?;
        let (public, private) = pair(s)?;
        is_signing(s, public, private)
    }),
    ("read_only_session_has_objects_of_its_own", |c| {
        let s = c.open(RO)?;
        for template in [data(false), certificate(false), public_key(false)] {
            let object = s.create(&template)?;
            s.expect(
                object,
                &[flag(CKA_TOKEN, false), bytes(CKA_LABEL, "passing")],
            )?;
            s.destroy(object)?;
            refused(s.get(object, CKA_LABEL), INVALID)?;
        }
        Ok(())
    }),
    ("read_only_session_changes_no_token", |c| {
        let s = read_only(c)?;
        for template in [data(true), certificate(true)] {
            refused(s.create(&template), [CKR_SESSION_READ_ONLY])?;
        }
        let object = s.create(&data(false))?;
        let copy = s.copy(object, &[flag(CKA_TOKEN, true)]);
        refused(copy, [CKR_SESSION_READ_ONLY])
    }),
    ("session_keys_are_seen_by_other_sessions", |c| {
        let (s, other) = (c.user()?, c.user()?);
        let (public, private) = pair(s)?;
        let found = other.only(CKO_PRIVATE_KEY, "passing")?;
        ensure!(found == private, "{found}, not {private}");
        is_signing(other, public, private)
    }),
    // §5.6.9, C_Logout.
    ("session_keys_end_with_the_logout", |c| {
        let s = c.user()?;
        let (_, private) = pair(s)?;
        s.logout()?;
        s.login_user()?;
        refused(s.get(private, CKA_LABEL), INVALID)
    }),
    ("session_keys_end_with_all_sessions", |c| {
        let (_, private) = pair(c.user()?)?;
        c.close_all(c.slot)?;
        let s = c.user()?;
        refused(s.get(private, CKA_LABEL), INVALID)?;
        is_absent(s)
    }),
    ("session_keys_end_with_the_module", |c| {
        pair(c.user()?)?;
        c.finalize()?;
        c.initialize()?;
        is_absent(c.user()?)
    }),
    ("destroyed_session_key_signs_no_more", |c| {
        let s = c.user()?;
        let (public, private) = pair(s)?;
        s.destroy(private)?;
        let value = s.sign_begin(&ecdsa(), private);
        refused(value, [CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID])?;
        // The other half is an object of its own.
        s.expect(public, &[bytes(CKA_LABEL, "passing")])
    }),
    // More of them than a token may have room for at a time.
    ("session_keys_that_have_ended_take_no_room", |c| {
        let kept = c.user()?;
        for round in 0..70 {
            let s = c.user()?;
            let (_, private) = pair(s)?;
            if round % 2 == 0 {
                s.destroy(private)?;
            }
            s.close()?;
        }
        is_absent(kept)
    }),
    ("private_session_data_is_hidden_without_login", |c| {
        let mut template = data(false);
        template.retain(|(kind, _)| *kind != CKA_PRIVATE);
        template.push(flag(CKA_PRIVATE, true));
        refused(c.public()?.create(&template), [CKR_USER_NOT_LOGGED_IN])?;
        let (s, kept) = (c.user()?, c.public()?);
        s.create(&template)?;
        kept.only(CKO_DATA, "passing")?;
        s.logout()?;
        ensure!(kept.only(CKO_DATA, "passing").is_err(), "it is visible");
        Ok(())
    }),
    ("private_secret_key_is_hidden_without_login", |c| {
        let template = secret(&[flag(CKA_PRIVATE, true)]);
        refused(c.public()?.create(&template), [CKR_USER_NOT_LOGGED_IN])?;
        let (s, kept) = (c.user()?, c.public()?);
        let key = s.create(&template)?;
        s.expect(key, &[flag(CKA_PRIVATE, true)])?;
        kept.only(CKO_SECRET_KEY, "passing")?;
        s.logout()?;
        ensure!(
            kept.only(CKO_SECRET_KEY, "passing").is_err(),
            "it is visible"
        );
        s.login_user()?;
        refused(s.get(key, CKA_LABEL), INVALID)
    }),
    ("secret_key_stays_as_its_template_wants_it", |c| {
        let s = c.user()?;
        let fixed = [CKA_MODIFIABLE, CKA_DESTROYABLE].map(|kind| flag(kind, false));
        let key = s.create(&secret(&fixed))?;
        s.expect(key, &fixed)?;
        let value = s.set(key, &[bytes(CKA_LABEL, "renamed")]);
        refused(value, [CKR_ACTION_PROHIBITED, CKR_ATTRIBUTE_READ_ONLY])?;
        refused(s.destroy(key), [CKR_ACTION_PROHIBITED])?;
        s.expect(key, &[bytes(CKA_LABEL, "passing")])
    }),
    ("session_certificate_has_what_it_was_given", |c| {
        let given = [
            bytes(CKA_URL, "https://example.org/own.cer"),
            bytes(CKA_HASH_OF_SUBJECT_PUBLIC_KEY, [1; 20]),
            bytes(CKA_HASH_OF_ISSUER_PUBLIC_KEY, [2; 20]),
            bytes(CKA_START_DATE, "20260101"),
            bytes(CKA_END_DATE, "20271231"),
            long(CKA_CERTIFICATE_CATEGORY, CK_CERTIFICATE_CATEGORY_AUTHORITY),
            long(CKA_JAVA_MIDP_SECURITY_DOMAIN, CK_SECURITY_DOMAIN_OPERATOR),
            bytes(CKA_ID, [0xC0, 0xDE]),
        ];
        let s = c.public()?;
        let object = s.create(&[&certificate(false)[..], &given].concat())?;
        s.expect(object, &given)
    }),
    ("session_public_key_verifies", |c| {
        let s = c.user()?;
        let signature = s.signed(EC, &ecdsa(), &DIGEST)?;
        let point = bytes(CKA_EC_POINT, s.get(s.public(EC)?, CKA_EC_POINT)?);
        let head = [passing(), curve()].concat();
        let uses = [
            long(CKA_CLASS, CKO_PUBLIC_KEY),
            long(CKA_KEY_TYPE, CKK_EC),
            flag(CKA_VERIFY, true),
            point,
        ];
        let key = s.create(&[&head[..], &uses].concat())?;
        s.verify_begin(&ecdsa(), key)?;
        Ok(s.verify(&DIGEST, &signature)?)
    }),
    ("session_objects_can_be_changed", |c| {
        let s = c.public()?;
        let object = s.create(&certificate(false))?;
        let changed = [bytes(CKA_LABEL, "renamed"), bytes(CKA_ID, [1, 2, 3])];
        s.set(object, &changed)?;
        s.expect(object, &changed)
    }),
    ("object_that_is_not_modifiable_stays_as_it_is", |c| {
        let s = c.public()?;
        let fixed = [data(false), vec![flag(CKA_MODIFIABLE, false)]].concat();
        let object = s.create(&fixed)?;
        let value = s.set(object, &[bytes(CKA_LABEL, "renamed")]);
        refused(value, [CKR_ACTION_PROHIBITED, CKR_ATTRIBUTE_READ_ONLY])?;
        s.expect(object, &[bytes(CKA_LABEL, "passing")])
    }),
    ("object_that_is_not_destroyable_stays", |c| {
        let s = c.public()?;
        let fixed = [data(false), vec![flag(CKA_DESTROYABLE, false)]].concat();
        let object = s.create(&fixed)?;
        refused(s.destroy(object), [CKR_ACTION_PROHIBITED])?;
        s.expect(object, &[bytes(CKA_LABEL, "passing")])
    }),
    ("data_is_copied_to_the_token_and_back", |c| {
        is_copied(c, &data(false))
    }),
    ("certificate_is_copied_to_the_token_and_back", |c| {
        is_copied(c, &certificate(false))
    }),
    ("session_key_is_copied_to_the_token", |c| {
        let s = c.user()?;
        let (public, private) = pair(s)?;
        let changed = [bytes(CKA_LABEL, "kept"), bytes(CKA_ID, [0xAB; 4])];
        let kept = s.copy(private, &[&[flag(CKA_TOKEN, true)], &changed[..]].concat())?;
        let point = s.get(public, CKA_EC_POINT)?;
        // It outlives the session whose key it was.
        let other = c.user()?;
        s.close()?;
        let seen = other
            .expect(kept, &changed)
            .and_then(|()| other.expect(kept, &[flag(CKA_TOKEN, true), flag(CKA_LOCAL, true)]))
            .and_then(|()| {
                other.sign_begin(&ecdsa(), kept)?;
                verify_ecdsa(&point, &DIGEST, &other.sign(&DIGEST)?)
            });
        other.destroy(kept)?;
        seen
    }),
    // Where tokens have a limit, it is a matter of the value.
    ("session_key_is_kept_with_a_long_label_or_refused", |c| {
        let s = c.user()?;
        let (_, private) = pair(s)?;
        let long = bytes(CKA_LABEL, [b'l'; 200]);
        match s.copy(private, &[flag(CKA_TOKEN, true), long]) {
            Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID)) => Ok(()),
            Err(other) => Err(other.into()),
            Ok(kept) => Ok(s.destroy(kept)?),
        }
    }),
    ("copy_of_a_session_key_stays_secret", |c| {
        let s = c.user()?;
        let (_, private) = pair(s)?;
        for attribute in [flag(CKA_EXTRACTABLE, true), flag(CKA_SENSITIVE, false)] {
            refused(
                s.copy(private, &[flag(CKA_TOKEN, true), attribute]),
                [
                    CKR_ATTRIBUTE_READ_ONLY,
                    CKR_TEMPLATE_INCONSISTENT,
                    CKR_ACTION_PROHIBITED,
                ],
            )?;
        }
        Ok(())
    }),
    ("copy_differs_as_its_template_says", |c| {
        let s = c.public()?;
        let object = s.create(&public_key(false))?;
        let changed = [bytes(CKA_LABEL, "copy"), bytes(CKA_ID, [9; 9])];
        let copy = s.copy(object, &changed)?;
        ensure!(copy != object, "it is the same object");
        s.expect(copy, &changed)?;
        s.expect(copy, &[bytes(CKA_EC_POINT, s.get(object, CKA_EC_POINT)?)])?;
        s.expect(object, &[bytes(CKA_LABEL, "passing")])
    }),
    ("what_is_not_copyable_is_not_copied", |c| {
        let s = c.public()?;
        let fixed = [data(false), vec![flag(CKA_COPYABLE, false)]].concat();
        refused(s.copy(s.create(&fixed)?, &[]), [CKR_ACTION_PROHIBITED])
    }),
    ("copy_does_not_become_something_else", |c| {
        let s = c.public()?;
        let object = s.create(&certificate(false))?;
        for attribute in [
            long(CKA_CLASS, CKO_DATA),
            long(CKA_CERTIFICATE_TYPE, CKC_WTLS),
            bytes(CKA_VALUE, b"another"),
        ] {
            let value = s.copy(object, &[attribute]);
            refused(value, [CKR_ATTRIBUTE_READ_ONLY, CKR_TEMPLATE_INCONSISTENT])?;
        }
        Ok(())
    }),
    ("copy_of_no_object_is_refused", |c| {
        refused(c.public()?.copy(NONE, &[]), INVALID)
    }),
];

fn ecdsa() -> Mechanism {
    Mechanism::new(CKM_ECDSA)
}

fn read_only(c: &Context) -> Result<Session<'_>> {
    let s = c.open(RO)?;
    s.login_user()?;
    Ok(s)
}

/// Label and place of the objects here.
fn passing() -> Vec<Attribute> {
    vec![bytes(CKA_LABEL, "passing"), flag(CKA_TOKEN, false)]
}

/// A key pair of a session: the public key and the private one.
fn pair(s: Session<'_>) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
    let public = [curve(), passing(), vec![flag(CKA_VERIFY, true)]].concat();
    let uses = [CKA_PRIVATE, CKA_SENSITIVE, CKA_SIGN, CKA_DERIVE].map(|kind| flag(kind, true));
    let secret = vec![flag(CKA_EXTRACTABLE, false)];
    let private = [passing(), uses.to_vec(), secret].concat();
    s.generate(CKM_EC_KEY_PAIR_GEN, &public, &private)
}

fn is_signing(s: Session<'_>, public: CK_OBJECT_HANDLE, private: CK_OBJECT_HANDLE) -> Outcome {
    s.sign_begin(&ecdsa(), private)?;
    let signature = s.sign(&DIGEST)?;
    verify_ecdsa(&s.get(public, CKA_EC_POINT)?, &DIGEST, &signature)
}

/// No object of a session that has ended is left.
fn is_absent(s: Session<'_>) -> Outcome {
    let found = s.find(&[bytes(CKA_LABEL, "passing")])?;
    ensure!(found.is_empty(), "{} are left", found.len());
    Ok(())
}

fn data(token: bool) -> Vec<Attribute> {
    object(
        token,
        &[
            long(CKA_CLASS, CKO_DATA),
            bytes(CKA_APPLICATION, "the suite"),
            bytes(CKA_OBJECT_ID, [6, 3, 0x2A, 3, 4]),
            bytes(CKA_VALUE, [9; 100]),
        ],
    )
}

fn certificate(token: bool) -> Vec<Attribute> {
    object(
        token,
        &[
            long(CKA_CLASS, CKO_CERTIFICATE),
            long(CKA_CERTIFICATE_TYPE, CKC_X_509),
            bytes(CKA_VALUE, CERTIFICATE),
            // An attribute that a certificate must have (§4.6.3).
            bytes(CKA_SUBJECT, crate::objects::subject(CERTIFICATE)),
        ],
    )
}

fn secret(further: &[Attribute]) -> Vec<Attribute> {
    let named = [bytes(CKA_LABEL, "passing"), bytes(CKA_VALUE, [9; 16])];
    [&session_secret()[..], &named, further].concat()
}

fn public_key(token: bool) -> Vec<Attribute> {
    let numbers = [
        long(CKA_CLASS, CKO_PUBLIC_KEY),
        long(CKA_KEY_TYPE, CKK_EC),
        bytes(CKA_EC_POINT, point_of(&SCALAR)),
    ];
    object(token, &[&numbers[..], &curve()].concat())
}

fn object(token: bool, attributes: &[Attribute]) -> Vec<Attribute> {
    let head = [
        bytes(CKA_LABEL, "passing"),
        flag(CKA_TOKEN, token),
        flag(CKA_PRIVATE, false),
    ];
    [&head[..], attributes].concat()
}

/// A copy on the token, and a copy of it in the session, have the value and the label of the original.
fn is_copied(c: &Context, template: &[Attribute]) -> Outcome {
    let s = c.user()?;
    let original = s.create(template)?;
    let kept = s.copy(original, &[flag(CKA_TOKEN, true)])?;
    let seen = (|| {
        let back = s.copy(kept, &[flag(CKA_TOKEN, false)])?;
        let value = [bytes(CKA_VALUE, s.get(original, CKA_VALUE)?)];
        for (object, token) in [(kept, true), (back, false)] {
            s.expect(object, &value)?;
            s.expect(
                object,
                &[flag(CKA_TOKEN, token), bytes(CKA_LABEL, "passing")],
            )?;
        }
        s.destroy(original)?;
        s.expect(kept, &value)
    })();
    s.destroy(kept)?;
    seen
}
