//! Certificates of attestation keys, and of the authority that issues them: profiles over [`CertificateDraft`].

use crate::path::key_identifier;
use crate::{
    CertificateDraft, Error, Extension, KeyUsage, Name, PathCertificate, PathError, PublicKey,
    SignatureAlgorithm,
};

/// Policies that say what was checked of a key (TCG OID Registry): the TPM is verified to hold it, it cannot leave the
/// TPM, and it signs nothing but what the TPM says about itself.
pub const POLICY_TPM: [&str; 3] = ["2.23.133.11.1.1", "2.23.133.11.1.2", "2.23.133.11.1.3"];

/// `tcg-kp-AIKCertificate`.
const AK_CERTIFICATE: &str = "2.23.133.8.3";

/// A certificate of an attestation key, before it is signed.
///
/// The subject is empty and the TPM is named in a critical alternative name, as WebAuthn (section 8.3.1) demands it.
/// Nothing in it tells the computer or the card: it goes to relying parties.
#[derive(Clone, Debug)]
pub struct AttestationCertificate<'a> {
    /// The serial number, big-endian; more than zero.
    pub serial: &'a [u8],
    /// The authority's certificate.
    pub issuer: &'a PathCertificate,
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
    /// The attestation key.
    pub key: &'a PublicKey,
    /// Maker, model and version of the TPM: attributes by their dotted object identifiers.
    pub tpm: &'a [(&'a str, &'a str)],
    /// Policies, besides [`POLICY_TPM`]: dotted object identifiers.
    pub policies: &'a [&'a str],
}

impl AttestationCertificate<'_> {
    /// What the authority signs.
    ///
    /// # Errors
    /// As [`CertificateDraft::to_be_signed`]; [`Error::Malformed`] for an authority whose key cannot be read.
    pub fn to_be_signed(&self, algorithm: SignatureAlgorithm) -> Result<Vec<u8>, Error> {
        let policies: Vec<&str> = POLICY_TPM.iter().chain(self.policies).copied().collect();
        let extensions = [
            Extension::extended_key_usages(&[AK_CERTIFICATE])?,
            Extension::directory_name(self.tpm, true)?,
            Extension::basic_constraints(false, None),
            Extension::key_usage(&[KeyUsage::DigitalSignature]),
            Extension::policies(&policies)?,
            Extension::authority_key_identifier(&identifier_of(self.issuer)?),
        ];
        CertificateDraft {
            serial: self.serial,
            issuer: self.issuer.subject().der(),
            subject: &NO_NAME,
            not_before: self.not_before,
            not_after: self.not_after,
            spki: &self.key.to_spki_der(),
            extensions: &extensions,
        }
        .to_be_signed(algorithm)
    }
}

/// An empty SEQUENCE.
const NO_NAME: [u8; 2] = [0x30, 0x00];

fn identifier_of(issuer: &PathCertificate) -> Result<Vec<u8>, Error> {
    let malformed = |_: PathError| Error::Malformed {
        what: "authority's key",
    };
    issuer.key_identifier().map_err(malformed)
}

/// A certificate of an authority for attestation keys that signs itself, before it is signed.
#[derive(Clone, Debug)]
pub struct AuthorityCertificate<'a> {
    /// The serial number, big-endian; more than zero.
    pub serial: &'a [u8],
    /// Its name.
    pub name: &'a Name,
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
    /// Its key.
    pub key: &'a PublicKey,
}

impl AuthorityCertificate<'_> {
    /// What the authority signs. It may have no other authority below it.
    ///
    /// # Errors
    /// As [`CertificateDraft::to_be_signed`]; [`Error::InvalidText`] for an empty name.
    pub fn to_be_signed(&self, algorithm: SignatureAlgorithm) -> Result<Vec<u8>, Error> {
        if self.name.is_empty() {
            return Err(Error::InvalidText {
                what: "subject",
                value: String::new(),
                reason: "it is also the issuer",
            });
        }
        let extensions = [
            Extension::basic_constraints(true, Some(0)),
            Extension::key_usage(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign]),
            Extension::subject_key_identifier(&key_identifier(&self.key.subject_public_key())),
        ];
        CertificateDraft {
            serial: self.serial,
            issuer: self.name.der(),
            subject: self.name.der(),
            not_before: self.not_before,
            not_after: self.not_after,
            spki: &self.key.to_spki_der(),
            extensions: &extensions,
        }
        .to_be_signed(algorithm)
    }
}
