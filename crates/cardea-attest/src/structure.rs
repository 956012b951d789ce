//! The TPM's structures in a bundle (TPM 2.0 Part 2, sections 10 to 14): read whole, or not at all.

use cardea_pki::{Curve, PublicKey};

use crate::policy::{Name, name_of};
use crate::wire::Wire;

pub(crate) const SHA256: u16 = 0x000B;
pub(crate) const SHA384: u16 = 0x000C;
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const NULL: u16 = 0x0010;
const ECDSA: u16 = 0x0018;
const ECDAA: u16 = 0x001A;
const RSAES: u16 = 0x0015;
const P256: u16 = 0x0003;
const P384: u16 = 0x0004;

/// Bits of TPMA_OBJECT.
pub(crate) mod attributes {
    pub(crate) const FIXED_TPM: u32 = 1 << 1;
    pub(crate) const FIXED_PARENT: u32 = 1 << 4;
    pub(crate) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub(crate) const USER_WITH_AUTH: u32 = 1 << 6;
    pub(crate) const RESTRICTED: u32 = 1 << 16;
    pub(crate) const DECRYPT: u32 = 1 << 17;
    pub(crate) const SIGN: u32 = 1 << 18;
}

/// A TPMT_PUBLIC of an asymmetric key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Public<'a> {
    pub(crate) name_alg: u16,
    pub(crate) attributes: u32,
    pub(crate) policy: &'a [u8],
    pub(crate) symmetric: Option<Symmetric>,
    pub(crate) has_scheme: bool,
    pub(crate) key: KeyNumbers<'a>,
}

/// A symmetric algorithm with its key's bits and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symmetric {
    pub(crate) algorithm: u16,
    pub(crate) bits: u16,
    pub(crate) mode: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyNumbers<'a> {
    Ecc {
        curve: u16,
        has_kdf: bool,
        x: &'a [u8],
        y: &'a [u8],
    },
    Rsa {
        bits: u16,
        /// Zero means 65537.
        exponent: u32,
        modulus: &'a [u8],
    },
}

impl<'a> Public<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let kind = wire.u16()?;
        let name_alg = wire.u16()?;
        let attributes = wire.u32()?;
        let policy = wire.sized()?;
        let symmetric = match wire.u16()? {
            NULL => None,
            algorithm => Some(Symmetric {
                algorithm,
                bits: wire.u16()?,
                mode: wire.u16()?,
            }),
        };
        let has_scheme = match wire.u16()? {
            NULL => false,
            RSAES => true,
            ECDAA => wire.take(4).map(|_| true)?,
            // The hash.
            _ => wire.take(2).map(|_| true)?,
        };
        let key = match kind {
            RSA => KeyNumbers::Rsa {
                bits: wire.u16()?,
                exponent: wire.u32()?,
                modulus: wire.sized()?,
            },
            ECC => KeyNumbers::Ecc {
                curve: wire.u16()?,
                has_kdf: wire.u16()? != NULL,
                x: wire.sized()?,
                y: wire.sized()?,
            },
            _ => return None,
        };
        // A KDF's hash would be left over.
        wire.is_empty().then_some(Self {
            name_alg,
            attributes,
            policy,
            symmetric,
            has_scheme,
            key,
        })
    }

    /// The key, if it is of a kind that a card can hold.
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        match self.key {
            KeyNumbers::Ecc { curve, x, y, .. } => PublicKey::from_ec(pki_curve(curve)?, x, y).ok(),
            KeyNumbers::Rsa {
                bits,
                exponent: 0 | 65_537,
                modulus,
            } if usize::from(bits) == modulus.len() * 8 => {
                PublicKey::from_rsa(modulus, &[1, 0, 1]).ok()
            }
            KeyNumbers::Rsa { .. } => None,
        }
    }

    /// Whether all of some attributes are set, and none of others.
    pub(crate) const fn has(&self, set: u32, clear: u32) -> bool {
        self.attributes & set == set && self.attributes & clear == 0
    }
}

fn pki_curve(curve: u16) -> Option<Curve> {
    match curve {
        P256 => Some(Curve::P256),
        P384 => Some(Curve::P384),
        _ => None,
    }
}

