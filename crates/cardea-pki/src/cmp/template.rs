//! What a certificate is asked to be like (RFC 4211), for requests that are not PKCS#10.

use crate::asn1::{self, constructed, primitive};
use crate::builder::Wanted;
use crate::signature::verified;
use crate::{
    AlternativeName, Certificate, Error, ExtendedKeyUsage, KeyUsage, Name, PublicKey,
    SignatureAlgorithm, oid,
};

/// Which certificate is to be replaced or revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldCertificate {
    issuer: Vec<u8>,
    serial: Vec<u8>,
}

impl OldCertificate {
    /// This one.
    #[must_use]
    pub fn new(certificate: &Certificate) -> Self {
        Self {
            issuer: certificate.issuer().der().to_vec(),
            serial: certificate.serial().to_vec(),
        }
    }

    pub(super) fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// The INTEGER's content.
    pub(super) fn serial(&self) -> &[u8] {
        &self.serial
    }
}

/// A CertRequest: a template with a key, and the certificate that it replaces.
#[derive(Clone, Debug)]
pub struct CertificateTemplate {
    body: Vec<u8>,
    key: PublicKey,
    algorithm: SignatureAlgorithm,
}

impl CertificateTemplate {
    /// A request for a key.
    ///
    /// # Errors
    /// [`Error::InvalidText`] for a name that cannot stand in it.
    pub fn new(
        subject: &Name,
        key: &PublicKey,
        names: &[AlternativeName],
        key_usages: &[KeyUsage],
        extended_key_usages: &[ExtendedKeyUsage],
        old: Option<&OldCertificate>,
    ) -> Result<Self, Error> {
        let mut wanted = Wanted::new(subject.clone(), key.clone());
        wanted.alternative_names = names.to_vec();
        wanted.key_usages = key_usages.to_vec();
        wanted.extended_key_usages = extended_key_usages.to_vec();
        let extensions = wanted.extensions()?;

        let mut template = Vec::new();
        // OpenSSL names the issuer of the old certificate here, and authorities choose by it.
        template.extend(old.map(|old| asn1::element(constructed(3), old.issuer())));
        template.push(asn1::element(constructed(5), subject.der()));
        template.push(retagged(constructed(6), &key.to_spki_der()));
        if !extensions.is_empty() {
            template.push(asn1::nest(constructed(9), &extensions));
        }
        let mut body = vec![asn1::unsigned(&[0]), asn1::sequence(&template)];
        if let Some(old) = old {
            let identifier = asn1::sequence(&[
                asn1::element(constructed(4), old.issuer()),
                asn1::element(asn1::TAG_INTEGER, old.serial()),
            ]);
            let control = asn1::sequence(&[asn1::oid(oid::OLD_CERTIFICATE_ID), identifier]);
            body.push(asn1::sequence(&[control]));
        }
        Ok(Self {
            body: asn1::sequence(&body),
            key: key.clone(),
            algorithm: SignatureAlgorithm::default_for(key.kind()),
        })
    }

    /// What the key signs, to prove that it is there.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// How.
    #[must_use]
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The CertReqMessages with the proof of possession.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn finish(&self, signature: &[u8]) -> Result<Vec<u8>, Error> {
        let signature =
            verified(&self.key, self.algorithm, &self.body, signature).ok_or(Error::Signature)?;
        let proof = asn1::nest(
            constructed(1),
            &[self.algorithm.to_der(), asn1::bits(&signature)],
        );
        let message = asn1::sequence(&[self.body.clone(), proof]);
        Ok(asn1::sequence(&[message]))
    }
}

/// A revocation: RevReqContent (RFC 9810, section 5.3.9) with a reason (RFC 5280, section 5.3.1).
pub(super) fn revocation(old: &OldCertificate, reason: u8) -> Vec<u8> {
    let template = asn1::sequence(&[
        asn1::element(primitive(1), old.serial()),
        asn1::element(constructed(3), old.issuer()),
    ]);
    let reason = asn1::element(TAG_ENUMERATED, &[reason]);
    let extension = crate::certificate::extension(oid::REASON_CODE, false, &reason);
    let details = asn1::sequence(&[template, asn1::sequence(&[extension])]);
    asn1::sequence(&[details])
}

const TAG_ENUMERATED: u8 = 0x0a;

/// An element with another tag, which it has by IMPLICIT.
fn retagged(tag: u8, element: &[u8]) -> Vec<u8> {
    let content = asn1::split_element(element).map_or(element, |(_, content, _)| content);
    asn1::element(tag, content)
}
