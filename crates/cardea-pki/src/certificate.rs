//! X.509 certificates: what is in them, not whether to trust them.

use sha2::{Digest, Sha256};

use crate::asn1::{self, Reader};
use crate::error::quotable;
use crate::kind::rsa_kind;
use crate::pem::{self, Content};
use crate::public_key::read_curve;
use crate::{
    AlternativeName, Error, ExtendedKeyUsage, KeyKind, MAX_INPUT, Name, PublicKey,
    SignatureAlgorithm, oid, pkcs7, time,
};

const WHAT: &str = "certificate";

/// A certificate (RFC 5280); its signature is not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    subject: Name,
    issuer: Name,
    serial: Vec<u8>,
    not_before: i64,
    not_after: i64,
    spki: Vec<u8>,
    public_key: Result<PublicKey, Error>,
    key_description: String,
    extensions: Shown,
}

/// What is shown of the extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    alternative_names: Vec<AlternativeName>,
    extended_key_usages: Vec<ExtendedKeyUsage>,
    key_identifier: Option<Vec<u8>>,
    security_identifier: Option<String>,
}

impl Certificate {
    /// Reads the first certificate of a file, PEM or DER.
    ///
    /// # Errors
    /// [`Error::NoCertificate`] says what a PEM file has instead, [`Error::Malformed`] that it is damaged.
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        Self::parse_all(input)?
            .into_iter()
            .next()
            .ok_or(Error::Malformed { what: WHAT })
    }

    /// Reads all certificates of a file, at least one: those of the blocks of a PEM file, those inside PKCS#7 (`.p7b`,
    /// `.p7c`, PEM or not), or the one that the DER is.
    ///
    /// # Errors
    /// As [`Certificate::parse`].
    pub fn parse_all(input: &[u8]) -> Result<Vec<Self>, Error> {
        if input.len() > MAX_INPUT {
            return Err(Error::TooLarge(input.len()));
        }
        let mut found = Vec::new();
        let mut others = Vec::new();
        if pem::is_pem(input) {
            for block in pem::blocks(input, WHAT)? {
                match block.content {
                    // Certification authorities write either label over either content.
                    Content::Der(der) if LABELS.contains(&block.label.as_str()) => {
                        read(&der, &mut found, &mut others)?;
                    }
                    _ => others.push(quotable(&block.label)),
                }
            }
        } else {
            read(input, &mut found, &mut others)?;
        }
        if found.is_empty() {
            others.dedup();
            return Err(Error::NoCertificate {
                found: others.join(", "),
            });
        }
        Ok(found)
    }

    /// Reads one certificate. Zero bytes and white space behind it, which some programs write, are left out.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, Error> {
        let mut outer = Reader::new(der, WHAT)?;
        let whole = outer.encoded()?;
        let padding = der.get(whole.len()..).unwrap_or_default();
        if !asn1::is_padding(padding) {
            return Err(outer.malformed());
        }
        let der = whole;
        let mut certificate = Reader::whole(der, WHAT)?;
        let mut tbs = certificate.sequence()?;
        certificate.sequence()?;
        certificate.bits()?;
        certificate.finish()?;

        // The version: extensions are read where there are some.
        tbs.constructed(0)?;
        let serial = tbs.integer()?.to_vec();
        tbs.sequence()?;
        let issuer = Name::from_der(tbs.encoded()?)?;
        let mut validity = tbs.sequence()?;
        let malformed = || Error::Malformed {
            what: "certificate's validity",
        };
        let not_before = time::parse(validity.any()?).ok_or_else(malformed)?;
        let not_after = time::parse(validity.any()?).ok_or_else(malformed)?;
        validity.finish()?;
        let subject = Name::from_der(tbs.encoded()?)?;
        let spki = tbs.encoded()?;
        let (public_key, key_description) = describe_key(spki)?;
        let extensions = read_extensions(tbs)?;
        Ok(Self {
            der: der.to_vec(),
            subject,
            issuer,
            serial,
            not_before,
            not_after,
            spki: spki.to_vec(),
            public_key,
            key_description,
            extensions,
        })
    }

    /// The DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// Whose key it is.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// Who says so.
    #[must_use]
    pub const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// The serial number: the bytes of the INTEGER, a leading zero included.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The first second in which it is valid, since 1970.
    #[must_use]
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// The last second in which it is valid, since 1970.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The SubjectPublicKeyInfo, DER, as the certificate has it.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public key.
    ///
    /// # Errors
    /// [`Error::UnsupportedKey`] if no card holds such a key; what else may be wrong with a key.
    pub fn public_key(&self) -> Result<&PublicKey, Error> {
        self.public_key.as_ref().map_err(Clone::clone)
    }

    /// The kind of its key; none if no card holds such a key.
    #[must_use]
    pub fn key_kind(&self) -> Option<KeyKind> {
        self.public_key.as_ref().ok().map(PublicKey::kind)
    }

    /// What its key is, for people: also of kinds that no card holds.
    #[must_use]
    pub fn key_description(&self) -> &str {
        &self.key_description
    }

    /// The SHA-256 of the DER.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The subject's other names; those of other kinds than [`AlternativeName`] are left out.
    #[must_use]
    pub fn alternative_names(&self) -> &[AlternativeName] {
        &self.extensions.alternative_names
    }

    /// What it is for; empty if the certificate does not say.
    #[must_use]
    pub fn extended_key_usages(&self) -> &[ExtendedKeyUsage] {
        &self.extensions.extended_key_usages
    }

    /// The identifier of its key, if the certificate has one.
    #[must_use]
    pub fn key_identifier(&self) -> Option<&[u8]> {
        self.extensions.key_identifier.as_deref()
    }

    /// The security identifier of the account in its directory (extension 1.3.6.1.4.1.311.25.2): the authority's word,
    /// which nothing here asks for.
    #[must_use]
    pub fn security_identifier(&self) -> Option<&str> {
        self.extensions.security_identifier.as_deref()
    }

    /// Whether a domain controller finds the account by more than a name that can be given to another one: by the
    /// security identifier, in its extension or as a URI (MS-PKCA 3.1.5.2.1.6).
    #[must_use]
    pub fn is_strongly_mapped(&self) -> bool {
        let is_mapping = |name: &AlternativeName| matches!(name, AlternativeName::Uri(uri) if uri.starts_with(SID_URI));
        self.security_identifier().is_some() || self.alternative_names().iter().any(is_mapping)
    }

    /// The digest by which CMP confirms it: of its own signature's algorithm (RFC 9810, section 5.3.18); none for
    /// algorithms that this crate does not know.
    #[must_use]
    pub fn confirmation_hash(&self) -> Option<Vec<u8>> {
        let mut certificate = Reader::whole(&self.der, WHAT).ok()?;
        certificate.sequence().ok()?;
        let algorithm = SignatureAlgorithm::from_der(certificate.encoded().ok()?)?;
        Some(algorithm.digest_algorithm().digest(&self.der))
    }

    /// Whether it is for this key.
    #[must_use]
    pub fn matches(&self, key: &PublicKey) -> bool {
        self.public_key.as_ref() == Ok(key)
    }

    /// Whether subject and issuer are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject.der() == self.issuer.der()
    }
}

