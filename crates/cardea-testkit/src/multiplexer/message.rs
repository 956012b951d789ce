//! Commands and responses as they are read from a stream.

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
