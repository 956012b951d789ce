//! Generation, import and agreement (§5.7, §5.18).

use cryptoki_sys::*;

use crate::context::{
    Context, EC, Outcome, P256, P384, RSA, behaviours, done, ensure, flag, key_templates, long,
    refused, rsa_public,
};
use crate::module::{Attribute, Mechanism};

behaviours! {
    generated_keys_have_the_label_and_identifier_asked_for
    generated_p384_keys_sign
    generation_without_size_is_incomplete
    generation_without_curve_is_incomplete
    generation_of_an_impossible_size_is_refused
    generation_on_an_unknown_curve_is_refused
    generation_by_an_unknown_mechanism_is_refused
    generation_of_another_class_is_refused
    contradictory_template_is_refused
    keys_of_a_session_end_with_it
    destroyed_key_signs_no_more
    always_authenticated_key_wants_the_pin_each_time
    login_is_the_pin_of_one_operation_at_most
    imported_curve_key_is_marked_and_signs
    imported_rsa_key_is_marked_and_signs
    import_without_numbers_is_incomplete
    import_of_a_scalar_that_is_none_is_refused
    ecdh_gives_the_shared_secret
    ecdh_takes_a_wrapped_point
    ecdh_gives_a_part
    ecdh_with_a_point_off_the_curve_is_refused
    ecdh_with_an_rsa_key_is_refused
    derived_secret_is_not_on_the_token
}

/// Makes a key, looks at it and destroys it again, whatever was seen.
fn with_key(
    context: &Context,
    kind: CK_MECHANISM_TYPE,
    public: &[Attribute],
    private: &[Attribute],
    look: impl Fn(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) -> Outcome,
) -> Outcome {
    let session = context.user()?;
    let (one, other) = done(context.module.generate(session, kind, public, private))?;
    let seen = look(session, one, other);
    let end = context.public()?;
    if context
        .module
        .session_info(end)
        .is_ok_and(|info| info.state != CKS_RW_USER_FUNCTIONS)
    {
        done(context.module.login(end, CKU_USER, &context.token.pin))?;
    }
    let _ = context.module.destroy(end, other);
    let _ = context.module.destroy(end, one);
    seen
}

fn generated_keys_have_the_label_and_identifier_asked_for(context: &Context) -> Outcome {
    let (mut public, mut private) = key_templates("made", vec![(CKA_EC_PARAMS, P256.to_vec())]);
    let id = (CKA_ID, vec![0xAB, 0xCD, 0xEF]);
    public.push(id.clone());
    private.push(id);
    with_key(
        context,
        CKM_EC_KEY_PAIR_GEN,
        &public,
        &private,
        |session, one, other| {
            for object in [one, other] {
                let label = context.attribute(session, object, CKA_LABEL)?;
                let id = context.attribute(session, object, CKA_ID)?;
                ensure!(
                    label == b"made" && id == [0xAB, 0xCD, 0xEF],
                    "{label:?}, {id:?}"
                );
            }
            Ok(())
        },
    )
}

fn generated_p384_keys_sign(context: &Context) -> Outcome {
    use p384::ecdsa::signature::hazmat::PrehashVerifier;
    let (public, private) = key_templates("p384", vec![(CKA_EC_PARAMS, P384.to_vec())]);
    with_key(
        context,
        CKM_EC_KEY_PAIR_GEN,
        &public,
        &private,
        |session, one, other| {
            done(
                context
                    .module
                    .sign_begin(session, &Mechanism::new(CKM_ECDSA), other),
            )?;
            let signature = done(context.module.sign(session, &[7; 48]))?;
            let point = context.attribute(session, one, CKA_EC_POINT)?;
            let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(&point[2..])
                .map_err(|e| e.to_string())?;
            let signature =
                p384::ecdsa::Signature::from_slice(&signature).map_err(|e| e.to_string())?;
            key.verify_prehash(&[7; 48], &signature)
                .map_err(|e| e.to_string())
        },
    )
}

fn not_generated(
    context: &Context,
    kind: CK_MECHANISM_TYPE,
    public: Vec<Attribute>,
    allowed: &[CK_RV],
) -> Outcome {
    let session = context.user()?;
    let (public, private) = key_templates("none", public);
    refused(
        context.module.generate(session, kind, &public, &private),
        allowed,
    )
}

fn generation_without_size_is_incomplete(context: &Context) -> Outcome {
    let public = vec![(CKA_PUBLIC_EXPONENT, vec![1, 0, 1])];
    not_generated(
        context,
        CKM_RSA_PKCS_KEY_PAIR_GEN,
        public,
        &[CKR_TEMPLATE_INCOMPLETE],
    )
}

