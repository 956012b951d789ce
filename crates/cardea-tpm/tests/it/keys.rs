//! Every algorithm and operation, checked with other implementations.

use cardea_card::record::KeyRecord;
use cardea_card::token::{
    HashAlgorithm, KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, KeyStore, PinAuthority,
    PinReference, PrivateOperation, PublicKey, TokenErrorKind,
};
use cardea_tpm::CardToken;
use rsa::traits::{PaddingScheme as _, SignatureScheme as _};
use rsa::{BigUint, Oaep, Pkcs1v15Encrypt, Pkcs1v15Sign, RsaPublicKey};

use crate::support::{Kind, PIN, Swtpm, make, pin, token};

fn rsa_key(info: &KeyInfo) -> RsaPublicKey {
    let PublicKey::Rsa { modulus, exponent } = &info.public else {
        panic!("not RSA")
    };
    RsaPublicKey::new(BigUint::from_bytes_be(modulus), BigUint::from(*exponent)).unwrap()
}

fn generate(token: &mut CardToken, algorithm: KeyAlgorithm) -> (KeyRecord, KeyInfo) {
    let key = token.generate(0x81, algorithm, KeyClass::Session).unwrap();
    let info = token.describe(&key).unwrap();
    assert_eq!(info.algorithm, algorithm);
    assert_eq!(
        (info.class, info.origin),
        (KeyClass::Session, KeyOrigin::Generated)
    );
    (key, info)
}

#[test]
fn rsa_keys_sign_and_decrypt() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    for algorithm in [KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa3072] {
        let (key, info) = generate(&mut token, algorithm);
        let public = rsa_key(&info);
        let sign = PrivateOperation::SignPkcs1 {
            hash: HashAlgorithm::Sha256,
            digest: &[7; 32],
        };
        token.logout();
        let refused = token.operate(&key, sign).unwrap_err();
        assert_eq!(refused.kind(), TokenErrorKind::NotAuthenticated);
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();

        for hash in HASHES {
            let digest = vec![0x5A; hash.size()];
            let digest = &digest[..];
            let pkcs1 = token
                .operate(&key, PrivateOperation::SignPkcs1 { hash, digest })
                .unwrap();
            pkcs1_of(hash).verify(&public, digest, &pkcs1).unwrap();
            let pss = token
                .operate(&key, PrivateOperation::SignPss { hash, digest })
                .unwrap();
            pss_of(hash).verify(&public, digest, &pss).unwrap();
        }

        // The raw operation under the padding of 36 bytes that have no DigestInfo.
        let mut block = vec![0, 1];
        block.resize(algorithm.size() - 37, 0xFF);
        block.push(0);
        block.extend_from_slice(&[9; 36]);
        let signature = token
            .operate(&key, PrivateOperation::RsaRaw { block: &block })
            .unwrap();
        Pkcs1v15Sign::new_unprefixed()
            .verify(&public, &[9; 36], &signature)
            .unwrap();

        let mut rng = rand_core_old::OsRng;
        let cryptogram = public
            .encrypt(&mut rng, Pkcs1v15Encrypt, b"secret")
            .unwrap();
        let plain = token
            .operate(
                &key,
                PrivateOperation::DecryptPkcs1 {
                    cryptogram: &cryptogram,
                },
            )
            .unwrap();
        assert_eq!(plain[..], *b"secret");
        for hash in HASHES {
            for label in ["", "label"] {
                let cryptogram = oaep_of(hash, label)
                    .encrypt(&mut rng, &public, b"secret")
                    .unwrap();
                let operation = PrivateOperation::DecryptOaep {
                    hash,
                    label: label.as_bytes(),
                    cryptogram: &cryptogram,
                };
                assert_eq!(token.operate(&key, operation).unwrap()[..], *b"secret");
            }
        }
        let cryptogram = oaep_of(HashAlgorithm::Sha256, "other")
            .encrypt(&mut rng, &public, b"secret")
            .unwrap();
        let other_label = PrivateOperation::DecryptOaep {
            hash: HashAlgorithm::Sha256,
            label: b"label",
            cryptogram: &cryptogram,
        };
        let refused = token.operate(&key, other_label).unwrap_err();
        assert_eq!(refused.kind(), TokenErrorKind::BadData);
        let garbage = vec![0x11; algorithm.size()];
        let refused = token
            .operate(
                &key,
                PrivateOperation::DecryptPkcs1 {
                    cryptogram: &garbage,
                },
            )
            .unwrap_err();
        assert_eq!(refused.kind(), TokenErrorKind::BadData);
        token.operate(&key, sign).unwrap();
    }
}

const HASHES: [HashAlgorithm; 4] = [
    HashAlgorithm::Sha1,
    HashAlgorithm::Sha256,
    HashAlgorithm::Sha384,
    HashAlgorithm::Sha512,
];

