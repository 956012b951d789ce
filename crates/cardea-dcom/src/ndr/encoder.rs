//! Writes arguments.

use zeroize::Zeroizing;

use crate::Guid;
use crate::bytes::Buffer;
use crate::ndr::text::WideString;

/// Writes arguments into a stub, one after the other. The memory is erased afterwards.
pub struct Encoder {
    out: Buffer,
    next_referent: u32,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// At the start of a stub.
    #[must_use]
    pub fn new() -> Self {
        Self {
            out: Buffer::new(),
            // Windows counts from here in steps of four, and so do its imitations.
            next_referent: 0x0002_0000,
        }
    }

    /// How many bytes were written.
    #[must_use]
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Zeroizing<Vec<u8>> {
        self.out.finish()
    }

    /// Zeros up to a multiple of `size`.
    pub fn align(&mut self, size: usize) {
        self.out.align(size);
    }

    /// A byte.
    pub fn u8(&mut self, value: u8) {
        self.out.u8(value);
    }

    /// A number of two bytes, aligned.
    pub fn u16(&mut self, value: u16) {
        self.align(2);
        self.out.u16(value);
    }

    /// A number of four bytes, aligned.
    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.out.u32(value);
    }

    /// A number of eight bytes, aligned.
    pub fn u64(&mut self, value: u64) {
        self.align(8);
        self.out.u64(value);
    }

    /// A GUID, aligned to four bytes.
    pub fn guid(&mut self, value: &Guid) {
        self.align(4);
        self.out.guid(value);
    }

    /// Bytes without a count.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.bytes(bytes);
    }

    /// A unique pointer: what it points to follows, now or behind the structure that the pointer is in.
    pub fn pointer(&mut self, is_there: bool) {
        if is_there {
            let referent = self.next_referent;
            self.next_referent = referent.wrapping_add(4);
            self.u32(referent);
        } else {
            self.u32(0);
        }
    }

    /// The number of elements of a conformant array.
    pub fn count(&mut self, count: usize) {
        self.u32(count_u32(count));
    }

    /// A conformant array.
    pub fn array<T>(&mut self, elements: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(elements.len());
        elements.iter().for_each(|element| write(self, element));
    }

    /// A conformant array of bytes.
    pub fn byte_array(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes(bytes);
    }

    /// A string: conformant and varying, with NUL at the end.
    pub fn string(&mut self, string: &WideString) {
        let length = string.units().len().saturating_add(1);
        self.count(length);
        self.u32(0);
        self.count(length);
        string.units().iter().for_each(|unit| self.out.u16(*unit));
        self.out.u16(0);
    }

    /// A unique pointer to a string that follows at once.
    pub fn optional_string(&mut self, string: Option<&WideString>) {
        self.pointer(string.is_some());
        if let Some(string) = string {
            self.string(string);
        }
    }

    /// Writes over four bytes that were written before.
    pub(crate) fn set_u32(&mut self, position: usize, value: u32) {
        self.out.set(position, &value.to_le_bytes());
    }
}

/// A count as it is sent. What is too long for it does not fit into a stub either, and is refused there.
pub(crate) fn count_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
