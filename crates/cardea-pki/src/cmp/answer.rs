//! Answers: read without belief.

use cardea_terms::tame;

use crate::asn1::{self, Reader};
use crate::path::verify;
use crate::{Certificate, Error, PathCertificate, oid, time};

use super::protection::{Mac, SecretProtection};

const WHAT: &str = "CMP message";
/// The largest answer that is read.
pub const MAX_ANSWER: usize = crate::MAX_INPUT;
/// More of anything than this is not an honest answer to one request.
const MAX_PARTS: usize = 64;
/// Of a text, in characters.
const MAX_TEXT: usize = 500;

/// What a status says (RFC 9810, section 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it was asked.
    Accepted,
    /// Granted, not quite as asked.
    GrantedWithChanges,
    /// No.
    Rejected,
    /// Not yet.
    Waiting,
    /// Granted, and it will be revoked.
    RevocationWarning,
    /// Revoked.
    RevocationNotification,
    /// Another number.
    Other(u64),
}

/// A status with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusInfo {
    /// The status.
    pub status: Status,
    /// Text of the authority, free of control characters and shortened.
    pub text: String,
    /// The names of the failure bits.
    pub failures: Vec<&'static str>,
}

/// The answer to one request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateResponse {
    /// Which request: 0, or -1 after PKCS#10.
    pub request: i64,
    /// What became of it.
    pub status: StatusInfo,
    /// The certificate.
    pub certificate: Option<Certificate>,
}

/// When to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollReply {
    /// Which request.
    pub request: i64,
    /// In how many seconds.
    pub check_after: u64,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerBody {
    /// ip, cp or kup.
    Certificates {
        /// Certificates of the authority that come along.
        authorities: Vec<Certificate>,
        /// For each request.
        responses: Vec<CertificateResponse>,
    },
    /// pkiconf.
    Confirmed,
    /// An error.
    Error(StatusInfo),
    /// genp: certificates of the authority.
    General(Vec<Certificate>),
    /// pollRep.
    Poll(Vec<PollReply>),
    /// rp.
    Revocation(Vec<StatusInfo>),
    /// Another body, by its number.
    Other(u8),
}

/// An answer that was read and not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    version: u64,
    time: Option<i64>,
    transaction: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    answered_nonce: Option<Vec<u8>>,
    implicit_confirm: bool,
    protected_part: Vec<u8>,
    algorithm: Option<Vec<u8>>,
    protection: Option<Vec<u8>>,
    body: AnswerBody,
    certificates: Vec<Vec<u8>>,
}

