//! Response APDUs and GET RESPONSE (ISO 7816-4 §5.1 and §5.3.4).

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::StatusWord;

/// A response as it stands on the wire.
///
/// Its `Debug` form shows the length of the data field only: it may be a decrypted secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResponseApdu<'a> {
    /// The data field; empty when the response has none.
    pub data: &'a [u8],
    /// SW1 and SW2.
    pub status: StatusWord,
}

/// The part of an answer that has not been fetched yet.
///
/// Any command but GET RESPONSE drops it ([`ResponseBuffer::clear`]).
#[derive(Default)]
pub struct ResponseBuffer {
    data: Zeroizing<Vec<u8>>,
    sent: usize,
}

/// GET RESPONSE, and nothing waits; the answer is `69 85`.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no data waits for GET RESPONSE")]
pub struct NothingPending;

impl<'a> ResponseApdu<'a> {
    /// A status word without data.
    #[must_use]
    pub const fn status(status: StatusWord) -> Self {
        Self { data: &[], status }
    }

    /// Reads a response; `None` if it has fewer than the two bytes of the status word.
    #[must_use]
    pub fn parse(response: &'a [u8]) -> Option<Self> {
        let (data, status) = response.split_last_chunk::<2>()?;
        Some(Self {
            data,
            status: StatusWord::from(*status),
        })
    }

    /// The bytes of the response.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.data.len() + 2));
        out.extend_from_slice(self.data);
        out.extend_from_slice(&self.status.to_bytes());
        out
    }
}

impl fmt::Debug for ResponseApdu<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ResponseApdu({} bytes of data, {})",
            self.data.len(),
            self.status
        )
    }
}

impl ResponseBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a whole answer and gives its first part: at most `ne` bytes, with `61 xx` if more wait and
    /// `90 00` if not. With `ne` = 0 everything waits.
    pub fn begin(&mut self, data: Zeroizing<Vec<u8>>, ne: usize) -> ResponseApdu<'_> {
        self.data = data;
        self.sent = 0;
        self.part(ne)
    }

    /// The next part, as GET RESPONSE asks for it.
    ///
    /// # Errors
    /// [`NothingPending`]: no answer waits.
    pub fn next_part(&mut self, ne: usize) -> Result<ResponseApdu<'_>, NothingPending> {
        match self.pending() {
            0 => Err(NothingPending),
            _ => Ok(self.part(ne)),
        }
    }

    /// How many bytes wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.data.len().saturating_sub(self.sent)
    }

    /// Forgets and erases what waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn part(&mut self, ne: usize) -> ResponseApdu<'_> {
        let waiting = self.data.get(self.sent..).unwrap_or_default();
        let (data, rest) = waiting.split_at_checked(ne).unwrap_or((waiting, &[]));
        self.sent += data.len();
        let status = match rest.len() {
            0 => StatusWord::SUCCESS,
            left => StatusWord::more_data_of(left),
        };
        ResponseApdu { data, status }
    }
}

impl fmt::Debug for ResponseBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseBuffer({} bytes pending)", self.pending())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(length: usize) -> Zeroizing<Vec<u8>> {
        Zeroizing::new((0..=255).cycle().take(length).collect())
    }

    #[test]
    fn rsa_2048_public_key_is_fetched_in_two_parts() {
        let whole = answer(270);
        let mut buffer = ResponseBuffer::new();
        let first = buffer.begin(whole.clone(), 256);
        assert_eq!(first.status, StatusWord::new(0x610E));
        assert_eq!(first.data, &whole[..256]);
        let second = buffer.next_part(0x0E).unwrap();
        assert_eq!(second.status, StatusWord::SUCCESS);
        assert_eq!(second.data, &whole[256..]);
        assert_eq!(buffer.next_part(256), Err(NothingPending));
    }

    #[test]
    fn answer_that_fits_leaves_nothing_waiting() {
        let mut buffer = ResponseBuffer::new();
        assert_eq!(buffer.begin(answer(256), 256).status, StatusWord::SUCCESS);
        assert_eq!(buffer.pending(), 0);
        assert_eq!(
            buffer.begin(answer(0), 0),
            ResponseApdu::status(StatusWord::SUCCESS)
        );
    }

    #[test]
    fn answer_can_wait_as_a_whole() {
        let mut buffer = ResponseBuffer::new();
        assert_eq!(
            buffer.begin(answer(300), 0),
            ResponseApdu::status(StatusWord::new(0x6100))
        );
        assert_eq!(buffer.next_part(256).unwrap().data.len(), 256);
        assert_eq!(buffer.pending(), 44);
    }

    #[test]
    fn cleared_answer_is_not_given() {
        let mut buffer = ResponseBuffer::new();
        buffer.begin(answer(300), 256);
        buffer.clear();
        assert_eq!(buffer.next_part(256), Err(NothingPending));
    }

    #[test]
    fn new_answer_replaces_the_waiting_one() {
        let mut buffer = ResponseBuffer::new();
        buffer.begin(answer(300), 256);
        buffer.begin(answer(4), 2);
        assert_eq!(buffer.next_part(256).unwrap().data, [2, 3]);
    }

    #[test]
    fn debug_form_hides_the_data() {
        let response = ResponseApdu {
            data: b"secret",
            status: StatusWord::SUCCESS,
        };
        assert_eq!(
            format!("{response:?}"),
            "ResponseApdu(6 bytes of data, 90 00)"
        );
        let mut buffer = ResponseBuffer::new();
        buffer.begin(answer(6), 0);
        assert_eq!(format!("{buffer:?}"), "ResponseBuffer(6 bytes pending)");
    }

    #[test]
    fn response_without_status_word_is_refused() {
        assert_eq!(ResponseApdu::parse(&[]), None);
        assert_eq!(ResponseApdu::parse(&[0x90]), None);
    }

    proptest! {
        #[test]
        fn bytes_in_are_bytes_out(bytes in proptest::collection::vec(any::<u8>(), 2..300)) {
            let response = ResponseApdu::parse(&bytes).unwrap();
            let written = response.to_bytes();
            prop_assert_eq!(written.as_slice(), bytes.as_slice());
        }

        #[test]
        fn parts_are_the_whole(length in 0..2000_usize, nes in proptest::collection::vec(1..=256_usize, 1..8)) {
            let whole = answer(length);
            let mut buffer = ResponseBuffer::new();
            let mut nes = nes.into_iter().cycle();
            let mut fetched = Vec::new();
            let first = buffer.begin(whole.clone(), nes.next().unwrap());
            fetched.extend_from_slice(first.data);
            let mut status = first.status;
            while status.sw1() == 0x61 {
                let left = whole.len() - fetched.len();
                prop_assert_eq!(usize::from(status.sw2()), if left > 255 { 0 } else { left });
                let part = buffer.next_part(nes.next().unwrap()).unwrap();
                fetched.extend_from_slice(part.data);
                status = part.status;
            }
            prop_assert_eq!(status, StatusWord::SUCCESS);
            prop_assert_eq!(fetched.as_slice(), whole.as_slice());
        }
    }
}
