//! Random bytes.

use cardea_client::message::Hash;
use cryptoki_sys::CKR_DEVICE_ERROR;

use crate::hashes::digest;
use crate::rv::{Result, Rv};

/// The kernel's random bytes: salts, seeds and padding.
pub(crate) fn fill(buffer: &mut [u8]) -> Result {
    getrandom::fill(buffer).map_err(|_| Rv(CKR_DEVICE_ERROR))
}

/// Mixes the TPM's seed into the kernel's bytes, so that neither source alone determines them.
pub(crate) fn mix(seed: &[u8], buffer: &mut [u8]) {
    for (count, part) in (0u32..).zip(buffer.chunks_mut(32)) {
        let block = digest(Hash::Sha256, &[seed, &count.to_be_bytes()]);
        for (byte, mask) in part.iter_mut().zip(block) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_depends_on_the_seed() {
        let (mut one, mut other) = ([0; 70], [0; 70]);
        mix(b"one", &mut one);
        mix(b"other", &mut other);
        assert_ne!(one[..32], other[..32]);
        assert_ne!(one[32..64], other[32..64]);
        assert_ne!(one[64..], other[64..]);
        assert_ne!(one[..32], one[32..64]);
        mix(b"one", &mut one);
        assert_eq!(one, [0; 70]);
    }
}
