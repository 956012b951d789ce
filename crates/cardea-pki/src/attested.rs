//! What a request proves about its key: the attestation attribute (draft-ietf-lamps-csr-attestation).

use crate::asn1::{self, Reader};
use crate::issued::encode_oid;
use crate::{Error, MAX_INPUT};

const WHAT: &str = "attestation attribute";
/// The most statements, and the most certificates: several times as many as any request has.
const MAX_PARTS: usize = 16;

/// An `AttestationBundle`: statements, each of a kind of its own, and the certificates of those who signed them.
///
/// Nothing of it is checked here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttestationAttribute {
    /// The kind of each statement, a dotted object identifier, and the statement in DER.
    pub statements: Vec<(String, Vec<u8>)>,
    /// Certificates, DER.
    pub certificates: Vec<Vec<u8>>,
}

impl AttestationAttribute {
    /// The attribute's value, for [`RequestBuilder::attestation`](crate::RequestBuilder::attestation).
    ///
    /// # Errors
    /// [`Error::InvalidText`] for a kind that is not an object identifier, [`Error::Malformed`] without a statement.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        if self.statements.is_empty() {
            return Err(Error::Malformed { what: WHAT });
        }
        let statements = self.statements.iter();
        let statements: Vec<_> = statements
            .map(|(kind, statement)| Ok(asn1::sequence(&[encode_oid(kind)?, statement.clone()])))
            .collect::<Result<_, Error>>()?;
        let mut parts = vec![asn1::sequence(&statements)];
        if !self.certificates.is_empty() {
            parts.push(asn1::sequence(&self.certificates));
        }
        Ok(asn1::sequence(&parts))
    }

    /// Reads the attribute's value. Certificates of other forms than X.509 are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`], also for more than 16 statements or certificates.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_INPUT {
            return Err(Error::TooLarge(der.len()));
        }
        let malformed = || Error::Malformed { what: WHAT };
        let mut bundle = Reader::whole(der, WHAT)?;
        let mut list = bundle.sequence()?;
        let mut statements = Vec::new();
        while !list.is_empty() {
            let mut one = list.sequence()?;
            statements.push((one.dotted_oid()?, one.encoded()?.to_vec()));
            one.finish()?;
        }
        let mut certificates = Vec::new();
        if !bundle.is_empty() {
            let mut list = bundle.sequence()?;
            let mut count = 0;
            while !list.is_empty() {
                count += 1;
                match list.constructed(3)? {
                    // OtherCertificateFormat.
                    Some(_) => {}
                    None => certificates.push(list.encoded()?.to_vec()),
                }
            }
            if count == 0 || count > MAX_PARTS {
                return Err(malformed());
            }
        }
        bundle.finish()?;
        if statements.is_empty() || statements.len() > MAX_PARTS {
            return Err(malformed());
        }
        Ok(Self {
            statements,
            certificates,
        })
    }
}

/// A statement of the kind [`TpmCertify::KIND`]: TPM2_Certify of the request's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmCertify {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// TPMT_PUBLIC of the key.
    pub public: Option<Vec<u8>>,
}

impl TpmCertify {
    /// `tcg-attest-tpm-certify`.
    pub const KIND: &'static str = "2.23.133.20.1";

    /// The statement, DER.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let parts = [
            Some(&self.attest),
            Some(&self.signature),
            self.public.as_ref(),
        ];
        let parts = parts.into_iter().flatten();
        let parts: Vec<_> = parts
            .map(|part| asn1::element(asn1::TAG_OCTET_STRING, part))
            .collect();
        asn1::sequence(&parts)
    }

    /// Reads the statement.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let mut parts = Reader::whole(der, "statement of a TPM")?;
        let (attest, signature) = (parts.octets()?.to_vec(), parts.octets()?.to_vec());
        let public = match parts.is_empty() {
            true => None,
            false => Some(parts.octets()?.to_vec()),
        };
        parts.finish()?;
        Ok(Self {
            attest,
            signature,
            public,
        })
    }
}

/// An OCTET STRING, DER.
#[must_use]
pub fn octet_string(content: &[u8]) -> Vec<u8> {
    asn1::element(asn1::TAG_OCTET_STRING, content)
}

/// The content of an OCTET STRING in DER.
///
/// # Errors
/// [`Error::Malformed`].
pub fn octet_string_content(der: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = Reader::new(der, WHAT)?;
    let content = reader.octets()?.to_vec();
    reader.finish()?;
    Ok(content)
}
