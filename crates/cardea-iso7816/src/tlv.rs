//! BER-TLV data objects (ISO 7816-4 §5.2.2): tags of one to three bytes, definite lengths.
//!
//! Lengths may have up to three octets after the first and need not be minimal: clients are sloppy.
//! Indefinite length does not exist here; an entry like `7F 49 80` of an extended header list is read with
//! [`split_tag`], whose caller looks at the length octet itself.

use thiserror::Error;

/// Most bytes of a tag.
const MAX_TAG_BYTES: usize = 3;

/// Most length octets after the first.
const MAX_LENGTH_OCTETS: u8 = 3;

/// A data object: its tag, big-endian, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The one to three bytes of the tag, the first in the highest place: `0x84`, `0x7F49`.
    pub tag: u32,
    /// The value field.
    pub value: &'a [u8],
}

/// Why bytes are not data objects.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlvError {
    /// The bytes end within a data object.
    #[error("the data ends within a data object")]
    Truncated,
    /// More bytes follow the data object.
    #[error("bytes follow the data object")]
    TrailingData,
    /// A tag or length that is not understood: more than three bytes, or indefinite.
    #[error("a tag or length is not understood")]
    Malformed,
}

/// The data objects of a template, one after the other. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the concatenated data objects of `data`.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Tlv<'a>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (object, rest) = match split_object(self.rest) {
            Ok((object, rest)) => (Ok(object), rest),
            Err(error) => (Err(error), Default::default()),
        };
        self.rest = rest;
        Some(object)
    }
}

impl std::iter::FusedIterator for Reader<'_> {}

/// The one data object that `data` is.
///
/// # Errors
/// [`TlvError`]: there is none, or more than one.
pub fn parse_single(data: &[u8]) -> Result<Tlv<'_>, TlvError> {
    match split_object(data)? {
        (object, []) => Ok(object),
        _ => Err(TlvError::TrailingData),
    }
}

/// The one tag that `data` is, as it stands in a tag list.
///
/// # Errors
/// [`TlvError`]: there is none, or more than one.
pub fn parse_tag(data: &[u8]) -> Result<u32, TlvError> {
    match split_tag(data)? {
        (tag, []) => Ok(tag),
        _ => Err(TlvError::TrailingData),
    }
}

/// The tag that `data` begins with, and everything after it: the raw length octets and what they count.
///
/// # Errors
/// [`TlvError`]: the bytes end within the tag, or it has more than three bytes.
pub fn split_tag(data: &[u8]) -> Result<(u32, &[u8]), TlvError> {
    let (&first, mut rest) = data.split_first().ok_or(TlvError::Truncated)?;
    let mut tag = u32::from(first);
    if first & 0x1F != 0x1F {
        return Ok((tag, rest));
    }
    for _ in 1..MAX_TAG_BYTES {
        let (&next, more) = rest.split_first().ok_or(TlvError::Truncated)?;
        tag = tag << 8 | u32::from(next);
        rest = more;
        if next & 0x80 == 0 {
            return Ok((tag, rest));
        }
    }
    Err(TlvError::Malformed)
}

/// The data object that `data` begins with, and what follows it.
///
/// # Errors
/// [`TlvError`]: the bytes end within the object, or its tag or length is not understood.
pub fn split_object(data: &[u8]) -> Result<(Tlv<'_>, &[u8]), TlvError> {
    let (tag, rest) = split_tag(data)?;
    let (length, rest) = split_length(rest)?;
    let (value, rest) = rest.split_at_checked(length).ok_or(TlvError::Truncated)?;
    Ok((Tlv { tag, value }, rest))
}

/// Whether the bytes of `tag` are one tag: what [`split_tag`] can give.
#[must_use]
pub fn is_tag(tag: u32) -> bool {
    parse_tag(significant(&tag.to_be_bytes())) == Ok(tag)
}

/// Appends a tag as it stands in a tag list.
pub fn write_tag(out: &mut Vec<u8>, tag: u32) {
    out.extend_from_slice(significant(&tag.to_be_bytes()));
}

/// Appends a data object, its length in the fewest octets.
///
/// [`Reader`] takes back values of less than 16 MiB.
pub fn write(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    write_tag(out, tag);
    let length = value.len().to_be_bytes();
    let octets = significant(&length);
    if value.len() > 0x7F {
        // A usize has far fewer octets than the 126 that could be announced.
        out.push(0x80 | octets.len() as u8);
    }
    out.extend_from_slice(octets);
    out.extend_from_slice(value);
}

/// A data object whose value `content` writes.
#[must_use]
pub fn build(tag: u32, content: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = Vec::new();
    content(&mut value);
    let mut out = Vec::new();
    write(&mut out, tag, &value);
    out
}

fn split_length(data: &[u8]) -> Result<(usize, &[u8]), TlvError> {
    let (&first, rest) = data.split_first().ok_or(TlvError::Truncated)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let count = first & 0x7F;
    if !(1..=MAX_LENGTH_OCTETS).contains(&count) {
        return Err(TlvError::Malformed);
    }
    let (octets, rest) = rest
        .split_at_checked(usize::from(count))
        .ok_or(TlvError::Truncated)?;
    let length = octets
        .iter()
        .fold(0, |length, &octet| length << 8 | usize::from(octet));
    Ok((length, rest))
}