fn generation_without_curve_is_incomplete(context: &Context) -> Outcome {
    not_generated(
        context,
        CKM_EC_KEY_PAIR_GEN,
        Vec::new(),
        &[CKR_TEMPLATE_INCOMPLETE],
    )
}

fn generation_of_an_impossible_size_is_refused(context: &Context) -> Outcome {
    let allowed = &[CKR_KEY_SIZE_RANGE, CKR_ATTRIBUTE_VALUE_INVALID];
    not_generated(context, CKM_RSA_PKCS_KEY_PAIR_GEN, rsa_public(100), allowed)
}

fn generation_on_an_unknown_curve_is_refused(context: &Context) -> Outcome {
    let public = vec![(CKA_EC_PARAMS, vec![6, 3, 0x2A, 3, 4])];
    let allowed = &[
        CKR_CURVE_NOT_SUPPORTED,
        CKR_DOMAIN_PARAMS_INVALID,
        CKR_ATTRIBUTE_VALUE_INVALID,
    ];
    not_generated(context, CKM_EC_KEY_PAIR_GEN, public, allowed)
}

fn generation_by_an_unknown_mechanism_is_refused(context: &Context) -> Outcome {
    not_generated(
        context,
        0x7777_7777,
        rsa_public(2048),
        &[CKR_MECHANISM_INVALID],
    )
}

fn generation_of_another_class_is_refused(context: &Context) -> Outcome {
    let public = vec![(CKA_EC_PARAMS, P256.to_vec()), long(CKA_CLASS, CKO_DATA)];
    let allowed = &[CKR_TEMPLATE_INCONSISTENT, CKR_ATTRIBUTE_VALUE_INVALID];
    not_generated(context, CKM_EC_KEY_PAIR_GEN, public, allowed)
}

fn contradictory_template_is_refused(context: &Context) -> Outcome {
    let public = vec![
        (CKA_EC_PARAMS, P256.to_vec()),
        (CKA_ID, vec![1]),
        (CKA_ID, vec![2]),
    ];
    not_generated(
        context,
        CKM_EC_KEY_PAIR_GEN,
        public,
        &[CKR_TEMPLATE_INCONSISTENT],
    )
}

fn keys_of_a_session_end_with_it(context: &Context) -> Outcome {
    let (mut public, mut private) = key_templates("passing", vec![(CKA_EC_PARAMS, P256.to_vec())]);
    for template in [&mut public, &mut private] {
        for attribute in template.iter_mut().filter(|(kind, _)| *kind == CKA_TOKEN) {
            *attribute = flag(CKA_TOKEN, false);
        }
    }
    let (session, other) = (context.user()?, context.user()?);
    let kind = CKM_EC_KEY_PAIR_GEN;
    let (_, key) = done(context.module.generate(session, kind, &public, &private))?;
    done(context.module.close(session))?;
    refused(
        context.module.get(other, key, CKA_LABEL),
        &[CKR_OBJECT_HANDLE_INVALID],
    )
}

fn destroyed_key_signs_no_more(context: &Context) -> Outcome {
    let (public, private) = key_templates("dying", vec![(CKA_EC_PARAMS, P256.to_vec())]);
    with_key(
        context,
        CKM_EC_KEY_PAIR_GEN,
        &public,
        &private,
        |session, _, other| {
            done(context.module.destroy(session, other))?;
            refused(
                context
                    .module
                    .sign_begin(session, &Mechanism::new(CKM_ECDSA), other),
                &[CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID],
            )
        },
    )
}

/// CKA_ALWAYS_AUTHENTICATE (§4.9): C_Login with CKU_CONTEXT_SPECIFIC between C_SignInit and C_Sign.
fn always_authenticated_key_wants_the_pin_each_time(context: &Context) -> Outcome {
    let (public, mut private) = key_templates("careful", vec![(CKA_EC_PARAMS, P256.to_vec())]);
    private.push(flag(CKA_ALWAYS_AUTHENTICATE, true));
    let ecdsa = Mechanism::new(CKM_ECDSA);
    with_key(
        context,
        CKM_EC_KEY_PAIR_GEN,
        &public,
        &private,
        |session, _, other| {
            let always = context.attribute(session, other, CKA_ALWAYS_AUTHENTICATE)?;
            ensure!(always == [1], "it is not marked");
            for _ in 0..2 {
                done(context.module.sign_begin(session, &ecdsa, other))?;
                let unasked = context.module.sign(session, &[7; 32]);
                ensure!(unasked.is_err(), "it signs without the PIN");
                // Whether the operation is still there is not said.
                let _ = context.module.sign_begin(session, &ecdsa, other);
                done(
                    context
                        .module
                        .login(session, CKU_CONTEXT_SPECIFIC, &context.token.pin),
                )?;
                done(context.module.sign(session, &[7; 32]))?;
            }
            Ok(())
        },
    )
}

