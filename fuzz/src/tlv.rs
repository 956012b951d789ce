//! BER-TLV data objects.

use cardea_iso7816::tlv::{self, Reader, TlvError};

use crate::Target;

/// Any bytes as data objects.
pub const TARGET: Target = Target {
    name: "tlv",
    run,
    seeds,
    words: &[
        b"\x7F\x49\x80",
        b"\x7F\x49\x82\x01\x09",
        b"\x70\x82",
        b"\xA5\x83\x00\x00",
        b"\xDF\x1F",
        b"\x84\x01\x81",
        b"\x81\x81\x80",
    ],
};

/// Deeper templates than a client ever sends.
const DEPTH: usize = 32;

fn run(input: &[u8]) {
    walk(input, DEPTH);
    match tlv::split_tag(input) {
        Ok((tag, rest)) => {
            assert!(tlv::is_tag(tag));
            let mut written = Vec::new();
            tlv::write_tag(&mut written, tag);
            written.extend_from_slice(rest);
            assert_eq!(written, input, "bytes in are bytes out");
        }
        Err(error) => assert_ne!(error, TlvError::TrailingData),
    }
    if let Ok(tag) = tlv::parse_tag(input) {
        assert_eq!(tlv::split_tag(input), Ok((tag, [].as_slice())));
    }
}

fn walk(data: &[u8], depth: usize) {
    let mut reader = Reader::new(data);
    let mut count = 0;
    while let Some(object) = reader.next() {
        let Ok(object) = object else {
            assert_eq!(reader.next(), None, "the reader ends after an error");
            assert!(tlv::parse_single(data).is_err());
            return;
        };
        count += 1;
        let mut written = Vec::new();
        tlv::write(&mut written, object.tag, object.value);
        assert_eq!(tlv::parse_single(&written), Ok(object));
        assert_eq!(
            tlv::build(object.tag, |out| out.extend_from_slice(object.value)),
            written
        );
        if depth > 0 {
            walk(object.value, depth - 1);
        }
    }
    assert_eq!(tlv::parse_single(data).is_ok(), count == 1);
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"\x70\x08\x84\x01\x81\xA5\x03\x7F\x49\x80".to_vec(),
        b"\x61\x12\x4F\x0B\xA0\x00\x00\x03\x97\x42\x54\x46\x59\x02\x01\x73\x03\x40\x01\xC0"
            .to_vec(),
        b"\x62\x08\x82\x01\x38\x8C\x03\x03\x30\x30".to_vec(),
        b"\x64\x09\x5F\x2F\x01\x60\x7F\x65\x02\x80\x00".to_vec(),
        tlv::build(0x7F49, |out| {
            tlv::write(out, 0x81, &[0xC1; 256]);
            tlv::write(out, 0x82, &[1, 0, 1]);
        }),
        b"\x7F\x81\x01\x00".to_vec(),
        b"\x87\x83\x00\x00\x01\xAA".to_vec(),
    ]
}
