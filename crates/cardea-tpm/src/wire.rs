//! Parameters on the wire: big-endian integers and sized buffers.
//!
//! `tpm2-protocol` gives codes, frames and response views. Command parameters are written here, because its
//! owned values are plain copies on the stack that nobody erases, and PINs, authorisation values and
//! decrypted data pass through them.

use zeroize::Zeroizing;

use crate::error::TpmError;

/// Parameters of a command, erased on drop.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// Room for every command's parameters without growing (a grown buffer leaves copies).
    const CAPACITY: usize = 2048;

    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(Self::CAPACITY)))
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// TPM2B. Every caller's buffer is far below 64 KiB.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(length).raw(bytes)
    }

    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Parameters of a response.
pub(crate) struct Reader<'a> {
    command: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(command: &'static str, bytes: &'a [u8]) -> Self {
        Self {
            command,
            rest: bytes,
        }
    }

    fn short(&self) -> TpmError {
        TpmError::Protocol {
            command: self.command,
            what: "the response is too short",
        }
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], TpmError> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, TpmError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Contents of a TPM2B.
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let length = self.u16()?;
        self.raw(usize::from(length))
    }

    /// A ticket as it stands: tag, hierarchy, digest (TPM 2.0 Part 2 §10.7).
    pub(crate) fn ticket(&mut self) -> Result<&'a [u8], TpmError> {
        let start = self.rest;
        self.raw(6)?;
        self.sized()?;
        start
            .get(..start.len() - self.rest.len())
            .ok_or_else(|| self.short())
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn finish(self) -> Result<(), TpmError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(TpmError::Protocol {
                command: self.command,
                what: "the response is too long",
            })
        }
    }
}
