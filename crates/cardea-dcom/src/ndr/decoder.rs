//! Reads arguments.

use crate::Guid;
use crate::bytes::{Cursor, Truncated};
use crate::ndr::NdrError;
use crate::ndr::text::WideString;

/// Reads arguments from a stub, one after the other.
#[derive(Clone)]
pub struct Decoder<'a>(Cursor<'a>);

impl From<Truncated> for NdrError {
    fn from(Truncated: Truncated) -> Self {
        Self::BadStubData
    }
}

impl<'a> Decoder<'a> {
    /// At the start of a stub.
    #[must_use]
    pub fn new(stub: &'a [u8]) -> Self {
        Self(Cursor::new(stub))
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.0.position()
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.rest().len()
    }

    /// Skips to a multiple of `size`, whatever is there.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn align(&mut self, size: usize) -> Result<(), NdrError> {
        Ok(self.0.align(size)?)
    }

    /// A byte.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn u8(&mut self) -> Result<u8, NdrError> {
        Ok(self.0.u8()?)
    }

    /// A number of two bytes, aligned.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn u16(&mut self) -> Result<u16, NdrError> {
        self.align(2)?;
        Ok(self.0.u16()?)
    }

    /// A number of four bytes, aligned.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn u32(&mut self) -> Result<u32, NdrError> {
        self.align(4)?;
        Ok(self.0.u32()?)
    }

    /// A number of eight bytes, aligned.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn u64(&mut self) -> Result<u64, NdrError> {
        self.align(8)?;
        Ok(self.0.u64()?)
    }

    /// A GUID, aligned to four bytes.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn guid(&mut self) -> Result<Guid, NdrError> {
        self.align(4)?;
        Ok(self.0.guid()?)
    }

    /// Bytes of a length that is known.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], NdrError> {
        Ok(self.0.take(length)?)
    }

    /// A unique pointer: whether something is there. It follows, now or behind the structure that the pointer is in.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn pointer(&mut self) -> Result<bool, NdrError> {
        self.u32().map(|referent| referent != 0)
    }

    /// A pointer that must not be null.
    ///
    /// # Errors
    /// It is null, or the stub ends before.
    pub fn reference(&mut self) -> Result<(), NdrError> {
        match self.pointer()? {
            true => Ok(()),
            false => Err(NdrError::NullReference),
        }
    }

    /// The number of elements of a conformant array, which something else says as well.
    ///
    /// # Errors
    /// They disagree, or the stub ends before.
    pub fn count(&mut self, expected: u32) -> Result<(), NdrError> {
        match self.u32()? == expected {
            true => Ok(()),
            false => Err(NdrError::BadStubData),
        }
    }

    /// The elements of an array, each at least `size` bytes long.
    ///
    /// # Errors
    /// An element cannot be read, or there are fewer.
    pub fn elements<T>(
        &mut self,
        count: u32,
        size: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, NdrError>,
    ) -> Result<Vec<T>, NdrError> {
        let count = usize::try_from(count).map_err(|_| NdrError::BadStubData)?;
        // What is not there need not be tried.
        if count.saturating_mul(size) > self.remaining() {
            return Err(NdrError::BadStubData);
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// A conformant array of so many elements.
    ///
    /// # Errors
    /// The counts disagree, or an element cannot be read.
    pub fn array<T>(
        &mut self,
        count: u32,
        size: usize,
        read: impl FnMut(&mut Self) -> Result<T, NdrError>,
    ) -> Result<Vec<T>, NdrError> {
        self.count(count)?;
        self.elements(count, size, read)
    }

    /// A unique pointer to a conformant array of so many elements. A null pointer is an array of none.
    ///
    /// # Errors
    /// The counts disagree, or an element cannot be read.
    pub fn optional_array<T>(
        &mut self,
        is_there: bool,
        count: u32,
        size: usize,
        read: impl FnMut(&mut Self) -> Result<T, NdrError>,
    ) -> Result<Vec<T>, NdrError> {
        match (is_there, count) {
            (true, _) => self.array(count, size, read),
            (false, 0) => Ok(Vec::new()),
            (false, _) => Err(NdrError::NullReference),
        }
    }

    /// A conformant array of bytes, whose count is checked by the caller: `cb…` follows the array.
    ///
    /// # Errors
    /// The stub ends before.
    pub fn byte_array(&mut self) -> Result<&'a [u8], NdrError> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| NdrError::BadStubData)?)
    }

    /// A string: conformant and varying, from the first unit, with NUL at the end and nowhere else.
    ///
    /// # Errors
    /// It is not that.
    pub fn string(&mut self) -> Result<WideString, NdrError> {
        let maximum = self.u32()?;
        let offset = self.u32()?;
        let length = self.u32()?;
        if offset != 0 || length > maximum {
            return Err(NdrError::BadStubData);
        }
        let units = self.elements(length, 2, |from| Ok(from.0.u16()?))?;
        match units.split_last() {
            Some((0, units)) => WideString::new(units.to_vec()).ok_or(NdrError::BadStubData),
            _ => Err(NdrError::BadStubData),
        }
    }

    /// A unique pointer to a string that follows at once.
    ///
    /// # Errors
    /// The string is not correct.
    pub fn optional_string(&mut self) -> Result<Option<WideString>, NdrError> {
        match self.pointer()? {
            true => self.string().map(Some),
            false => Ok(None),
        }
    }
}
