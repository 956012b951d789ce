//! Encryption, decryption, wrapping and digests (§5.8 to §5.12, §5.18).

use cryptoki_sys::*;
use rsa::{BigUint, Oaep, Pkcs1v15Encrypt, RsaPublicKey};
use sha2::Digest;

use crate::context::{Context, EC, Outcome, RSA, behaviours, done, ensure, flag, long, refused};
use crate::module::{Attribute, Mechanism};

behaviours! {
    rsa_pkcs1_is_decrypted
    rsa_raw_is_decrypted
    oaep_with_sha1_is_decrypted
    oaep_with_sha256_is_decrypted
    oaep_with_a_label_is_decrypted
    oaep_with_another_mask_hash_is_decrypted
    empty_plain_text_is_decrypted
    what_the_module_encrypts_it_decrypts
    encryption_is_different_each_time
    wrong_oaep_label_is_told
    broken_cryptograms_are_told
    cryptograms_of_wrong_length_are_told
    short_plain_text_buffer_keeps_the_operation
    plain_text_that_is_too_long_is_refused
    decryption_needs_an_rsa_key
    secrets_are_wrapped_and_unwrapped
    private_keys_are_not_wrapped
    garbage_is_not_unwrapped
    digests_are_right
    digest_in_parts_is_the_same
    digest_of_nothing_is_right
    digest_length_is_told
    random_numbers_differ
    random_numbers_of_no_length
}

const PLAIN: &[u8] = b"what is encrypted";

fn key(context: &Context, session: CK_SESSION_HANDLE) -> Result<RsaPublicKey, String> {
    let key = context.public_key(session, RSA)?;
    let modulus = context.attribute(session, key, CKA_MODULUS)?;
    let exponent = context.attribute(session, key, CKA_PUBLIC_EXPONENT)?;
    RsaPublicKey::new(
        BigUint::from_bytes_be(&modulus),
        BigUint::from_bytes_be(&exponent),
    )
    .map_err(|error| error.to_string())
}

fn decrypted(
    context: &Context,
    mechanism: &Mechanism,
    cryptogram: &[u8],
) -> Result<Vec<u8>, String> {
    let session = context.user()?;
    let private = context.private(session, RSA)?;
    done(context.module.decrypt_begin(session, mechanism, private))?;
    let plain = done(context.module.decrypt(session, cryptogram))?;
    done(context.module.close(session))?;
    Ok(plain)
}

fn is_plain(found: &[u8], wanted: &[u8]) -> Outcome {
    ensure!(found == wanted, "the plain text is {found:X?}");
    Ok(())
}

fn rsa_pkcs1_is_decrypted(context: &Context) -> Outcome {
    let public = key(context, context.public()?)?;
    let sealed = public
        .encrypt(&mut rsa::rand_core::OsRng, Pkcs1v15Encrypt, PLAIN)
        .unwrap();
    is_plain(
        &decrypted(context, &Mechanism::new(CKM_RSA_PKCS), &sealed)?,
        PLAIN,
    )
}

fn rsa_raw_is_decrypted(context: &Context) -> Outcome {
    use rsa::traits::PublicKeyParts;
    let public = key(context, context.public()?)?;
    let mut block = vec![0x33; 256];
    block[0] = 0;
    let sealed = BigUint::from_bytes_be(&block)
        .modpow(public.e(), public.n())
        .to_bytes_be();
    let mut full = vec![0; 256 - sealed.len()];
    full.extend_from_slice(&sealed);
    is_plain(
        &decrypted(context, &Mechanism::new(CKM_RSA_X_509), &full)?,
        &block,
    )
}

fn oaep(context: &Context, mechanism: &Mechanism, padding: Oaep, plain: &[u8]) -> Outcome {
    let public = key(context, context.public()?)?;
    let sealed = public
        .encrypt(&mut rsa::rand_core::OsRng, padding, plain)
        .unwrap();
    is_plain(&decrypted(context, mechanism, &sealed)?, plain)
}

fn oaep_with_sha1_is_decrypted(context: &Context) -> Outcome {
    let mechanism = Mechanism::oaep(CKM_SHA_1, CKG_MGF1_SHA1, b"");
    oaep(context, &mechanism, Oaep::new::<rsa_sha1::Sha1>(), PLAIN)
}

fn oaep_with_sha256_is_decrypted(context: &Context) -> Outcome {
    let mechanism = Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA256, b"");
    oaep(context, &mechanism, Oaep::new::<rsa::sha2::Sha256>(), PLAIN)
}

fn oaep_with_a_label_is_decrypted(context: &Context) -> Outcome {
    let mechanism = Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA256, b"label");
    let padding = Oaep::new_with_label::<rsa::sha2::Sha256, _>("label");
    oaep(context, &mechanism, padding, PLAIN)
}

fn oaep_with_another_mask_hash_is_decrypted(context: &Context) -> Outcome {
    let mechanism = Mechanism::oaep(CKM_SHA256, CKG_MGF1_SHA1, b"");
    let padding = Oaep::new_with_mgf_hash::<rsa::sha2::Sha256, rsa_sha1::Sha1>();
    oaep(context, &mechanism, padding, PLAIN)
}