impl Answer {
    /// Reads a PKIMessage.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Malformed`].
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_ANSWER {
            return Err(Error::TooLarge(der.len()));
        }
        let mut message = Reader::whole(der, WHAT)?;
        let header = message.encoded()?;
        let body = message.encoded()?;
        let protection = match message.constructed(0)? {
            Some(mut outer) => Some(outer.bits()?.to_vec()),
            None => None,
        };
        let mut certificates = Vec::new();
        if let Some(mut outer) = message.constructed(1)? {
            let mut list = outer.sequence()?;
            while !list.is_empty() {
                bounded(certificates.len(), &list)?;
                certificates.push(list.encoded()?.to_vec());
            }
        }
        message.finish()?;
        let mut answer = Self {
            version: 0,
            time: None,
            transaction: None,
            nonce: None,
            answered_nonce: None,
            implicit_confirm: false,
            protected_part: asn1::sequence(&[header.to_vec(), body.to_vec()]),
            algorithm: None,
            protection,
            body: read_body(body)?,
            certificates,
        };
        answer.read_header(header)?;
        Ok(answer)
    }

    fn read_header(&mut self, header: &[u8]) -> Result<(), Error> {
        let mut fields = Reader::whole(header, WHAT)?;
        self.version = fields.small()?;
        // Sender and recipient have numbers that also stand for what follows them: they are read by their place.
        fields.encoded()?;
        fields.encoded()?;
        if let Some(mut outer) = fields.constructed(0)? {
            self.time = time::parse(outer.any()?);
        }
        if let Some(mut outer) = fields.constructed(1)? {
            self.algorithm = Some(outer.encoded()?.to_vec());
        }
        let octets = |fields: &mut Reader<'_>, number| -> Result<Option<Vec<u8>>, Error> {
            match fields.constructed(number)? {
                Some(mut outer) => Ok(Some(outer.octets()?.to_vec())),
                None => Ok(None),
            }
        };
        octets(&mut fields, 2)?;
        octets(&mut fields, 3)?;
        self.transaction = octets(&mut fields, 4)?;
        self.nonce = octets(&mut fields, 5)?;
        self.answered_nonce = octets(&mut fields, 6)?;
        fields.constructed(7)?;
        if let Some(mut outer) = fields.constructed(8)? {
            let mut list = outer.sequence()?;
            let mut count = 0;
            while !list.is_empty() {
                bounded(count, &list)?;
                count += 1;
                let kind = list.sequence()?.dotted_oid()?;
                self.implicit_confirm |= kind == oid::IMPLICIT_CONFIRM.to_string();
            }
        }
        fields.finish()
    }

    /// The protocol's version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When it was sent, by the peer's clock: seconds since 1970.
    #[must_use]
    pub const fn time(&self) -> Option<i64> {
        self.time
    }

    /// The transaction that it belongs to.
    #[must_use]
    pub fn transaction(&self) -> Option<&[u8]> {
        self.transaction.as_deref()
    }

    /// The peer's nonce.
    #[must_use]
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }

    /// Our nonce, as the peer repeats it.
    #[must_use]
    pub fn answered_nonce(&self) -> Option<&[u8]> {
        self.answered_nonce.as_deref()
    }

    /// Whether the certificate needs no confirmation.
    #[must_use]
    pub const fn implicit_confirm(&self) -> bool {
        self.implicit_confirm
    }

    /// What was answered.
    #[must_use]
    pub const fn body(&self) -> &AnswerBody {
        &self.body
    }

    /// Certificates that come along; of a signed message, the signer's is among them, by custom the first.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// Whether there is a protection, valid or not.
    #[must_use]
    pub const fn has_protection(&self) -> bool {
        self.protection.is_some()
    }

    /// How a shared secret protects it; none if something else does, or nothing.
    ///
    /// # Errors
    /// As [`Answer::is_protected_by_secret`].
    pub fn secret_protection(&self) -> Result<Option<SecretProtection>, Error> {
        let algorithm = self.algorithm.as_deref();
        Ok(algorithm
            .map(SecretProtection::parse)
            .transpose()?
            .flatten())
    }

    /// Whether whoever knows a secret has protected it. A MAC with SHA-1 is refused unless it is let in.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for other algorithms, [`Error::CostTooHigh`] for too many rounds.
    pub fn is_protected_by_secret(&self, secret: &[u8], allow_sha1: bool) -> Result<bool, Error> {
        let (Some(by), Some(protection)) = (self.secret_protection()?, &self.protection) else {
            return Ok(false);
        };
        if by.mac == Mac::HmacSha1 && !allow_sha1 {
            return Err(Error::Unsupported(
                "protection by HMAC with SHA-1".to_owned(),
            ));
        }
        Ok(by.verifies(secret, &self.protected_part, protection))
    }

    /// Whether the key of a certificate has signed it; whether that certificate is trusted is another question.
    #[must_use]
    pub fn is_signed_by(&self, signer: &PathCertificate) -> bool {
        let (Some(algorithm), Some(signature)) = (&self.algorithm, &self.protection) else {
            return false;
        };
        verify(&self.protected_part, algorithm, signature, signer).is_ok()
    }
}

fn bounded(count: usize, reader: &Reader<'_>) -> Result<(), Error> {
    match count < MAX_PARTS {
        true => Ok(()),
        false => Err(reader.malformed()),
    }
}

fn read_body(encoded: &[u8]) -> Result<AnswerBody, Error> {
    let malformed = || Error::Malformed { what: WHAT };
    let (tag, _, _) = asn1::split_element(encoded).ok_or_else(malformed)?;
    let number = tag & 0x1f;
    if tag & 0xe0 != 0xa0 {
        return Err(malformed());
    }
    let mut outer = Reader::new(encoded, WHAT)?;
    let mut content = outer
        .constructed(u32::from(number))?
        .ok_or_else(malformed)?;
    outer.finish()?;
    Ok(match number {
        1 | 3 | 8 => read_certificates(content.sequence()?)?,
        12 => {
            let mut fields = content.sequence()?;
            let mut list = fields.sequence()?;
            let mut found = Vec::new();
            while !list.is_empty() {
                bounded(found.len(), &list)?;
                found.push(read_status(list.sequence()?)?);
            }
            AnswerBody::Revocation(found)
        }
        19 => AnswerBody::Confirmed,
        22 => read_general(content.sequence()?)?,
        23 => {
            let mut fields = content.sequence()?;
            let mut info = read_status(fields.sequence()?)?;
            while !fields.is_empty() {
                match fields.next_is(der::Tag::Sequence) {
                    true => info.add_text(fields.sequence()?)?,
                    false => _ = fields.any()?,
                }
            }
            AnswerBody::Error(info)
        }
        26 => {
            let mut list = content.sequence()?;
            let mut found = Vec::new();
            while !list.is_empty() {
                bounded(found.len(), &list)?;
                let mut one = list.sequence()?;
                found.push(PollReply {
                    request: number_of(&mut one)?,
                    check_after: one.small()?,
                });
            }
            AnswerBody::Poll(found)
        }
        other => AnswerBody::Other(other),
    })
}

