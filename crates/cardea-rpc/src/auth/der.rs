//! As much of DER as SPNEGO needs: tags of one byte, lengths of up to 65535.

use super::AuthError;

const MALFORMED: AuthError = AuthError::Malformed("not DER");

pub(super) const ENUMERATED: u8 = 0x0A;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;

/// The tag of a constructed element with a number of its context.
pub(super) const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// An element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

/// The elements in a content, in their order.
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// The next element.
    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, AuthError> {
        let [tag, rest @ ..] = self.0 else {
            return Ok(None);
        };
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(Some(Element { tag: *tag, content }))
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], AuthError> {
        match self.next()? {
            Some(element) if element.tag == tag => Ok(element.content),
            _ => Err(MALFORMED),
        }
    }
}

/// The content of the one element in `bytes`, which must have this tag.
pub(super) fn only(bytes: &[u8], tag: u8) -> Result<&[u8], AuthError> {
    let mut elements = Elements::new(bytes);
    let content = elements.expect(tag)?;
    match elements.next()? {
        None => Ok(content),
        Some(_) => Err(MALFORMED),
    }
}

fn length(bytes: &[u8]) -> Result<(usize, &[u8]), AuthError> {
    match bytes {
        [short @ 0..=0x7F, rest @ ..] => Ok((usize::from(*short), rest)),
        [0x81, long, rest @ ..] => Ok((usize::from(*long), rest)),
        [0x82, high, low, rest @ ..] => Ok((usize::from(u16::from_be_bytes([*high, *low])), rest)),
        _ => Err(MALFORMED),
    }
}

/// Encodes an element; its content is shorter than 64 KiB, as messages are.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut encoded = vec![tag];
    let [.., high, low] = length.to_be_bytes();
    match length {
        0..0x80 => encoded.push(low),
        0x80..0x100 => encoded.extend([0x81, low]),
        _ => encoded.extend([0x82, high, low]),
    }
    for part in parts {
        encoded.extend_from_slice(part);
    }
    encoded
}
