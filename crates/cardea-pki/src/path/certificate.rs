//! A certificate as a path needs it: everything in it is read, and nothing is left over.

use der::asn1::ObjectIdentifier;
use sha1::{Digest, Sha1};

use super::PathError;
use crate::asn1::Reader;
use crate::name::text_of;
use crate::{Error, KeyUsage, Name, PublicKey, oid, time};

const WHAT: &str = "certificate";
/// The largest that is read: thirty times those of TPM makers.
const MAX_CERTIFICATE: usize = 65_536;

/// A certificate of a path (RFC 5280), version 3, in DER.
///
/// Unlike [`crate::Certificate`], which shows what people have, it tolerates nothing behind the DER, and holds keys of
/// every kind that an authority of TPMs signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCertificate {
    der: Vec<u8>,
    body: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    serial: Vec<u8>,
    issuer: Name,
    subject: Name,
    not_before: i64,
    not_after: i64,
    spki: Vec<u8>,
    extensions: Extensions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extensions {
    seen: Vec<ObjectIdentifier>,
    unknown_critical: Option<String>,
    /// Of an authority: how many others may be below it.
    authority: Option<Option<u64>>,
    key_usage: Option<u16>,
    extended_key_usages: Option<Vec<String>>,
    policies: Vec<String>,
    key_identifier: Option<Vec<u8>>,
    directory_name: Vec<(String, String)>,
}

/// The numbers of a public key, as its certificate has them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawPublicKey {
    /// On a curve.
    Ec {
        /// The curve's object identifier, dotted.
        curve: String,
        /// The point as SEC 1 writes it.
        point: Vec<u8>,
    },
    /// RSA; big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
}

impl PathCertificate {
    /// Reads a certificate: DER, and nothing behind it.
    ///
    /// # Errors
    /// [`PathError::Encoding`], [`PathError::Junk`].
    pub fn parse(der: &[u8]) -> Result<Self, PathError> {
        if der.len() > MAX_CERTIFICATE {
            return Err(PathError::Encoding);
        }
        let mut outer = Reader::new(der, WHAT).map_err(|_| PathError::Encoding)?;
        let whole = outer.encoded().map_err(|_| PathError::Encoding)?;
        if !outer.is_empty() {
            return Err(PathError::Junk);
        }
        Self::read(whole).map_err(|_| PathError::Encoding)
    }

    fn read(der: &[u8]) -> Result<Self, Error> {
        let mut certificate = Reader::whole(der, WHAT)?;
        let body = certificate.encoded()?;
        let algorithm = certificate.encoded()?;
        let signature = certificate.bits()?;
        certificate.finish()?;

        let mut tbs = Reader::whole(body, WHAT)?;
        let malformed = || Error::Malformed { what: WHAT };
        let mut version = tbs.constructed(0)?.ok_or_else(malformed)?;
        if version.small()? != VERSION_3 {
            return Err(malformed());
        }
        version.finish()?;
        let serial = tbs.integer()?.to_vec();
        // What was signed says how it is signed.
        if tbs.encoded()? != algorithm {
            return Err(malformed());
        }
        let issuer = Name::from_der(tbs.encoded()?)?;
        let mut validity = tbs.sequence()?;
        let not_before = time::parse(validity.any()?).ok_or_else(malformed)?;
        let not_after = time::parse(validity.any()?).ok_or_else(malformed)?;
        validity.finish()?;
        let subject = Name::from_der(tbs.encoded()?)?;
        let spki = tbs.encoded()?;
        let mut extensions = Extensions::default();
        while !tbs.is_empty() {
            match tbs.constructed(3)? {
                Some(outer) => extensions.read(outer)?,
                // The unique identifiers of version 2.
                None => _ = tbs.any()?,
            }
        }
        Ok(Self {
            der: der.to_vec(),
            body: body.to_vec(),
            algorithm: algorithm.to_vec(),
            signature: signature.to_vec(),
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            spki: spki.to_vec(),
            extensions,
        })
    }

    /// The DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whose key it is; may be empty.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// Who issued it.
    #[must_use]
    pub const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// The serial number: the bytes of the INTEGER.
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

