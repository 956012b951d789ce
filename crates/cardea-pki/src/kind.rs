//! The kinds of key that a card holds.

use std::fmt;

use der::asn1::ObjectIdentifier;

use crate::oid;

/// The kinds of key that a card holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
        })
    }
}

/// The curves of keys that a card holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256, secp256r1.
    P256,
    /// NIST P-384, secp384r1.
    P384,
}

impl Curve {
    /// Bytes of a coordinate and of a private scalar.
    #[must_use]
    pub const fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// The kind of a key on this curve.
    #[must_use]
    pub const fn key_kind(self) -> KeyKind {
        match self {
            Self::P256 => KeyKind::P256,
            Self::P384 => KeyKind::P384,
        }
    }

    pub(crate) const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => oid::SECP256R1,
            Self::P384 => oid::SECP384R1,
        }
    }

    pub(crate) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        match oid {
            oid::SECP256R1 => Some(Self::P256),
            oid::SECP384R1 => Some(Self::P384),
            _ => None,
        }
    }
}

/// The kind of an RSA key, from its modulus without leading zeros.
pub(crate) fn rsa_kind(modulus: &[u8]) -> Result<KeyKind, String> {
    match bit_len(modulus) {
        2048 => Ok(KeyKind::Rsa2048),
        3072 => Ok(KeyKind::Rsa3072),
        bits => Err(format!("RSA-{bits}")),
    }
}

/// Bits of a number without leading zero bytes.
pub(crate) fn bit_len(number: &[u8]) -> usize {
    number.first().map_or(0, |first| {
        number.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0)
    })
}
