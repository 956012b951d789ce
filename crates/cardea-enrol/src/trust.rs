//! Whom a job trusts.

use cardea_pki::{Certificate, KeyUsage, PathCertificate, PathError, PathRules};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::job::base64_list;

/// Authorities that are trusted, and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trust {
    #[serde(with = "base64_list")]
    anchors: Vec<Vec<u8>>,
}

impl Trust {
    /// All certificates of a PEM or DER file.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has none.
    pub fn from_file_content(content: &[u8]) -> Result<Self, Error> {
        let found = Certificate::parse_all(content)
            .map_err(|error| Error::Usage(format!("the trust file: {error}")))?;
        Self::new(found.iter().map(|one| one.der().to_vec()).collect())
    }

    /// These certificates, DER.
    ///
    /// # Errors
    /// [`Error::Usage`] if one cannot be an authority's.
    pub fn new(anchors: Vec<Vec<u8>>) -> Result<Self, Error> {
        for anchor in &anchors {
            PathCertificate::parse(anchor)
                .map_err(|error| Error::Usage(format!("a trusted certificate: {error}")))?;
        }
        Ok(Self { anchors })
    }

    /// The certificates.
    #[must_use]
    pub fn anchors(&self) -> &[Vec<u8>] {
        &self.anchors
    }

    /// Whether a path leads from a certificate to one of these, with the help of others that came along. Seconds of
    /// tolerance are the caller's: `now` may be any time at which all must be valid.
    pub(crate) fn validate(
        &self,
        leaf: &[u8],
        others: &[Vec<u8>],
        now: i64,
    ) -> Result<(), PathError> {
        let leaf = PathCertificate::parse(leaf)?;
        let anchors = parsed(&self.anchors);
        let intermediates = parsed(others);
        PathRules {
            anchors: &anchors,
            intermediates: &intermediates,
            now,
            purpose: ANY,
            // Authorities that issue for people restrict themselves to what they like.
            is_revoked: &|_| false,
        }
        .validate(&leaf)
        .map(|_| ())
    }

    /// Whether a certificate may speak for the authority in CMP: it is one that is trusted, or a path leads there and
    /// it is an authority's or has one of the usages for it (RFC 9483, section 3.5).
    pub(crate) fn may_speak(&self, leaf: &[u8], others: &[Vec<u8>], now: i64) -> bool {
        if self.anchors.iter().any(|anchor| anchor == leaf) {
            return true;
        }
        let Ok(certificate) = PathCertificate::parse(leaf) else {
            return false;
        };
        let usages = certificate.extended_key_usages().unwrap_or_default();
        let has_role = usages
            .iter()
            .any(|usage| SPEAKERS.contains(&usage.as_str()));
        (has_role || certificate.is_authority())
            && certificate.allows(KeyUsage::DigitalSignature)
            && self.validate(leaf, others, now).is_ok()
    }
}

fn parsed(all: &[Vec<u8>]) -> Vec<PathCertificate> {
    all.iter()
        .filter_map(|der| PathCertificate::parse(der).ok())
        .collect()
}

/// `anyExtendedKeyUsage`.
const ANY: &str = "2.5.29.37.0";
/// id-kp-cmcRA and id-kp-cmcCA.
const SPEAKERS: [&str; 2] = ["1.3.6.1.5.5.7.3.28", "1.3.6.1.5.5.7.3.27"];