/// CertRepMessage (RFC 9810, section 5.3.4).
fn read_certificates(mut fields: Reader<'_>) -> Result<AnswerBody, Error> {
    let mut authorities = Vec::new();
    if let Some(mut outer) = fields.constructed(1)? {
        let mut list = outer.sequence()?;
        while !list.is_empty() {
            bounded(authorities.len(), &list)?;
            authorities.push(Certificate::from_der(list.encoded()?)?);
        }
    }
    let mut list = fields.sequence()?;
    fields.finish()?;
    let mut responses = Vec::new();
    while !list.is_empty() {
        bounded(responses.len(), &list)?;
        let mut one = list.sequence()?;
        let request = number_of(&mut one)?;
        let status = read_status(one.sequence()?)?;
        let mut certificate = None;
        if one.next_is(der::Tag::Sequence) {
            let mut pair = one.sequence()?;
            if let Some(mut outer) = pair.constructed(0)? {
                certificate = Some(Certificate::from_der(outer.encoded()?)?);
            }
        }
        responses.push(CertificateResponse {
            request,
            status,
            certificate,
        });
    }
    Ok(AnswerBody::Certificates {
        authorities,
        responses,
    })
}

fn read_general(mut list: Reader<'_>) -> Result<AnswerBody, Error> {
    let mut found = Vec::new();
    while !list.is_empty() {
        let mut information = list.sequence()?;
        if information.dotted_oid()? != oid::CA_CERTIFICATES.to_string() || information.is_empty() {
            continue;
        }
        let mut certificates = information.sequence()?;
        while !certificates.is_empty() {
            bounded(found.len(), &certificates)?;
            found.push(Certificate::from_der(certificates.encoded()?)?);
        }
    }
    Ok(AnswerBody::General(found))
}

/// PKIStatusInfo.
fn read_status(mut fields: Reader<'_>) -> Result<StatusInfo, Error> {
    let status = match fields.small()? {
        0 => Status::Accepted,
        1 => Status::GrantedWithChanges,
        2 => Status::Rejected,
        3 => Status::Waiting,
        4 => Status::RevocationWarning,
        5 => Status::RevocationNotification,
        other => Status::Other(other),
    };
    let mut info = StatusInfo {
        status,
        text: String::new(),
        failures: Vec::new(),
    };
    if fields.next_is(der::Tag::Sequence) {
        info.add_text(fields.sequence()?)?;
    }
    if fields.next_is(der::Tag::BitString) {
        let bits = fields.named_bits()?;
        let is_set = |at: usize| {
            let byte = bits.get(at / 8).copied().unwrap_or_default();
            byte & (0x80 >> (at % 8)) != 0
        };
        let names = FAILURES.iter().enumerate();
        info.failures = names
            .filter(|(at, _)| is_set(*at))
            .map(|(_, name)| *name)
            .collect();
    }
    Ok(info)
}

impl StatusInfo {
    /// PKIFreeText.
    fn add_text(&mut self, mut texts: Reader<'_>) -> Result<(), Error> {
        while !texts.is_empty() {
            let text = String::from_utf8_lossy(texts.any()?.value()).into_owned();
            let room = MAX_TEXT.saturating_sub(self.text.chars().count());
            if !self.text.is_empty() && room > 0 {
                self.text.push(' ');
            }
            let short: String = text.chars().take(room).collect();
            self.text.push_str(&tame(&short));
        }
        Ok(())
    }
}

/// PKIFailureInfo (RFC 9810, section 5.2.3), in the order of the bits.
const FAILURES: &[&str] = &[
    "badAlg",
    "badMessageCheck",
    "badRequest",
    "badTime",
    "badCertId",
    "badDataFormat",
    "wrongAuthority",
    "incorrectData",
    "missingTimeStamp",
    "badPOP",
    "certRevoked",
    "certConfirmed",
    "wrongIntegrity",
    "badRecipientNonce",
    "timeNotAvailable",
    "unacceptedPolicy",
    "unacceptedExtension",
    "addInfoNotAvailable",
    "badSenderNonce",
    "badCertTemplate",
    "signerNotTrusted",
    "transactionIdInUse",
    "unsupportedVersion",
    "notAuthorized",
    "systemUnavail",
    "systemFailure",
    "duplicateCertReq",
];

/// A number that may be negative, of at most eight bytes.
fn number_of(fields: &mut Reader<'_>) -> Result<i64, Error> {
    let bytes = fields.integer()?;
    let Some(first) = bytes.first().filter(|_| bytes.len() <= 8) else {
        return Err(fields.malformed());
    };
    let start = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(bytes
        .iter()
        .fold(start, |number, byte| number << 8 | i64::from(*byte)))
}
