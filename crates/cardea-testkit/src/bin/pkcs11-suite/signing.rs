//! Signatures and their verification (§5.13, §5.15), checked by other libraries.

use cryptoki_sys::*;

use crate::context::{Context, EC, Outcome, RSA, Row, bytes, ensure, flag, long, refused};
use crate::module::Mechanism;
use crate::reference::{Rsa, digest, sha256, verify_ecdsa};
use crate::session::Session;

const MESSAGE: &[u8] = b"what is signed";

/// Signatures of a message or, where the mechanism has no hash, of its digest: name, mechanism and hash.
pub(crate) const SCHEMES: &[(&str, CK_MECHANISM_TYPE, CK_MECHANISM_TYPE)] = &[
    ("rsa_pkcs1_with_sha1_signs", CKM_SHA1_RSA_PKCS, CKM_SHA_1),
    (
        "rsa_pkcs1_with_sha256_signs",
        CKM_SHA256_RSA_PKCS,
        CKM_SHA256,
    ),
    (
        "rsa_pkcs1_with_sha384_signs",
        CKM_SHA384_RSA_PKCS,
        CKM_SHA384,
    ),
    (
        "rsa_pkcs1_with_sha512_signs",
        CKM_SHA512_RSA_PKCS,
        CKM_SHA512,
    ),
    ("pss_with_sha256_signs", CKM_SHA256_RSA_PKCS_PSS, CKM_SHA256),
    ("pss_with_sha384_signs", CKM_SHA384_RSA_PKCS_PSS, CKM_SHA384),
    ("pss_with_sha512_signs", CKM_SHA512_RSA_PKCS_PSS, CKM_SHA512),
    ("pss_of_a_digest_signs", CKM_RSA_PKCS_PSS, CKM_SHA256),
    ("ecdsa_signs_a_digest", CKM_ECDSA, CKM_SHA256),
    ("ecdsa_with_sha256_signs", CKM_ECDSA_SHA256, CKM_SHA256),
    ("ecdsa_with_sha512_signs", CKM_ECDSA_SHA512, CKM_SHA512),
];