/// The key, and what people call it.
fn describe_key(spki: &[u8]) -> Result<(Result<PublicKey, Error>, String), Error> {
    let key = PublicKey::parse(spki);
    if let Ok(key) = &key {
        let description = key.kind().to_string();
        return Ok((Ok(key.clone()), description));
    }
    let mut fields = Reader::whole(spki, WHAT)?;
    let mut algorithm = fields.sequence()?;
    let description = match algorithm.oid()? {
        oid::RSA_ENCRYPTION => {
            let mut numbers = Reader::whole(fields.bits()?, WHAT)?;
            match rsa_kind(numbers.unsigned()?) {
                Ok(kind) => kind.to_string(),
                Err(found) => found,
            }
        }
        oid::EC_PUBLIC_KEY => match read_curve(&mut algorithm) {
            Ok(curve) => curve.key_kind().to_string(),
            Err(Error::UnsupportedKey { found }) => found,
            Err(error) => return Err(error),
        },
        other => oid::describe(other),
    };
    Ok((key, description))
}

/// Before a security identifier in a URI.
const SID_URI: &str = "tag:microsoft.com,2022-09-14:sid:";

/// From behind the SubjectPublicKeyInfo.
fn read_extensions(mut tbs: Reader<'_>) -> Result<Shown, Error> {
    let mut shown = Shown::default();
    while !tbs.is_empty() {
        let Some(mut extensions) = tbs.constructed(3)? else {
            // The unique identifiers of version 2.
            tbs.any()?;
            continue;
        };
        shown.read(extensions.sequence()?)?;
    }
    Ok(shown)
}

