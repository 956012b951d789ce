//! Deterministic CBOR (RFC 8949, section 4.2), as bundles and messages have it: one content has one encoding.
//!
//! What reads is lenient about the lengths of numbers: whoever decodes encodes again, and compares.

use std::convert::Infallible;

use minicbor::{Decoder, Encoder};

pub(crate) type Writer = Encoder<Vec<u8>>;
pub(crate) type EncodeError = minicbor::encode::Error<Infallible>;

/// The bytes that a function writes.
pub(crate) fn encoded(write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    match write(&mut encoder) {
        Ok(()) => encoder.into_writer(),
        Err(error) => error_is_impossible(error),
    }
}

/// A vector takes everything.
fn error_is_impossible(_: EncodeError) -> Vec<u8> {
    Vec::new()
}

pub(crate) fn length<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap_or(u64::MAX)
}

pub(crate) fn write_list(e: &mut Writer, list: &[Vec<u8>]) -> Result<(), EncodeError> {
    e.array(length(list))?;
    for one in list {
        e.bytes(one)?;
    }
    Ok(())
}

/// It cannot be read.
#[derive(Debug)]
pub(crate) struct Malformed;

impl From<minicbor::decode::Error> for Malformed {
    fn from(_: minicbor::decode::Error) -> Self {
        Self
    }
}

pub(crate) type Read<T> = Result<T, Malformed>;

/// The text at key 0 alone, which says what the rest is: a later version may have anything behind it.
pub(crate) fn version(bytes: &[u8]) -> Read<&str> {
    let mut d = Decoder::new(bytes);
    entries(&mut d)?;
    if d.u64()? != 0 {
        return Err(Malformed);
    }
    Ok(d.str()?)
}

/// The number of entries of a map.
fn entries(d: &mut Decoder<'_>) -> Read<u64> {
    d.map()?.ok_or(Malformed)
}

/// Reads a map: `read` takes the value of each key, in rising order, and refuses those that it does not know.
pub(crate) fn fields<'b>(
    d: &mut Decoder<'b>,
    mut read: impl FnMut(u64, &mut Decoder<'b>) -> Read<()>,
) -> Read<()> {
    let mut last = None;
    for _ in 0..entries(d)? {
        let key = d.u64()?;
        if last.is_some_and(|last| key <= last) {
            return Err(Malformed);
        }
        read(key, d)?;
        last = Some(key);
    }
    Ok(())
}

/// Reads an array of at most so many elements.
pub(crate) fn list<'b, T>(
    d: &mut Decoder<'b>,
    most: u64,
    mut read: impl FnMut(&mut Decoder<'b>) -> Read<T>,
) -> Read<Vec<T>> {
    let count = d.array()?.filter(|count| *count <= most);
    (0..count.ok_or(Malformed)?).map(|_| read(d)).collect()
}

pub(crate) fn bytes(d: &mut Decoder<'_>) -> Read<Vec<u8>> {
    Ok(d.bytes()?.to_vec())
}

/// So many bytes at most, and one at least.
pub(crate) fn some_bytes(d: &mut Decoder<'_>, most: usize) -> Read<Vec<u8>> {
    let bytes = d.bytes()?;
    if bytes.is_empty() || bytes.len() > most {
        return Err(Malformed);
    }
    Ok(bytes.to_vec())
}
