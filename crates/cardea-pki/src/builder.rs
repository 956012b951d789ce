//! Requests (PKCS#10, RFC 2986) and self-signed certificates, in two steps: the signature is made elsewhere.

use crate::asn1;
use crate::certificate::extension;
use crate::path::key_identifier;
use crate::pem;
use crate::signature::verified;
use crate::{
    AlternativeName, DigestAlgorithm, Error, ExtendedKeyUsage, KeyUsage, Name, PublicKey,
    SignatureAlgorithm, oid, time,
};

/// RFC 5280, section 4.1.2.2.
const MAX_SERIAL: usize = 20;

/// What requests and certificates have in common.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    subject: Name,
    key: PublicKey,
    pub(crate) alternative_names: Vec<AlternativeName>,
    pub(crate) key_usages: Vec<KeyUsage>,
    pub(crate) extended_key_usages: Vec<ExtendedKeyUsage>,
}

impl Wanted {
    pub(crate) fn new(subject: Name, key: PublicKey) -> Self {
        Self {
            subject,
            key,
            alternative_names: Vec::new(),
            key_usages: Vec::new(),
            extended_key_usages: Vec::new(),
        }
    }

    pub(crate) fn extensions(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut out = Vec::new();
        if !self.key_usages.is_empty() {
            let value = KeyUsage::to_der(&self.key_usages);
            out.push(extension(oid::KEY_USAGE, true, &value));
        }
        if !self.extended_key_usages.is_empty() {
            let value = ExtendedKeyUsage::to_der(&self.extended_key_usages);
            out.push(extension(oid::EXTENDED_KEY_USAGE, false, &value));
        }
        if !self.alternative_names.is_empty() {
            for name in &self.alternative_names {
                name.check()?;
            }
            let names: Vec<_> = self
                .alternative_names
                .iter()
                .map(AlternativeName::to_der)
                .collect();
            // RFC 5280, section 4.2.1.6: critical if there is no other name.
            let is_critical = self.subject.is_empty();
            let value = asn1::sequence(&names);
            out.push(extension(oid::SUBJECT_ALT_NAME, is_critical, &value));
        }
        Ok(out)
    }

    fn sign_with(
        self,
        algorithm: Option<SignatureAlgorithm>,
    ) -> Result<(PublicKey, SignatureAlgorithm), Error> {
        let kind = self.key.kind();
        let algorithm = algorithm.unwrap_or(SignatureAlgorithm::default_for(kind));
        if !algorithm.fits(kind) {
            return Err(Error::SignatureAlgorithm { key: kind });
        }
        Ok((self.key, algorithm))
    }
}

macro_rules! common_methods {
    () => {
        /// Adds a name beside the subject.
        #[must_use]
        pub fn alternative_name(mut self, name: AlternativeName) -> Self {
            self.wanted.alternative_names.push(name);
            self
        }

        /// Adds what the key may do.
        #[must_use]
        pub fn key_usage(mut self, usage: KeyUsage) -> Self {
            self.wanted.key_usages.push(usage);
            self
        }

        /// Adds what the certificate is for.
        #[must_use]
        pub fn extended_key_usage(mut self, usage: ExtendedKeyUsage) -> Self {
            self.wanted.extended_key_usages.push(usage);
            self
        }

        /// How it is signed; without this, [`SignatureAlgorithm::default_for`] the key.
        #[must_use]
        pub const fn signature_algorithm(mut self, algorithm: SignatureAlgorithm) -> Self {
            self.algorithm = Some(algorithm);
            self
        }
    };
}

/// Builds a request for a certificate (PKCS#10).
#[derive(Clone, Debug)]
pub struct RequestBuilder {
    wanted: Wanted,
    algorithm: Option<SignatureAlgorithm>,
    attestation: Option<Vec<u8>>,
}

impl RequestBuilder {
    /// A request for a subject and a key.
    #[must_use]
    pub fn new(subject: Name, key: PublicKey) -> Self {
        Self {
            wanted: Wanted::new(subject, key),
            algorithm: None,
            attestation: None,
        }
    }

    common_methods!();

    /// Adds what proves where the key is: an `AttestationBundle` in DER, as
    /// [`AttestationAttribute::to_der`](crate::AttestationAttribute::to_der) makes it.
    #[must_use]
    pub fn attestation(mut self, bundle: Vec<u8>) -> Self {
        self.attestation = Some(bundle);
        self
    }

    /// The CertificationRequestInfo, to be signed.
    ///
    /// # Errors
    /// [`Error::SignatureAlgorithm`] if the key does not sign that way, [`Error::InvalidText`] for a name.
    pub fn build(self) -> Result<ToBeSigned, Error> {
        let extensions = self.wanted.extensions()?;
        let attribute = |kind, value| asn1::sequence(&[asn1::oid(kind), asn1::set_of(vec![value])]);
        let mut attributes = Vec::new();
        if !extensions.is_empty() {
            let value = asn1::sequence(&extensions);
            attributes.push(attribute(oid::EXTENSION_REQUEST, value));
        }
        if let Some(bundle) = self.attestation {
            attributes.push(attribute(oid::ATTESTATION, bundle));
        }
        // A SET OF: DER wants an order.
        attributes.sort();
        let body = asn1::sequence(&[
            asn1::unsigned(&[0]),
            self.wanted.subject.der().to_vec(),
            self.wanted.key.to_spki_der(),
            asn1::element(asn1::constructed(0), &attributes.concat()),
        ]);
        let (key, algorithm) = self.wanted.sign_with(self.algorithm)?;
        Ok(ToBeSigned {
            body,
            key,
            algorithm,
            label: "CERTIFICATE REQUEST",
        })
    }
}