fn pkcs1_of(hash: HashAlgorithm) -> Pkcs1v15Sign {
    match hash {
        HashAlgorithm::Sha1 => Pkcs1v15Sign::new::<rsa_sha1::Sha1>(),
        HashAlgorithm::Sha256 => Pkcs1v15Sign::new::<rsa::sha2::Sha256>(),
        HashAlgorithm::Sha384 => Pkcs1v15Sign::new::<rsa::sha2::Sha384>(),
        HashAlgorithm::Sha512 => Pkcs1v15Sign::new::<rsa::sha2::Sha512>(),
    }
}

fn pss_of(hash: HashAlgorithm) -> rsa::Pss {
    match hash {
        HashAlgorithm::Sha1 => rsa::Pss::new_with_salt::<rsa_sha1::Sha1>(20),
        HashAlgorithm::Sha256 => rsa::Pss::new_with_salt::<rsa::sha2::Sha256>(32),
        HashAlgorithm::Sha384 => rsa::Pss::new_with_salt::<rsa::sha2::Sha384>(48),
        HashAlgorithm::Sha512 => rsa::Pss::new_with_salt::<rsa::sha2::Sha512>(64),
    }
}

fn oaep_of(hash: HashAlgorithm, label: &str) -> Oaep {
    fn with<D>(label: &str) -> Oaep
    where
        D: 'static + rsa::sha2::Digest + rsa_sha1::digest::DynDigest + Send + Sync,
    {
        if label.is_empty() {
            Oaep::new::<D>()
        } else {
            // TPM labels end in zero, and it is part of what is hashed.
            Oaep::new_with_label::<D, _>(format!("{label}\0"))
        }
    }
    match hash {
        HashAlgorithm::Sha1 => with::<rsa_sha1::Sha1>(label),
        HashAlgorithm::Sha256 => with::<rsa::sha2::Sha256>(label),
        HashAlgorithm::Sha384 => with::<rsa::sha2::Sha384>(label),
        HashAlgorithm::Sha512 => with::<rsa::sha2::Sha512>(label),
    }
}

#[test]
fn elliptic_curve_keys_sign_and_agree() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let (key, info) = generate(&mut token, algorithm);
        let PublicKey::Ec { x, y } = &info.public else {
            panic!("not EC")
        };
        let sec1 = [&[4], &x[..], &y[..]].concat();
        for length in [20, 32, 40, 48, 64] {
            let digest: Vec<u8> = (0..length).map(|byte| byte as u8 + 1).collect();
            let signature = token
                .operate(&key, PrivateOperation::SignEcdsa { digest: &digest })
                .unwrap();
            verify_ecdsa(algorithm, &sec1, &digest, &signature);
        }
        let shared = token
            .operate(&key, own_point(algorithm, &sec1).0.operation())
            .unwrap();
        assert_eq!(shared[..], own_point(algorithm, &sec1).1[..]);
    }
}

/// A fixed peer's point, and the secret that the peer computes with the card's point.
fn own_point(algorithm: KeyAlgorithm, card: &[u8]) -> (Point, Vec<u8>) {
    match algorithm {
        KeyAlgorithm::P256 => {
            let secret = p256::SecretKey::from_slice(&[1; 32]).unwrap();
            let card = p256::PublicKey::from_sec1_bytes(card).unwrap();
            let shared = p256::ecdh::diffie_hellman(secret.to_nonzero_scalar(), card.as_affine());
            (
                Point(secret.public_key().to_sec1_bytes().to_vec()),
                shared.raw_secret_bytes().to_vec(),
            )
        }
        _ => {
            let secret = p384::SecretKey::from_slice(&[1; 48]).unwrap();
            let card = p384::PublicKey::from_sec1_bytes(card).unwrap();
            let shared = p384::ecdh::diffie_hellman(secret.to_nonzero_scalar(), card.as_affine());
            (
                Point(secret.public_key().to_sec1_bytes().to_vec()),
                shared.raw_secret_bytes().to_vec(),
            )
        }
    }
}

struct Point(Vec<u8>);

impl Point {
    fn operation(&self) -> PrivateOperation<'_> {
        let (x, y) = self.0[1..].split_at((self.0.len() - 1) / 2);
        PrivateOperation::Ecdh { x, y }
    }
}

fn verify_ecdsa(algorithm: KeyAlgorithm, sec1: &[u8], digest: &[u8], signature: &[u8]) {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;
    // The verifiers want at least half the field's length; a short digest has the same value padded.
    let size = algorithm.size();
    let mut padded = vec![0; size.saturating_sub(digest.len())];
    padded.extend_from_slice(digest);
    match algorithm {
        KeyAlgorithm::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(sec1)
            .unwrap()
            .verify_prehash(
                &padded,
                &p256::ecdsa::Signature::from_slice(signature).unwrap(),
            )
            .unwrap(),
        _ => p384::ecdsa::VerifyingKey::from_sec1_bytes(sec1)
            .unwrap()
            .verify_prehash(
                &padded,
                &p384::ecdsa::Signature::from_slice(signature).unwrap(),
            )
            .unwrap(),
    }
}

