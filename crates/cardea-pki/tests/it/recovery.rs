//! Copies of keys. The vector was opened by a TPM: it imported this copy below this recovery key.

use cardea_pki::recovery::{CopyError, KeyCopy, Point, Recovered, agree};
use cardea_pki::{Curve, PrivateKey, PublicKey};

const NAME: &str = "000b9eb3631dd42ddc8a789b6049e75443e21a5572a9b8eb1a5b3fbd4b4d63e09211";
const X: &str = "ecb6a2f86c7825ee71d022c29b9f8aa35971520ec3f9739855635765ead1bd14";
const Y: &str = "adad028bfba628ed75b72e3cbeb1ef192e60f52b3e2021497df3afb3006550df";
const PRIVATE: &str = "0020070c0e0f335b1d9c8a971c0a152b8d13932acbdaa4d9b5361cdff1ab7f16dacd\
    329b36c5ebc0bf327fba5a15f71a4e0e44e227864a359e9c7044fbf3ab76780cb3776d74f60eeeae351e6a5aae5373b1\
    9fb567b9f7e7e68646455007c7585e600ab39bd89f3fa8abde92";
const SEED: &str = "0020bd5714b9c20400411f1e51dbff63647f05d1d70b55fc200c6cad10c2f4614dc1\
    0020e5048562f731f54573c04224d973a916a59f526a8268076fc1cfa92a5f143f19";
const TARGET_X: &str = "261efbd3550cf068ef013ed7366ba32f5d6fe557b4b2abce8ade58cba168a55e";
const AGREED: &str = "4a418b195ee7fed6e737803ab53cb8750b71c09335a70b030c70921b221664b7";

fn hex(text: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text.replace(' ', "")).unwrap()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

/// ECPrivateKey of the scalar (RFC 5915), on P-256.
fn private_key(scalar: impl IntoIterator<Item = u8>) -> PrivateKey {
    let mut der = hex("30310201010420");
    der.extend(scalar);
    der.extend(hex("a00a06082a8648ce3d030107"));
    PrivateKey::parse(&der, None).unwrap()
}

struct Parts {
    name: [u8; 34],
    public: PublicKey,
    private: Vec<u8>,
    seed: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        Self {
            name: array(NAME),
            public: PublicKey::from_ec(Curve::P256, &hex(X), &hex(Y)).unwrap(),
            private: hex(PRIVATE),
            seed: hex(SEED),
        }
    }

    fn copy(&self) -> KeyCopy<'_> {
        KeyCopy {
            name: &self.name,
            public: &self.public,
            private: &self.private,
            seed: &self.seed,
        }
    }

    fn refusal(&self) -> CopyError {
        self.copy()
            .open(&array(TARGET_X), &array(AGREED))
            .unwrap_err()
    }
}

#[test]
fn copy_opens_with_the_recovery_key_and_gives_the_scalar() {
    let parts = Parts::new();
    let recovery = private_key(0x41..=0x60);
    let target = Point::of(recovery.public_key()).unwrap();
    assert_eq!(target.x, array(TARGET_X));
    let peer = parts.copy().peer().unwrap();
    let agreed = agree(&recovery, &peer).unwrap();
    assert_eq!(*agreed, array(AGREED));
    let Recovered::Ec(scalar) = parts.copy().open(&target.x, &agreed).unwrap() else {
        panic!("the key is on a curve");
    };
    assert_eq!(scalar[..], (0x81..=0xA0).collect::<Vec<u8>>());
}

#[test]
fn copy_does_not_open_with_another_recovery_key() {
    let parts = Parts::new();
    let other = private_key(0x42..=0x61);
    let target = Point::of(other.public_key()).unwrap();
    let agreed = agree(&other, &parts.copy().peer().unwrap()).unwrap();
    let refused = parts.copy().open(&target.x, &agreed);
    assert_eq!(refused.unwrap_err(), CopyError::Unopened);
}

#[test]
fn changed_copy_is_refused() {
    for bit in 0..hex(PRIVATE).len() * 8 {
        let mut parts = Parts::new();
        parts.private[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(
            parts.refusal(),
            CopyError::Malformed | CopyError::Unopened
        ));
    }
    let mut parts = Parts::new();
    parts.name[33] ^= 1;
    assert_eq!(parts.refusal(), CopyError::Unopened);
    for length in 0..parts.seed.len() {
        let mut parts = Parts::new();
        parts.seed.truncate(length);
        assert_eq!(parts.refusal(), CopyError::Malformed);
    }
    parts.seed[67] ^= 1;
    assert_eq!(parts.refusal(), CopyError::Malformed, "off the curve");
}

#[test]
fn copy_of_another_key_is_refused() {
    let mut parts = Parts::new();
    parts.public = private_key(0x42..=0x61).public_key().clone();
    assert_eq!(parts.refusal(), CopyError::AnotherKey);
}
