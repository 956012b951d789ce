//! Bundles that are damaged: cut, changed, grown, and bytes that never were one.

use super::Random;
use super::maker::{Expected, Maker};
use crate::{Bundle, Code, MAX_BUNDLE, certificates_in_nv};

#[test]
fn bundle_that_is_cut_at_any_byte_is_refused() {
    let bytes = Maker::default().bytes();
    for length in 0..bytes.len() {
        let refusal = Bundle::decode(&bytes[..length]).unwrap_err();
        assert_eq!(refusal.code, Code::BundleForm, "{length}");
    }
}

#[test]
fn sixteen_megabytes_are_refused_by_their_size() {
    for byte in [0x00, 0x9F, 0xBB, 0xFF] {
        let refusal = Bundle::decode(&vec![byte; 16 << 20]).unwrap_err();
        assert_eq!(refusal.code, Code::BundleSize);
    }
    let refusal = Bundle::decode(&vec![0xBB; MAX_BUNDLE]).unwrap_err();
    assert_eq!(refusal.code, Code::BundleForm);
}

#[test]
fn keys_that_are_not_known_or_come_twice_or_out_of_order_are_refused() {
    let bytes = Maker::default().bytes();
    // The map of a bundle with ten entries: key 0 and its text, key 1 and the nonce.
    assert_eq!(bytes[..3], [0xAA, 0x00, 0x71]);
    let (version, nonce) = (&bytes[1..20], &bytes[20..55]);
    assert_eq!(nonce[..3], [0x01, 0x58, 32]);
    let build = |parts: &[&[u8]]| {
        let bytes = parts.concat();
        Bundle::decode(&bytes).map_err(|refusal| refusal.code)
    };
    let rest = &bytes[55..];
    assert!(build(&[&[0xAA], version, nonce, rest]).is_ok());
    let refused = Err(Code::BundleForm);
    // One more, unknown, at the end.
    assert_eq!(build(&[&[0xAB], version, nonce, rest, &[11, 0]]), refused);
    assert_eq!(build(&[&[0xAB], version, nonce, rest, &[0x20, 0]]), refused);
    assert_eq!(build(&[&[0xAB], version, nonce, nonce, rest]), refused);
    assert_eq!(build(&[&[0xAA], nonce, version, rest]), refused);
    assert_eq!(build(&[&[0xA9], version, rest]), refused);
    // Of indefinite length.
    assert_eq!(build(&[&[0xBF], version, nonce, rest, &[0xFF]]), refused);
    // A number, a length and a count that could be shorter; a tag.
    assert_eq!(
        build(&[&[0xAA, 0x18, 0], &version[1..], nonce, rest]),
        refused
    );
    assert_eq!(
        build(&[&[0xAA, 0, 0x78, 17], &version[2..], nonce, rest]),
        refused
    );
    assert_eq!(build(&[&[0xB8, 10], version, nonce, rest]), refused);
    assert_eq!(
        build(&[&[0xD9, 0xD9, 0xF7, 0xAA], version, nonce, rest]),
        refused
    );
    // The beginning of a map that claims everything.
    assert_eq!(build(&[&[0xBB], &[0xFF; 8], version, nonce, rest]), refused);
}

#[test]
fn version_to_come_is_named_whatever_is_behind_it() {
    let mut bytes = vec![0xA2, 0x00, 0x71];
    bytes.extend_from_slice(b"cardea-evidence-2");
    bytes.extend_from_slice(&[0x18, 99, 0xF6]);
    assert_eq!(
        Bundle::decode(&bytes).unwrap_err().code,
        Code::BundleVersion
    );
}

#[test]
fn bundle_with_any_change_is_refused() {
    let good = Maker::default().bytes();
    let expected = Expected::default();
    assert!(expected.verify(&good).is_ok());
    let mut random = Random(18);
    for round in 0..500 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next().to_be_bytes()[0],
                2 => drop(bytes.drain(at..bytes.len().min(at + 1 + random.below(40)))),
                _ => {
                    let copied = bytes[at..bytes.len().min(at + 1 + random.below(40))].to_vec();
                    let to = random.below(bytes.len());
                    drop(bytes.splice(to..to, copied));
                }
            }
        }
        let result = expected.verify(&bytes);
        assert!(result.is_err() || bytes == good, "{round}: {result:?}");
    }
}

#[test]
fn each_bit_of_a_bundle_counts() {
    // One bit of each seventh byte: what is signed, the signatures, the structure.
    let good = Maker::default().bytes();
    let expected = Expected::default();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(expected.verify(&bytes).is_err(), "{at}");
    }
}

#[test]
fn random_bytes_are_refused_without_a_panic() {
    let mut random = Random(1);
    let (good, expected) = (Maker::default().bytes(), Expected::default());
    for _ in 0..1000 {
        let mut bytes = vec![0; random.below(300)];
        random.fill(&mut bytes);
        // Many begin like a bundle.
        if random.below(2) == 0 {
            let kept = random.below(good.len());
            bytes.splice(0..0, good[..kept].iter().copied());
        }
        assert!(expected.verify(&bytes).is_err());
        assert!(certificates_in_nv(&bytes).is_err());
    }
}
