//! A buffer for frames that may hold secrets: grows without leaving copies, is erased after use.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::protocol::MAX_FRAME;

/// Length of the field before each frame.
pub(crate) const PREFIX: usize = 4;

/// Most frames are shorter than this.
const INITIAL: usize = 1024;

/// Bytes of at most one frame with its length.
#[derive(Default)]
pub(crate) struct Buffer {
    storage: Zeroizing<Vec<u8>>,
    used: usize,
}

/// More than a frame can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Buffer {
    /// What is in it.
    pub(crate) fn filled(&self) -> &[u8] {
        self.storage.get(..self.used).unwrap_or_default()
    }

    /// Room after the content: at least `least` bytes, and never more than makes one longest frame.
    pub(crate) fn room(&mut self, least: usize) -> Result<&mut [u8], Overflow> {
        let needed = self.used.checked_add(least).ok_or(Overflow)?;
        if needed > PREFIX + MAX_FRAME {
            return Err(Overflow);
        }
        if needed > self.storage.len() {
            let size = needed
                .next_power_of_two()
                .clamp(INITIAL, PREFIX + MAX_FRAME);
            // Not `resize`: it would leave the old content in freed memory.
            let mut larger = Zeroizing::new(vec![0; size]);
            for (target, source) in larger.iter_mut().zip(self.filled()) {
                *target = *source;
            }
            self.storage = larger;
        }
        Ok(self.storage.get_mut(self.used..).unwrap_or_default())
    }

    /// Counts `count` bytes written to the room as content.
    pub(crate) fn add(&mut self, count: usize) {
        self.used = self.used.saturating_add(count).min(self.storage.len());
    }

    /// Overwrites content that is already there.
    pub(crate) fn patch(&mut self, bytes: [u8; PREFIX]) {
        if let Some(start) = self.storage.first_chunk_mut() {
            *start = bytes;
        }
    }

    /// Erases the first `count` bytes; what follows moves to the front.
    pub(crate) fn consume(&mut self, count: usize) {
        let count = count.min(self.used);
        self.storage.copy_within(count..self.used, 0);
        let left = self.used - count;
        if let Some(stale) = self.storage.get_mut(left..self.used) {
            stale.zeroize();
        }
        self.used = left;
    }

    /// Erases all content.
    pub(crate) fn clear(&mut self) {
        self.consume(self.used);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.used)
    }
}

impl minicbor::encode::Write for Buffer {
    type Error = Overflow;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        let room = self.room(bytes.len())?;
        room.get_mut(..bytes.len())
            .ok_or(Overflow)?
            .copy_from_slice(bytes);
        self.add(bytes.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minicbor::encode::Write;

    use super::*;

    #[test]
    fn content_survives_growth_and_is_erased_when_consumed() {
        let mut buffer = Buffer::default();
        let content: Vec<u8> = (0..5000u32).map(|i| (i % 250 + 1) as u8).collect();
        for part in content.chunks(7) {
            buffer.write_all(part).unwrap();
        }
        assert_eq!(buffer.filled(), content);
        buffer.consume(4000);
        assert_eq!(buffer.filled(), &content[4000..]);
        assert!(buffer.storage[1000..].iter().all(|&byte| byte == 0));
        buffer.clear();
        assert!(buffer.storage.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn no_more_than_the_longest_frame_fits() {
        let mut buffer = Buffer::default();
        assert!(buffer.write_all(&vec![1; PREFIX + MAX_FRAME]).is_ok());
        assert_eq!(buffer.write_all(&[1]), Err(Overflow));
        assert_eq!(buffer.room(usize::MAX), Err(Overflow));
        assert_eq!(buffer.filled().len(), PREFIX + MAX_FRAME);
    }
}
