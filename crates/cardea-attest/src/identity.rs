//! Which TPM a certificate is about, and what an authority knew of it.

use cardea_pki::PathCertificate;

use crate::exchange::TpmDescription;

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

    /// From what the TPM says about itself, for those whose certificate does not name them. Nobody signs it.
    #[must_use]
    pub fn of_description(tpm: &TpmDescription) -> Self {
        let [a, b, c, d] = tpm.manufacturer;
        // As certificates have it: the first of the two numbers.
        let version = tpm.firmware >> 32;
        Self {
            manufacturer: format!("id:{a:02X}{b:02X}{c:02X}{d:02X}"),
            model: match tpm.model.as_str() {
                "" => "unknown".to_owned(),
                model => model.to_owned(),
            },
            version: format!("id:{version:08X}"),
        }
    }

    /// Whether it can be copied into another certificate.
    pub(crate) fn is_sane(&self) -> bool {
        let texts = [&self.manufacturer, &self.model, &self.version];
        texts
            .iter()
            .all(|text| (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(char::is_control))
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

/// The longest text of a TPM's name that is copied.
const MAX_TEXT: usize = 256;

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
    /// The policies, dotted object identifiers, with which Cardea's authority says how it knew the TPM.
    pub const POLICIES: &'static [(&'static str, Self)] = &[
        (
            "2.25.232547622097553499112779899955585718650.1",
            Self::Certificate,
        ),
        ("2.25.232547622097553499112779899955585718650.2", Self::Pin),
        (
            "2.25.232547622097553499112779899955585718650.3",
            Self::FirstUse,
        ),
    ];

    /// Its policy among [`Self::POLICIES`].
    #[must_use]
    pub fn policy(self) -> &'static str {
        let mut policies = Self::POLICIES.iter();
        policies
            .find(|(_, origin)| *origin == self)
            .map_or("", |(policy, _)| *policy)
    }

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