/// Builds a certificate that its own key signs: for tests and demonstrations, and until a real one is there.
///
/// It is not a CA's.
#[derive(Clone, Debug)]
pub struct SelfSignedBuilder {
    wanted: Wanted,
    algorithm: Option<SignatureAlgorithm>,
    serial: Vec<u8>,
    not_before: i64,
    not_after: i64,
}

impl SelfSignedBuilder {
    /// A certificate for a subject and a key, with a serial number (big-endian) and the first and last second in which
    /// it is valid, since 1970.
    #[must_use]
    pub fn new(
        subject: Name,
        key: PublicKey,
        serial: &[u8],
        not_before: i64,
        not_after: i64,
    ) -> Self {
        Self {
            wanted: Wanted::new(subject, key),
            algorithm: None,
            serial: serial.to_vec(),
            not_before,
            not_after,
        }
    }

    common_methods!();

    /// The TBSCertificate, to be signed.
    ///
    /// # Errors
    /// [`Error::InvalidText`] for an empty subject, a serial number of zero or more than 20 bytes, and a validity that
    /// ends before it begins; as [`RequestBuilder::build`].
    pub fn build(self) -> Result<ToBeSigned, Error> {
        let invalid = |what, value: String, reason| Error::InvalidText {
            what,
            value,
            reason,
        };
        if self.wanted.subject.is_empty() {
            return Err(invalid("subject", String::new(), "it is also the issuer"));
        }
        let serial = asn1::strip_zeros(&self.serial);
        let hex = || base16ct::lower::encode_string(serial);
        let encoded_serial = asn1::unsigned(serial);
        if serial.is_empty() || encoded_serial.len() > 2 + MAX_SERIAL {
            return Err(invalid(
                "serial number",
                hex(),
                "it must be from 1 to below 2 to the power of 159",
            ));
        }
        let times = time::encode(self.not_before)
            .zip(time::encode(self.not_after))
            .filter(|_| self.not_before <= self.not_after);
        let (not_before, not_after) = times.ok_or_else(|| {
            invalid(
                "validity",
                format!("{} to {}", self.not_before, self.not_after),
                "it must end after it begins, and before the year 10000",
            )
        })?;

        let key_identifier = key_identifier(&self.wanted.key.subject_public_key());
        let mut extensions = vec![
            // CA is false by default, and DER leaves defaults out.
            extension(oid::BASIC_CONSTRAINTS, true, &asn1::sequence(&[])),
            extension(
                oid::SUBJECT_KEY_IDENTIFIER,
                false,
                &asn1::element(asn1::TAG_OCTET_STRING, &key_identifier),
            ),
        ];
        extensions.extend(self.wanted.extensions()?);
        let algorithm = self
            .algorithm
            .unwrap_or(SignatureAlgorithm::default_for(self.wanted.key.kind()));
        let name = self.wanted.subject.der().to_vec();
        let body = asn1::sequence(&[
            // Version 3.
            asn1::element(asn1::constructed(0), &asn1::unsigned(&[2])),
            encoded_serial,
            algorithm.to_der(),
            name.clone(),
            asn1::sequence(&[not_before, not_after]),
            name,
            self.wanted.key.to_spki_der(),
            asn1::element(asn1::constructed(3), &asn1::sequence(&extensions)),
        ]);
        let (key, algorithm) = self.wanted.sign_with(Some(algorithm))?;
        Ok(ToBeSigned {
            body,
            key,
            algorithm,
            label: "CERTIFICATE",
        })
    }
}

/// A request or certificate without its signature.
#[derive(Clone, Debug)]
pub struct ToBeSigned {
    body: Vec<u8>,
    key: PublicKey,
    algorithm: SignatureAlgorithm,
    label: &'static str,
}

impl ToBeSigned {
    /// What is to be digested and signed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// How.
    #[must_use]
    pub const fn signature_algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// The digest.
    #[must_use]
    pub const fn digest_algorithm(&self) -> DigestAlgorithm {
        self.algorithm.digest_algorithm()
    }

    /// The bytes, digested: what a TPM signs, and ECDSA on a card.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        self.digest_algorithm().digest(&self.body)
    }

    /// The digest in its DigestInfo: what PKCS#1 v1.5 on a card may want instead.
    #[must_use]
    pub fn digest_info(&self) -> Vec<u8> {
        self.digest_algorithm().digest_info(&self.body)
    }

    /// Adds the signature: for RSA as long as the modulus; for ECDSA `r` and `s` behind each other, each as long as
    /// the field, or DER.
    ///
    /// # Errors
    /// [`Error::Signature`] if it is not one by the key over these bytes.
    pub fn finish(&self, signature: &[u8]) -> Result<Signed, Error> {
        let signature =
            verified(&self.key, self.algorithm, &self.body, signature).ok_or(Error::Signature)?;
        let der = asn1::sequence(&[
            self.body.clone(),
            self.algorithm.to_der(),
            asn1::bits(&signature),
        ]);
        Ok(Signed {
            der,
            label: self.label,
        })
    }
}

/// A request or certificate with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    der: Vec<u8>,
    label: &'static str,
}

impl Signed {
    /// The DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The PEM, `CERTIFICATE REQUEST` or `CERTIFICATE`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(self.label, &self.der)
    }
}
