//! Keys: algorithm, class, origin, public half.

use minicbor::{Decode, Encode};

/// Most keys of a card: as many as GIDS key references (`81` to `9E`).
pub const MAX_KEYS: usize = 30;

/// Algorithm and size of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum KeyAlgorithm {
    /// ECDSA and ECDH on NIST P-256.
    #[n(0)]
    P256,
    /// ECDSA and ECDH on NIST P-384.
    #[n(1)]
    P384,
    /// RSA, 2048-bit modulus, exponent 65537.
    #[n(2)]
    Rsa2048,
    /// RSA, 3072-bit modulus, exponent 65537.
    #[n(3)]
    Rsa3072,
}

impl KeyAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::P256, Self::P384, Self::Rsa2048, Self::Rsa3072];

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

    /// Its word in commands and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::P256 => "p-256",
            Self::P384 => "p-384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
        }
    }
}

/// How long one PIN verification serves a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum KeyClass {
    /// PIN before every operation.
    #[n(0)]
    Always,
    /// PIN once per session.
    #[n(1)]
    Session,
}

impl KeyClass {
    /// Its word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Session => "session",
        }
    }
}

/// Where a private key was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Origin {
    /// In the TPM.
    #[n(0)]
    Generated,
    /// Elsewhere, then imported.
    #[n(1)]
    Imported,
}

impl Origin {
    /// Its word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Imported => "imported",
        }
    }
}

/// Hash algorithms of signatures and of OAEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Hash {
    /// SHA-1, 20 bytes.
    #[n(0)]
    Sha1,
    /// SHA-256, 32 bytes.
    #[n(1)]
    Sha256,
    /// SHA-384, 48 bytes.
    #[n(2)]
    Sha384,
    /// SHA-512, 64 bytes.
    #[n(3)]
    Sha512,
}

impl Hash {
    /// Digest length in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A public key, numbers big-endian.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum PublicKey {
    /// RSA; the exponent is 65537 for generated keys.
    #[n(0)]
    Rsa {
        /// Modulus without leading zeros.
        #[cbor(n(0), with = "minicbor::bytes")]
        modulus: Vec<u8>,
        /// Public exponent.
        #[n(1)]
        exponent: u32,
    },
    /// Coordinates on the curve of the key's algorithm, each of the curve's full length.
    #[n(1)]
    Ec {
        /// Abscissa.
        #[cbor(n(0), with = "minicbor::bytes")]
        x: Vec<u8>,
        /// Ordinate.
        #[cbor(n(1), with = "minicbor::bytes")]
        y: Vec<u8>,
    },
}
