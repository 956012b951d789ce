//! Encryption, decryption, wrapping, digests and random numbers (§5.8 to §5.12, §5.18, §5.20).

use cryptoki_sys::*;

use crate::context::{Context, EC, Outcome, RSA, Row, bytes, ensure, refused, session_secret};
use crate::module::Mechanism;
use crate::reference::{Rsa, digest};
use crate::session::Session;

const PLAIN: &[u8] = b"what is encrypted";
const HASHES: [CK_MECHANISM_TYPE; 4] = [CKM_SHA_1, CKM_SHA256, CKM_SHA384, CKM_SHA512];

/// OAEP: name, hash, hash of the mask, label and plain text.
type Oaep = (
    &'static str,
    CK_MECHANISM_TYPE,
    CK_MECHANISM_TYPE,
    &'static str,
    &'static [u8],
);

pub(crate) const OAEP: &[Oaep] = &[
    (
        "oaep_with_sha1_is_decrypted",
        CKM_SHA_1,
        CKM_SHA_1,
        "",
        PLAIN,
    ),
    (
        "oaep_with_sha256_is_decrypted",
        CKM_SHA256,
        CKM_SHA256,
        "",
        PLAIN,
    ),
    (
        "oaep_with_a_label_is_decrypted",
        CKM_SHA256,
        CKM_SHA256,
        "label",
        PLAIN,
    ),
    (
        "oaep_with_another_mask_hash_is_decrypted",
        CKM_SHA256,
        CKM_SHA_1,
        "",
        PLAIN,
    ),
    (
        "empty_plain_text_is_decrypted",
        CKM_SHA_1,
        CKM_SHA_1,
        "",
        b"",
    ),
];

pub(crate) const ROWS: &[Row] = &[
    ("rsa_pkcs1_is_decrypted", |c| {
        let sealed = Rsa::new(c.public()?)?.encrypt_pkcs1(PLAIN);
        is_decrypted(c, &pkcs1(), &sealed, PLAIN)
    }),
    ("rsa_raw_is_decrypted", |c| {
        let block = [&[0][..], &[0x33; 255]].concat();
        let sealed = Rsa::new(c.public()?)?.power(&block);
        is_decrypted(c, &Mechanism::new(CKM_RSA_X_509), &sealed, &block)
    }),
    ("what_the_module_encrypts_it_decrypts", |c| {
        for mechanism in [pkcs1(), oaep()] {
            let s = c.public()?;
            let sealed = s.encrypted(RSA, &mechanism, PLAIN)?;
            is_decrypted(c, &mechanism, &sealed, PLAIN)?;
            s.close()?;
        }
        Ok(())
    }),
    ("encryption_is_different_each_time", |c| {
        let s = c.public()?;
        let (one, other) = (
            s.encrypted(RSA, &pkcs1(), PLAIN)?,
            s.encrypted(RSA, &pkcs1(), PLAIN)?,
        );
        ensure!(
            one.len() == 256 && one != other,
            "the same cryptogram twice"
        );
        Ok(())
    }),
    ("wrong_oaep_label_is_told", |c| {
        let sealed = Rsa::new(c.public()?)?.encrypt_oaep(CKM_SHA_1, CKM_SHA_1, "label", PLAIN);
        is_not_decrypted(c.user()?, &oaep(), &sealed, &[CKR_ENCRYPTED_DATA_INVALID])
    }),
    ("broken_cryptograms_are_told", |c| {
        let s = c.user()?;
        for mechanism in [pkcs1(), oaep()] {
            is_not_decrypted(s, &mechanism, &[0x11; 256], &[CKR_ENCRYPTED_DATA_INVALID])?;
        }
        Ok(())
    }),
    ("cryptograms_of_wrong_length_are_told", |c| {
        let s = c.user()?;
        for length in [1, 255, 257] {
            let allowed = [CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID];
            is_not_decrypted(s, &pkcs1(), &vec![0x11; length], &allowed)
                .map_err(|seen| format!("{length} bytes: {}", seen.0))?;
        }
        Ok(())
    }),
    ("short_plain_text_buffer_keeps_the_operation", |c| {
        let s = c.user()?;
        let sealed = s.encrypted(RSA, &pkcs1(), PLAIN)?;
        s.decrypt_begin(&pkcs1(), s.private(RSA)?)?;
        let (value, ..) = s.decrypt_sized(&sealed, Some(3));
        refused(value, [CKR_BUFFER_TOO_SMALL])?;
        let (value, _, plain) = s.decrypt_sized(&sealed, Some(256));
        value?;
        is_plain(&plain, PLAIN)
    }),
    ("plain_text_that_is_too_long_is_refused", |c| {
        let s = c.public()?;
        s.encrypt_begin(&pkcs1(), s.public(RSA)?)?;
        refused(s.encrypt(&[1; 246]), [CKR_DATA_LEN_RANGE, CKR_DATA_INVALID])
    }),
    ("decryption_needs_an_rsa_key", |c| {
        let s = c.user()?;
        let value = s.decrypt_begin(&pkcs1(), s.private(EC)?);
        refused(
            value,
            [CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED],
        )
    }),
    ("secrets_are_wrapped_and_unwrapped", |c| {
        let s = c.user()?;
        let secret = s.create(&[session_secret(), vec![bytes(CKA_VALUE, PLAIN)]].concat())?;
        let wrapped = s.wrap(&pkcs1(), s.public(RSA)?, secret)?;
        ensure!(wrapped.len() == 256, "{} bytes", wrapped.len());
        let back = s.unwrap(&pkcs1(), s.private(RSA)?, &wrapped, &session_secret())?;
        is_plain(&s.get(back, CKA_VALUE)?, PLAIN)
    }),
    ("raw_rsa_does_not_wrap", |c| {
        let s = c.user()?;
        let secret = s.create(&[session_secret(), vec![bytes(CKA_VALUE, PLAIN)]].concat())?;
        let raw = Mechanism::new(CKM_RSA_X_509);
        refused(
            s.wrap(&raw, s.public(RSA)?, secret),
            [CKR_MECHANISM_INVALID],
        )?;
        let unwrapped = s.unwrap(&raw, s.private(RSA)?, &[0x11; 256], &session_secret());
        refused(unwrapped, [CKR_MECHANISM_INVALID])
    }),
    ("private_keys_are_not_wrapped", |c| {
        let s = c.user()?;
        let value = s.wrap(&pkcs1(), s.public(RSA)?, s.private(EC)?);
        refused(value, [CKR_KEY_UNEXTRACTABLE, CKR_KEY_NOT_WRAPPABLE])
    }),
    ("garbage_is_not_unwrapped", |c| {
        let s = c.user()?;
        let key = s.private(RSA)?;
        let unwrap = |wrapped: &[u8]| s.unwrap(&pkcs1(), key, wrapped, &session_secret());
        refused(unwrap(&[0x11; 256]), [CKR_WRAPPED_KEY_INVALID])?;
        refused(unwrap(&[0x11; 20]), [CKR_WRAPPED_KEY_LEN_RANGE])
    }),
    ("digests_are_right", |c| {
        let s = c.public()?;
        for hash in HASHES {
            s.digest_begin(hash)?;
            is_digest(hash, PLAIN, &s.digest(PLAIN)?)?;
        }
        Ok(())
    }),
    ("digest_in_parts_is_the_same", |c| {
        let s = c.public()?;
        for hash in HASHES {
            s.digest_begin(hash)?;
            PLAIN.chunks(6).try_for_each(|part| s.digest_update(part))?;
            is_digest(hash, PLAIN, &s.digest_end()?)?;
        }
        Ok(())
    }),
    ("digest_of_nothing_is_right", |c| {
        let s = c.public()?;
        s.digest_begin(CKM_SHA256)?;
        is_digest(CKM_SHA256, b"", &s.digest_end()?)
    }),
    ("digest_length_is_told", |c| {
        let s = c.public()?;
        s.digest_begin(CKM_SHA384)?;
        let (value, length, _) = s.digest_sized(PLAIN, None);
        value?;
        ensure!(length == 48, "{length} bytes");
        refused(s.digest_sized(PLAIN, Some(47)).0, [CKR_BUFFER_TOO_SMALL])?;
        Ok(s.digest_sized(PLAIN, Some(48)).0?)
    }),
    ("random_numbers_differ", |c| {
        let s = c.public()?;
        let (one, other) = (s.random(100)?, s.random(100)?);
        ensure!(one != other && one[..50] != one[50..], "{one:X?}");
        Ok(())
    }),
    ("random_numbers_of_no_length", |c| {
        Ok(c.public()?.random(0).map(drop)?)
    }),
];

