//! Signatures and their verification (§5.13, §5.15), checked by other libraries.

use cryptoki_sys::*;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::context::{Context, EC, Outcome, RSA, behaviours, done, ensure, flag, long, refused};
use crate::module::Mechanism;

behaviours! {
    rsa_pkcs1_signs_a_digest_info
    rsa_pkcs1_signs_anything_short
    rsa_pkcs1_with_sha1_signs
    rsa_pkcs1_with_sha256_signs
    rsa_pkcs1_with_sha384_signs
    rsa_pkcs1_with_sha512_signs
    rsa_pkcs1_in_parts_is_the_same
    rsa_raw_signs_a_block
    pss_with_sha256_signs
    pss_with_sha384_signs
    pss_with_sha512_signs
    pss_of_a_digest_signs
    pss_with_a_shorter_salt_signs
    pss_with_another_mask_hash_signs
    ecdsa_signs_a_digest
    ecdsa_signs_longer_and_shorter_digests
    ecdsa_with_sha256_signs
    ecdsa_with_sha512_signs
    ecdsa_in_parts_signs
    rsa_signatures_are_verified
    pss_signatures_are_verified
    ecdsa_signatures_are_verified
    verification_in_parts
    wrong_signatures_are_told
    signatures_of_wrong_length_are_told
    length_is_told_and_the_operation_goes_on
    short_buffer_tells_the_length_and_the_operation_goes_on
    data_that_is_too_long_is_refused
    raw_block_that_is_too_long_is_refused
    digest_of_another_length_is_refused_by_pss
    four_threads_sign_at_once
    session_public_keys_verify
}

const MESSAGE: &[u8] = b"what is signed";

fn rsa_key(context: &Context, session: CK_SESSION_HANDLE) -> Result<RsaPublicKey, String> {
    let key = context.public_key(session, RSA)?;
    let modulus = context.attribute(session, key, CKA_MODULUS)?;
    let exponent = context.attribute(session, key, CKA_PUBLIC_EXPONENT)?;
    RsaPublicKey::new(
        BigUint::from_bytes_be(&modulus),
        BigUint::from_bytes_be(&exponent),
    )
    .map_err(|error| error.to_string())
}

fn signed(
    context: &Context,
    session: CK_SESSION_HANDLE,
    label: &str,
    mechanism: &Mechanism,
    data: &[u8],
) -> Result<Vec<u8>, String> {
    let key = context.private(session, label)?;
    done(context.module.sign_begin(session, mechanism, key))?;
    done(context.module.sign(session, data))
}

fn rsa(
    context: &Context,
    kind: CK_MECHANISM_TYPE,
    data: &[u8],
    scheme: Pkcs1v15Sign,
    digest: &[u8],
) -> Outcome {
    let session = context.user()?;
    let signature = signed(context, session, RSA, &Mechanism::new(kind), data)?;
    let key = rsa_key(context, session)?;
    key.verify(scheme, digest, &signature)
        .map_err(|error| format!("the signature is wrong: {error}"))
}

