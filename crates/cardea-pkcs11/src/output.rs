//! Where a result goes (PKCS#11 3.1 §5.2).

use cryptoki_sys::CKR_BUFFER_TOO_SMALL;

use crate::rv::{Result, Rv};

/// The program's buffer, or only the place for the length.
pub(crate) enum Output<'a> {
    /// `NULL_PTR`: the program asks for the length.
    Length(&'a mut u64),
    /// A buffer, and the place for its length.
    Buffer(&'a mut [u8], &'a mut u64),
}

impl Output<'_> {
    /// Stores the length, and returns whether a result of this length can be written now; if not, the operation
    /// stays active.
    pub(crate) fn room(&mut self, length: usize) -> Result<bool> {
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        match self {
            Self::Length(place) => {
                **place = wanted;
                Ok(false)
            }
            Self::Buffer(buffer, place) => {
                **place = wanted;
                if buffer.len() < length {
                    return Err(Rv(CKR_BUFFER_TOO_SMALL));
                }
                Ok(true)
            }
        }
    }

    pub(crate) fn put(&mut self, data: &[u8]) -> Result {
        if let Self::Buffer(buffer, place) = self {
            **place = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let target = buffer
                .get_mut(..data.len())
                .ok_or(Rv(CKR_BUFFER_TOO_SMALL))?;
            target.copy_from_slice(data);
        }
        Ok(())
    }
}
