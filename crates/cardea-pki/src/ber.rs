//! BER to DER: NSS (Firefox, Thunderbird) and old Windows write PKCS#12 with lengths at the end and octet strings in
//! pieces.

use zeroize::Zeroizing;

use crate::Error;
use crate::asn1::{TAG_OCTET_STRING, is_padding, put_header};

/// No file of ours nests a third as deep.
const MAX_DEPTH: usize = 32;
const CONSTRUCTED: u8 = 0x20;
const CONSTRUCTED_OCTET_STRING: u8 = TAG_OCTET_STRING | CONSTRUCTED;

/// The one element that the bytes are, with definite lengths and whole octet strings.
///
/// `[n]` IMPLICIT octet strings in pieces cannot be told from others here: whoever reads them joins them.
pub(crate) fn to_der(bytes: &[u8], what: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
    first_to_der(bytes, what, <[u8]>::is_empty)
}

/// Like [`to_der`], and leaves out zero bytes and white space behind the element.
pub(crate) fn padded_to_der(bytes: &[u8], what: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
    first_to_der(bytes, what, is_padding)
}

/// The first element, if this holds for what is behind it.
fn first_to_der(
    bytes: &[u8],
    what: &'static str,
    may_follow: fn(&[u8]) -> bool,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut rest = bytes;
    match transcode(&mut rest, 0) {
        Some(element) if may_follow(rest) => Ok(element.encode()),
        _ => Err(Error::Malformed { what }),
    }
}

/// What an element became.
struct Element {
    tag: u8,
    value: Zeroizing<Vec<u8>>,
}

impl Element {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.value.len() + 10));
        put_header(&mut out, self.tag, self.value.len());
        out.extend_from_slice(&self.value);
        out
    }
}

/// Takes one element off the front.
fn transcode(rest: &mut &[u8], depth: usize) -> Option<Element> {
    let tag = take_byte(rest)?;
    // Tag numbers from 31 are written differently, and no file of ours has them.
    if tag & 0x1f == 0x1f || depth > MAX_DEPTH {
        return None;
    }
    let len = take_length(rest)?;
    if tag & CONSTRUCTED == 0 {
        let value = Zeroizing::new(take(rest, len?)?.to_vec());
        return Some(Element { tag, value });
    }

    let mut parts = Vec::new();
    match len {
        Some(len) => {
            let mut inner = take(rest, len)?;
            while !inner.is_empty() {
                parts.push(transcode(&mut inner, depth + 1)?);
            }
        }
        None => loop {
            if let [0, 0, after @ ..] = *rest {
                *rest = after;
                break;
            }
            parts.push(transcode(rest, depth + 1)?);
        },
    }
    if tag == CONSTRUCTED_OCTET_STRING {
        if parts.iter().any(|part| part.tag != TAG_OCTET_STRING) {
            return None;
        }
        let value = join(parts.iter().map(|part| &*part.value));
        return Some(Element {
            tag: TAG_OCTET_STRING,
            value,
        });
    }
    let encoded: Vec<_> = parts.iter().map(Element::encode).collect();
    Some(Element {
        tag,
        value: join(encoded.iter().map(|part| &**part)),
    })
}

/// All parts in one allocation: a vector that grows leaves copies behind.
fn join<'a>(parts: impl Iterator<Item = &'a Vec<u8>> + Clone) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(parts.clone().map(Vec::len).sum()));
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// A length; `None` inside is one that the end decides.
#[expect(
    clippy::option_option,
    reason = "outside: damaged or not; inside: the two forms"
)]
fn take_length(rest: &mut &[u8]) -> Option<Option<usize>> {
    match take_byte(rest)? {
        short @ 0..=0x7f => Some(Some(usize::from(short))),
        0x80 => Some(None),
        long => {
            let bytes = take(rest, usize::from(long & 0x7f))?;
            let mut len: usize = 0;
            for byte in bytes {
                len = len.checked_mul(256)?.checked_add(usize::from(*byte))?;
            }
            Some(Some(len))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(bytes: &[u8]) -> Option<Vec<u8>> {
        to_der(bytes, "test").ok().map(|der| der.to_vec())
    }

    #[test]
    fn der_stays_as_it_is() {
        let bytes = [0x30, 0x06, 0x02, 0x01, 0x05, 0x04, 0x01, 0xff];
        assert_eq!(der(&bytes).unwrap(), bytes);
    }

    #[test]
    fn lengths_at_the_end_become_definite() {
        let bytes = [0x30, 0x80, 0xa0, 0x80, 0x02, 0x01, 0x05, 0, 0, 0, 0];
        assert_eq!(
            der(&bytes).unwrap(),
            [0x30, 0x05, 0xa0, 0x03, 0x02, 0x01, 0x05]
        );
    }

    #[test]
    fn octet_strings_in_pieces_become_whole() {
        let bytes = [
            0x24, 0x80, 0x04, 0x01, 0x01, 0x24, 0x03, 0x04, 0x01, 0x02, 0, 0,
        ];
        assert_eq!(der(&bytes).unwrap(), [0x04, 0x02, 0x01, 0x02]);
    }

    #[test]
    fn what_is_cut_off_or_too_deep_is_refused() {
        assert_eq!(der(&[]), None);
        assert_eq!(der(&[0x30]), None);
        assert_eq!(der(&[0x30, 0x80, 0x02, 0x01]), None);
        assert_eq!(der(&[0x04, 0x80]), None);
        assert_eq!(
            der(&[0x04, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            None,
            "length beyond all bounds"
        );
        assert_eq!(der(&[0x04, 0x00, 0x00]), None, "something behind");
        assert_eq!(der(&[0x30, 0x80].repeat(10_000)), None);
    }
}
