//! The bytes.

use proptest::prelude::*;

use super::arbitrary::{any_record, attested, full, recoverable};
use super::record;
use crate::format::{CardFileError, HostKey, MAX_FILE, decode, encode, seal};

fn key() -> HostKey {
    HostKey::new([1; 32])
}

/// A file of this host around any body of format 1.
fn sealed(body: &[u8]) -> Vec<u8> {
    seal(&key(), 1, body).unwrap()
}

fn version_of(file: &[u8]) -> u16 {
    u16::from_be_bytes([file[8], file[9]])
}

fn refusal(file: &[u8]) -> CardFileError {
    decode(&key(), file).unwrap_err()
}

#[test]
fn newer_version_is_refused_and_both_are_named() {
    let file = seal(&key(), 3, b"of another kind").unwrap();
    let error = refusal(&file);
    assert!(matches!(error, CardFileError::Newer { found: 3, known: 2 }));
    let text = error.to_string();
    assert!(
        text.contains("format 3") && text.contains("the 2 that"),
        "{text}"
    );
    let error = refusal(&seal(&key(), 0, b"").unwrap());
    assert!(matches!(error, CardFileError::UnknownVersion(0)));
}

#[test]
fn every_truncation_is_named() {
    let file = encode(&key(), &full("card")).unwrap();
    for length in 0..file.len() {
        let error = refusal(&file[..length]);
        assert!(
            matches!(error, CardFileError::Truncated),
            "{length} {error}"
        );
    }
}

#[test]
fn no_flipped_bit_is_believed() {
    let file = encode(&key(), &record("card")).unwrap();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(decode(&key(), &flipped), Ok(decoded) if decoded.trusted));
    }
    let other = HostKey::new([2; 32]);
    assert!(!decode(&other, &file).unwrap().trusted);
    assert!(decode(&key(), &file).unwrap().trusted);
}

#[test]
fn wrong_lengths_are_named() {
    let file = encode(&key(), &record("card")).unwrap();
    let longer = [&file[..], &[0]].concat();
    assert!(matches!(refusal(&longer), CardFileError::TrailingBytes));
    let mut shorter_body = file.clone();
    shorter_body[13] -= 1;
    assert!(matches!(
        refusal(&shorter_body),
        CardFileError::TrailingBytes
    ));
    let mut longer_body = file.clone();
    longer_body[10] = 0xFF;
    assert!(matches!(refusal(&longer_body), CardFileError::Truncated));
    assert!(matches!(refusal(b"%PDF-1.7"), CardFileError::NotACardFile));
    assert!(matches!(
        refusal(&vec![0; MAX_FILE + 1]),
        CardFileError::TooLarge
    ));
    assert!(matches!(refusal(&sealed(b"")), CardFileError::Damaged(_)));
}

#[test]
fn body_in_other_bytes_is_refused_although_this_host_wrote_it() {
    let body = minicbor::to_vec(record("card")).unwrap();
    assert!(decode(&key(), &sealed(&body)).unwrap().trusted);
    assert_eq!(body[0], 0xAA, "a map of ten");
    let unknown = [&[0xAB], &body[1..], &[0x18, 0x63, 0x00]].concat();
    let twice = [&[0xAB], &body[1..], &[0x09, 0x00]].concat();
    let endless = [&[0xBF], &body[1..], &[0xFF]].concat();
    let more = [&body[..], &[0x00]].concat();
    for other in [unknown, twice, endless, more] {
        assert!(matches!(
            refusal(&sealed(&other)),
            CardFileError::NotCanonical
        ));
    }
}

/// What a later version writes into the fields that format 2 reserves.
#[test]
fn fields_that_are_not_known_yet_are_a_newer_versions_if_this_host_wrote_them() {
    let record = recoverable("card");
    let body = minicbor::to_vec(&record).unwrap();
    assert_eq!(body[0], 0xAB, "a map of eleven");
    let reserved = [&[0xAC], &body[1..], &[0x0C, 0x01]].concat();
    let file = seal(&key(), 2, &reserved).unwrap();
    let error = refusal(&file);
    assert!(matches!(error, CardFileError::NewerContent), "{error}");
    let elsewhere = decode(&HostKey::new([2; 32]), &file).unwrap_err();
    assert!(matches!(elsewhere, CardFileError::NotCanonical));
    let cut = decode(&key(), &file[..file.len() - 1]).unwrap_err();
    assert!(matches!(cut, CardFileError::Truncated));
}