fn digest_info(digest: &[u8]) -> Vec<u8> {
    let head = [
        0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    [&head[..], digest].concat()
}

fn rsa_pkcs1_signs_a_digest_info(context: &Context) -> Outcome {
    let digest = Sha256::digest(MESSAGE);
    let scheme = Pkcs1v15Sign::new_unprefixed();
    rsa(
        context,
        CKM_RSA_PKCS,
        &digest_info(&digest),
        scheme,
        &digest_info(&digest),
    )
}

/// 36 bytes as of TLS 1.0, and the longest and shortest.
fn rsa_pkcs1_signs_anything_short(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = rsa_key(context, session)?;
    for length in [0, 1, 36, 245] {
        let data = vec![0x5A; length];
        let signature = signed(context, session, RSA, &Mechanism::new(CKM_RSA_PKCS), &data)
            .map_err(|seen| format!("{length} bytes: {seen}"))?;
        let right = key.verify(Pkcs1v15Sign::new_unprefixed(), &data, &signature);
        right.map_err(|error| format!("{length} bytes: {error}"))?;
    }
    Ok(())
}

fn rsa_pkcs1_with_sha1_signs(context: &Context) -> Outcome {
    use rsa_sha1::Digest as _;
    let digest = rsa_sha1::Sha1::digest(MESSAGE);
    let scheme = Pkcs1v15Sign::new::<rsa_sha1::Sha1>();
    rsa(context, CKM_SHA1_RSA_PKCS, MESSAGE, scheme, &digest)
}

fn rsa_pkcs1_with_sha256_signs(context: &Context) -> Outcome {
    let digest = Sha256::digest(MESSAGE);
    let scheme = Pkcs1v15Sign::new::<rsa::sha2::Sha256>();
    rsa(context, CKM_SHA256_RSA_PKCS, MESSAGE, scheme, &digest)
}

fn rsa_pkcs1_with_sha384_signs(context: &Context) -> Outcome {
    let digest = Sha384::digest(MESSAGE);
    let scheme = Pkcs1v15Sign::new::<rsa::sha2::Sha384>();
    rsa(context, CKM_SHA384_RSA_PKCS, MESSAGE, scheme, &digest)
}

fn rsa_pkcs1_with_sha512_signs(context: &Context) -> Outcome {
    let digest = Sha512::digest(MESSAGE);
    let scheme = Pkcs1v15Sign::new::<rsa::sha2::Sha512>();
    rsa(context, CKM_SHA512_RSA_PKCS, MESSAGE, scheme, &digest)
}

fn rsa_pkcs1_in_parts_is_the_same(context: &Context) -> Outcome {
    let session = context.user()?;
    let mechanism = Mechanism::new(CKM_SHA256_RSA_PKCS);
    let whole = signed(context, session, RSA, &mechanism, MESSAGE)?;
    let key = context.private(session, RSA)?;
    done(context.module.sign_begin(session, &mechanism, key))?;
    for part in MESSAGE.chunks(5) {
        done(context.module.sign_update(session, part))?;
    }
    let parts = done(context.module.sign_end(session))?;
    ensure!(parts == whole, "another signature");
    Ok(())
}

fn rsa_raw_signs_a_block(context: &Context) -> Outcome {
    let session = context.user()?;
    let mut block = vec![0x5A; 256];
    block[0] = 0;
    let signature = signed(
        context,
        session,
        RSA,
        &Mechanism::new(CKM_RSA_X_509),
        &block,
    )?;
    let key = rsa_key(context, session)?;
    let back = BigUint::from_bytes_be(&signature).modpow(key.e(), key.n());
    ensure!(back == BigUint::from_bytes_be(&block), "not the block");
    Ok(())
}

fn pss(
    context: &Context,
    mechanism: &Mechanism,
    data: &[u8],
    scheme: Pss,
    digest: &[u8],
) -> Outcome {
    let session = context.user()?;
    let signature = signed(context, session, RSA, mechanism, data)?;
    let key = rsa_key(context, session)?;
    key.verify(scheme, digest, &signature)
        .map_err(|error| format!("the signature is wrong: {error}"))
}

fn pss_with_sha256_signs(context: &Context) -> Outcome {
    let mechanism = Mechanism::pss(CKM_SHA256_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32);
    let scheme = Pss::new::<rsa::sha2::Sha256>();
    pss(
        context,
        &mechanism,
        MESSAGE,
        scheme,
        &Sha256::digest(MESSAGE),
    )
}

fn pss_with_sha384_signs(context: &Context) -> Outcome {
    let mechanism = Mechanism::pss(CKM_SHA384_RSA_PKCS_PSS, CKM_SHA384, CKG_MGF1_SHA384, 48);
    let scheme = Pss::new::<rsa::sha2::Sha384>();
    pss(
        context,
        &mechanism,
        MESSAGE,
        scheme,
        &Sha384::digest(MESSAGE),
    )
}

fn pss_with_sha512_signs(context: &Context) -> Outcome {
    let mechanism = Mechanism::pss(CKM_SHA512_RSA_PKCS_PSS, CKM_SHA512, CKG_MGF1_SHA512, 64);
    let scheme = Pss::new::<rsa::sha2::Sha512>();
    pss(
        context,
        &mechanism,
        MESSAGE,
        scheme,
        &Sha512::digest(MESSAGE),
    )
}

fn pss_of_a_digest_signs(context: &Context) -> Outcome {
    let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32);
    let digest = Sha256::digest(MESSAGE);
    pss(
        context,
        &mechanism,
        &digest,
        Pss::new::<rsa::sha2::Sha256>(),
        &digest,
    )
}

