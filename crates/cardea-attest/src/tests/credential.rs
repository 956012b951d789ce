//! Credentials: a worked example that a TPM confirmed, and the other half of the protocol in software.

use cardea_pki::{Curve, PublicKey};
use hmac::{Hmac, KeyInit, Mac};
use p256::elliptic_curve::sec1::ToSec1Point;
use rsa::Oaep;
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256, Sha384};

use super::maker::SoftKey;
use super::{Random, hex};
use crate::endorsement::NameDigest;
use crate::wire::{Wire, put_sized};
use crate::{Code, EndorsementKey, Name, make_credential};

/// The policy of the endorsement keys of low range, and of those with SHA-384.
pub(super) const POLICY_A: &str =
    "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
pub(super) const POLICY_B: &str = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";

/// TPMT_PUBLIC of an endorsement key.
pub(super) fn endorsement_public(key: &PublicKey, attributes: u32, digest: NameDigest) -> Vec<u8> {
    let (name_alg, aes_bits, policy) = match digest {
        NameDigest::Sha256 => (0x0Bu8, 128u16, POLICY_A),
        NameDigest::Sha384 => (0x0C, 256, POLICY_B),
    };
    let kind = match key {
        PublicKey::Ec(_) => 0x23,
        PublicKey::Rsa(_) => 0x01,
    };
    let mut area = vec![0, kind, 0, name_alg];
    area.extend_from_slice(&attributes.to_be_bytes());
    put_sized(&mut area, &hex(policy));
    area.extend_from_slice(&[0, 0x06]);
    area.extend_from_slice(&aes_bits.to_be_bytes());
    area.extend_from_slice(&[0, 0x43, 0, 0x10]);
    match key {
        PublicKey::Ec(key) => {
            let curve = match key.curve() {
                Curve::P256 => 3,
                Curve::P384 => 4,
            };
            area.extend_from_slice(&[0, curve, 0, 0x10]);
            put_sized(&mut area, key.x());
            put_sized(&mut area, key.y());
        }
        PublicKey::Rsa(key) => {
            let bits = u16::try_from(key.n().len() * 8).unwrap();
            area.extend_from_slice(&bits.to_be_bytes());
            area.extend_from_slice(&[0; 4]);
            put_sized(&mut area, key.n());
        }
    }
    area
}

fn endorsement_key(key: &PublicKey, digest: NameDigest) -> EndorsementKey {
    EndorsementKey::parse(&endorsement_public(key, 0x0003_00B2, digest)).unwrap()
}

const OBJECT: &str = "000b5a015d9ec9e96dedaeab41bd3e6dc6687a74ee99d0cd209d9f88761e53dd42b7";

#[test]
fn credential_is_the_one_of_the_worked_example() {
    let scalar: Vec<u8> = (0x21..=0x40).collect();
    let point = p256::SecretKey::from_slice(&scalar).unwrap().public_key();
    let point = point.to_sec1_point(false);
    let key = PublicKey::from_ec_point(Curve::P256, point.as_bytes()).unwrap();
    let key = endorsement_key(&key, NameDigest::Sha256);
    let object: Name = hex(OBJECT).try_into().unwrap();
    let secret: Vec<u8> = (0x61..=0x80).collect();
    let mut ephemeral = |buffer: &mut [u8]| {
        for (byte, value) in buffer.iter_mut().zip(0x41..) {
            *byte = value;
        }
    };
    let credential = make_credential(&key, &object, &secret, &mut ephemeral).unwrap();
    assert_eq!(
        credential.blob,
        hex(
            "002009c7e51f9c35a54f6eaf278fccf28cc0c04b6984766471b20b14baf8f8ca5ff15e632efc2f3c195da8e97638f86febaa0ae3277320461cb1b91cc73f93ac454ccdb0"
        )
    );
    assert_eq!(
        credential.seed,
        hex(
            "0020261efbd3550cf068ef013ed7366ba32f5d6fe557b4b2abce8ade58cba168a55e00201788a0b29a56a6abec4084c0c96bd3dcbca6b507f35dbea9e985708479d8bdc9"
        )
    );
    assert!(make_credential(&key, &object, &[1; 33], &mut ephemeral).is_none());
    let mut broken = |buffer: &mut [u8]| buffer.fill(0);
    assert!(make_credential(&key, &object, &secret, &mut broken).is_none());
}