/// One of [`OAEP`].
pub(crate) fn oaep_is_decrypted(c: &Context, (_, hash, mask, label, plain): Oaep) -> Outcome {
    let mgf = match mask {
        CKM_SHA_1 => CKG_MGF1_SHA1,
        _ => CKG_MGF1_SHA256,
    };
    let sealed = Rsa::new(c.public()?)?.encrypt_oaep(hash, mask, label, plain);
    is_decrypted(
        c,
        &Mechanism::oaep(hash, mgf, label.as_bytes()),
        &sealed,
        plain,
    )
}

fn pkcs1() -> Mechanism {
    Mechanism::new(CKM_RSA_PKCS)
}

fn oaep() -> Mechanism {
    Mechanism::oaep(CKM_SHA_1, CKG_MGF1_SHA1, b"")
}

fn is_plain(found: &[u8], wanted: &[u8]) -> Outcome {
    ensure!(found == wanted, "the plain text is {found:X?}");
    Ok(())
}

fn is_digest(hash: CK_MECHANISM_TYPE, data: &[u8], found: &[u8]) -> Outcome {
    ensure!(found == digest(hash, data), "{hash:X}: {found:X?}");
    Ok(())
}

fn is_decrypted(c: &Context, mechanism: &Mechanism, sealed: &[u8], plain: &[u8]) -> Outcome {
    let s = c.user()?;
    s.decrypt_begin(mechanism, s.private(RSA)?)?;
    let found = s.decrypt(sealed)?;
    s.close()?;
    is_plain(&found, plain)
}

fn is_not_decrypted(
    s: Session<'_>,
    mechanism: &Mechanism,
    sealed: &[u8],
    allowed: &[CK_RV],
) -> Outcome {
    s.decrypt_begin(mechanism, s.private(RSA)?)?;
    refused(s.decrypt(sealed), allowed)
}
