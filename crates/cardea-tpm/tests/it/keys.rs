//! Every algorithm and operation, checked with other implementations.

use cardea_card::record::KeyRecord;
use cardea_card::secret::PrivateKey;
use cardea_card::token::{
    HashAlgorithm, KeyAlgorithm, KeyClass, KeyInfo, KeyOrigin, KeyStore, PinReference,
    PrivateOperation, PublicKey, TokenErrorKind,
};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::CardToken;
use rsa::traits::SignatureScheme as _;
use rsa::{BoxedUint, Oaep, Pkcs1v15Encrypt, Pkcs1v15Sign, Pss};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::support::{Kind, PIN, Swtpm, make, pin, token};

fn rsa_key(info: &KeyInfo) -> rsa::PublicKey {
    let PublicKey::Rsa { modulus, exponent } = &info.public else {
        panic!("not RSA")
    };
    let modulus = BoxedUint::from_be_slice_vartime(modulus);
    rsa::PublicKey::new(modulus, BoxedUint::from(*exponent)).unwrap()
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
            verify_pkcs1(&public, hash, digest, &pkcs1);
            let pss = token
                .operate(&key, PrivateOperation::SignPss { hash, digest })
                .unwrap();
            verify_pss(&public, hash, digest, &pss);
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

        let mut rng = getrandom::SysRng;
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
                let cryptogram = encrypt_oaep(&public, hash, label);
                let operation = PrivateOperation::DecryptOaep {
                    hash,
                    label: label.as_bytes(),
                    cryptogram: &cryptogram,
                };
                assert_eq!(token.operate(&key, operation).unwrap()[..], *b"secret");
            }
        }
        let cryptogram = encrypt_oaep(&public, HashAlgorithm::Sha256, "other");
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

/// Evaluates an expression with the type of a hash.
macro_rules! with_hash {
    ($hash:expr, $digest:ident => $work:expr) => {
        match $hash {
            HashAlgorithm::Sha1 => {
                type $digest = Sha1;
                $work
            }
            HashAlgorithm::Sha256 => {
                type $digest = Sha256;
                $work
            }
            HashAlgorithm::Sha384 => {
                type $digest = Sha384;
                $work
            }
            HashAlgorithm::Sha512 => {
                type $digest = Sha512;
                $work
            }
        }
    };
}

fn verify_pkcs1(public: &rsa::PublicKey, hash: HashAlgorithm, digest: &[u8], signature: &[u8]) {
    let scheme = with_hash!(hash, D => Pkcs1v15Sign::new::<D>());
    public.verify(scheme, digest, signature).unwrap();
}

/// With a salt as long as the digest.
fn verify_pss(public: &rsa::PublicKey, hash: HashAlgorithm, digest: &[u8], signature: &[u8]) {
    with_hash!(hash, D => {
        let scheme = Pss::<D>::new_with_salt(<D as Digest>::output_size());
        public.verify(scheme, digest, signature).unwrap();
    });
}

fn encrypt_oaep(public: &rsa::PublicKey, hash: HashAlgorithm, label: &str) -> Vec<u8> {
    // TPM labels end in zero, and it is part of what is hashed.
    let label = match label {
        "" => Vec::new(),
        label => format!("{label}\0").into_bytes(),
    };
    with_hash!(hash, D => {
        let padding = Oaep::<D>::new_with_label(label);
        public.encrypt(&mut getrandom::SysRng, padding, b"secret").unwrap()
    })
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

/// Others could compute its private part (CVE-2017-15361), so it is refused before the TPM gets it.
#[test]
fn weak_rsa_key_is_not_imported() {
    let number = |digits: &str| base16ct::lower::decode_vec(digits.replace('\n', "")).unwrap();
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let key = PrivateKey::Rsa {
        algorithm: KeyAlgorithm::Rsa2048,
        modulus: number(include_str!("../weak_rsa/modulus.hex")),
        prime: Zeroizing::new(number(include_str!("../weak_rsa/prime.hex"))),
    };
    let imported = token(&service, &card).import(0x81, &key, KeyClass::Session);
    assert_eq!(imported.unwrap_err().kind(), TokenErrorKind::WeakKey);
}
