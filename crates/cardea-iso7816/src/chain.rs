//! Command chaining: one command in several parts (ISO 7816-4 §5.3.3).

use std::fmt;
use std::ops::Deref;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::{Chaining, CommandApdu};

/// The parts of a command that have arrived so far.
///
/// All parts agree in INS, P1 and P2. A command that does not continue the chain cancels it.
pub struct ChainBuffer {
    limit: usize,
    chain: Option<Chain>,
}

struct Chain {
    header: [u8; 3],
    data: Zeroizing<Vec<u8>>,
}

/// The data field of a complete command.
pub enum Collected<'a> {
    /// The command came in one part.
    Single(&'a [u8]),
    /// The command came in several parts, joined here.
    Joined(Zeroizing<Vec<u8>>),
}

/// The parts together are longer than the buffer; the chain is dropped.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a chained command may have at most {limit} bytes of data")]
pub struct ChainError {
    /// What the buffer holds.
    pub limit: usize,
}

impl ChainBuffer {
    /// An empty buffer for at most `limit` bytes of joined data.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, chain: None }
    }

    /// Takes a part. `None`: more parts must follow, and this one is to be acknowledged with `90 00`.
    ///
    /// A part that does not continue the chain begins a new one, and what was collected is erased.
    ///
    /// # Errors
    /// [`ChainError`]: longer than the buffer.
    pub fn add<'a>(
        &mut self,
        command: &CommandApdu<'a>,
        chaining: Chaining,
    ) -> Result<Option<Collected<'a>>, ChainError> {
        let header = [command.ins, command.p1, command.p2];
        let begun = self.chain.take().filter(|chain| chain.header == header);
        let mut chain = match (begun, chaining) {
            (None, Chaining::Last) => return Ok(Some(Collected::Single(command.data))),
            // Room for all that may come: a buffer that grew would leave copies of secrets behind.
            (None, Chaining::More) => Chain {
                header,
                data: Zeroizing::new(Vec::with_capacity(self.limit)),
            },
            (Some(chain), _) => chain,
        };
        if command.data.len() > self.limit.saturating_sub(chain.data.len()) {
            return Err(ChainError { limit: self.limit });
        }
        chain.data.extend_from_slice(command.data);
        Ok(match chaining {
            Chaining::Last => Some(Collected::Joined(chain.data)),
            Chaining::More => {
                self.chain = Some(chain);
                None
            }
        })
    }

    /// Forgets and erases what was collected.
    pub fn clear(&mut self) {
        self.chain = None;
    }

    /// How many bytes were collected; `None` outside a chain.
    #[must_use]
    pub fn collected(&self) -> Option<usize> {
        self.chain.as_ref().map(|chain| chain.data.len())
    }
}

impl fmt::Debug for ChainBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainBuffer")
            .field("limit", &self.limit)
            .field("collected", &self.collected())
            .finish()
    }
}

impl Deref for Collected<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Single(data) => data,
            Self::Joined(data) => data,
        }
    }
}

impl fmt::Debug for Collected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collected({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PUT_DATA: CommandApdu<'static> = CommandApdu::new(0, 0xDB, 0xA0, 0x10);

    fn add(
        buffer: &mut ChainBuffer,
        command: CommandApdu<'_>,
        chaining: Chaining,
    ) -> Option<Vec<u8>> {
        buffer
            .add(&command, chaining)
            .unwrap()
            .map(|data| data.to_vec())
    }

    #[test]
    fn command_in_one_part_is_complete_at_once() {
        let mut buffer = ChainBuffer::new(8);
        let command = PUT_DATA.with_data(b"all");
        assert!(matches!(
            buffer.add(&command, Chaining::Last),
            Ok(Some(Collected::Single(b"all")))
        ));
    }

    #[test]
    fn command_in_one_part_is_not_bound_by_the_buffer() {
        let mut buffer = ChainBuffer::new(2);
        let command = PUT_DATA.with_data(b"longer");
        assert!(matches!(
            buffer.add(&command, Chaining::Last),
            Ok(Some(Collected::Single(b"longer")))
        ));
    }

    #[test]
    fn each_change_of_the_header_cancels_the_chain() {
        for other in [
            CommandApdu::new(0, 0xDA, 0xA0, 0x10),
            CommandApdu::new(0, 0xDB, 0xA1, 0x10),
            CommandApdu::new(0, 0xDB, 0xA0, 0x11),
        ] {
            let mut buffer = ChainBuffer::new(8);
            assert_eq!(
                add(&mut buffer, PUT_DATA.with_data(b"old"), Chaining::More),
                None
            );
            assert_eq!(
                add(&mut buffer, other.with_data(b"new"), Chaining::Last),
                Some(b"new".to_vec())
            );
            assert_eq!(buffer.collected(), None);
            assert_eq!(
                add(&mut buffer, PUT_DATA.with_data(b"end"), Chaining::Last),
                Some(b"end".to_vec())
            );
        }
    }

    #[test]
    fn chain_that_is_cancelled_by_a_chain_begins_anew() {
        let mut buffer = ChainBuffer::new(8);
        add(&mut buffer, PUT_DATA.with_data(b"old"), Chaining::More);
        let other = CommandApdu::new(0, 0x2A, 0x80, 0x86);
        add(&mut buffer, other.with_data(b"ne"), Chaining::More);
        assert_eq!(buffer.collected(), Some(2));
        assert_eq!(
            add(&mut buffer, other.with_data(b"w"), Chaining::Last),
            Some(b"new".to_vec())
        );
    }

    #[test]
    fn chain_longer_than_the_buffer_is_refused_and_dropped() {
        let mut buffer = ChainBuffer::new(4);
        add(&mut buffer, PUT_DATA.with_data(b"1234"), Chaining::More);
        assert_eq!(
            buffer
                .add(&PUT_DATA.with_data(b"5"), Chaining::Last)
                .unwrap_err(),
            ChainError { limit: 4 }
        );
        assert_eq!(buffer.collected(), None);
    }

    #[test]
    fn cleared_chain_is_not_continued() {
        let mut buffer = ChainBuffer::new(8);
        add(&mut buffer, PUT_DATA.with_data(b"old"), Chaining::More);
        buffer.clear();
        assert_eq!(
            add(&mut buffer, PUT_DATA.with_data(b"new"), Chaining::Last),
            Some(b"new".to_vec())
        );
    }

    #[test]
    fn debug_form_hides_the_data() {
        let mut buffer = ChainBuffer::new(8);
        add(&mut buffer, PUT_DATA.with_data(b"123456"), Chaining::More);
        assert_eq!(
            format!("{buffer:?}"),
            "ChainBuffer { limit: 8, collected: Some(6) }"
        );
    }

    proptest! {
        #[test]
        fn parts_in_are_whole_out(
            data in proptest::collection::vec(any::<u8>(), 1..2000),
            block in 1..300_usize,
        ) {
            let mut buffer = ChainBuffer::new(2000);
            let mut parts = data.chunks(block).peekable();
            while let Some(part) = parts.next() {
                let command = PUT_DATA.with_data(part);
                if parts.peek().is_some() {
                    prop_assert_eq!(add(&mut buffer, command, Chaining::More), None);
                } else {
                    let whole = add(&mut buffer, command, Chaining::Last);
                    prop_assert_eq!(whole.as_deref(), Some(data.as_slice()));
                }
            }
        }
    }
}
