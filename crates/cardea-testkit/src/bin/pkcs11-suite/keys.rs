//! Generation, import and agreement of keys (§5.7, §5.18).

use cryptoki_sys::*;
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};

use crate::context::{
    Context, EC, NONE, Outcome, P256, P384, RSA, Row, bytes, curve, ensure, flag, key_templates,
    long, refused, rsa_public, session_secret,
};
use crate::module::{Attribute, Mechanism, Result};
use crate::reference::{point_of, shared_secret, verify_ecdsa, x963};
use crate::session::Session;

/// Generation that is refused: name, mechanism, public template and return values.
type Refusal = (
    &'static str,
    CK_MECHANISM_TYPE,
    fn() -> Vec<Attribute>,
    &'static [CK_RV],
);

const RSA_PAIR: CK_MECHANISM_TYPE = CKM_RSA_PKCS_KEY_PAIR_GEN;
const EC_PAIR: CK_MECHANISM_TYPE = CKM_EC_KEY_PAIR_GEN;

pub(crate) const REFUSED: &[Refusal] = &[
    (
        "generation_without_size_is_incomplete",
        RSA_PAIR,
        || vec![bytes(CKA_PUBLIC_EXPONENT, [1, 0, 1])],
        &[CKR_TEMPLATE_INCOMPLETE],
    ),
    (
        "generation_without_curve_is_incomplete",
        EC_PAIR,
        Vec::new,
        &[CKR_TEMPLATE_INCOMPLETE],
    ),
    (
        "generation_of_an_impossible_size_is_refused",
        RSA_PAIR,
        || rsa_public(100),
        &[CKR_KEY_SIZE_RANGE, CKR_ATTRIBUTE_VALUE_INVALID],
    ),
    (
        "generation_on_an_unknown_curve_is_refused",
        EC_PAIR,
        || vec![bytes(CKA_EC_PARAMS, [6, 3, 0x2A, 3, 4])],
        &[
            CKR_CURVE_NOT_SUPPORTED,
            CKR_DOMAIN_PARAMS_INVALID,
            CKR_ATTRIBUTE_VALUE_INVALID,
        ],
    ),
    (
        "generation_by_an_unknown_mechanism_is_refused",
        NONE,
        || rsa_public(2048),
        &[CKR_MECHANISM_INVALID],
    ),
    (
        "generation_of_another_class_is_refused",
        EC_PAIR,
        || [curve(), vec![long(CKA_CLASS, CKO_DATA)]].concat(),
        &[CKR_TEMPLATE_INCONSISTENT, CKR_ATTRIBUTE_VALUE_INVALID],
    ),
    (
        "contradictory_template_is_refused",
        EC_PAIR,
        || [curve(), vec![bytes(CKA_ID, [1]), bytes(CKA_ID, [2])]].concat(),
        &[CKR_TEMPLATE_INCONSISTENT],
    ),
];

/// Scalar of the peer, and of the key that is imported.
const SCALAR: [u8; 32] = [0x42; 32];
/// Scalar of a peer whose point begins with 4, 63, 4, as an OCTET STRING of 63 bytes with a point would.
const LOOKS_WRAPPED: [u8; 32] = {
    let mut scalar = [0; 32];
    scalar[30] = 0x4E;
    scalar[31] = 0xFC;
    scalar
};