pub(crate) const ROWS: &[Row] = &[
    ("rsa_pkcs1_signs_a_digest_info", |c| {
        let head = [
            0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
            0x01, 0x05, 0x00, 0x04, 0x20,
        ];
        signs_as_it_is(c.user()?, &[&head[..], &sha256(MESSAGE)].concat())
    }),
    // 36 bytes are the length of TLS 1.0, 245 the longest.
    ("rsa_pkcs1_signs_anything_short", |c| {
        let s = c.user()?;
        for length in [0, 1, 36, 245] {
            let signed = signs_as_it_is(s, &vec![0x5A; length]);
            signed.map_err(|seen| format!("{length} bytes: {}", seen.0))?;
        }
        Ok(())
    }),
    ("rsa_pkcs1_in_parts_is_the_same", |c| {
        let s = c.user()?;
        let mechanism = Mechanism::new(CKM_SHA256_RSA_PKCS);
        let whole = s.signed(RSA, &mechanism, MESSAGE)?;
        ensure!(
            signed_in_parts(s, RSA, &mechanism)? == whole,
            "another signature"
        );
        Ok(())
    }),
    ("rsa_raw_signs_a_block", |c| {
        let s = c.user()?;
        let block = [&[0][..], &[0x5A; 255]].concat();
        let signature = s.signed(RSA, &Mechanism::new(CKM_RSA_X_509), &block)?;
        ensure!(Rsa::new(s)?.power(&signature) == block, "not the block");
        Ok(())
    }),
    ("pss_with_a_shorter_salt_signs", |c| {
        let (s, digest) = (c.user()?, sha256(MESSAGE));
        for salt in [0, 20] {
            let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, salt);
            let signature = s.signed(RSA, &mechanism, &digest)?;
            Rsa::new(s)?.verify_pss(CKM_SHA256, salt, &digest, &signature)?;
        }
        Ok(())
    }),
    // The other library has one hash for both, so the module itself verifies.
    ("pss_with_another_mask_hash_signs", |c| {
        let (s, digest) = (c.user()?, sha256(MESSAGE));
        let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA1, 32);
        let signature = s.signed(RSA, &mechanism, &digest)?;
        let usual = Rsa::new(s)?.verify_pss(CKM_SHA256, 32, &digest, &signature);
        ensure!(usual.is_err(), "the mask is that of SHA-256");
        s.verify_begin(&mechanism, s.public(RSA)?)?;
        Ok(s.verify(&digest, &signature)?)
    }),
    ("ecdsa_signs_longer_and_shorter_digests", |c| {
        let (s, long) = (c.user()?, digest(CKM_SHA512, MESSAGE));
        let padded = [&[0; 12], &long[..20]].concat();
        for (data, used) in [(&long[..], &long[..32]), (&long[..20], &padded)] {
            let signature = s.signed(EC, &Mechanism::new(CKM_ECDSA), data)?;
            verify_ecdsa(&s.get(s.public(EC)?, CKA_EC_POINT)?, used, &signature)?;
        }
        Ok(())
    }),
    ("ecdsa_in_parts_signs", |c| {
        let s = c.user()?;
        let signature = signed_in_parts(s, EC, &Mechanism::new(CKM_ECDSA_SHA256))?;
        verify_ecdsa(
            &s.get(s.public(EC)?, CKA_EC_POINT)?,
            &sha256(MESSAGE),
            &signature,
        )
    }),
    ("rsa_signatures_are_verified", |c| {
        is_verified(c, RSA, &Mechanism::new(CKM_SHA256_RSA_PKCS), MESSAGE)?;
        is_verified(c, RSA, &Mechanism::new(CKM_RSA_PKCS), MESSAGE)
    }),
    ("pss_signatures_are_verified", |c| {
        let kind = CKM_SHA256_RSA_PKCS_PSS;
        let mechanism = Mechanism::pss(kind, CKM_SHA256, CKG_MGF1_SHA256, 32);
        is_verified(c, RSA, &mechanism, MESSAGE)
    }),
    ("ecdsa_signatures_are_verified", |c| {
        is_verified(c, EC, &Mechanism::new(CKM_ECDSA), &sha256(MESSAGE))
    }),
    ("verification_in_parts", |c| {
        let s = c.user()?;
        let mechanism = Mechanism::new(CKM_SHA256_RSA_PKCS);
        let signature = s.signed(RSA, &mechanism, MESSAGE)?;
        s.verify_begin(&mechanism, s.public(RSA)?)?;
        MESSAGE
            .chunks(4)
            .try_for_each(|part| s.verify_update(part))?;
        Ok(s.verify_end(&signature)?)
    }),
    ("wrong_signatures_are_told", |c| {
        let (s, digest) = (c.user()?, sha256(MESSAGE));
        for (label, kind, data) in [
            (RSA, CKM_SHA256_RSA_PKCS, MESSAGE),
            (EC, CKM_ECDSA, &digest),
        ] {
            let mechanism = Mechanism::new(kind);
            let mut signature = s.signed(label, &mechanism, data)?;
            *signature.last_mut().unwrap() ^= 1;
            s.verify_begin(&mechanism, s.public(label)?)?;
            refused(s.verify(data, &signature), [CKR_SIGNATURE_INVALID])
                .map_err(|seen| format!("{label}: {}", seen.0))?;
            // The operation has ended.
            refused(s.verify(data, &signature), [CKR_OPERATION_NOT_INITIALIZED])?;
        }
        Ok(())
    }),
    ("signatures_of_wrong_length_are_told", |c| {
        let s = c.user()?;
        for (label, kind) in [(RSA, CKM_SHA256_RSA_PKCS), (EC, CKM_ECDSA)] {
            s.verify_begin(&Mechanism::new(kind), s.public(label)?)?;
            let value = s.verify(&[7; 32], &[1; 10]);
            refused(value, [CKR_SIGNATURE_LEN_RANGE, CKR_SIGNATURE_INVALID])?;
        }
        Ok(())
    }),
    ("length_is_told_and_the_operation_goes_on", |c| {
        let s = c.user()?;
        for (label, kind, wanted) in [(RSA, CKM_RSA_PKCS, 256), (EC, CKM_ECDSA, 64)] {
            s.sign_begin(&Mechanism::new(kind), s.private(label)?)?;
            for size in [None, None, Some(wanted)] {
                let (value, length, _) = s.sign_sized(&[7; 32], size);
                value?;
                ensure!(length == wanted, "{label}: {length} bytes");
            }
        }
        Ok(())
    }),
    (
        "short_buffer_tells_the_length_and_the_operation_goes_on",
        |c| {
            let s = c.user()?;
            s.sign_begin(&Mechanism::new(CKM_ECDSA), s.private(EC)?)?;
            let (value, length, _) = s.sign_sized(&[7; 32], Some(63));
            refused(value, [CKR_BUFFER_TOO_SMALL])?;
            ensure!(length == 64, "{length} bytes");
            Ok(s.sign(&[7; 32]).map(drop)?)
        },
    ),
    ("data_that_is_too_long_is_refused", |c| {
        let s = c.user()?;
        data_is_refused(s, &Mechanism::new(CKM_RSA_PKCS), &[7; 246])?;
        refused(s.sign(&[7; 10]), [CKR_OPERATION_NOT_INITIALIZED])
    }),
    ("raw_block_that_is_too_long_is_refused", |c| {
        data_is_refused(c.user()?, &Mechanism::new(CKM_RSA_X_509), &[0; 257])
    }),
    ("digest_of_another_length_is_refused_by_pss", |c| {
        let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32);
        data_is_refused(c.user()?, &mechanism, &[7; 20])
    }),
    ("four_threads_sign_at_once", |c| {
        let s = c.user()?;
        std::thread::scope(|scope| {
            let threads =
                [0, 1, 2, 3].map(|number| scope.spawn(move || sign_repeatedly(c, number)));
            let mut threads = threads.into_iter();
            threads.try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
        })?;
        Ok(s.close()?)
    }),
    ("session_public_keys_verify", |c| {
        let s = c.user()?;
        let mechanism = Mechanism::new(CKM_SHA256_RSA_PKCS);
        let signature = s.signed(RSA, &mechanism, MESSAGE)?;
        let copy = s.create(&[
            long(CKA_CLASS, CKO_PUBLIC_KEY),
            long(CKA_KEY_TYPE, CKK_RSA),
            flag(CKA_TOKEN, false),
            flag(CKA_VERIFY, true),
            bytes(CKA_MODULUS, s.get(s.public(RSA)?, CKA_MODULUS)?),
            bytes(CKA_PUBLIC_EXPONENT, [1, 0, 1]),
        ])?;
        s.verify_begin(&mechanism, copy)?;
        Ok(s.verify(MESSAGE, &signature)?)
    }),
];