fn pss_with_a_shorter_salt_signs(context: &Context) -> Outcome {
    for salt in [0, 20] {
        let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, salt);
        let digest = Sha256::digest(MESSAGE);
        let scheme = Pss::new_with_salt::<rsa::sha2::Sha256>(salt as usize);
        pss(context, &mechanism, &digest, scheme, &digest)?;
    }
    Ok(())
}

/// The other library has one hash for both: the module itself verifies.
fn pss_with_another_mask_hash_signs(context: &Context) -> Outcome {
    let session = context.user()?;
    let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA1, 32);
    let digest = Sha256::digest(MESSAGE);
    let signature = signed(context, session, RSA, &mechanism, &digest)?;
    let scheme = Pss::new::<rsa::sha2::Sha256>();
    ensure!(
        rsa_key(context, session)?
            .verify(scheme, &digest, &signature)
            .is_err(),
        "the mask is that of SHA-256"
    );
    let key = context.public_key(session, RSA)?;
    done(context.module.verify_begin(session, &mechanism, key))?;
    done(context.module.verify(session, &digest, &signature))
}

fn curve_key(
    context: &Context,
    session: CK_SESSION_HANDLE,
) -> Result<p256::ecdsa::VerifyingKey, String> {
    let key = context.public_key(session, EC)?;
    let point = context.attribute(session, key, CKA_EC_POINT)?;
    p256::ecdsa::VerifyingKey::from_sec1_bytes(&point[2..]).map_err(|error| error.to_string())
}

fn ecdsa(context: &Context, kind: CK_MECHANISM_TYPE, data: &[u8], digest: &[u8]) -> Outcome {
    let session = context.user()?;
    let signature = signed(context, session, EC, &Mechanism::new(kind), data)?;
    ecdsa_is_right(context, session, digest, &signature)
}

fn ecdsa_is_right(
    context: &Context,
    session: CK_SESSION_HANDLE,
    digest: &[u8],
    signature: &[u8],
) -> Outcome {
    ensure!(signature.len() == 64, "{} bytes", signature.len());
    let signature =
        p256::ecdsa::Signature::from_slice(signature).map_err(|error| error.to_string())?;
    curve_key(context, session)?
        .verify_prehash(digest, &signature)
        .map_err(|error| format!("the signature is wrong: {error}"))
}

fn ecdsa_signs_a_digest(context: &Context) -> Outcome {
    let digest = Sha256::digest(MESSAGE);
    ecdsa(context, CKM_ECDSA, &digest, &digest)
}

fn ecdsa_signs_longer_and_shorter_digests(context: &Context) -> Outcome {
    let long = Sha512::digest(MESSAGE);
    ecdsa(context, CKM_ECDSA, &long, &long[..32])?;
    let mut padded = [0; 32];
    padded[12..].copy_from_slice(&long[..20]);
    ecdsa(context, CKM_ECDSA, &long[..20], &padded)
}

fn ecdsa_with_sha256_signs(context: &Context) -> Outcome {
    ecdsa(context, CKM_ECDSA_SHA256, MESSAGE, &Sha256::digest(MESSAGE))
}