pub(crate) const ROWS: &[Row] = &[
    (
        "generated_keys_have_the_label_and_identifier_asked_for",
        |c| {
            let id = bytes(CKA_ID, [0xAB, 0xCD, 0xEF]);
            with_key(c, &P256, std::slice::from_ref(&id), |s, public, private| {
                let wanted = [bytes(CKA_LABEL, "made"), id.clone()];
                s.expect(public, &wanted)?;
                s.expect(private, &wanted)
            })
        },
    ),
    ("generated_p384_keys_sign", |c| {
        with_key(c, &P384, &[], |s, public, private| {
            s.sign_begin(&ecdsa(), private)?;
            let signature = s.sign(&[7; 48])?;
            verify_ecdsa(&s.get(public, CKA_EC_POINT)?, &[7; 48], &signature)
        })
    }),
    ("keys_of_a_session_end_with_it", |c| {
        let (mut public, mut private) = key_templates("passing", curve());
        for attribute in public.iter_mut().chain(&mut private) {
            if attribute.0 == CKA_TOKEN {
                *attribute = flag(CKA_TOKEN, false);
            }
        }
        let (s, other) = (c.user()?, c.user()?);
        let (_, key) = s.generate(EC_PAIR, &public, &private)?;
        s.close()?;
        refused(other.get(key, CKA_LABEL), [CKR_OBJECT_HANDLE_INVALID])
    }),
    ("destroyed_key_signs_no_more", |c| {
        with_key(c, &P256, &[], |s, _, private| {
            s.destroy(private)?;
            let value = s.sign_begin(&ecdsa(), private);
            refused(value, [CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID])
        })
    }),
    // CKA_ALWAYS_AUTHENTICATE (§4.9): C_Login with CKU_CONTEXT_SPECIFIC between C_SignInit and C_Sign.
    ("always_authenticated_key_wants_the_pin_each_time", |c| {
        with_key(
            c,
            &P256,
            &[flag(CKA_ALWAYS_AUTHENTICATE, true)],
            |s, _, private| {
                s.expect(private, &[flag(CKA_ALWAYS_AUTHENTICATE, true)])?;
                for _ in 0..2 {
                    s.sign_begin(&ecdsa(), private)?;
                    ensure!(s.sign(&[7; 32]).is_err(), "it signs without the PIN");
                    // The standard does not say whether the operation is still active.
                    let _ = s.sign_begin(&ecdsa(), private);
                    s.login(CKU_CONTEXT_SPECIFIC, &c.token.pin)?;
                    s.sign(&[7; 32])?;
                }
                Ok(())
            },
        )
    }),
    // OpenSSH does not ask again right after its login, so a module may accept the login for one operation.
    ("login_is_the_pin_of_one_operation_at_most", |c| {
        with_key(
            c,
            &P256,
            &[flag(CKA_ALWAYS_AUTHENTICATE, true)],
            |s, _, _| {
                s.logout()?;
                s.login_user()?;
                let key = s.private("made")?;
                s.sign_begin(&ecdsa(), key)?;
                let _ = s.sign(&[7; 32]);
                // If the first was refused, the standard does not say whether it is still active.
                let _ = s.sign_begin(&ecdsa(), key);
                ensure!(s.sign(&[7; 32]).is_err(), "it signs twice after one login");
                Ok(())
            },
        )
    }),
    ("imported_curve_key_is_marked_and_signs", |c| {
        let mut scalar = SCALAR;
        scalar[0] = 0;
        with_import(c, &curve_key(&scalar), |s, key| {
            s.sign_begin(&ecdsa(), key)?;
            verify_ecdsa(&point_of(&scalar), &[7; 32], &s.sign(&[7; 32])?)
        })
    }),
    ("imported_rsa_key_is_marked_and_signs", |c| {
        let der = include_bytes!("../../../../cardea-pki/tests/data/rsa2048.pkcs8.der");
        let own = rsa::PrivateKey::from_pkcs8_der(der).unwrap();
        with_import(c, &rsa_key(&own), |s, key| {
            s.sign_begin(&Mechanism::new(CKM_RSA_PKCS), key)?;
            let (signature, scheme) = (s.sign(b"data")?, rsa::Pkcs1v15Sign::new_unprefixed());
            let verified = own.to_public_key().verify(scheme, b"data", &signature);
            Ok(verified.map_err(|error| error.to_string())?)
        })
    }),
    ("import_without_numbers_is_incomplete", |c| {
        let mut template = curve_key(&SCALAR);
        template.retain(|(kind, _)| *kind != CKA_VALUE);
        refused(c.user()?.create(&template), [CKR_TEMPLATE_INCOMPLETE])
    }),
    ("import_of_a_scalar_that_is_none_is_refused", |c| {
        let value = c.user()?.create(&curve_key(&[0xFF; 32]));
        refused(
            value,
            [CKR_ATTRIBUTE_VALUE_INVALID, CKR_TEMPLATE_INCONSISTENT],
        )
    }),
    ("ecdh_gives_the_shared_secret", |c| {
        is_agreed(c, &peer()[2..], 32)
    }),
    // The point as OCTET STRING (3.1 §6.3.15, ECDH parameters).
    ("ecdh_takes_a_wrapped_point", |c| is_agreed(c, &peer(), 32)),
    // The two bytes behind its 4 are the header of a shorter OCTET STRING.
    ("ecdh_takes_a_point_that_looks_wrapped", |c| {
        let point = point_of(&LOOKS_WRAPPED)[2..].to_vec();
        assert_eq!(point[..3], [4, 0x3F, 4]);
        is_agreed_with(c, &LOOKS_WRAPPED, &point, 32)
    }),
    // The leading bytes are dropped (3.1 §6.3.16).
    ("ecdh_gives_a_part", |c| is_agreed(c, &peer()[2..], 16)),
    ("ecdh_with_a_point_off_the_curve_is_refused", |c| {
        let s = c.user()?;
        let point = [&[4][..], &[0x11; 64]].concat();
        let value = s.derive(&Mechanism::ecdh(&point), s.private(EC)?, &derived(32));
        refused(value, [CKR_MECHANISM_PARAM_INVALID])
    }),
    ("ecdh_with_an_rsa_key_is_refused", |c| {
        let s = c.user()?;
        let value = s.derive(
            &Mechanism::ecdh(&peer()[2..]),
            s.private(RSA)?,
            &derived(32),
        );
        refused(
            value,
            [CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED],
        )
    }),
    // SEC 1 §3.6.1, with what CMS passes (RFC 5753 §7.2): AES-256 key wrap, and the 256 bits of its key.
    ("ecdh_derives_by_sha1", |c| {
        is_derived(c, CKD_SHA1_KDF, CKM_SHA_1, &CMS_SHARED, 32)
    }),
    ("ecdh_derives_by_sha224", |c| {
        is_derived(c, CKD_SHA224_KDF, CKM_SHA224, &CMS_SHARED, 32)
    }),
    ("ecdh_derives_by_sha256", |c| {
        is_derived(c, CKD_SHA256_KDF, CKM_SHA256, &CMS_SHARED, 32)
    }),
    ("ecdh_derives_by_sha384", |c| {
        is_derived(c, CKD_SHA384_KDF, CKM_SHA384, &CMS_SHARED, 32)
    }),
    ("ecdh_derives_by_sha512", |c| {
        is_derived(c, CKD_SHA512_KDF, CKM_SHA512, &CMS_SHARED, 32)
    }),
    ("ecdh_derives_without_shared_information", |c| {
        is_derived(c, CKD_SHA256_KDF, CKM_SHA256, &[], 16)
    }),
    ("ecdh_derives_more_than_one_digest", |c| {
        is_derived(c, CKD_SHA1_KDF, CKM_SHA_1, &CMS_SHARED, 200)
    }),
    ("derivation_without_a_length_is_incomplete", |c| {
        let value = derive_by_function(c, &session_secret());
        refused(value, [CKR_TEMPLATE_INCOMPLETE])
    }),
    ("derivation_of_impossible_lengths_is_refused", |c| {
        for length in [0, 1 << 40, CK_ULONG::MAX] {
            refused(
                derive_by_function(c, &derived(length)),
                [
                    CKR_ATTRIBUTE_VALUE_INVALID,
                    CKR_KEY_SIZE_RANGE,
                    CKR_TEMPLATE_INCONSISTENT,
                ],
            )?;
        }
        Ok(())
    }),
    ("derived_secret_is_not_on_the_token", |c| {
        let s = c.user()?;
        let secret = s.derive(&Mechanism::ecdh(&peer()[2..]), s.private(EC)?, &derived(32))?;
        let flags = [
            (CKA_TOKEN, false),
            (CKA_LOCAL, false),
            (CKA_EXTRACTABLE, true),
        ];
        s.expect(secret, &flags.map(|(kind, value)| flag(kind, value)))?;
        s.expect(secret, &[long(CKA_VALUE_LEN, 32)])
    }),
];