    /// The SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Whether its key may be used for something; also if the certificate does not say.
    #[must_use]
    pub fn allows(&self, usage: KeyUsage) -> bool {
        self.extensions
            .key_usage
            .is_none_or(|bits| bits & (0x8000 >> (usage as u16)) != 0)
    }

    /// The extended key usages in their order, dotted object identifiers; none if the certificate does not say.
    #[must_use]
    pub fn extended_key_usages(&self) -> Option<&[String]> {
        self.extensions.extended_key_usages.as_deref()
    }

    /// The certificate policies, dotted object identifiers.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.extensions.policies
    }

    /// The identifier of its key, by which what it issues names it: the certificate's, else SHA-1 of the key's bits.
    ///
    /// # Errors
    /// [`PathError::Encoding`] for a damaged key.
    pub fn key_identifier(&self) -> Result<Vec<u8>, PathError> {
        if let Some(identifier) = &self.extensions.key_identifier {
            return Ok(identifier.clone());
        }
        let read = || -> Result<Vec<u8>, Error> {
            let mut spki = Reader::whole(&self.spki, WHAT)?;
            spki.sequence()?;
            Ok(key_identifier(spki.bits()?))
        };
        read().map_err(|_| PathError::Encoding)
    }

    /// An attribute of the directory name among the subject's alternative names, by its dotted object identifier.
    #[must_use]
    pub fn directory_attribute(&self, kind: &str) -> Option<&str> {
        let attributes = &self.extensions.directory_name;
        let found = attributes.iter().find(|(found, _)| found == kind);
        found.map(|(_, text)| text.as_str())
    }

    /// The numbers of its key, whatever the certificate restricts the key to.
    ///
    /// # Errors
    /// [`PathError::Encoding`] for damaged ones, [`PathError::Algorithm`] for keys that are neither RSA nor on a named
    /// curve.
    pub fn raw_public_key(&self) -> Result<RawPublicKey, PathError> {
        let read = || -> Result<Result<RawPublicKey, ObjectIdentifier>, Error> {
            let mut spki = Reader::whole(&self.spki, WHAT)?;
            let mut algorithm = spki.sequence()?;
            let bits = spki.bits()?;
            spki.finish()?;
            Ok(match algorithm.oid()? {
                // Some makers write RSAES-OAEP, which the key is for.
                oid::RSA_ENCRYPTION | oid::RSAES_OAEP | oid::RSASSA_PSS => {
                    let mut key = Reader::whole(bits, WHAT)?;
                    let (n, e) = (key.unsigned()?.to_vec(), key.unsigned()?.to_vec());
                    key.finish()?;
                    Ok(RawPublicKey::Rsa { n, e })
                }
                oid::EC_PUBLIC_KEY => Ok(RawPublicKey::Ec {
                    curve: algorithm.oid()?.to_string(),
                    point: bits.to_vec(),
                }),
                other => Err(other),
            })
        };
        match read() {
            Ok(Ok(key)) => Ok(key),
            Ok(Err(other)) => Err(PathError::Algorithm(oid::describe(other))),
            Err(_) => Err(PathError::Encoding),
        }
    }

    /// Whether it is for a key: the numbers are compared, because makers write the algorithm differently.
    #[must_use]
    pub fn is_for(&self, key: &PublicKey) -> bool {
        match (self.raw_public_key(), key) {
            (Ok(RawPublicKey::Ec { curve, point }), PublicKey::Ec(key)) => {
                curve == key.curve().oid().to_string() && point == key.point()
            }
            (Ok(RawPublicKey::Rsa { n, e }), PublicKey::Rsa(key)) => n == key.n() && e == key.e(),
            _ => false,
        }
    }

    /// Whether subject and issuer are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject.der() == self.issuer.der()
    }

    /// Whether it may issue certificates.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        self.extensions.authority.is_some() && self.allows(KeyUsage::KeyCertSign)
    }

    /// Of an authority: how many others may be below it, if there is a limit.
    pub(super) const fn authority(&self) -> Option<Option<u64>> {
        self.extensions.authority
    }

    pub(super) fn unknown_critical(&self) -> Option<&str> {
        self.extensions.unknown_critical.as_deref()
    }

    /// What is signed, with which algorithm, and the signature.
    pub(super) fn signed(&self) -> (&[u8], &[u8], &[u8]) {
        (&self.body, &self.algorithm, &self.signature)
    }
}