/// OpenSSH does not ask again right after it has logged in, so a module may take the login for one operation.
fn login_is_the_pin_of_one_operation_at_most(context: &Context) -> Outcome {
    let (public, mut private) = key_templates("watched", vec![(CKA_EC_PARAMS, P256.to_vec())]);
    private.push(flag(CKA_ALWAYS_AUTHENTICATE, true));
    let ecdsa = Mechanism::new(CKM_ECDSA);
    with_key(
        context,
        CKM_EC_KEY_PAIR_GEN,
        &public,
        &private,
        |session, _, _| {
            done(context.module.logout(session))?;
            done(context.module.login(session, CKU_USER, &context.token.pin))?;
            let key = context.private(session, "watched")?;
            done(context.module.sign_begin(session, &ecdsa, key))?;
            let _ = context.module.sign(session, &[7; 32]);
            // Where the first was refused, whether it is still there is not said.
            let _ = context.module.sign_begin(session, &ecdsa, key);
            let second = context.module.sign(session, &[7; 32]);
            ensure!(second.is_err(), "it signs twice after one login");
            Ok(())
        },
    )
}

fn curve_key(scalar: Vec<u8>, point: Option<Vec<u8>>) -> Vec<Attribute> {
    let mut template = vec![
        long(CKA_CLASS, CKO_PRIVATE_KEY),
        long(CKA_KEY_TYPE, CKK_EC),
        flag(CKA_TOKEN, true),
        flag(CKA_PRIVATE, true),
        flag(CKA_SIGN, true),
        (CKA_LABEL, b"brought".to_vec()),
        (CKA_EC_PARAMS, P256.to_vec()),
        (CKA_VALUE, scalar),
    ];
    template.extend(point.map(|point| (CKA_EC_POINT, point)));
    template
}

fn is_imported(context: &Context, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Outcome {
    for (kind, wanted) in [
        (CKA_LOCAL, 0),
        (CKA_NEVER_EXTRACTABLE, 0),
        (CKA_ALWAYS_SENSITIVE, 0),
        (CKA_PRIVATE, 1),
    ] {
        let value = context.attribute(session, key, kind)?;
        ensure!(value == [wanted], "{kind:X} is {value:?}");
    }
    Ok(())
}

fn imported_curve_key_is_marked_and_signs(context: &Context) -> Outcome {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;
    let mut scalar = [0x42; 32];
    scalar[0] = 0;
    let key = p256::ecdsa::SigningKey::from_slice(&scalar).unwrap();
    let session = context.user()?;
    let made = done(
        context
            .module
            .create(session, &curve_key(scalar.to_vec(), None)),
    )?;
    let seen = (|| {
        is_imported(context, session, made)?;
        done(
            context
                .module
                .sign_begin(session, &Mechanism::new(CKM_ECDSA), made),
        )?;
        let signature = done(context.module.sign(session, &[7; 32]))?;
        let signature =
            p256::ecdsa::Signature::from_slice(&signature).map_err(|e| e.to_string())?;
        let right = key.verifying_key().verify_prehash(&[7; 32], &signature);
        right.map_err(|error| error.to_string())
    })();
    done(context.module.destroy(session, made))?;
    seen
}

fn imported_rsa_key_is_marked_and_signs(context: &Context) -> Outcome {
    use rsa::pkcs8::DecodePrivateKey;
    use rsa::traits::{PrivateKeyParts, PublicKeyParts};
    let der = include_bytes!("../../../../cardea-pki/tests/data/rsa2048.pkcs8.der");
    let key = rsa::RsaPrivateKey::from_pkcs8_der(der).unwrap();
    let (p, q) = (&key.primes()[0], &key.primes()[1]);
    let one = rsa::BigUint::from(1u8);
    let exponent = |prime: &rsa::BigUint| (key.d() % (prime - &one)).to_bytes_be();
    let coefficient = q.modpow(&(p - 2u8), p).to_bytes_be();
    let template = [
        long(CKA_CLASS, CKO_PRIVATE_KEY),
        long(CKA_KEY_TYPE, CKK_RSA),
        flag(CKA_TOKEN, true),
        flag(CKA_PRIVATE, true),
        flag(CKA_SIGN, true),
        (CKA_LABEL, b"brought".to_vec()),
        (CKA_MODULUS, key.n().to_bytes_be()),
        (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]),
        (CKA_PRIVATE_EXPONENT, key.d().to_bytes_be()),
        (CKA_PRIME_1, p.to_bytes_be()),
        (CKA_PRIME_2, q.to_bytes_be()),
        (CKA_EXPONENT_1, exponent(p)),
        (CKA_EXPONENT_2, exponent(q)),
        (CKA_COEFFICIENT, coefficient),
    ];
    let session = context.user()?;
    let made = done(context.module.create(session, &template))?;
    let seen = (|| {
        is_imported(context, session, made)?;
        done(
            context
                .module
                .sign_begin(session, &Mechanism::new(CKM_RSA_PKCS), made),
        )?;
        let signature = done(context.module.sign(session, b"data"))?;
        let public = key.to_public_key();
        let right = public.verify(rsa::Pkcs1v15Sign::new_unprefixed(), b"data", &signature);
        right.map_err(|error| error.to_string())
    })();
    done(context.module.destroy(session, made))?;
    seen
}

