//! The bodies of smart card calls: NDR with the type headers of MS-RPCE §2.2.6, as MS-RDPESC uses it.

const HEADER: usize = 16;

/// Writes a call. What pointers point to goes behind the fixed part, in the order of the pointers: the caller
/// writes it there.
pub(super) struct Writer {
    body: Vec<u8>,
    pointers: u32,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            body: Vec::new(),
            pointers: 0,
        }
    }

    /// A number.
    pub(super) fn word(mut self, value: u32) -> Self {
        self.body.extend(value.to_le_bytes());
        self
    }

    /// A pointer to something that follows.
    pub(super) fn pointer(self) -> Self {
        let referent = 0x0002_0000 + 4 * self.pointers;
        let mut next = self.word(referent);
        next.pointers += 1;
        next
    }

    /// Bytes in their place, without a count.
    pub(super) fn plain(mut self, bytes: &[u8]) -> Self {
        self.body.extend(bytes);
        self
    }

    /// What a pointer to bytes points to.
    pub(super) fn array(mut self, bytes: &[u8]) -> Self {
        self.align(4);
        self.word(length(bytes.len())).plain(bytes)
    }

    /// What a pointer to a text points to.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.align(4);
        let units: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let count = length(units.len());
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        self.word(count).word(0).word(count).plain(&bytes)
    }

    /// Aligns, for what is written by [`Writer::word`] though a pointer points to it.
    pub(super) fn aligned(mut self) -> Self {
        self.align(4);
        self
    }

    /// The whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.align(8);
        let mut whole = vec![0x01, 0x10, 0x08, 0x00, 0xCC, 0xCC, 0xCC, 0xCC];
        whole.extend(length(self.body.len()).to_le_bytes());
        whole.extend([0; 4]);
        whole.extend(self.body);
        whole
    }

    fn align(&mut self, to: usize) {
        self.body.resize(self.body.len().next_multiple_of(to), 0);
    }
}

/// Reads an answer; everything that is not there is `None`.
pub(super) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Checks the headers.
    pub(super) fn new(output: &'a [u8]) -> Option<Self> {
        let body = output.get(HEADER..)?;
        let length = u32::from_le_bytes(*output.get(8..)?.first_chunk()?);
        let right = output.starts_with(&[0x01, 0x10, 0x08, 0x00])
            && usize::try_from(length).is_ok_and(|length| length <= body.len());
        right.then_some(Self { body, at: 0 })
    }

    pub(super) fn word(&mut self) -> Option<u32> {
        let bytes = self.plain(4)?;
        Some(u32::from_le_bytes(*bytes.first_chunk()?))
    }

    /// Whether a pointer points to something.
    pub(super) fn pointer(&mut self) -> Option<bool> {
        Some(self.word()? != 0)
    }

    pub(super) fn plain(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.body.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(bytes)
    }

    /// The bytes of a pointer.
    pub(super) fn array(&mut self) -> Option<&'a [u8]> {
        self.align();
        let length = usize::try_from(self.word()?).ok()?;
        self.plain(length)
    }

    /// Alignment of what a pointer points to.
    pub(super) fn align(&mut self) {
        self.at = self.at.next_multiple_of(4);
    }
}

/// Texts in UTF-16, each with a final zero, and one more at the end.
pub(super) fn texts(bytes: &[u8]) -> Vec<String> {
    let units = bytes.chunks_exact(2).filter_map(<[u8]>::first_chunk);
    let units: Vec<u16> = units.map(|unit| u16::from_le_bytes(*unit)).collect();
    let texts = units.split(|unit| *unit == 0).map(String::from_utf16_lossy);
    texts.filter(|text| !text.is_empty()).collect()
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pointed_to_follows_aligned_and_the_whole_is_padded() {
        let written = Writer::new()
            .pointer()
            .word(5)
            .pointer()
            .array(&[1, 2, 3, 4, 5])
            .text("A")
            .finish();
        let body = [
            &[0x00, 0x00, 0x02, 0x00, 5, 0, 0, 0, 0x04, 0x00, 0x02, 0x00][..],
            &[5, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'A', 0, 0, 0],
        ]
        .concat();
        assert_eq!(body.len() % 8, 0);
        let head = [0x01, 0x10, 0x08, 0x00, 0xCC, 0xCC, 0xCC, 0xCC, 40, 0, 0, 0];
        assert_eq!(written, [&head[..], &[0; 4], &body].concat());
    }

    #[test]
    fn answers_are_read_back_and_short_ones_are_none() {
        let written = Writer::new().word(7).pointer().word(9).array(b"abc");
        let written = written.finish();
        let mut reader = Reader::new(&written).unwrap();
        assert_eq!(reader.word(), Some(7));
        assert_eq!(reader.pointer(), Some(true));
        assert_eq!(reader.word(), Some(9));
        assert_eq!(reader.array(), Some(&b"abc"[..]));
        assert!(Reader::new(&written[..written.len() - 1]).is_none());
        assert!(Reader::new(&written[..8]).is_none());
        let mut short = Reader::new(&written).unwrap();
        short.plain(12);
        assert_eq!(short.plain(100), None);
    }

    #[test]
    fn lists_of_texts_end_with_an_empty_one() {
        let bytes: Vec<u8> = "Reader 0\0Other\0\0"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(texts(&bytes), ["Reader 0", "Other"]);
        assert!(texts(&[0, 0]).is_empty());
    }
}