/// What a TPM does: checks the integrity value and decrypts. With other code than the maker's.
fn open(digest: NameDigest, seed: &[u8], object: &Name, blob: &[u8]) -> Option<Vec<u8>> {
    let block = |key: &[u8], label: &str, context: &[u8], bits: u32| -> Vec<u8> {
        let message = [
            &[0, 0, 0, 1],
            label.as_bytes(),
            &[0],
            context,
            &bits.to_be_bytes(),
        ]
        .concat();
        mac(digest, key, &message)
    };
    let mut wire = Wire::new(blob);
    let integrity = wire.sized()?;
    let mut identity = blob[2 + integrity.len()..].to_vec();
    let (bits, aes_bits) = match digest {
        NameDigest::Sha256 => (256, 128),
        NameDigest::Sha384 => (384, 256),
    };
    let mac_key = block(seed, "INTEGRITY", &[], bits);
    if mac(digest, &mac_key, &[&identity[..], object].concat()) != integrity {
        return None;
    }
    let mut key = block(seed, "STORAGE", object, aes_bits);
    key.truncate(usize::try_from(aes_bits / 8).unwrap());
    // CFB by hand: each block of the key stream is the encryption of the block of cipher text before.
    let mut last = [0u8; 16];
    for chunk in identity.chunks_mut(16) {
        let stream = encrypt_block(&key, last);
        last[..chunk.len()].copy_from_slice(chunk);
        for (byte, mask) in chunk.iter_mut().zip(stream) {
            *byte ^= mask;
        }
    }
    let mut wire = Wire::new(&identity);
    let secret = wire.sized()?.to_vec();
    wire.is_empty().then_some(secret)
}