fn import_without_numbers_is_incomplete(context: &Context) -> Outcome {
    let session = context.user()?;
    let template = &curve_key(vec![1; 32], None)[..7];
    refused(
        context.module.create(session, template),
        &[CKR_TEMPLATE_INCOMPLETE],
    )
}

fn import_of_a_scalar_that_is_none_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    refused(
        context
            .module
            .create(session, &curve_key(vec![0xFF; 32], None)),
        &[CKR_ATTRIBUTE_VALUE_INVALID, CKR_TEMPLATE_INCONSISTENT],
    )
}

fn derived(length: Option<CK_ULONG>) -> Vec<Attribute> {
    let mut template = vec![
        long(CKA_CLASS, CKO_SECRET_KEY),
        long(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        flag(CKA_TOKEN, false),
        flag(CKA_SENSITIVE, false),
        flag(CKA_EXTRACTABLE, true),
    ];
    template.extend(length.map(|length| long(CKA_VALUE_LEN, length)));
    template
}

/// The peer's point and what the other library makes of it.
fn peer(context: &Context, session: CK_SESSION_HANDLE) -> Result<(Vec<u8>, Vec<u8>), String> {
    use p256::elliptic_curve::sec1::ToSec1Point;
    let key = context.public_key(session, EC)?;
    let point = context.attribute(session, key, CKA_EC_POINT)?;
    let public =
        p256::PublicKey::from_sec1_bytes(&point[2..]).map_err(|error| error.to_string())?;
    let own = p256::SecretKey::from_slice(&[0x42; 32]).unwrap();
    let shared = p256::ecdh::diffie_hellman(own.to_nonzero_scalar(), public.as_affine());
    let point = own.public_key().to_sec1_point(false).as_bytes().to_vec();
    Ok((point, shared.raw_secret_bytes().to_vec()))
}

fn agreed(context: &Context, point: &[u8], length: Option<CK_ULONG>, wanted: &[u8]) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let mechanism = Mechanism::ecdh(point);
    let secret = done(
        context
            .module
            .derive(session, &mechanism, key, &derived(length)),
    )?;
    let value = context.attribute(session, secret, CKA_VALUE)?;
    ensure!(value == wanted, "{value:X?}, not {wanted:X?}");
    Ok(())
}

fn ecdh_gives_the_shared_secret(context: &Context) -> Outcome {
    let (point, shared) = peer(context, context.public()?)?;
    agreed(context, &point, Some(32), &shared)
}

/// As OCTET STRING (3.1 §6.3.15, ECDH parameters).
fn ecdh_takes_a_wrapped_point(context: &Context) -> Outcome {
    let (point, shared) = peer(context, context.public()?)?;
    agreed(context, &[&[4, 65][..], &point].concat(), Some(32), &shared)
}

/// The leading bytes are dropped (3.1 §6.3.16).
fn ecdh_gives_a_part(context: &Context) -> Outcome {
    let (point, shared) = peer(context, context.public()?)?;
    agreed(context, &point, Some(16), &shared[16..])
}

fn ecdh_with_a_point_off_the_curve_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let mut point = vec![4];
    point.extend([0x11; 64]);
    let mechanism = Mechanism::ecdh(&point);
    refused(
        context
            .module
            .derive(session, &mechanism, key, &derived(Some(32))),
        &[CKR_MECHANISM_PARAM_INVALID],
    )
}

fn ecdh_with_an_rsa_key_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    let (point, _) = peer(context, session)?;
    refused(
        context
            .module
            .derive(session, &Mechanism::ecdh(&point), key, &derived(Some(32))),
        &[CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED],
    )
}

fn derived_secret_is_not_on_the_token(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    let (point, _) = peer(context, session)?;
    let secret = done(context.module.derive(
        session,
        &Mechanism::ecdh(&point),
        key,
        &derived(Some(32)),
    ))?;
    for (kind, wanted) in [(CKA_TOKEN, 0), (CKA_LOCAL, 0), (CKA_EXTRACTABLE, 1)] {
        let value = context.attribute(session, secret, kind)?;
        ensure!(value == [wanted], "{kind:X} is {value:?}");
    }
    let length = context.attribute(session, secret, CKA_VALUE_LEN)?;
    ensure!(length == 32u64.to_ne_bytes(), "{length:?}");
    Ok(())
}