/// An older version of the program still opens what needs nothing new.
#[test]
fn record_is_written_in_the_first_format_that_can_hold_it() {
    let plain = full("card");
    let mut with_targets = recoverable("card");
    assert_eq!(version_of(&encode(&key(), &plain).unwrap()), 1);
    assert_eq!(version_of(&encode(&key(), &with_targets).unwrap()), 2);
    for (record, other) in [(&plain, 2), (&with_targets, 1)] {
        let body = minicbor::to_vec(record).unwrap();
        let decoded = decode(&HostKey::new([2; 32]), &seal(&key(), other, &body).unwrap());
        assert!(matches!(decoded, Err(CardFileError::NotCanonical)));
    }
    with_targets.keys.clear();
    assert_eq!(version_of(&encode(&key(), &with_targets).unwrap()), 1);
    let mut attested = attested("card");
    for version in [2, 2, 1] {
        assert_eq!(version_of(&encode(&key(), &attested).unwrap()), version);
        if attested.tpm.sealed_policies.take().is_none() {
            attested.tpm.attestation_chain = None;
        }
    }
}

#[test]
fn record_out_of_bounds_is_refused_although_this_host_wrote_it() {
    let mut wrong = record("card");
    wrong.tpm.indices[0].handle = 0x01C0_0002;
    let body = minicbor::to_vec(&wrong).unwrap();
    assert!(matches!(refusal(&sealed(&body)), CardFileError::Fault(_)));
    let unwritten = encode(&key(), &wrong).unwrap_err();
    assert!(matches!(unwritten, CardFileError::Fault(_)));
}

#[test]
fn record_larger_than_any_file_is_not_written() {
    let mut large = full("card");
    let object = large.gids.files[0].objects[0].clone();
    large.gids.files[0].objects = (0..512)
        .map(|tag| cardea_card::record::DataObject {
            tag,
            value: vec![0; 16 * 1024],
        })
        .collect();
    assert!(matches!(
        encode(&key(), &large),
        Err(CardFileError::TooLarge)
    ));
    large.gids.files[0].objects = vec![object];
    encode(&key(), &large).unwrap();
}

/// Old state: what a released version wrote is read, and this version writes no other bytes.
#[test]
fn files_of_version_1_are_read_and_still_written_like_that() {
    let key = HostKey::new([0x42; 32]);
    let files: [(&[u8], _); 2] = [
        (
            include_bytes!("../../tests/old/v1/card.card"),
            record("a card of version 1"),
        ),
        (
            include_bytes!("../../tests/old/v1/full.card"),
            full("a full card of version 1"),
        ),
    ];
    for (file, record) in files {
        let decoded = decode(&key, file).unwrap();
        assert!(decoded.trusted);
        assert_eq!(decoded.record, record);
        assert_eq!(encode(&key, &record).unwrap(), file);
    }
}

#[test]
fn files_of_version_2_are_read_and_still_written_like_that() {
    let key = HostKey::new([0x42; 32]);
    let files: [(&[u8], _); 2] = [
        (
            include_bytes!("../../tests/old/v2/full.card"),
            recoverable("a full card of version 2"),
        ),
        (
            include_bytes!("../../tests/old/v2/attested.card"),
            attested("an attested card of version 2"),
        ),
    ];
    for (file, record) in files {
        let decoded = decode(&key, file).unwrap();
        assert!(decoded.trusted);
        assert_eq!(decoded.record, record);
        assert_eq!(encode(&key, &record).unwrap(), file);
    }
}

#[test]
fn host_key_is_not_printed() {
    assert_eq!(format!("{:?}", key()), "HostKey(32 bytes)");
}

proptest! {
    #[test]
    fn decoding_gives_what_was_encoded_and_the_same_bytes(given in any_record()) {
        let file = encode(&key(), &given).unwrap();
        let decoded = decode(&key(), &file).unwrap();
        prop_assert!(decoded.trusted);
        prop_assert_eq!(encode(&key(), &decoded.record).unwrap(), file);
        prop_assert_eq!(decoded.record, given);
    }

    #[test]
    fn arbitrary_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(&key(), &bytes).is_err());
        prop_assert!(decode(&key(), &sealed(&bytes)).is_err());
    }

    /// Nearly right bodies, past the HMAC: an error, or a record that is written the same way.
    #[test]
    fn changed_body_never_panics_and_never_loses_anything(
        given in any_record(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let version = version_of(&encode(&key(), &given).unwrap());
        let mut body = minicbor::to_vec(&given).unwrap();
        for (position, byte) in changes {
            let position = position.index(body.len());
            body[position] = byte;
        }
        let file = seal(&key(), version, &body).unwrap();
        if let Ok(decoded) = decode(&key(), &file) {
            prop_assert_eq!(encode(&key(), &decoded.record).unwrap(), file);
        }
    }
}
