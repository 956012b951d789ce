//! Little-endian fields, one after the other, without gaps.

use zeroize::Zeroizing;

use crate::Guid;

/// The bytes end before the field does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncated;

/// Reads fields.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            position: 0,
        }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Truncated)?;
        self.rest = rest;
        self.position = self.position.saturating_add(count);
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        self.position = self.position.saturating_add(N);
        Ok(*taken)
    }

    /// Skips up to the next multiple of `size`, whatever the skipped bytes are.
    pub(crate) fn align(&mut self, size: usize) -> Result<(), Truncated> {
        self.take(padding(self.position, size)).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn guid(&mut self) -> Result<Guid, Truncated> {
        self.array().map(Guid::from_bytes)
    }
}

/// How many bytes are missing to the next multiple of `size`.
pub(crate) fn padding(position: usize, size: usize) -> usize {
    position.next_multiple_of(size) - position
}

/// Writes fields into memory that is erased afterwards.
pub(crate) struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(FIRST)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        self.room(count);
        let length = self.0.len();
        self.0.resize(length.saturating_add(count), 0);
    }

    pub(crate) fn align(&mut self, size: usize) {
        self.zeros(padding(self.len(), size));
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn guid(&mut self, value: &Guid) {
        self.bytes(value.as_bytes());
    }

    /// Writes over what is at `position` already.
    pub(crate) fn set(&mut self, position: usize, bytes: &[u8]) {
        let end = position.saturating_add(bytes.len());
        if let Some(place) = self.0.get_mut(position..end) {
            place.copy_from_slice(bytes);
        }
    }

    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// Makes room for more bytes.
    fn room(&mut self, more: usize) {
        let needed = self.0.len().saturating_add(more);
        if needed > self.0.capacity() {
            // Not `reserve`: it would leave the old content in freed memory.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
    }
}

/// Enough for most messages.
const FIRST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_they_are_read() {
        let mut buffer = Buffer::new();
        buffer.u8(1);
        buffer.align(8);
        buffer.u16(0x0203);
        buffer.u32(4);
        buffer.u64(5);
        buffer.bytes(&[6; 600]);
        buffer.set(0, &[9]);
        let bytes = buffer.finish();
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(cursor.u8(), Ok(9));
        assert_eq!(cursor.align(8), Ok(()));
        assert_eq!(cursor.u16(), Ok(0x0203));
        assert_eq!(cursor.u32(), Ok(4));
        assert_eq!(cursor.u64(), Ok(5));
        assert_eq!(cursor.take(600), Ok(&[6; 600][..]));
        assert_eq!((cursor.u8(), cursor.position()), (Err(Truncated), 622));
    }
}