#[test]
fn operation_that_does_not_fit_the_key_never_reaches_the_tpm() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let (key, _) = generate(&mut token, KeyAlgorithm::P256);
    let count = service.command_count();
    let before = count.get();
    for (operation, kind) in [
        (
            PrivateOperation::RsaRaw { block: &[0; 32] },
            TokenErrorKind::KeyUse,
        ),
        (
            PrivateOperation::SignEcdsa { digest: &[] },
            TokenErrorKind::BadData,
        ),
        (
            PrivateOperation::Ecdh {
                x: &[1; 31],
                y: &[1; 32],
            },
            TokenErrorKind::BadData,
        ),
    ] {
        assert_eq!(token.operate(&key, operation).unwrap_err().kind(), kind);
    }
    assert_eq!(count.get(), before);
}

#[test]
fn always_class_key_wants_the_pin_every_time() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let key = token
        .generate(0x82, KeyAlgorithm::P256, KeyClass::Always)
        .unwrap();
    let sign = PrivateOperation::SignEcdsa { digest: &[1; 32] };
    let refused = |token: &mut CardToken| {
        assert_eq!(
            token.operate(&key, sign).unwrap_err().kind(),
            TokenErrorKind::NotAuthenticated
        );
    };
    refused(&mut token);
    for _ in 0..2 {
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
        token.operate(&key, sign).unwrap();
        refused(&mut token);
    }
    let wrong = token.verify(PinReference::Pin, &pin(b"000000"));
    assert!(wrong.is_err());
    assert_eq!(token.status(PinReference::Pin).unwrap().left, 4);
    refused(&mut token);
}

#[test]
fn one_verification_serves_one_operation_of_all_always_class_keys_together() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make(&service, Kind::Plain);
    let mut first = token(&service, &card);
    let always: Vec<_> = [0x81, 0x82]
        .map(|reference| {
            first
                .generate(reference, KeyAlgorithm::P256, KeyClass::Always)
                .unwrap()
        })
        .into();
    let session = first
        .generate(0x83, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    drop(first);
    // A restarted daemon knows of such keys from the record alone.
    card.keys.clone_from(&always);
    let mut token = token(&service, &card);
    let sign = PrivateOperation::SignEcdsa { digest: &[1; 32] };
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    // Session-class keys go on beside it, and do not use it up.
    token.operate(&session, sign).unwrap();
    token.operate(&always[1], sign).unwrap();
    assert_eq!(
        token.operate(&always[0], sign).unwrap_err().kind(),
        TokenErrorKind::NotAuthenticated
    );
    token.operate(&session, sign).unwrap();
    // A failed use is a use.
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let off_curve = PrivateOperation::Ecdh {
        x: &[1; 32],
        y: &[1; 32],
    };
    token.operate(&always[0], off_curve).unwrap_err();
    assert_eq!(
        token.operate(&always[0], sign).unwrap_err().kind(),
        TokenErrorKind::NotAuthenticated
    );
    token.logout();
    assert_eq!(
        token.operate(&session, sign).unwrap_err().kind(),
        TokenErrorKind::NotAuthenticated
    );
}

#[test]
fn key_is_made_with_one_command_however_many_are_loaded() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let sign = PrivateOperation::SignEcdsa { digest: &[1; 32] };
    let mut keys = Vec::new();
    for reference in 0x81..0x84 {
        let before = service.command_count().get();
        let (key, _) = generate(&mut token, KeyAlgorithm::P256);
        let sent = service.command_count().get() - before;
        // At most one key gives way, and one session may be armed again before.
        assert!(sent <= 3, "key {reference:02X}: {sent} commands");
        keys.push(key);
        for key in &keys {
            token.operate(key, sign).unwrap();
        }
    }
}

#[test]
fn armed_signature_is_one_command() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let (key, _) = generate(&mut token, KeyAlgorithm::P256);
    let sign = PrivateOperation::SignEcdsa { digest: &[1; 32] };
    let count = service.command_count();
    for armed in [false, true, true, true] {
        let before = count.get();
        token.operate(&key, sign).unwrap();
        // The first use also loads the key.
        let own = if armed { 1 } else { 2 };
        // Afterwards, in idle time, the session is armed again; nothing else is sent.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while count.get() - before < own + 1 {
            assert!(
                std::time::Instant::now() < deadline,
                "the session is not armed in idle time"
            );
            std::thread::yield_now();
        }
        drop(token.describe(&key));
        assert_eq!(count.get() - before, own + 1);
    }
}
