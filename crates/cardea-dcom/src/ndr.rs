//! NDR, the encoding of arguments (C706 chapter 14), as strict as MS-RPCE asks for at level 6.0.
//!
//! What is encoded is little endian and aligned from the start of the stub. Counts must agree with what follows, and
//! nothing is reserved beyond what is there.

mod decoder;
mod encoder;
mod secret;
mod serialization;
mod text;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::pdu::fault_status;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use secret::Secret;
pub use text::WideString;

pub(crate) use encoder::count_u32;
pub(crate) use serialization::{FRAME, deserialize, serialize};

/// Why arguments cannot be decoded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NdrError {
    /// Counts disagree, a string has no end, or something is missing or follows.
    #[error("the arguments are not encoded correctly")]
    BadStubData,
    /// A pointer is null and must not be, or is null although a count says otherwise.
    #[error("a pointer is null where something is needed")]
    NullReference,
}

impl NdrError {
    /// The fault that answers a call with such arguments.
    #[must_use]
    pub const fn fault_status(self) -> u32 {
        match self {
            Self::BadStubData => fault_status::BAD_STUB_DATA,
            Self::NullReference => fault_status::NULL_REFERENCE,
        }
    }
}

/// The arguments or the results of a call: both sides of it can be made and read.
pub trait Message: Sized {
    /// Reads it from where the decoder is.
    ///
    /// # Errors
    /// It is not encoded correctly.
    fn read(from: &mut Decoder<'_>) -> Result<Self, NdrError>;

    /// Writes it to where the encoder is.
    fn write(&self, to: &mut Encoder);

    /// Reads it from the start of a stub. Gives also how many bytes it takes: for a request,
    /// [`crate::pdu::check_verification`] looks at the rest.
    ///
    /// # Errors
    /// It is not encoded correctly.
    fn decode(stub: &[u8]) -> Result<(Self, usize), NdrError> {
        let mut from = Decoder::new(stub);
        let message = Self::read(&mut from)?;
        Ok((message, from.position()))
    }

    /// Reads it from a stub that contains nothing else: a response.
    ///
    /// # Errors
    /// It is not encoded correctly, or something follows.
    fn decode_all(stub: &[u8]) -> Result<Self, NdrError> {
        let (message, used) = Self::decode(stub)?;
        match stub.len() == used {
            true => Ok(message),
            false => Err(NdrError::BadStubData),
        }
    }

    /// Its stub.
    #[must_use]
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut to = Encoder::new();
        self.write(&mut to);
        to.finish()
    }
}