fn empty_plain_text_is_decrypted(context: &Context) -> Outcome {
    let mechanism = Mechanism::oaep(CKM_SHA_1, CKG_MGF1_SHA1, b"");
    oaep(context, &mechanism, Oaep::new::<rsa_sha1::Sha1>(), b"")
}

fn encrypted(
    context: &Context,
    session: CK_SESSION_HANDLE,
    mechanism: &Mechanism,
    plain: &[u8],
) -> Result<Vec<u8>, String> {
    let public = context.public_key(session, RSA)?;
    done(context.module.encrypt_begin(session, mechanism, public))?;
    done(context.module.encrypt(session, plain))
}

fn what_the_module_encrypts_it_decrypts(context: &Context) -> Outcome {
    for mechanism in [
        Mechanism::new(CKM_RSA_PKCS),
        Mechanism::oaep(CKM_SHA_1, CKG_MGF1_SHA1, b""),
    ] {
        let session = context.public()?;
        let sealed = encrypted(context, session, &mechanism, PLAIN)?;
        is_plain(&decrypted(context, &mechanism, &sealed)?, PLAIN)?;
        done(context.module.close(session))?;
    }
    Ok(())
}

fn encryption_is_different_each_time(context: &Context) -> Outcome {
    let session = context.public()?;
    let mechanism = Mechanism::new(CKM_RSA_PKCS);
    let one = encrypted(context, session, &mechanism, PLAIN)?;
    let other = encrypted(context, session, &mechanism, PLAIN)?;
    ensure!(
        one.len() == 256 && one != other,
        "the same cryptogram twice"
    );
    Ok(())
}

fn wrong_oaep_label_is_told(context: &Context) -> Outcome {
    let public = key(context, context.public()?)?;
    let padding = Oaep::new_with_label::<rsa_sha1::Sha1, _>("label");
    let sealed = public
        .encrypt(&mut rsa::rand_core::OsRng, padding, PLAIN)
        .unwrap();
    let session = context.user()?;
    let private = context.private(session, RSA)?;
    let mechanism = Mechanism::oaep(CKM_SHA_1, CKG_MGF1_SHA1, b"");
    done(context.module.decrypt_begin(session, &mechanism, private))?;
    refused(
        context.module.decrypt(session, &sealed),
        &[CKR_ENCRYPTED_DATA_INVALID],
    )
}

fn broken_cryptograms_are_told(context: &Context) -> Outcome {
    let session = context.user()?;
    let private = context.private(session, RSA)?;
    for mechanism in [
        Mechanism::new(CKM_RSA_PKCS),
        Mechanism::oaep(CKM_SHA_1, CKG_MGF1_SHA1, b""),
    ] {
        done(context.module.decrypt_begin(session, &mechanism, private))?;
        refused(
            context.module.decrypt(session, &[0x11; 256]),
            &[CKR_ENCRYPTED_DATA_INVALID],
        )?;
    }
    Ok(())
}

fn cryptograms_of_wrong_length_are_told(context: &Context) -> Outcome {
    let session = context.user()?;
    let private = context.private(session, RSA)?;
    for length in [1, 255, 257] {
        done(
            context
                .module
                .decrypt_begin(session, &Mechanism::new(CKM_RSA_PKCS), private),
        )?;
        refused(
            context.module.decrypt(session, &vec![0x11; length]),
            &[CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_ENCRYPTED_DATA_INVALID],
        )
        .map_err(|seen| format!("{length} bytes: {seen}"))?;
    }
    Ok(())
}

fn short_plain_text_buffer_keeps_the_operation(context: &Context) -> Outcome {
    let session = context.user()?;
    let sealed = encrypted(context, session, &Mechanism::new(CKM_RSA_PKCS), PLAIN)?;
    let private = context.private(session, RSA)?;
    done(
        context
            .module
            .decrypt_begin(session, &Mechanism::new(CKM_RSA_PKCS), private),
    )?;
    refused(
        context.module.decrypt_sized(session, &sealed, Some(3)),
        &[CKR_BUFFER_TOO_SMALL],
    )?;
    let (_, plain) = done(context.module.decrypt_sized(session, &sealed, Some(256)))?;
    is_plain(&plain, PLAIN)
}

fn plain_text_that_is_too_long_is_refused(context: &Context) -> Outcome {
    let session = context.public()?;
    let public = context.public_key(session, RSA)?;
    done(
        context
            .module
            .encrypt_begin(session, &Mechanism::new(CKM_RSA_PKCS), public),
    )?;
    refused(
        context.module.encrypt(session, &[1; 246]),
        &[CKR_DATA_LEN_RANGE, CKR_DATA_INVALID],
    )
}

fn decryption_needs_an_rsa_key(context: &Context) -> Outcome {
    let session = context.user()?;
    let private = context.private(session, EC)?;
    refused(
        context
            .module
            .decrypt_begin(session, &Mechanism::new(CKM_RSA_PKCS), private),
        &[CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED],
    )
}

