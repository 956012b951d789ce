//! The endorsement key: which TPM it is, and who says so.

use cardea_pki::{KeyUsage, PathCertificate, PathError, PathRules, PublicKey};

use crate::identity::{EK_CERTIFICATE, is_revoked};
use crate::policy::hash;
use crate::structure::{Public, SHA256, SHA384, Symmetric, attributes};
use crate::{Code, Refusal, Revoked, TpmIdentity};

/// The public half of an endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorsementKey {
    pub(crate) key: PublicKey,
    pub(crate) digest: NameDigest,
    /// Bits of its AES keys.
    pub(crate) aes_bits: u16,
}

/// The digest of a key's Name, which everything that is encrypted to the key is derived with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameDigest {
    Sha256,
    Sha384,
}

const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;

impl EndorsementKey {
    /// From its TPMT_PUBLIC: RSA of 2048 or 3072 bits, P-256 or P-384; AES with 128 or 256 bits.
    ///
    /// # Errors
    /// [`Code::EkForm`], [`Code::EkAttributes`], [`Code::EkAlgorithm`].
    pub fn parse(public: &[u8]) -> Result<Self, Refusal> {
        let parsed = Public::parse(public).ok_or(Refusal::new(Code::EkForm))?;
        let set = attributes::FIXED_TPM
            | attributes::FIXED_PARENT
            | attributes::SENSITIVE_DATA_ORIGIN
            | attributes::RESTRICTED
            | attributes::DECRYPT;
        if !parsed.has(set, attributes::SIGN) {
            return Err(Refusal::new(Code::EkAttributes));
        }
        let not_supported = Refusal::new(Code::EkAlgorithm);
        let digest = match parsed.name_alg {
            SHA256 => NameDigest::Sha256,
            SHA384 => NameDigest::Sha384,
            _ => return Err(not_supported),
        };
        let (Some(symmetric), false) = (parsed.symmetric, parsed.has_scheme) else {
            return Err(not_supported);
        };
        let Symmetric {
            algorithm: AES,
            bits: bits @ (128 | 256),
            mode: CFB,
        } = symmetric
        else {
            return Err(not_supported);
        };
        Ok(Self {
            key: parsed.public_key().ok_or(not_supported)?,
            digest,
            aes_bits: bits,
        })
    }

    /// The key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of its SubjectPublicKeyInfo, with the plain identifier of its algorithm: what lists of pinned keys have.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        hash(&[&self.key.to_spki_der()])
    }
}

/// Which endorsement keys an authority accepts.
#[derive(Clone, Copy, Debug, Default)]
pub struct EkTrust<'a> {
    /// Root certificates of TPM makers.
    pub roots: &'a [PathCertificate],
    /// The makers' other certificates: few TPMs hold those that lie between.
    pub intermediates: &'a [PathCertificate],
    /// Keys that are known by themselves ([`EndorsementKey::pin`]).
    pub pins: &'a [[u8; 32]],
    /// Certificates that have been revoked, from lists whose signatures the caller has checked.
    pub revoked: &'a [Revoked],
    /// Accepts a key without certificate that is not pinned. It may be any program's.
    pub on_first_use: bool,
}

/// Why an endorsement key was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EkVoucher {
    /// By its maker's certificate.
    Certificate {
        /// The root's name.
        root: String,
        /// The TPM, if the certificate names it.
        tpm: Option<TpmIdentity>,
    },
    /// Because the authority accepts keys that nobody vouches for.
    FirstUse,
    /// By the list of pinned keys.
    Pin,
}

impl EkTrust<'_> {
    /// Checks an endorsement key with the certificates that came with it, its own first.
    ///
    /// A certificate that is invalid is never overlooked in favour of the first use, but a pinned key needs none.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(
        &self,
        key: &EndorsementKey,
        certificates: &[impl AsRef<[u8]>],
        now: i64,
    ) -> Result<EkVoucher, Refusal> {
        let is_pinned = self.pins.contains(&key.pin());
        let Some((own, others)) = certificates.split_first() else {
            return match (is_pinned, self.on_first_use) {
                (true, _) => Ok(EkVoucher::Pin),
                (false, true) => Ok(EkVoucher::FirstUse),
                (false, false) => Err(Refusal::new(Code::EkUnknown)),
            };
        };
        match self.check_certificate(key, own.as_ref(), others, now) {
            Err(Refusal {
                path: Some(PathError::Revoked),
                code,
                ..
            }) => Err(Refusal::of_path(code, PathError::Revoked)),
            Err(_) if is_pinned => Ok(EkVoucher::Pin),
            result => result,
        }
    }

    fn check_certificate(
        &self,
        key: &EndorsementKey,
        own: &[u8],
        others: &[impl AsRef<[u8]>],
        now: i64,
    ) -> Result<EkVoucher, Refusal> {
        let of_path = |error| Refusal::of_path(Code::EkChain, error);
        let own = PathCertificate::parse(own).map_err(of_path)?;
        if !own.is_for(&key.key) {
            return Err(Refusal::new(Code::EkCertKey));
        }
        let others = others
            .iter()
            .map(|der| PathCertificate::parse(der.as_ref()));
        let others: Result<Vec<_>, PathError> = others.collect();
        let mut intermediates = others.map_err(of_path)?;
        intermediates.extend_from_slice(self.intermediates);
        let rules = PathRules {
            anchors: self.roots,
            intermediates: &intermediates,
            now,
            purpose: EK_CERTIFICATE,
            is_revoked: &|certificate| is_revoked(self.revoked, certificate),
        };
        let path = rules.validate(&own).map_err(of_path)?;
        let usages = own.extended_key_usages().unwrap_or_default();
        if !usages.iter().any(|usage| usage == EK_CERTIFICATE) {
            return Err(Refusal::new(Code::EkEku));
        }
        let needed = match key.key {
            PublicKey::Ec(_) => KeyUsage::KeyAgreement,
            PublicKey::Rsa(_) => KeyUsage::KeyEncipherment,
        };
        if !own.allows(needed) {
            return Err(Refusal::new(Code::EkUsage));
        }
        let root = path.last().map_or(own.subject(), |root| root.subject());
        Ok(EkVoucher::Certificate {
            root: root.to_string(),
            tpm: TpmIdentity::of(&own),
        })
    }
}

/// The certificates in one of the TPM's indices: each cut at its length, and the padding behind the last left out.
///
/// # Errors
/// [`Code::EkNv`] if there is something else, or nothing.
pub fn certificates_in_nv(content: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let refused = || Refusal::new(Code::EkNv);
    let mut found = Vec::new();
    let mut rest = content;
    while !is_padding(rest) {
        let length = der_length(rest).ok_or_else(refused)?;
        let (der, behind) = rest.split_at_checked(length).ok_or_else(refused)?;
        PathCertificate::parse(der).map_err(|error| Refusal::of_path(Code::EkNv, error))?;
        found.push(der.to_vec());
        rest = behind;
    }
    if found.is_empty() {
        return Err(refused());
    }
    Ok(found)
}

/// What is left of an index that is longer than its certificate.
fn is_padding(bytes: &[u8]) -> bool {
    [0x00, 0xFF]
        .iter()
        .any(|filler| bytes.iter().all(|byte| byte == filler))
}

/// The length of the SEQUENCE that bytes begin with, its header included.
fn der_length(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0x30, short @ 0..=0x7F, ..] => Some(2 + usize::from(*short)),
        [0x30, 0x81, length, ..] => Some(3 + usize::from(*length)),
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}
