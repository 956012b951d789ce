//! DER: a reader over the `der` crate that borrows, so that no secret is copied, and a writer.

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Reader as _, SliceReader, Tag, TagNumber, Tagged};

use crate::Error;

pub(crate) const TAG_BOOLEAN: u8 = 0x01;
pub(crate) const TAG_INTEGER: u8 = 0x02;
pub(crate) const TAG_BIT_STRING: u8 = 0x03;
pub(crate) const TAG_OCTET_STRING: u8 = 0x04;
pub(crate) const TAG_NULL: u8 = 0x05;
pub(crate) const TAG_OID: u8 = 0x06;
pub(crate) const TAG_UTF8_STRING: u8 = 0x0c;
pub(crate) const TAG_SEQUENCE: u8 = 0x30;
pub(crate) const TAG_SET: u8 = 0x31;

/// A `[n]` that holds other elements.
pub(crate) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// A `[n]` that holds bytes.
pub(crate) const fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// Reads the elements of one level.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    inner: SliceReader<'a>,
    /// What is read, for messages.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Result<Self, Error> {
        let inner = SliceReader::new(bytes).map_err(|_| Error::Malformed { what })?;
        Ok(Self { inner, what })
    }

    /// Bytes that are one SEQUENCE: a reader of its elements.
    pub(crate) fn whole(bytes: &'a [u8], what: &'static str) -> Result<Self, Error> {
        let mut outer = Self::new(bytes, what)?;
        let inner = outer.sequence()?;
        outer.finish()?;
        Ok(inner)
    }

    pub(crate) fn malformed(&self) -> Error {
        Error::Malformed { what: self.what }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_finished()
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    pub(crate) fn any(&mut self) -> Result<AnyRef<'a>, Error> {
        self.inner
            .decode::<AnyRef<'a>>()
            .map_err(|_| self.malformed())
    }

    /// The next element with its tag and length.
    pub(crate) fn encoded(&mut self) -> Result<&'a [u8], Error> {
        self.inner.tlv_bytes().map_err(|_| self.malformed())
    }

    /// The last element with its tag and length, whatever its tag: the `der` crate does not know all string types.
    pub(crate) fn last_encoded(mut self) -> Result<&'a [u8], Error> {
        let len = self.inner.remaining_len();
        let bytes = self.inner.read_slice(len).map_err(|_| self.malformed())?;
        match split_element(bytes) {
            Some((_, _, [])) => Ok(bytes),
            _ => Err(self.malformed()),
        }
    }

    pub(crate) fn next_is(&self, tag: Tag) -> bool {
        Tag::peek(&self.inner).is_ok_and(|next| next == tag)
    }

    fn expect(&mut self, tag: Tag) -> Result<&'a [u8], Error> {
        let any = self.any()?;
        if any.tag() == tag {
            Ok(any.value())
        } else {
            Err(self.malformed())
        }
    }

    fn nested(&self, bytes: &'a [u8]) -> Result<Self, Error> {
        Self::new(bytes, self.what)
    }

    pub(crate) fn sequence(&mut self) -> Result<Self, Error> {
        let value = self.expect(Tag::Sequence)?;
        self.nested(value)
    }

    pub(crate) fn set(&mut self) -> Result<Self, Error> {
        let value = self.expect(Tag::Set)?;
        self.nested(value)
    }

    /// The contents of `[number]`, if that is next and holds other elements.
    pub(crate) fn constructed(&mut self, number: u32) -> Result<Option<Self>, Error> {
        if !self.next_is(TagNumber(number).context_specific(true)) {
            return Ok(None);
        }
        let value = self.any()?.value();
        self.nested(value).map(Some)
    }

    pub(crate) fn octets(&mut self) -> Result<&'a [u8], Error> {
        self.expect(Tag::OctetString)
    }

    pub(crate) fn oid(&mut self) -> Result<ObjectIdentifier, Error> {
        self.inner
            .decode::<ObjectIdentifier>()
            .map_err(|_| self.malformed())
    }

    /// An object identifier of any length, as text.
    pub(crate) fn dotted_oid(&mut self) -> Result<String, Error> {
        let content = self.expect(Tag::ObjectIdentifier)?;
        crate::oid::dotted(content).ok_or_else(|| self.malformed())
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Error> {
        // BER's "true" is any other than zero; certificates with it exist.
        Ok(self
            .expect(Tag::Boolean)?
            .first()
            .is_some_and(|byte| *byte != 0))
    }

    /// NULL, as the last element.
    pub(crate) fn null(mut self) -> Result<(), Error> {
        match self.expect(Tag::Null)? {
            [] => self.finish(),
            _ => Err(self.malformed()),
        }
    }

    /// A number that is not negative, big-endian without leading zeros; zero is one byte.
    pub(crate) fn unsigned(&mut self) -> Result<&'a [u8], Error> {
        self.inner
            .decode::<UintRef<'a>>()
            .map(|number| number.as_bytes())
            .map_err(|_| self.malformed())
    }

    /// A small number that is not negative.
    pub(crate) fn small(&mut self) -> Result<u64, Error> {
        let bytes = self.unsigned()?;
        if bytes.len() > 8 {
            return Ok(u64::MAX);
        }
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The bytes of an INTEGER as they are.
    pub(crate) fn integer(&mut self) -> Result<&'a [u8], Error> {
        self.expect(Tag::Integer)
    }

    /// A BIT STRING of named bits; those that are not there are zero.
    pub(crate) fn named_bits(&mut self) -> Result<&'a [u8], Error> {
        self.inner
            .decode::<BitStringRef<'a>>()
            .map(|bits| bits.raw_bytes())
            .map_err(|_| self.malformed())
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn bits(&mut self) -> Result<&'a [u8], Error> {
        self.inner
            .decode::<BitStringRef<'a>>()
            .ok()
            .and_then(|bits| bits.as_bytes())
            .ok_or_else(|| self.malformed())
    }
}

