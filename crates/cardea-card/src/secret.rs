//! Secrets in memory: PINs, PUKs, admin keys and private keys on their way in.
//! Fixed size, erased on drop, never printed.

use std::fmt;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use cardea_terms::KeyAlgorithm;

/// Overwrites what finished calls of this thread have left on its stack: secrets that were moved about by
/// value. Erasing a value where it is at last does not reach the places where it was before.
#[inline(never)]
pub fn erase_stack() {
    black_box(&mut [0u8; STACK]);
}

/// Deeper than any call with a secret goes.
const STACK: usize = 64 * 1024;

/// Secret bytes that stay where they are when their owner is moved, so that no move leaves a copy; erased on
/// drop, never printed.
#[derive(Clone)]
pub struct Held<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Held<N> {
    /// Zeros, to be written in place.
    #[must_use]
    pub fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }

    /// A copy of these bytes.
    #[must_use]
    pub fn copy_of(bytes: &[u8; N]) -> Self {
        let mut held = Self::zeroed();
        held.0.copy_from_slice(bytes);
        held
    }
}

impl<const N: usize> Deref for Held<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> DerefMut for Held<N> {
    fn deref_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Held<N> {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl<const N: usize> ZeroizeOnDrop for Held<N> {}

impl<const N: usize> fmt::Debug for Held<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({N} bytes)")
    }
}

/// A 24-byte 3DES admin key.
pub type AdminKeyBytes = Zeroizing<[u8; 24]>;

/// A private key that was made elsewhere. Numbers are big-endian.
pub enum PrivateKey {
    /// On a NIST curve.
    Ec {
        /// P-256 or P-384.
        algorithm: KeyAlgorithm,
        /// The scalar, at the curve's full length.
        scalar: Zeroizing<Vec<u8>>,
        /// Public abscissa, at the curve's full length.
        x: Vec<u8>,
        /// Public ordinate, at the curve's full length.
        y: Vec<u8>,
    },
    /// RSA with exponent 65537.
    Rsa {
        /// RSA-2048 or RSA-3072.
        algorithm: KeyAlgorithm,
        /// Modulus, as long as the algorithm's.
        modulus: Vec<u8>,
        /// One of the two primes, half as long as the modulus.
        prime: Zeroizing<Vec<u8>>,
    },
}

impl PrivateKey {
    /// Algorithm and size.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Ec { algorithm, .. } | Self::Rsa { algorithm, .. } => *algorithm,
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?})", self.algorithm())
    }
}

/// A PIN or PUK as typed: 1 to 127 bytes (GIDS 2.0; the upper bound is the one-byte short Lc form's
/// use in every client).
///
/// The buffer has a fixed size and place, so that no copy stays behind in a grown allocation or after a move.
#[derive(Clone)]
pub struct Pin {
    bytes: Held<{ Pin::MAX }>,
    len: u8,
}

impl ZeroizeOnDrop for Pin {}

/// A PIN or PUK of 0 or of more than 127 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PIN has 1 to 127 bytes, not {0}")]
pub struct PinLengthError(pub usize);

impl Pin {
    /// The longest PIN, in bytes.
    pub const MAX: usize = 127;

    /// Takes the bytes as typed.
    ///
    /// # Errors
    ///
    /// [`PinLengthError`] for 0 or more than 127 bytes.
    pub fn new(typed: &[u8]) -> Result<Self, PinLengthError> {
        let len = u8::try_from(typed.len()).map_err(|_| PinLengthError(typed.len()))?;
        let mut bytes = Held::zeroed();
        match bytes.get_mut(..typed.len()) {
            Some(target) if !typed.is_empty() => target.copy_from_slice(typed),
            _ => return Err(PinLengthError(typed.len())),
        }
        Ok(Self { bytes, len })
    }

    /// The bytes as typed. Callers do not keep copies.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Length in bytes, 1 to 127.
    #[must_use]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Always false: an empty PIN cannot be made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        (self.len.ct_eq(&other.len) & self.bytes.ct_eq(&*other.bytes)).into()
    }
}

impl Eq for Pin {}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_takes_1_to_127_bytes() {
        assert_eq!(Pin::new(b""), Err(PinLengthError(0)));
        assert_eq!(Pin::new(&[b'x'; 128]), Err(PinLengthError(128)));
        assert_eq!(Pin::new(&[b'x'; 300]), Err(PinLengthError(300)));
        assert_eq!(Pin::new(&[b'x'; 127]).unwrap().expose().len(), 127);
    }

    #[test]
    fn debug_output_shows_the_length_only() {
        assert_eq!(
            format!("{:?}", Pin::new(b"123456").unwrap()),
            "Pin(6 bytes)"
        );
    }
}
