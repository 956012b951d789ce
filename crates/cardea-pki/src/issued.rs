//! Certificates that an authority issues, in two steps, because its key may be anywhere.
//!
//! The profile is the caller's: nothing is added to what it asks for.

use crate::asn1::{self, primitive};
use crate::certificate::{encoded_extension, extension};
use crate::error::quotable;
use crate::{Error, KeyUsage, SignatureAlgorithm, oid, time};

/// A certificate before it is signed (RFC 5280, version 3).
#[derive(Clone, Debug)]
pub struct CertificateDraft<'a> {
    /// The serial number, big-endian; more than zero.
    pub serial: &'a [u8],
    /// The issuer's name, DER.
    pub issuer: &'a [u8],
    /// The subject's name, DER; an empty SEQUENCE for none.
    pub subject: &'a [u8],
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
    /// The subject's SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    /// Its extensions, in their order.
    pub extensions: &'a [Extension],
}

impl CertificateDraft<'_> {
    /// What the authority signs.
    ///
    /// # Errors
    /// [`Error::InvalidText`] for a validity that ends before it begins or cannot be written.
    pub fn to_be_signed(&self, algorithm: SignatureAlgorithm) -> Result<Vec<u8>, Error> {
        self.with_algorithm(&algorithm.to_der())
    }

    /// Like [`CertificateDraft::to_be_signed`], for any AlgorithmIdentifier in DER.
    ///
    /// # Errors
    /// As there.
    pub fn with_algorithm(&self, algorithm: &[u8]) -> Result<Vec<u8>, Error> {
        let (not_before, not_after) = time::encode(self.not_before)
            .zip(time::encode(self.not_after))
            .filter(|_| self.not_before <= self.not_after)
            .ok_or_else(|| Error::InvalidText {
                what: "validity",
                value: format!("{} to {}", self.not_before, self.not_after),
                reason: "it must end after it begins, and before the year 10000",
            })?;
        let mut parts = vec![
            // Version 3.
            asn1::element(asn1::constructed(0), &asn1::unsigned(&[2])),
            asn1::unsigned(self.serial),
            algorithm.to_vec(),
            self.issuer.to_vec(),
            asn1::sequence(&[not_before, not_after]),
            self.subject.to_vec(),
            self.spki.to_vec(),
        ];
        if !self.extensions.is_empty() {
            let all: Vec<_> = self.extensions.iter().map(|one| one.0.clone()).collect();
            parts.push(asn1::element(asn1::constructed(3), &asn1::sequence(&all)));
        }
        Ok(asn1::sequence(&parts))
    }

    /// The certificate, DER: what was signed, how, and the signature as certificates have it.
    #[must_use]
    pub fn finish(body: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
        Self::finish_with(body, &algorithm.to_der(), signature)
    }

    /// Like [`CertificateDraft::finish`], for any AlgorithmIdentifier in DER.
    #[must_use]
    pub fn finish_with(body: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
        asn1::sequence(&[body.to_vec(), algorithm.to_vec(), asn1::bits(signature)])
    }
}

/// An extension of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension(Vec<u8>);

impl Extension {
    /// Any extension: its dotted object identifier, and its value in DER.
    ///
    /// # Errors
    /// [`Error::InvalidText`] for an object identifier that cannot be one.
    pub fn new(kind: &str, is_critical: bool, value: &[u8]) -> Result<Self, Error> {
        Ok(Self(encoded_extension(
            encode_oid(kind)?,
            is_critical,
            value,
        )))
    }

    /// Whether the subject is an authority, and how many others may be below it. Critical.
    #[must_use]
    pub fn basic_constraints(is_authority: bool, path_length: Option<u8>) -> Self {
        let mut parts = Vec::new();
        if is_authority {
            parts.push(asn1::element(asn1::TAG_BOOLEAN, &[0xff]));
            parts.extend(path_length.map(|length| asn1::unsigned(&[length])));
        }
        let value = asn1::sequence(&parts);
        Self(extension(oid::BASIC_CONSTRAINTS, true, &value))
    }

    /// What the key may do. Critical.
    #[must_use]
    pub fn key_usage(usages: &[KeyUsage]) -> Self {
        let value = KeyUsage::to_der(usages);
        Self(extension(oid::KEY_USAGE, true, &value))
    }

    /// What the certificate is for: dotted object identifiers, in their order.
    ///
    /// # Errors
    /// As [`Extension::new`].
    pub fn extended_key_usages(usages: &[&str]) -> Result<Self, Error> {
        let value = asn1::sequence(&encode_all(usages)?);
        Ok(Self(extension(oid::EXTENDED_KEY_USAGE, false, &value)))
    }

    /// Under which policies it was issued: dotted object identifiers.
    ///
    /// # Errors
    /// As [`Extension::new`].
    pub fn policies(policies: &[&str]) -> Result<Self, Error> {
        let policies = encode_all(policies)?;
        let each: Vec<_> = policies
            .iter()
            .map(|one| asn1::sequence(std::slice::from_ref(one)))
            .collect();
        let value = asn1::sequence(&each);
        Ok(Self(extension(oid::CERTIFICATE_POLICIES, false, &value)))
    }

    /// The issuer's key, by an identifier that the issuer's certificate has.
    #[must_use]
    pub fn authority_key_identifier(identifier: &[u8]) -> Self {
        let value = asn1::sequence(&[asn1::element(primitive(0), identifier)]);
        Self(extension(oid::AUTHORITY_KEY_IDENTIFIER, false, &value))
    }

    /// An identifier of the subject's key.
    #[must_use]
    pub fn subject_key_identifier(identifier: &[u8]) -> Self {
        let value = asn1::element(asn1::TAG_OCTET_STRING, identifier);
        Self(extension(oid::SUBJECT_KEY_IDENTIFIER, false, &value))
    }

    /// A directory name among the subject's alternative names: attributes by their dotted object identifiers.
    ///
    /// # Errors
    /// As [`Extension::new`].
    pub fn directory_name(attributes: &[(&str, &str)], is_critical: bool) -> Result<Self, Error> {
        let mut parts = Vec::new();
        for (kind, text) in attributes {
            let text = asn1::element(asn1::TAG_UTF8_STRING, text.as_bytes());
            let attribute = asn1::sequence(&[encode_oid(kind)?, text]);
            parts.push(asn1::set_of(vec![attribute]));
        }
        let name = asn1::element(asn1::constructed(4), &asn1::sequence(&parts));
        let value = asn1::sequence(&[name]);
        Ok(Self(extension(oid::SUBJECT_ALT_NAME, is_critical, &value)))
    }
}

fn encode_all(oids: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
    oids.iter().map(|text| encode_oid(text)).collect()
}

/// A dotted object identifier, DER.
pub(crate) fn encode_oid(text: &str) -> Result<Vec<u8>, Error> {
    let content = oid::encode(text).ok_or_else(|| Error::InvalidText {
        what: "object identifier",
        value: quotable(text),
        reason: "write it as numbers with dots between them",
    })?;
    Ok(asn1::element(asn1::TAG_OID, &content))
}
