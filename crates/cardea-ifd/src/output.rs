//! A caller's buffer with its length, which is in and out.

use std::mem::MaybeUninit;

use crate::codes::{Dword, Error};

/// Where an answer goes. Until something is given, the caller sees length 0.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    buffer: &'a mut [MaybeUninit<u8>],
    length: &'a mut Dword,
}

impl<'a> Output<'a> {
    pub(crate) fn new(buffer: &'a mut [MaybeUninit<u8>], length: &'a mut Dword) -> Self {
        *length = 0;
        Self { buffer, length }
    }

    /// Writes the whole answer or nothing.
    pub(crate) fn give(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = Dword::try_from(bytes.len()).map_err(|_| Error::BufferTooSmall)?;
        let target = self
            .buffer
            .get_mut(..bytes.len())
            .ok_or(Error::BufferTooSmall)?;
        target.write_copy_of_slice(bytes);
        *self.length = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_whole_or_nothing() {
        let mut buffer = [MaybeUninit::new(7); 4];
        let mut length = 4;
        let mut output = Output::new(&mut buffer[..3], &mut length);
        assert_eq!(output.give(&[1, 2, 3, 4]), Err(Error::BufferTooSmall));
        assert_eq!(*output.length, 0);
        assert_eq!(output.give(&[1, 2, 3]), Ok(()));
        assert_eq!(length, 3);
    }
}
