//! Type serialization version 1: a structure by itself, in a frame (MS-RPCE §2.2.6).

use zeroize::Zeroizing;

use crate::bytes::Cursor;
use crate::ndr::encoder::count_u32;
use crate::ndr::{Encoder, Message, NdrError};

/// Reads a structure from its frame. What follows the frame's content is padding.
pub(crate) fn deserialize<T: Message>(framed: &[u8]) -> Result<T, NdrError> {
    let mut from = Cursor::new(framed);
    let [version, order, low, high] = from.array()?;
    if (version, order, u16::from_le_bytes([low, high])) != (VERSION, LITTLE_ENDIAN, COMMON_LENGTH)
    {
        return Err(NdrError::BadStubData);
    }
    let _filler = from.u32()?;
    let length = usize::try_from(from.u32()?).map_err(|_| NdrError::BadStubData)?;
    let _filler = from.u32()?;
    let content = from.take(length)?;
    let (value, used) = T::decode(content)?;
    match content.len().saturating_sub(used) < ALIGNMENT {
        true => Ok(value),
        false => Err(NdrError::BadStubData),
    }
}

/// Puts a structure into a frame.
pub(crate) fn serialize<T: Message>(value: &T) -> Zeroizing<Vec<u8>> {
    let mut content = Encoder::new();
    value.write(&mut content);
    content.align(ALIGNMENT);
    let content = content.finish();
    let mut out = Encoder::new();
    out.bytes(&[VERSION, LITTLE_ENDIAN]);
    out.u16(COMMON_LENGTH);
    out.u32(FILLER);
    out.u32(count_u32(content.len()));
    out.u32(0);
    out.bytes(&content);
    out.finish()
}

/// Length of the frame before its content.
pub(crate) const FRAME: usize = 16;

const VERSION: u8 = 1;
const LITTLE_ENDIAN: u8 = 0x10;
const COMMON_LENGTH: u16 = 8;
const FILLER: u32 = 0xCCCC_CCCC;
const ALIGNMENT: usize = 8;