/// One of [`REFUSED`].
pub(crate) fn is_not_generated(c: &Context, (_, kind, public, allowed): Refusal) -> Outcome {
    let (public, private) = key_templates("none", public());
    refused(c.user()?.generate(kind, &public, &private), allowed)
}

/// Generates a key on this curve, tries something with it (session, public key, private key) and destroys it.
fn with_key(
    c: &Context,
    curve: &[u8],
    further: &[Attribute],
    look: impl Fn(Session<'_>, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE) -> Outcome,
) -> Outcome {
    let s = c.user()?;
    let (mut public, mut private) = key_templates("made", vec![bytes(CKA_EC_PARAMS, curve)]);
    for attribute in further {
        // What only private keys have does not fit the other template.
        if attribute.0 != CKA_ALWAYS_AUTHENTICATE {
            public.push(attribute.clone());
        }
        private.push(attribute.clone());
    }
    let (one, other) = s.generate(EC_PAIR, &public, &private)?;
    let seen = look(s, one, other);
    let end = c.user()?;
    let _ = end.destroy(other);
    let _ = end.destroy(one);
    seen
}

/// Imports a private key, tries something with it and destroys it.
fn with_import(
    c: &Context,
    template: &[Attribute],
    look: impl Fn(Session<'_>, CK_OBJECT_HANDLE) -> Outcome,
) -> Outcome {
    let s = c.user()?;
    let key = s.create(template)?;
    let marks =
        [CKA_LOCAL, CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE].map(|kind| flag(kind, false));
    let seen = s
        .expect(key, &marks)
        .and_then(|()| s.expect(key, &[flag(CKA_PRIVATE, true)]))
        .and_then(|()| look(s, key));
    s.destroy(key)?;
    seen
}

fn ecdsa() -> Mechanism {
    Mechanism::new(CKM_ECDSA)
}

fn private_key(kind: CK_KEY_TYPE, numbers: Vec<Attribute>) -> Vec<Attribute> {
    let flags = [CKA_TOKEN, CKA_PRIVATE, CKA_SIGN].map(|kind| flag(kind, true));
    let head = vec![
        long(CKA_CLASS, CKO_PRIVATE_KEY),
        long(CKA_KEY_TYPE, kind),
        bytes(CKA_LABEL, "brought"),
    ];
    [head, flags.to_vec(), numbers].concat()
}

fn curve_key(scalar: &[u8]) -> Vec<Attribute> {
    private_key(CKK_EC, [curve(), vec![bytes(CKA_VALUE, scalar)]].concat())
}

fn rsa_key(key: &rsa::PrivateKey) -> Vec<Attribute> {
    let numbers = [
        (CKA_MODULUS, Some(key.n().as_ref())),
        (CKA_PUBLIC_EXPONENT, Some(key.e())),
        (CKA_PRIVATE_EXPONENT, Some(key.d())),
        (CKA_PRIME_1, key.primes().first().map(|p| p.as_ref())),
        (CKA_PRIME_2, key.primes().get(1).map(|q| q.as_ref())),
        (CKA_EXPONENT_1, key.dp()),
        (CKA_EXPONENT_2, key.dq()),
        (CKA_COEFFICIENT, key.crt_coefficient().as_ref()),
    ]
    .map(|(kind, number)| bytes(kind, number.unwrap().to_be_bytes_trimmed_vartime()));
    private_key(CKK_RSA, numbers.to_vec())
}

fn derived(length: CK_ULONG) -> Vec<Attribute> {
    [session_secret(), vec![long(CKA_VALUE_LEN, length)]].concat()
}

/// The peer's point as OCTET STRING.
fn peer() -> Vec<u8> {
    point_of(&SCALAR)
}

/// ECC-CMS-SharedInfo of `id-aes256-wrap` without user keying material.
const CMS_SHARED: [u8; 23] = [
    0x30, 21, 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 45, 0xA2, 6, 4, 4, 0, 0, 1, 0,
];

/// The key that a function derives from the secret that the token's key shares with the peer.
fn is_derived(
    c: &Context,
    function: CK_EC_KDF_TYPE,
    hash: CK_MECHANISM_TYPE,
    shared: &[u8],
    length: usize,
) -> Outcome {
    let s = c.user()?;
    let secret = shared_secret(&SCALAR, &s.get(s.public(EC)?, CKA_EC_POINT)?)?;
    let mechanism = Mechanism::ecdh_with(function, shared, &peer()[2..]);
    let template = derived(length as CK_ULONG);
    let key = s.derive(&mechanism, s.private(EC)?, &template)?;
    s.expect(
        key,
        &[bytes(CKA_VALUE, x963(hash, &secret, shared, length))],
    )
}

fn derive_by_function(c: &Context, template: &[Attribute]) -> Result<CK_OBJECT_HANDLE> {
    let s = c.user()?;
    let mechanism = Mechanism::ecdh_with(CKD_SHA256_KDF, &CMS_SHARED, &peer()[2..]);
    let keys = s.find(&[long(CKA_CLASS, CKO_PRIVATE_KEY), bytes(CKA_LABEL, EC)])?;
    s.derive(&mechanism, keys[0], template)
}

/// The last bytes of the secret that the token's key shares with the peer.
fn is_agreed(c: &Context, point: &[u8], length: usize) -> Outcome {
    is_agreed_with(c, &SCALAR, point, length)
}

fn is_agreed_with(c: &Context, scalar: &[u8; 32], point: &[u8], length: usize) -> Outcome {
    let s = c.user()?;
    let shared = shared_secret(scalar, &s.get(s.public(EC)?, CKA_EC_POINT)?)?;
    let template = derived(length as CK_ULONG);
    let secret = s.derive(&Mechanism::ecdh(point), s.private(EC)?, &template)?;
    s.expect(secret, &[bytes(CKA_VALUE, &shared[32 - length..])])
}