impl Shown {
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
                    .extend(ExtendedKeyUsage::read_all(value).unwrap_or_default());
            } else if kind == oid::SUBJECT_KEY_IDENTIFIER.to_string() {
                self.key_identifier = identifier(value);
            } else if kind == oid::NTDS_CA_SECURITY.to_string() {
                self.security_identifier = security_identifier(value);
            }
        }
        Ok(())
    }
}

fn identifier(value: &[u8]) -> Option<Vec<u8>> {
    let mut field = Reader::new(value, WHAT).ok()?;
    let identifier = field.octets().ok()?.to_vec();
    field.finish().ok()?;
    Some(identifier)
}

/// GeneralNames with one otherName, whose value is an OCTET STRING that holds text.
fn security_identifier(value: &[u8]) -> Option<String> {
    let mut names = Reader::whole(value, WHAT).ok()?;
    let mut name = names.constructed(0).ok()??;
    if name.oid().ok()? != oid::NTDS_OBJECT_SID {
        return None;
    }
    let mut outer = name.constructed(0).ok()??;
    let text = std::str::from_utf8(outer.octets().ok()?).ok()?;
    let is_sid = text.len() <= MAX_SID
        && text.starts_with("S-1-")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"S-".contains(&byte));
    is_sid.then(|| text.to_owned())
}

/// Of 15 sub-authorities with ten digits each (MS-DTYP 2.4.2.1).
const MAX_SID: usize = 184;

/// Labels of PEM blocks that hold certificates or PKCS#7.
const LABELS: &[&str] = &[
    "CERTIFICATE",
    "CMS",
    "PKCS #7 SIGNED DATA",
    "PKCS7",
    "X509 CERTIFICATE",
];

/// Adds the certificates of a certificate or of PKCS#7.
fn read(der: &[u8], found: &mut Vec<Certificate>, others: &mut Vec<String>) -> Result<(), Error> {
    if !pkcs7::looks_like(der) {
        found.push(Certificate::from_der(der)?);
        return Ok(());
    }
    let before = found.len();
    for certificate in pkcs7::certificates(der)? {
        found.push(Certificate::from_der(&certificate)?);
    }
    if found.len() == before {
        others.push("PKCS#7 without certificates".to_owned());
    }
    Ok(())
}

impl AsRef<[u8]> for Certificate {
    fn as_ref(&self) -> &[u8] {
        &self.der
    }
}

/// One extension (RFC 5280, section 4.1).
pub(crate) fn extension(
    kind: der::asn1::ObjectIdentifier,
    is_critical: bool,
    value: &[u8],
) -> Vec<u8> {
    encoded_extension(asn1::oid(kind), is_critical, value)
}

/// Like [`extension`], with its object identifier in DER.
pub(crate) fn encoded_extension(kind: Vec<u8>, is_critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![kind];
    if is_critical {
        parts.push(asn1::element(asn1::TAG_BOOLEAN, &[0xff]));
    }
    parts.push(asn1::element(asn1::TAG_OCTET_STRING, value));
    asn1::sequence(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_identifier_is_read_as_openssl_writes_it() {
        let value = base16ct::upper::decode_vec(
            "3025A023060A2B060104018237190201A0150413532D312D352D32312D312D322D332D31313034",
        )
        .unwrap();
        assert_eq!(
            security_identifier(&value).as_deref(),
            Some("S-1-5-21-1-2-3-1104")
        );
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 0x80;
            assert_eq!(security_identifier(&damaged), None, "{at}");
            assert_eq!(security_identifier(&value[..at]), None);
        }
    }
}