/// Tag and value of the first element, and what follows it. The length is definite, and may be longer than needed.
pub(crate) fn split_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = len
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (len, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(len)?;
    Some((tag, value, rest))
}

/// Zero bytes and white space, which some programs write behind a certificate or a file.
pub(crate) fn is_padding(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| *byte == 0 || byte.is_ascii_whitespace())
}

/// An element.
pub(crate) fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 6);
    put_header(&mut out, tag, value.len());
    out.extend_from_slice(value);
    out
}

/// An element that holds others.
pub(crate) fn nest(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    element(tag, &parts.concat())
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    nest(TAG_SEQUENCE, parts)
}

pub(crate) fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    element(TAG_OID, oid.as_bytes())
}

/// A number that is not negative, from big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut value = strip_zeros(bytes).to_vec();
    if value.first().is_none_or(|first| first & 0x80 != 0) {
        value.insert(0, 0);
    }
    element(TAG_INTEGER, &value)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    element(TAG_BIT_STRING, &[&[0], bytes].concat())
}

/// The elements of a SET OF, in the order that DER wants.
pub(crate) fn set_of(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    nest(TAG_SET, &parts)
}

pub(crate) fn strip_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

pub(crate) fn put_header(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    match u8::try_from(len) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let bytes = len.to_be_bytes();
            let bytes = strip_zeros(&bytes);
            // At most eight bytes: the count fits.
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_shortest() {
        for (len, header) in [
            (0, &[0x04, 0x00][..]),
            (127, &[0x04, 0x7f]),
            (128, &[0x04, 0x81, 0x80]),
            (256, &[0x04, 0x82, 0x01, 0x00]),
            (65536, &[0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let encoded = element(TAG_OCTET_STRING, &vec![7; len]);
            assert_eq!(&encoded[..header.len()], header);
            assert_eq!(encoded.len(), header.len() + len);
            let mut reader = Reader::new(&encoded, "test").unwrap();
            assert_eq!(reader.octets().unwrap().len(), len);
            reader.finish().unwrap();
        }
    }

    #[test]
    fn numbers_are_positive_and_shortest() {
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn huge_small_numbers_are_the_largest() {
        let encoded = unsigned(&[1; 9]);
        let mut reader = Reader::new(&encoded, "test").unwrap();
        assert_eq!(reader.small().unwrap(), u64::MAX);
    }
}