/// The Name of an object, from its TPMT_PUBLIC; none if its nameAlg is not SHA-256, or if it cannot be read.
#[must_use]
pub fn name_of_public(public: &[u8]) -> Option<Name> {
    let parsed = Public::parse(public)?;
    (parsed.name_alg == SHA256).then(|| name_of(public))
}

/// The `r` and `s` of a TPMT_SIGNATURE by ECDSA with SHA-256 on P-256, behind each other and at full length.
pub(crate) fn ecdsa_signature(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut wire = Wire::new(bytes);
    if (wire.u16()?, wire.u16()?) != (ECDSA, SHA256) {
        return None;
    }
    let mut raw = Vec::with_capacity(64);
    for _ in 0..2 {
        let number = wire.sized()?;
        let zeros = 32usize.checked_sub(number.len())?;
        raw.resize(raw.len() + zeros, 0);
        raw.extend_from_slice(number);
    }
    wire.is_empty().then_some(raw)
}

/// The kinds of TPMS_ATTEST in a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttestKind {
    Certify = 0x8017,
    Creation = 0x801A,
    Nv = 0x8014,
}

/// TPM_GENERATED_VALUE, with which a TPM begins what it says about itself.
pub(crate) const MAGIC: u32 = 0xFF54_4347;

/// The beginning of a TPMS_ATTEST, up to what it is about.
pub(crate) struct Attest<'a> {
    pub(crate) qualified_signer: &'a [u8],
    pub(crate) extra_data: &'a [u8],
    rest: Wire<'a>,
}

/// The magic and the type; zeros in the place of what is not there.
pub(crate) fn attest_head(bytes: &[u8]) -> (u32, u16) {
    let mut wire = Wire::new(bytes);
    let magic = wire.u32().unwrap_or_default();
    (magic, wire.u16().unwrap_or_default())
}

impl<'a> Attest<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        wire.take(6)?;
        let qualified_signer = wire.sized()?;
        let extra_data = wire.sized()?;
        // TPMS_CLOCK_INFO and the firmware's version: obfuscated, and nothing that a verifier can judge.
        wire.take(17 + 8)?;
        Some(Self {
            qualified_signer,
            extra_data,
            rest: wire,
        })
    }

    /// What it is about, and whether other bytes follow.
    pub(crate) fn subject(&self, kind: AttestKind) -> Option<(Subject<'a>, bool)> {
        let mut wire = self.rest;
        let subject = match kind {
            AttestKind::Certify => Subject {
                name: wire.sized()?,
                offset: 0,
                content: wire.sized()?,
            },
            AttestKind::Creation => Subject {
                name: wire.sized()?,
                offset: 0,
                content: wire.sized()?,
            },
            AttestKind::Nv => Subject {
                name: wire.sized()?,
                offset: wire.u16()?,
                content: wire.sized()?,
            },
        };
        Some((subject, !wire.is_empty()))
    }
}

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject<'a> {
    /// The Name of the object or index.
    pub(crate) name: &'a [u8],
    /// Of an index: where the content begins.
    pub(crate) offset: u16,
    /// The qualified name, the hash of the creation data, or the content of the index.
    pub(crate) content: &'a [u8],
}

/// The parts of a TPMS_CREATION_DATA that a verifier judges.
pub(crate) struct CreationData<'a> {
    pub(crate) pcr_digest: &'a [u8],
    pub(crate) parent_name: &'a [u8],
    pub(crate) parent_qualified_name: &'a [u8],
    pub(crate) outside_info: &'a [u8],
}

impl<'a> CreationData<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let banks = wire.u32()?;
        for _ in 0..banks {
            wire.take(2)?;
            let length = wire.u8()?;
            wire.take(usize::from(length))?;
        }
        let pcr_digest = wire.sized()?;
        // The locality, and the parent's nameAlg, which its Name says too.
        wire.take(1 + 2)?;
        let data = Self {
            pcr_digest,
            parent_name: wire.sized()?,
            parent_qualified_name: wire.sized()?,
            outside_info: wire.sized()?,
        };
        wire.is_empty().then_some(data)
    }
}