/// One of [`SCHEMES`].
pub(crate) fn signs(c: &Context, kind: CK_MECHANISM_TYPE, hash: CK_MECHANISM_TYPE) -> Outcome {
    let s = c.user()?;
    let digest = digest(hash, MESSAGE);
    let salt = digest.len() as u64;
    let data = match kind {
        CKM_ECDSA | CKM_RSA_PKCS_PSS => &digest,
        _ => MESSAGE,
    };
    match kind {
        CKM_ECDSA | CKM_ECDSA_SHA256 | CKM_ECDSA_SHA512 => {
            let signature = s.signed(EC, &Mechanism::new(kind), data)?;
            verify_ecdsa(
                &s.get(s.public(EC)?, CKA_EC_POINT)?,
                &digest[..32],
                &signature,
            )
        }
        CKM_SHA1_RSA_PKCS | CKM_SHA256_RSA_PKCS | CKM_SHA384_RSA_PKCS | CKM_SHA512_RSA_PKCS => {
            let signature = s.signed(RSA, &Mechanism::new(kind), data)?;
            Rsa::new(s)?.verify_pkcs1(Some(hash), &digest, &signature)
        }
        _ => {
            let mask = match hash {
                CKM_SHA256 => CKG_MGF1_SHA256,
                CKM_SHA384 => CKG_MGF1_SHA384,
                _ => CKG_MGF1_SHA512,
            };
            let signature = s.signed(RSA, &Mechanism::pss(kind, hash, mask, salt), data)?;
            Rsa::new(s)?.verify_pss(hash, salt, &digest, &signature)
        }
    }
}

fn signs_as_it_is(s: Session<'_>, data: &[u8]) -> Outcome {
    let signature = s.signed(RSA, &Mechanism::new(CKM_RSA_PKCS), data)?;
    Rsa::new(s)?.verify_pkcs1(None, data, &signature)
}

fn signed_in_parts(s: Session<'_>, label: &str, mechanism: &Mechanism) -> Outcome<Vec<u8>> {
    s.sign_begin(mechanism, s.private(label)?)?;
    MESSAGE.chunks(5).try_for_each(|part| s.sign_update(part))?;
    Ok(s.sign_end()?)
}

/// Verified by the module with and without a login.
fn is_verified(c: &Context, label: &str, mechanism: &Mechanism, data: &[u8]) -> Outcome {
    let s = c.user()?;
    let signature = s.signed(label, mechanism, data)?;
    s.verify_begin(mechanism, s.public(label)?)?;
    s.verify(data, &signature)?;
    s.logout()?;
    s.verify_begin(mechanism, s.public(label)?)?;
    s.verify(data, &signature)?;
    Ok(s.close()?)
}

fn sign_repeatedly(c: &Context, number: u8) -> Outcome {
    let (s, digest) = (c.public()?, sha256(&[number]));
    for _ in 0..5 {
        let signature = s.signed(EC, &Mechanism::new(CKM_ECDSA), &digest)?;
        verify_ecdsa(&s.get(s.public(EC)?, CKA_EC_POINT)?, &digest, &signature)?;
    }
    Ok(s.close()?)
}

fn data_is_refused(s: Session<'_>, mechanism: &Mechanism, data: &[u8]) -> Outcome {
    s.sign_begin(mechanism, s.private(RSA)?)?;
    refused(s.sign(data), [CKR_DATA_LEN_RANGE, CKR_DATA_INVALID])
}
