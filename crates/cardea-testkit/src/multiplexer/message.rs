//! Commands and responses: read from a stream, taken apart, made.

use std::io::{self, Read};

/// Longest command or response of the TPM (TPM 2.0 Part 2, TPM2_MAX_COMMAND_SIZE of the PC Client profile).
const LONGEST: usize = 4096;

/// A whole command or response, by the length in its header (TPM 2.0 Part 1 §18).
pub(super) fn read_message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; 10];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes([message[2], message[3], message[4], message[5]]) as usize;
    if !(10..=LONGEST).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(length, 0);
    from.read_exact(&mut message[10..])?;
    Ok(message)
}

/// Four bytes of a message as a number.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

/// Two bytes of a message as a number.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

/// A response with an error.
pub(super) fn refusal(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

/// A command with one handle and no session.
pub(super) fn plain(code: u32, handle: u32) -> Vec<u8> {
    let header = [&[0x80, 1, 0, 0, 0, 14][..], &code.to_be_bytes()].concat();
    [&header[..], &handle.to_be_bytes()].concat()
}