/// The bytes of a number without leading zeros; one zero for zero.
fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes
        .get(zeros.min(bytes.len().saturating_sub(1))..)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objects_are_read_in_order() {
        let mut reader = Reader::new(&[0x84, 1, 0x81, 0x5F, 0x2F, 0, 0x7F, 0x81, 0x01, 2, 8, 9]);
        assert_eq!(
            reader.next(),
            Some(Ok(Tlv {
                tag: 0x84,
                value: &[0x81]
            }))
        );
        assert_eq!(
            reader.next(),
            Some(Ok(Tlv {
                tag: 0x5F2F,
                value: &[]
            }))
        );
        assert_eq!(reader.rest().len(), 6);
        assert_eq!(
            reader.next(),
            Some(Ok(Tlv {
                tag: 0x7F_81_01,
                value: &[8, 9]
            }))
        );
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn reader_ends_after_the_first_error() {
        let mut reader = Reader::new(&[0x84, 0x80, 0x81, 0x01, 0x00]);
        assert_eq!(reader.next(), Some(Err(TlvError::Malformed)));
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn length_that_is_not_minimal_is_accepted() {
        for object in [
            &[0x87, 1, 0xAA][..],
            &[0x87, 0x81, 1, 0xAA],
            &[0x87, 0x82, 0, 1, 0xAA],
            &[0x87, 0x83, 0, 0, 1, 0xAA],
        ] {
            assert_eq!(
                parse_single(object),
                Ok(Tlv {
                    tag: 0x87,
                    value: &[0xAA]
                })
            );
        }
    }

    #[test]
    fn indefinite_and_overlong_lengths_are_malformed() {
        assert_eq!(parse_single(&[0x30, 0x80, 0, 0]), Err(TlvError::Malformed));
        assert_eq!(
            parse_single(&[0x87, 0x84, 0, 0, 0, 1, 0xAA]),
            Err(TlvError::Malformed)
        );
        assert_eq!(parse_single(&[0x87, 0xFF]), Err(TlvError::Malformed));
    }

    #[test]
    fn every_cut_of_an_object_is_truncated() {
        let object = build(0x7F49, |out| write(out, 0x81, &[1; 200]));
        for cut in 0..object.len() {
            assert_eq!(parse_single(&object[..cut]), Err(TlvError::Truncated));
        }
        assert!(parse_single(&object).is_ok());
    }

    #[test]
    fn bytes_after_a_single_object_are_refused() {
        assert_eq!(parse_single(&[0x84, 0, 0]), Err(TlvError::TrailingData));
        assert_eq!(parse_tag(&[0xDF, 0x20, 0]), Err(TlvError::TrailingData));
    }

    #[test]
    fn tag_of_four_bytes_is_malformed() {
        assert_eq!(
            parse_tag(&[0x7F, 0x81, 0x81, 0x01]),
            Err(TlvError::Malformed)
        );
        assert_eq!(parse_tag(&[0x7F, 0x81]), Err(TlvError::Truncated));
    }

    #[test]
    fn extended_header_list_entry_keeps_its_raw_length() {
        assert_eq!(
            split_tag(&[0x7F, 0x49, 0x80]),
            Ok((0x7F49, [0x80].as_slice()))
        );
    }

    #[test]
    fn numbers_that_are_no_tags_are_told() {
        for tag in [0x00, 0x30, 0x84, 0xDF1F, 0x7F71, 0x7F_81_01] {
            assert!(is_tag(tag), "{tag:X}");
        }
        for tag in [0x1F, 0x8401, 0xDF, 0xDF81, 0x7F_81_81, 0x7F_71_00, u32::MAX] {
            assert!(!is_tag(tag), "{tag:X}");
        }
    }

    #[test]
    fn lengths_are_written_in_the_fewest_octets() {
        let head = |length: usize| {
            let mut out = Vec::new();
            write(&mut out, 0x81, &vec![0; length]);
            out.truncate(out.len() - length);
            out
        };
        assert_eq!(head(0), [0x81, 0]);
        assert_eq!(head(0x7F), [0x81, 0x7F]);
        assert_eq!(head(0x80), [0x81, 0x81, 0x80]);
        assert_eq!(head(0x0100), [0x81, 0x82, 1, 0]);
        assert_eq!(head(0x01_0000), [0x81, 0x83, 1, 0, 0]);
    }

    /// Every tag the reader can give.
    fn tags() -> impl Strategy<Value = u32> {
        any::<u32>()
            .prop_map(|seed| match seed >> 30 {
                0 => seed & 0xFF,
                1 => 0x1F00 | seed & 0xE07F,
                _ => 0x1F_8000 | seed & 0xE0_7F7F,
            })
            .prop_filter("bytes that are a tag", |&tag| is_tag(tag))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            objects in proptest::collection::vec(
                (tags(), proptest::collection::vec(any::<u8>(), 0..400)),
                0..6,
            ),
        ) {
            let mut out = Vec::new();
            for (tag, value) in &objects {
                write(&mut out, *tag, value);
            }
            let read: Vec<_> = Reader::new(&out)
                .map(|object| object.map(|object| (object.tag, object.value.to_vec())))
                .collect::<Result<_, _>>()
                .unwrap();
            prop_assert_eq!(read, objects);
        }

        #[test]
        fn any_bytes_are_objects_or_an_error(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut read = 0;
            for object in Reader::new(&data).flatten() {
                prop_assert!(is_tag(object.tag));
                let mut out = Vec::new();
                write(&mut out, object.tag, object.value);
                prop_assert_eq!(parse_single(&out), Ok(object));
                read += out.len();
            }
            // Only lengths that were not minimal can have become shorter.
            prop_assert!(read <= data.len());
        }
    }
}