fn ecdsa_with_sha512_signs(context: &Context) -> Outcome {
    ecdsa(
        context,
        CKM_ECDSA_SHA512,
        MESSAGE,
        &Sha512::digest(MESSAGE)[..32],
    )
}

fn ecdsa_in_parts_signs(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    done(
        context
            .module
            .sign_begin(session, &Mechanism::new(CKM_ECDSA_SHA256), key),
    )?;
    for part in MESSAGE.chunks(3) {
        done(context.module.sign_update(session, part))?;
    }
    let signature = done(context.module.sign_end(session))?;
    ecdsa_is_right(context, session, &Sha256::digest(MESSAGE), &signature)
}

fn verified(context: &Context, label: &str, mechanism: &Mechanism, data: &[u8]) -> Outcome {
    let session = context.user()?;
    let signature = signed(context, session, label, mechanism, data)?;
    let key = context.public_key(session, label)?;
    done(context.module.verify_begin(session, mechanism, key))?;
    done(context.module.verify(session, data, &signature))?;
    done(context.module.logout(session))?;
    // Verification is nobody's secret.
    let key = context.public_key(session, label)?;
    done(context.module.verify_begin(session, mechanism, key))?;
    done(context.module.verify(session, data, &signature))?;
    done(context.module.close(session))
}

fn rsa_signatures_are_verified(context: &Context) -> Outcome {
    verified(context, RSA, &Mechanism::new(CKM_SHA256_RSA_PKCS), MESSAGE)?;
    verified(context, RSA, &Mechanism::new(CKM_RSA_PKCS), MESSAGE)
}

fn pss_signatures_are_verified(context: &Context) -> Outcome {
    let mechanism = Mechanism::pss(CKM_SHA256_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32);
    verified(context, RSA, &mechanism, MESSAGE)
}

fn ecdsa_signatures_are_verified(context: &Context) -> Outcome {
    verified(
        context,
        EC,
        &Mechanism::new(CKM_ECDSA),
        &Sha256::digest(MESSAGE),
    )
}

fn verification_in_parts(context: &Context) -> Outcome {
    let session = context.user()?;
    let mechanism = Mechanism::new(CKM_SHA256_RSA_PKCS);
    let signature = signed(context, session, RSA, &mechanism, MESSAGE)?;
    let key = context.public_key(session, RSA)?;
    done(context.module.verify_begin(session, &mechanism, key))?;
    for part in MESSAGE.chunks(4) {
        done(context.module.verify_update(session, part))?;
    }
    done(context.module.verify_end(session, &signature))
}

fn wrong_signatures_are_told(context: &Context) -> Outcome {
    let session = context.user()?;
    for (label, mechanism, data) in [
        (RSA, Mechanism::new(CKM_SHA256_RSA_PKCS), MESSAGE.to_vec()),
        (
            EC,
            Mechanism::new(CKM_ECDSA),
            Sha256::digest(MESSAGE).to_vec(),
        ),
    ] {
        let mut signature = signed(context, session, label, &mechanism, &data)?;
        *signature.last_mut().unwrap() ^= 1;
        let key = context.public_key(session, label)?;
        done(context.module.verify_begin(session, &mechanism, key))?;
        refused(
            context.module.verify(session, &data, &signature),
            &[CKR_SIGNATURE_INVALID],
        )
        .map_err(|seen| format!("{label}: {seen}"))?;
        // The operation is over.
        refused(
            context.module.verify(session, &data, &signature),
            &[CKR_OPERATION_NOT_INITIALIZED],
        )?;
    }
    Ok(())
}

fn signatures_of_wrong_length_are_told(context: &Context) -> Outcome {
    let session = context.user()?;
    for (label, kind) in [(RSA, CKM_SHA256_RSA_PKCS), (EC, CKM_ECDSA)] {
        let key = context.public_key(session, label)?;
        done(
            context
                .module
                .verify_begin(session, &Mechanism::new(kind), key),
        )?;
        refused(
            context.module.verify(session, &[7; 32], &[1; 10]),
            &[CKR_SIGNATURE_LEN_RANGE, CKR_SIGNATURE_INVALID],
        )?;
    }
    Ok(())
}

