//! Inputs that are cut from byte strings: a length of two bytes, then so many bytes.

/// Takes parts from an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A part of at most so many bytes as its length says: the last one may be cut short.
    pub(crate) fn part(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        self.0 = rest;
        Some(part)
    }
}

/// The reverse of [`Input::part`].
pub(crate) fn push_part(out: &mut Vec<u8>, part: &[u8]) {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(part.iter().take(usize::from(length)));
}
