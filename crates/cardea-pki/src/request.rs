//! Requests for certificates (PKCS#10, RFC 2986) as an authority reads them.

use crate::asn1::Reader;
use crate::pem::{self, Content};
use crate::signature::verified;
use crate::{
    AlternativeName, AttestationAttribute, Error, ExtendedKeyUsage, MAX_INPUT, Name, PublicKey,
    SignatureAlgorithm, oid,
};

const WHAT: &str = "certificate request";

/// A request whose signature by its own key is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    subject: Name,
    key: PublicKey,
    attestation: Option<Vec<u8>>,
    alternative_names: Vec<AlternativeName>,
    extended_key_usages: Vec<ExtendedKeyUsage>,
    der: Vec<u8>,
}

impl CertificateRequest {
    /// Reads the first request of a file, PEM or DER, and checks that the key it asks for has signed it.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::UnsupportedKey`] for a key that no card holds; [`Error::Unsupported`] for a
    /// signature algorithm that such keys have not; [`Error::Signature`].
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        if input.len() > MAX_INPUT {
            return Err(Error::TooLarge(input.len()));
        }
        if !pem::is_pem(input) {
            return Self::from_der(input);
        }
        for block in pem::blocks(input, WHAT)? {
            if let ("CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST", Content::Der(der)) =
                (block.label.as_str(), block.content)
            {
                return Self::from_der(&der);
            }
        }
        Err(Error::Malformed { what: WHAT })
    }

    fn from_der(der: &[u8]) -> Result<Self, Error> {
        let mut request = Reader::whole(der, WHAT)?;
        let body = request.encoded()?;
        let algorithm = algorithm(request.encoded()?)?;
        let signature = request.bits()?;
        request.finish()?;

        let mut info = Reader::whole(body, WHAT)?;
        if info.small()? != 0 {
            return Err(info.malformed());
        }
        let subject = Name::from_der(info.encoded()?)?;
        let key = PublicKey::parse(info.encoded()?)?;
        let mut attributes = info
            .constructed(0)?
            .ok_or(Error::Malformed { what: WHAT })?;
        info.finish()?;
        let mut attestation = None;
        let mut wished = Wished::default();
        while !attributes.is_empty() {
            let mut attribute = attributes.sequence()?;
            let kind = attribute.dotted_oid()?;
            let mut values = attribute.set()?;
            attribute.finish()?;
            if kind == oid::EXTENSION_REQUEST.to_string() {
                wished.read(values.sequence()?)?;
                continue;
            }
            if kind != oid::ATTESTATION.to_string() {
                continue;
            }
            let value = values.encoded()?.to_vec();
            values.finish()?;
            // One attribute with one value.
            if attestation.replace(value).is_some() {
                return Err(Error::Malformed { what: WHAT });
            }
        }
        verified(&key, algorithm, body, signature).ok_or(Error::Signature)?;
        Ok(Self {
            subject,
            key,
            attestation,
            alternative_names: wished.alternative_names,
            extended_key_usages: wished.extended_key_usages,
            der: der.to_vec(),
        })
    }

    /// Whom it asks a certificate for.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// The key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The other names that it asks for; those of other kinds than [`AlternativeName`] are left out.
    #[must_use]
    pub fn alternative_names(&self) -> &[AlternativeName] {
        &self.alternative_names
    }

    /// What it wants the certificate to be for.
    #[must_use]
    pub fn extended_key_usages(&self) -> &[ExtendedKeyUsage] {
        &self.extended_key_usages
    }

    /// What it says about where its key is, unchecked.
    ///
    /// # Errors
    /// As [`AttestationAttribute::parse`].
    pub fn attestation(&self) -> Result<Option<AttestationAttribute>, Error> {
        let attribute = self.attestation.as_deref();
        attribute.map(AttestationAttribute::parse).transpose()
    }
}

/// The extensions that a request asks for (RFC 2985, section 5.4.2), as far as they are compared with the answer.
#[derive(Default)]
struct Wished {
    alternative_names: Vec<AlternativeName>,
    extended_key_usages: Vec<ExtendedKeyUsage>,
}

impl Wished {
    fn read(&mut self, mut extensions: Reader<'_>) -> Result<(), Error> {
        while !extensions.is_empty() {
            let mut extension = extensions.sequence()?;
            let kind = extension.dotted_oid()?;
            if extension.next_is(der::Tag::Boolean) {
                extension.boolean()?;
            }
            let value = extension.octets()?;
            extension.finish()?;
            if kind == oid::SUBJECT_ALT_NAME.to_string() {
                self.alternative_names
                    .extend(AlternativeName::read_all(value)?);
            } else if kind == oid::EXTENDED_KEY_USAGE.to_string() {
                self.extended_key_usages
                    .extend(ExtendedKeyUsage::read_all(value)?);
            }
        }
        Ok(())
    }
}

/// The algorithm of a request's signature: one of those that cards have.
fn algorithm(der: &[u8]) -> Result<SignatureAlgorithm, Error> {
    let known = [
        SignatureAlgorithm::EcdsaSha256,
        SignatureAlgorithm::EcdsaSha384,
        SignatureAlgorithm::RsaSha256,
        SignatureAlgorithm::RsaSha384,
        SignatureAlgorithm::RsaSha512,
    ];
    let found = known.into_iter().find(|known| known.to_der() == der);
    found.ok_or_else(|| {
        let kind = Reader::whole(der, WHAT).and_then(|mut fields| fields.dotted_oid());
        Error::Unsupported(match kind {
            Ok(kind) => format!("the signature algorithm {kind}"),
            Err(_) => "the signature algorithm".to_owned(),
        })
    })
}
