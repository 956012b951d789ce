//! Which TPM a certificate is about, and what an authority knew of it.

use cardea_pki::PathCertificate;

/// The TPM that a certificate names (TCG EK Credential Profile, section 3.2.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmIdentity {
    /// Its maker: `id:` and eight hexadecimal digits.
    pub manufacturer: String,
    /// The maker's name for it.
    pub model: String,
    /// Its firmware: `id:` and hexadecimal digits.
    pub version: String,
}

impl TpmIdentity {
    /// From the directory name among a certificate's alternative names; nothing is checked here.
    #[must_use]
    pub fn of(certificate: &PathCertificate) -> Option<Self> {
        let attribute = |kind| certificate.directory_attribute(kind).map(str::to_owned);
        Some(Self {
            manufacturer: attribute(MANUFACTURER)?,
            model: attribute(MODEL)?,
            version: attribute(VERSION)?,
        })
    }

    /// Its attributes with their object identifiers, as certificates have them.
    #[must_use]
    pub fn attributes(&self) -> [(&'static str, &str); 3] {
        [
            (MANUFACTURER, &self.manufacturer),
            (MODEL, &self.model),
            (VERSION, &self.version),
        ]
    }
}

const MANUFACTURER: &str = "2.23.133.2.1";
const MODEL: &str = "2.23.133.2.2";
const VERSION: &str = "2.23.133.2.3";

/// `tcg-kp-EKCertificate`.
pub(crate) const EK_CERTIFICATE: &str = "2.23.133.8.1";
/// `tcg-kp-AIKCertificate`.
pub(crate) const AK_CERTIFICATE: &str = "2.23.133.8.3";

/// How the authority knew the TPM whose attestation key it certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EkOrigin {
    /// By the maker's certificate.
    Certificate,
    /// It accepted the first one that came.
    FirstUse,
    /// By its list of endorsement keys.
    Pin,
}

impl EkOrigin {
    /// Its word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::FirstUse => "first-use",
            Self::Pin => "pin",
        }
    }
}

/// A certificate that its issuer has revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// The bytes of the serial number's INTEGER.
    pub serial: Vec<u8>,
}

pub(crate) fn is_revoked(list: &[Revoked], certificate: &PathCertificate) -> bool {
    list.iter().any(|revoked| {
        revoked.serial == certificate.serial() && revoked.issuer == certificate.issuer().der()
    })
}
