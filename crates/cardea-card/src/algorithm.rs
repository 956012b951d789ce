//! The algorithms of private keys.

/// Algorithm and size of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA and ECDH on NIST P-256.
    P256,
    /// ECDSA and ECDH on NIST P-384.
    P384,
    /// RSA, 2048-bit modulus, exponent 65537.
    Rsa2048,
    /// RSA, 3072-bit modulus, exponent 65537.
    Rsa3072,
}

impl KeyAlgorithm {
    /// Length in bytes of the RSA modulus or of an elliptic-curve coordinate.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::Rsa2048 => 256,
            Self::Rsa3072 => 384,
        }
    }
}
