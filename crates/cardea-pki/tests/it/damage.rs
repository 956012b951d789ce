//! Damaged files are errors, never panics.

use cardea_pki::{Certificate, Name, Pkcs12, PrivateKey, PublicKey};
use proptest::prelude::*;

use crate::support::{PASSPHRASE, data, path};

/// All fixtures, without what may follow PEM.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            [".pem", ".der", ".p12"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .map(|name| {
            let mut bytes = data(&name);
            if name.ends_with(".pem") {
                bytes.truncate(bytes.trim_ascii_end().len());
            }
            (name, bytes)
        })
        .collect();
    found.sort();
    assert!(found.len() > 60);
    found
}

/// Whether any of the parsers takes the bytes.
fn is_taken(bytes: &[u8]) -> bool {
    [
        PrivateKey::parse(bytes, PASSPHRASE).is_ok(),
        Pkcs12::parse(bytes, PASSPHRASE).is_ok(),
        Certificate::parse(bytes).is_ok(),
        PublicKey::parse(bytes).is_ok(),
    ]
    .contains(&true)
}

#[test]
fn every_truncation_of_every_fixture_is_an_error() {
    for (name, bytes) in fixtures() {
        for len in 0..bytes.len() {
            assert!(!is_taken(&bytes[..len]), "{name} at {len}");
        }
    }
}

#[test]
fn bytes_behind_der_are_an_error() {
    for (name, mut bytes) in fixtures() {
        if name.ends_with(".pem") {
            continue;
        }
        bytes.push(0);
        // Zeros behind a certificate come from programs that read it out of a file of fixed size on another card.
        assert_eq!(is_taken(&bytes), name.ends_with(".cert.der"), "{name}");
        bytes.push(1);
        assert!(!is_taken(&bytes), "{name}");
    }
}

#[test]
fn flipped_bits_do_not_panic() {
    for (name, bytes) in fixtures() {
        // Those have half a million iterations; the others reach the same code.
        if name.starts_with("nss") || name.contains("-default") {
            continue;
        }
        // What PEM adds to DER is little.
        let step = if name.ends_with(".pem") { 5 } else { 1 };
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            // Each bit has its turn.
            damaged[at] ^= 1 << (at / step % 8);
            is_taken(&damaged);
        }
    }
}

#[test]
fn flipped_bits_in_authenticated_files_are_errors() {
    for name in ["modern.p12", "legacy.p12", "plain.p12"] {
        let bytes = data(name);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(
                Pkcs12::parse(&damaged, PASSPHRASE).is_err(),
                "{name} at {at}"
            );
        }
    }
}

#[test]
fn files_that_ask_for_too_much_work_are_refused() {
    // The count of iterations: 3.
    let file = data("p256.aes256.der");
    let at = file
        .windows(3)
        .position(|window| window == [2, 1, 3])
        .unwrap();
    let prefix = |len: usize| u8::try_from(len).unwrap();
    // Three bytes more, in each of the structures around it.
    let mut huge = [
        &file[..at],
        &[2, 4, 0x7f, 0xff, 0xff, 0xff],
        &file[at + 3..],
    ]
    .concat();
    let mut raised = 0;
    for outer in 0..at {
        let (len_at, value_at) = match huge[outer..outer + 3] {
            [0x30, 0x81, _] => (outer + 2, outer + 3),
            [0x30, len, _] if len < 0x80 => (outer + 1, outer + 2),
            _ => continue,
        };
        let len = usize::from(huge[len_at]);
        if value_at + len > at && value_at <= at && value_at + len <= file.len() {
            huge[len_at] = prefix(len + 3);
            raised += 1;
        }
    }
    assert_eq!(raised, 5, "outermost, algorithm, PBES2, KDF, PBKDF2");
    let error = PrivateKey::parse(&huge, PASSPHRASE).unwrap_err();
    assert!(
        error.to_string().contains("iterations of 2147483647"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn random_bytes_are_not_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!is_taken(&bytes));
    }

    #[test]
    fn random_elements_do_not_panic(bytes in proptest::collection::vec(
        prop_oneof![Just(0x30), Just(0x31), Just(0x02), Just(0x04), Just(0xa0), Just(0x80), Just(0x00), 0_u8..12],
        0..200,
    )) {
        is_taken(&bytes);
    }

    #[test]
    fn names_come_back(values in proptest::collection::vec("\\PC{1,20}", 1..4)) {
        let slashed: String = values
            .iter()
            .map(|value| format!("/OU={}", value.chars().flat_map(|c| ['\\', c]).collect::<String>()))
            .collect();
        let name: Name = slashed.parse().unwrap();
        prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
    }

    #[test]
    fn any_text_as_a_name_does_not_panic(text in ".*") {
        if let Ok(name) = text.parse::<Name>() {
            prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
    }
}