/// RFC 5280, section 4.2.1.2, the first method.
pub(crate) fn key_identifier(subject_public_key: &[u8]) -> Vec<u8> {
    Sha1::digest(subject_public_key).to_vec()
}

/// The number that means version 3.
const VERSION_3: u64 = 2;

impl Extensions {
    fn read(&mut self, mut outer: Reader<'_>) -> Result<(), Error> {
        let mut list = outer.sequence()?;
        outer.finish()?;
        while !list.is_empty() {
            let mut extension = list.sequence()?;
            let kind = extension.oid()?;
            let is_critical = extension.next_is(der::Tag::Boolean) && extension.boolean()?;
            let value = extension.octets()?;
            extension.finish()?;
            // RFC 5280, section 4.2: at most one of a kind.
            if self.seen.contains(&kind) {
                return Err(list.malformed());
            }
            self.seen.push(kind);
            let is_known = self.read_one(kind, value)?;
            if is_critical && !is_known && self.unknown_critical.is_none() {
                self.unknown_critical = Some(kind.to_string());
            }
        }
        Ok(())
    }

    /// Reads the value of an extension; returns whether its kind is known.
    fn read_one(&mut self, kind: ObjectIdentifier, value: &[u8]) -> Result<bool, Error> {
        match kind {
            oid::BASIC_CONSTRAINTS => {
                let mut fields = Reader::whole(value, WHAT)?;
                let is_authority = fields.next_is(der::Tag::Boolean) && fields.boolean()?;
                let limit = match fields.is_empty() {
                    true => None,
                    false => Some(fields.small()?),
                };
                fields.finish()?;
                self.authority = is_authority.then_some(limit);
            }
            oid::KEY_USAGE => {
                let mut fields = Reader::new(value, WHAT)?;
                let bits = fields.named_bits()?;
                fields.finish()?;
                let byte = |at| bits.get(at).copied().unwrap_or_default();
                self.key_usage = Some(u16::from_be_bytes([byte(0), byte(1)]));
            }
            oid::EXTENDED_KEY_USAGE => {
                let mut fields = Reader::whole(value, WHAT)?;
                let mut found = Vec::new();
                while !fields.is_empty() {
                    found.push(fields.oid()?.to_string());
                }
                self.extended_key_usages = Some(found);
            }
            oid::SUBJECT_ALT_NAME => self.read_names(value)?,
            oid::CERTIFICATE_POLICIES => {
                let mut fields = Reader::whole(value, WHAT)?;
                while !fields.is_empty() {
                    self.policies.push(fields.sequence()?.dotted_oid()?);
                }
            }
            // The TCG's specification of the TPM; who issued, and where lists of revoked certificates are.
            oid::SUBJECT_KEY_IDENTIFIER => {
                let mut field = Reader::new(value, WHAT)?;
                self.key_identifier = Some(field.octets()?.to_vec());
                field.finish()?;
            }
            oid::SUBJECT_DIRECTORY_ATTRIBUTES
            | oid::AUTHORITY_KEY_IDENTIFIER
            | oid::CRL_DISTRIBUTION_POINTS => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read_names(&mut self, value: &[u8]) -> Result<(), Error> {
        let mut names = Reader::whole(value, WHAT)?;
        while !names.is_empty() {
            let Some(mut name) = names.constructed(4)? else {
                names.encoded()?;
                continue;
            };
            let mut sequence = name.sequence()?;
            name.finish()?;
            while !sequence.is_empty() {
                let mut set = sequence.set()?;
                while !set.is_empty() {
                    let mut attribute = set.sequence()?;
                    let kind = attribute.oid()?.to_string();
                    if let Some(text) = text_of(attribute.last_encoded()?) {
                        self.directory_name.push((kind, text));
                    }
                }
            }
        }
        Ok(())
    }
}