fn secret(value: &[u8]) -> Vec<Attribute> {
    vec![
        long(CKA_CLASS, CKO_SECRET_KEY),
        long(CKA_KEY_TYPE, CKK_GENERIC_SECRET),
        flag(CKA_TOKEN, false),
        flag(CKA_SENSITIVE, false),
        flag(CKA_EXTRACTABLE, true),
        (CKA_VALUE, value.to_vec()),
    ]
}

fn secrets_are_wrapped_and_unwrapped(context: &Context) -> Outcome {
    let session = context.user()?;
    let made = done(context.module.create(session, &secret(PLAIN)))?;
    let (public, private) = (
        context.public_key(session, RSA)?,
        context.private(session, RSA)?,
    );
    let mechanism = Mechanism::new(CKM_RSA_PKCS);
    let wrapped = done(context.module.wrap(session, &mechanism, public, made))?;
    ensure!(wrapped.len() == 256, "{} bytes", wrapped.len());
    let template = &secret(PLAIN)[..5];
    let back = done(
        context
            .module
            .unwrap(session, &mechanism, private, &wrapped, template),
    )?;
    is_plain(&context.attribute(session, back, CKA_VALUE)?, PLAIN)
}

fn private_keys_are_not_wrapped(context: &Context) -> Outcome {
    let session = context.user()?;
    let (public, private) = (
        context.public_key(session, RSA)?,
        context.private(session, EC)?,
    );
    refused(
        context
            .module
            .wrap(session, &Mechanism::new(CKM_RSA_PKCS), public, private),
        &[CKR_KEY_UNEXTRACTABLE, CKR_KEY_NOT_WRAPPABLE],
    )
}

fn garbage_is_not_unwrapped(context: &Context) -> Outcome {
    let session = context.user()?;
    let private = context.private(session, RSA)?;
    let template = &secret(PLAIN)[..5];
    let mechanism = Mechanism::new(CKM_RSA_PKCS);
    refused(
        context
            .module
            .unwrap(session, &mechanism, private, &[0x11; 256], template),
        &[CKR_WRAPPED_KEY_INVALID],
    )?;
    refused(
        context
            .module
            .unwrap(session, &mechanism, private, &[0x11; 20], template),
        &[CKR_WRAPPED_KEY_LEN_RANGE],
    )
}

fn digests(data: &[u8]) -> [(CK_MECHANISM_TYPE, Vec<u8>); 4] {
    let sha1 = {
        use rsa_sha1::Digest as _;
        rsa_sha1::Sha1::digest(data).to_vec()
    };
    [
        (CKM_SHA_1, sha1),
        (CKM_SHA256, sha2::Sha256::digest(data).to_vec()),
        (CKM_SHA384, sha2::Sha384::digest(data).to_vec()),
        (CKM_SHA512, sha2::Sha512::digest(data).to_vec()),
    ]
}

fn digests_are_right(context: &Context) -> Outcome {
    let session = context.public()?;
    for (kind, wanted) in digests(PLAIN) {
        done(context.module.digest_begin(session, kind))?;
        let found = done(context.module.digest(session, PLAIN))?;
        ensure!(found == wanted, "{kind:X}: {found:X?}");
    }
    Ok(())
}

fn digest_in_parts_is_the_same(context: &Context) -> Outcome {
    let session = context.public()?;
    for (kind, wanted) in digests(PLAIN) {
        done(context.module.digest_begin(session, kind))?;
        for part in PLAIN.chunks(6) {
            done(context.module.digest_update(session, part))?;
        }
        let found = done(context.module.digest_end(session))?;
        ensure!(found == wanted, "{kind:X}: {found:X?}");
    }
    Ok(())
}

fn digest_of_nothing_is_right(context: &Context) -> Outcome {
    let session = context.public()?;
    let [_, (kind, wanted), ..] = digests(b"");
    done(context.module.digest_begin(session, kind))?;
    let found = done(context.module.digest_end(session))?;
    ensure!(found == wanted, "{found:X?}");
    Ok(())
}

fn digest_length_is_told(context: &Context) -> Outcome {
    let session = context.public()?;
    done(context.module.digest_begin(session, CKM_SHA384))?;
    let (length, _) = done(context.module.digest_sized(session, PLAIN, None))?;
    ensure!(length == 48, "{length} bytes");
    refused(
        context.module.digest_sized(session, PLAIN, Some(47)),
        &[CKR_BUFFER_TOO_SMALL],
    )?;
    done(context.module.digest_sized(session, PLAIN, Some(48))).map(drop)
}

fn random_numbers_differ(context: &Context) -> Outcome {
    let session = context.public()?;
    let one = done(context.module.random(session, 100))?;
    let other = done(context.module.random(session, 100))?;
    ensure!(one != other && one[..50] != one[50..], "{one:X?}");
    Ok(())
}

fn random_numbers_of_no_length(context: &Context) -> Outcome {
    let session = context.public()?;
    done(context.module.random(session, 0)).map(drop)
}