fn mac(digest: NameDigest, key: &[u8], message: &[u8]) -> Vec<u8> {
    match digest {
        NameDigest::Sha256 => {
            let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
        NameDigest::Sha384 => {
            let mac = Hmac::<Sha384>::new_from_slice(key).unwrap();
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
    }
}

fn encrypt_block(key: &[u8], block: [u8; 16]) -> [u8; 16] {
    use cfb_mode::cipher::{BlockCipherEncrypt, KeyInit};
    let mut block = block.into();
    if key.len() == 16 {
        aes::Aes128::new_from_slice(key)
            .unwrap()
            .encrypt_block(&mut block);
    } else {
        aes::Aes256::new_from_slice(key)
            .unwrap()
            .encrypt_block(&mut block);
    }
    block.into()
}

/// The seed that an endorsement key on P-256 agrees on.
fn p256_seed(key: &SoftKey, told: &[u8]) -> Vec<u8> {
    let mut wire = Wire::new(told);
    let (x, y) = (wire.sized().unwrap(), wire.sized().unwrap());
    let peer = p256::PublicKey::from_sec1_bytes(&[&[4], x, y].concat()).unwrap();
    let own = p256::SecretKey::from_slice(&[key.0; 32]).unwrap();
    let shared = p256::ecdh::diffie_hellman(own.to_nonzero_scalar(), peer.as_affine());
    let parts = [
        &[0, 0, 0, 1],
        &shared.raw_secret_bytes()[..],
        b"IDENTITY\0",
        x,
        &key.point().0,
    ];
    Sha256::digest(parts.concat()).to_vec()
}

/// What the TPM of an endorsement key on P-256 returns for a credential.
pub(super) fn activate(key: &SoftKey, object: &Name, blob: &[u8], seed: &[u8]) -> Option<Vec<u8>> {
    open(NameDigest::Sha256, &p256_seed(key, seed), object, blob)
}

#[test]
fn every_kind_of_endorsement_key_opens_its_credential_and_no_other() {
    let object: Name = hex(OBJECT).try_into().unwrap();
    let mut other = object;
    other[20] ^= 1;
    let secret: Vec<u8> = (0..32).rev().collect();
    let mut random = Random(3);

    // P-256 with the SHA-256 of its templates.
    let key = endorsement_key(&SoftKey(60).pki(), NameDigest::Sha256);
    let made = make_credential(&key, &object, &secret, &mut |buffer| random.fill(buffer)).unwrap();
    assert_eq!((made.blob.len(), made.seed.len()), (68, 68));
    let seed = p256_seed(&SoftKey(60), &made.seed);
    check_open(
        NameDigest::Sha256,
        &seed,
        &object,
        &other,
        &made.blob,
        &secret,
    );

    // P-384 with SHA-384 and AES-256.
    let own = p384::SecretKey::from_slice(&[61; 48]).unwrap();
    let point = own.public_key().to_sec1_point(false);
    let public = PublicKey::from_ec_point(Curve::P384, point.as_bytes()).unwrap();
    let key = endorsement_key(&public, NameDigest::Sha384);
    let made = make_credential(&key, &object, &secret, &mut |buffer| random.fill(buffer)).unwrap();
    assert_eq!((made.blob.len(), made.seed.len()), (84, 100));
    let mut wire = Wire::new(&made.seed);
    let (x, y) = (wire.sized().unwrap(), wire.sized().unwrap());
    let peer = p384::PublicKey::from_sec1_bytes(&[&[4], x, y].concat()).unwrap();
    let shared = p384::ecdh::diffie_hellman(own.to_nonzero_scalar(), peer.as_affine());
    let own_x = &point.as_bytes()[1..49];
    let seed = Sha384::digest(
        [
            &[0, 0, 0, 1],
            &shared.raw_secret_bytes()[..],
            b"IDENTITY\0",
            x,
            own_x,
        ]
        .concat(),
    );
    check_open(
        NameDigest::Sha384,
        &seed,
        &object,
        &other,
        &made.blob,
        &secret,
    );
}

#[test]
fn rsa_endorsement_key_opens_its_credential() {
    let object: Name = hex(OBJECT).try_into().unwrap();
    let mut other = object;
    other[20] ^= 1;
    let secret = [0x5A; 32];
    let mut random = Random(4);
    let private = super::endorsement::rsa_key();
    let n = private.n_bytes();
    let public = PublicKey::from_rsa(&n, &[1, 0, 1]).unwrap();
    let key = endorsement_key(&public, NameDigest::Sha256);
    let made = make_credential(&key, &object, &secret, &mut |buffer| random.fill(buffer)).unwrap();
    assert_eq!((made.blob.len(), made.seed.len()), (68, 256));
    let padding = Oaep::<Sha256>::new_with_label(*b"IDENTITY\0");
    let seed = private.decrypt(padding, &made.seed).unwrap();
    check_open(
        NameDigest::Sha256,
        &seed,
        &object,
        &other,
        &made.blob,
        &secret,
    );
}

fn check_open(
    digest: NameDigest,
    seed: &[u8],
    object: &Name,
    other: &Name,
    blob: &[u8],
    secret: &[u8],
) {
    assert_eq!(open(digest, seed, object, blob).as_deref(), Some(secret));
    assert_eq!(open(digest, seed, other, blob), None);
    let mut changed = blob.to_vec();
    changed[40] ^= 1;
    assert_eq!(open(digest, seed, object, &changed), None);
}

#[test]
fn public_areas_that_are_no_endorsement_keys_are_refused() {
    let key = SoftKey(60).pki();
    let good = endorsement_public(&key, 0x0003_00B2, NameDigest::Sha256);
    assert!(EndorsementKey::parse(&good).is_ok());
    // userWithAuth, as in the high range.
    let high = endorsement_public(&key, 0x0003_00F2, NameDigest::Sha256);
    assert!(EndorsementKey::parse(&high).is_ok());
    let code = |public: &[u8]| EndorsementKey::parse(public).unwrap_err().code;
    for length in 0..good.len() {
        assert_eq!(code(&good[..length]), Code::EkForm);
    }
    assert_eq!(code(&[&good[..], &[0]].concat()), Code::EkForm);
    // Without fixedTPM, without restricted, with sign.
    for attributes in [0x0003_00B0, 0x0002_00B2, 0x0007_00B2] {
        let public = endorsement_public(&key, attributes, NameDigest::Sha256);
        assert_eq!(code(&public), Code::EkAttributes, "{attributes:08x}");
    }
    // AES-128-CFB at 42 to 48: another mode, other bits; SHA-512 at 3; a point off the curve.
    for (at, value) in [
        (47, 0x44),
        (45, 0x81),
        (3, 0x0D),
        (good.len() - 1, good[good.len() - 1] ^ 1),
    ] {
        let mut public = good.clone();
        public[at] = value;
        assert_eq!(code(&public), Code::EkAlgorithm, "{at}");
    }
}