fn length_is_told_and_the_operation_goes_on(context: &Context) -> Outcome {
    let session = context.user()?;
    for (label, kind, wanted) in [(RSA, CKM_RSA_PKCS, 256), (EC, CKM_ECDSA, 64)] {
        let key = context.private(session, label)?;
        done(
            context
                .module
                .sign_begin(session, &Mechanism::new(kind), key),
        )?;
        for _ in 0..2 {
            let (length, _) = done(context.module.sign_sized(session, &[7; 32], None))?;
            ensure!(length == wanted, "{label}: {length} bytes");
        }
        done(context.module.sign_sized(session, &[7; 32], Some(wanted)))?;
    }
    Ok(())
}

fn short_buffer_tells_the_length_and_the_operation_goes_on(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, EC)?;
    done(
        context
            .module
            .sign_begin(session, &Mechanism::new(CKM_ECDSA), key),
    )?;
    let (value, length) = context.module.told_length(session, &[7; 32], 63);
    ensure!(
        value == CKR_BUFFER_TOO_SMALL,
        "{}",
        crate::context::name(value)
    );
    ensure!(length == 64, "{length} bytes");
    done(context.module.sign(session, &[7; 32])).map(drop)
}

fn data_that_is_too_long_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    done(
        context
            .module
            .sign_begin(session, &Mechanism::new(CKM_RSA_PKCS), key),
    )?;
    refused(
        context.module.sign(session, &[7; 246]),
        &[CKR_DATA_LEN_RANGE, CKR_DATA_INVALID],
    )?;
    refused(
        context.module.sign(session, &[7; 10]),
        &[CKR_OPERATION_NOT_INITIALIZED],
    )
}

fn raw_block_that_is_too_long_is_refused(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    done(
        context
            .module
            .sign_begin(session, &Mechanism::new(CKM_RSA_X_509), key),
    )?;
    refused(
        context.module.sign(session, &[0; 257]),
        &[CKR_DATA_LEN_RANGE, CKR_DATA_INVALID],
    )
}

fn digest_of_another_length_is_refused_by_pss(context: &Context) -> Outcome {
    let session = context.user()?;
    let key = context.private(session, RSA)?;
    let mechanism = Mechanism::pss(CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32);
    done(context.module.sign_begin(session, &mechanism, key))?;
    refused(
        context.module.sign(session, &[7; 20]),
        &[CKR_DATA_LEN_RANGE, CKR_DATA_INVALID],
    )
}

fn four_threads_sign_at_once(context: &Context) -> Outcome {
    let session = context.user()?;
    let sign = |number: u8| {
        let session = context.public()?;
        let digest = Sha256::digest([number]);
        for _ in 0..5 {
            let signature = signed(context, session, EC, &Mechanism::new(CKM_ECDSA), &digest)?;
            ecdsa_is_right(context, session, &digest, &signature)?;
        }
        done(context.module.close(session))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| scope.spawn(move || sign(number)))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread died".to_owned())?)
    })?;
    done(context.module.close(session))
}

fn session_public_keys_verify(context: &Context) -> Outcome {
    let session = context.user()?;
    let mechanism = Mechanism::new(CKM_SHA256_RSA_PKCS);
    let signature = signed(context, session, RSA, &mechanism, MESSAGE)?;
    let key = context.public_key(session, RSA)?;
    let template = [
        long(CKA_CLASS, CKO_PUBLIC_KEY),
        long(CKA_KEY_TYPE, CKK_RSA),
        flag(CKA_TOKEN, false),
        flag(CKA_VERIFY, true),
        (CKA_MODULUS, context.attribute(session, key, CKA_MODULUS)?),
        (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]),
    ];
    let copy = done(context.module.create(session, &template))?;
    done(context.module.verify_begin(session, &mechanism, copy))?;
    done(context.module.verify(session, MESSAGE, &signature))
}
