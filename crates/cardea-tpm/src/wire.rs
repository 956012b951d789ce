//! Parameters on the wire: big-endian integers and sized buffers.
//!
//! `tpm2-protocol` is the codec of numbers and frames: the command and response codes and their names, the check of
//! every response that comes in and (in debug builds) of every command that goes out; a test reads all of a card's
//! life through its types.
//! It is not the codec of parameters, which are written and read here: its owned command and response bodies are
//! plain `Copy` values that nobody erases, and PINs, authorisation values and decrypted data would pass through them.

use zeroize::Zeroize;

use crate::error::TpmError;

/// Bytes that are erased on drop and whenever they are replaced.
///
/// Unlike `Zeroizing<Vec<u8>>` it erases what was written, not the whole capacity: erasing some thousand
/// unused bytes around each command would take longer than the rest of what is done for it here.
/// Whoever lets it grow beyond its capacity leaves a copy behind.
pub(crate) struct Erased(Vec<u8>);

impl Erased {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Empties and erases.
    pub(crate) fn erase(&mut self) {
        self.0.as_mut_slice().zeroize();
        self.0.clear();
    }

    /// For appending, and for shortening by bytes that were never written to.
    pub(crate) fn as_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl std::ops::Deref for Erased {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Erased {
    fn drop(&mut self) {
        self.erase();
    }
}

/// Parameters of a command, erased on drop.
pub(crate) struct Writer(Erased);

impl Writer {
    /// Room for every command's parameters without growing.
    const CAPACITY: usize = 2048;

    pub(crate) fn new() -> Self {
        Self(Erased::with_capacity(Self::CAPACITY))
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.as_mut().push(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.as_mut().extend_from_slice(bytes);
        self
    }

    /// TPM2B. Every caller's buffer is far below 64 KiB.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(length).raw(bytes)
    }

    pub(crate) fn finish(self) -> Erased {
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
