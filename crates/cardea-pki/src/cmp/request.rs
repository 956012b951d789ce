//! Requests: header, body, protection.

use crate::asn1::{self, constructed};
use crate::signature::verified;
use crate::{Error, Name, PublicKey, SignatureAlgorithm, oid, time};

use super::protection::SecretProtection;
use super::template::{OldCertificate, revocation};

/// What is in front of every message (RFC 9810, section 5.1.1).
#[derive(Clone, Debug)]
pub struct RequestHeader {
    /// The sender's name, DER; an empty SEQUENCE for whoever has a shared secret only.
    pub sender: Vec<u8>,
    /// By which the recipient finds the secret or key.
    pub sender_key: Option<Vec<u8>>,
    /// The recipient's name.
    pub recipient: Name,
    /// When it is sent, seconds since 1970.
    pub time: i64,
    /// Of the transaction: all its messages have it.
    pub transaction: Vec<u8>,
    /// Ours, new for each message.
    pub nonce: Vec<u8>,
    /// The nonce of the message that this answers.
    pub answered_nonce: Option<Vec<u8>>,
    /// Whether no confirmation is wanted.
    pub implicit_confirm: bool,
}

/// What protects a message.
#[derive(Clone, Debug)]
pub enum Protection {
    /// A shared secret.
    Secret(SecretProtection),
    /// A key, by a signature.
    Signature {
        /// The key.
        key: PublicKey,
        /// How it signs.
        algorithm: SignatureAlgorithm,
    },
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum RequestBody<'a> {
    /// The certificates of the authority.
    CaCertificates,
    /// A further certificate: CertReqMessages of [`CertificateTemplate`](super::CertificateTemplate).
    Certificate(&'a [u8]),
    /// What became of a certificate that was issued.
    Confirm {
        /// Its hash, by the hash of its signature's algorithm; none where a confirmation carries nothing.
        hash: &'a [u8],
        /// As in the answer: 0, or -1 after PKCS#10.
        request: i64,
        /// Whether it is wanted.
        accepted: bool,
    },
    /// A first certificate: CertReqMessages.
    Initial(&'a [u8]),
    /// A request of PKCS#10, DER.
    Pkcs10(&'a [u8]),
    /// Whether it is ready now.
    Poll {
        /// As in the answer.
        request: i64,
    },
    /// To revoke a certificate.
    Revoke {
        /// Which.
        certificate: &'a OldCertificate,
        /// Why (RFC 5280, section 5.3.1).
        reason: u8,
    },
    /// A certificate for another key in the place of one: CertReqMessages.
    Update(&'a [u8]),
}

impl RequestBody<'_> {
    fn to_der(self) -> Vec<u8> {
        match self {
            Self::CaCertificates => {
                let what = asn1::sequence(&[asn1::oid(oid::CA_CERTIFICATES)]);
                asn1::element(constructed(21), &asn1::sequence(&[what]))
            }
            Self::Certificate(messages) => asn1::element(constructed(2), messages),
            Self::Confirm {
                hash,
                request,
                accepted,
            } => {
                // 0 accepted, 2 rejection.
                let status = asn1::sequence(&[asn1::unsigned(&[if accepted { 0 } else { 2 }])]);
                let status = asn1::sequence(&[
                    asn1::element(asn1::TAG_OCTET_STRING, hash),
                    signed(request),
                    status,
                ]);
                asn1::element(constructed(24), &asn1::sequence(&[status]))
            }
            Self::Initial(messages) => asn1::element(constructed(0), messages),
            Self::Pkcs10(request) => asn1::element(constructed(4), request),
            Self::Poll { request } => {
                let one = asn1::sequence(&[signed(request)]);
                asn1::element(constructed(25), &asn1::sequence(&[one]))
            }
            Self::Revoke {
                certificate,
                reason,
            } => asn1::element(constructed(11), &revocation(certificate, reason)),
            Self::Update(messages) => asn1::element(constructed(7), messages),
        }
    }
}

/// A message before it is protected.
#[derive(Clone, Debug)]
pub struct RequestMessage {
    header: Vec<u8>,
    body: Vec<u8>,
    protection: Protection,
}

impl RequestMessage {
    /// Header and body, and what will protect them.
    ///
    /// # Errors
    /// [`Error::InvalidText`] for a time that cannot be written.
    pub fn new(
        header: &RequestHeader,
        body: RequestBody<'_>,
        protection: Protection,
    ) -> Result<Self, Error> {
        let time = time::encode_generalized(header.time).ok_or_else(|| Error::InvalidText {
            what: "time of a message",
            value: header.time.to_string(),
            reason: "it must be before the year 10000",
        })?;
        let algorithm = match &protection {
            Protection::Secret(secret) => secret.to_der(),
            Protection::Signature { algorithm, .. } => algorithm.to_der(),
        };
        let octets = |bytes: &[u8]| asn1::element(asn1::TAG_OCTET_STRING, bytes);
        let mut parts = vec![
            asn1::unsigned(&[2]),
            asn1::element(constructed(4), &header.sender),
            asn1::element(constructed(4), header.recipient.der()),
            asn1::element(constructed(0), &time),
            asn1::element(constructed(1), &algorithm),
        ];
        let optional = [
            (2, header.sender_key.as_deref()),
            (4, Some(header.transaction.as_slice())),
            (5, Some(header.nonce.as_slice())),
            (6, header.answered_nonce.as_deref()),
        ];
        for (number, bytes) in optional {
            parts.extend(bytes.map(|bytes| asn1::element(constructed(number), &octets(bytes))));
        }
        if header.implicit_confirm {
            let information = asn1::sequence(&[
                asn1::oid(oid::IMPLICIT_CONFIRM),
                asn1::element(asn1::TAG_NULL, &[]),
            ]);
            let list = asn1::sequence(&[information]);
            parts.push(asn1::element(constructed(8), &list));
        }
        Ok(Self {
            header: asn1::sequence(&parts),
            body: body.to_der(),
            protection,
        })
    }

    /// What is signed, or what the MAC is over.
    #[must_use]
    pub fn protected_part(&self) -> Vec<u8> {
        asn1::sequence(&[self.header.clone(), self.body.clone()])
    }

    /// What protects it.
    #[must_use]
    pub const fn protection(&self) -> &Protection {
        &self.protection
    }

    /// The message: with the MAC or signature, and the certificates that the recipient needs, the signer's first.
    ///
    /// # Errors
    /// [`Error::Signature`] if it is not one by the key over [`RequestMessage::protected_part`].
    pub fn finish(&self, protection: &[u8], certificates: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let protection = match &self.protection {
            Protection::Secret(_) => protection.to_vec(),
            Protection::Signature { key, algorithm } => {
                verified(key, *algorithm, &self.protected_part(), protection)
                    .ok_or(Error::Signature)?
            }
        };
        let mut parts = vec![
            self.header.clone(),
            self.body.clone(),
            asn1::element(constructed(0), &asn1::bits(&protection)),
        ];
        if !certificates.is_empty() {
            let list = asn1::element(asn1::TAG_SEQUENCE, &certificates.concat());
            parts.push(asn1::element(constructed(1), &list));
        }
        Ok(asn1::sequence(&parts))
    }
}

/// An INTEGER, as short as can be.
fn signed(number: i64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let mut bytes = bytes.as_slice();
    while let [first, rest @ ..] = bytes
        && let Some(next) = rest.first()
        && matches!((first, next & 0x80), (0, 0) | (0xff, 0x80))
    {
        bytes = rest;
    }
    asn1::element(asn1::TAG_INTEGER, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_requests_are_the_shortest() {
        assert_eq!(signed(0), [2, 1, 0]);
        assert_eq!(signed(-1), [2, 1, 0xff]);
        assert_eq!(signed(128), [2, 2, 0, 128]);
        assert_eq!(signed(-129), [2, 2, 0xff, 0x7f]);
    }
}
