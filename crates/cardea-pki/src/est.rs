//! What EST (RFC 7030, RFC 8951) sends and receives, without the HTTP around it.

use base64ct::{Base64, Encoding};

use crate::asn1::Reader;
use crate::{AlternativeName, Certificate, Error, ExtendedKeyUsage, MAX_INPUT, oid, pkcs7};

const WHAT: &str = "EST answer";

/// A body as it is sent: base64 without line breaks, because clients and servers exist that take no others
/// (strongSwan 5.9.8), and RFC 8951, section 3.1, wants none.
#[must_use]
pub fn encode_body(der: &[u8]) -> String {
    Base64::encode_string(der)
}

/// A body as it was received: base64, with white space anywhere (RFC 8951, section 3.1).
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Malformed`].
pub fn decode_body(body: &[u8]) -> Result<Vec<u8>, Error> {
    if body.len() > MAX_INPUT {
        return Err(Error::TooLarge(body.len()));
    }
    let text: String = body
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(*byte))
        .collect();
    Base64::decode_vec(&text).map_err(|_| Error::Malformed { what: WHAT })
}

/// The certificates of a degenerate CMS (RFC 5652, certs-only), DER or BER: what `cacerts`, `simpleenroll` and
/// `simplereenroll` answer. At least one.
///
/// # Errors
/// [`Error::NoCertificate`], [`Error::Malformed`], [`Error::Unsupported`] for another kind of CMS.
pub fn certificates(der: &[u8]) -> Result<Vec<Certificate>, Error> {
    let found = pkcs7::certificates(der)?;
    if found.is_empty() {
        return Err(Error::NoCertificate {
            found: "PKCS#7 without certificates".to_owned(),
        });
    }
    if found.len() > MAX_CERTIFICATES {
        return Err(Error::CostTooHigh {
            what: "certificates",
            asked: u64::try_from(found.len()).unwrap_or(u64::MAX),
            limit: MAX_CERTIFICATES as u64,
        });
    }
    found.iter().map(|der| Certificate::from_der(der)).collect()
}

/// More than any authority has, with its old and new keys.
const MAX_CERTIFICATES: usize = 64;

/// What an authority wants in a request (RFC 7030, section 4.5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrAttributes {
    /// The request is to be bound to the TLS connection by `tls-unique`.
    pub challenge_password: bool,
    /// Where the key is, is to be proven.
    pub attestation: bool,
    /// The key that is wanted: the object identifiers of its algorithm and, if there is one, its curve, or the bits of
    /// an RSA key, as text.
    pub key: Option<(String, Option<String>)>,
    /// Other names that are wanted, with their values.
    pub alternative_names: Vec<AlternativeName>,
    /// What the certificate is to be for.
    pub extended_key_usages: Vec<ExtendedKeyUsage>,
    /// What is wanted besides, dotted object identifiers: for a note.
    pub others: Vec<String>,
}

impl CsrAttributes {
    /// Reads the DER.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut list = Reader::whole(der, "list of CSR attributes")?;
        while !list.is_empty() {
            if !list.next_is(der::Tag::Sequence) {
                let kind = list.dotted_oid()?;
                found.note(kind);
                continue;
            }
            let mut attribute = list.sequence()?;
            let kind = attribute.dotted_oid()?;
            let mut values = attribute.set()?;
            attribute.finish()?;
            match kind.as_str() {
                "1.2.840.10045.2.1" => found.key = Some((kind, Some(values.dotted_oid()?))),
                "1.2.840.113549.1.1.1" => {
                    let bits = match values.is_empty() {
                        true => None,
                        false => Some(values.small()?.to_string()),
                    };
                    found.key = Some((kind, bits));
                }
                // The example of RFC 7030 has the identifiers of attributes here, which servers have copied, where
                // RFC 8951, section 5, wants extensions.
                _ if kind == oid::EXTENSION_REQUEST.to_string() => {
                    while !values.is_empty() {
                        match values.next_is(der::Tag::Sequence) {
                            true => found.read_extensions(values.sequence()?)?,
                            false => found.others.push(values.dotted_oid()?),
                        }
                    }
                }
                _ => found.note(kind),
            }
        }
        Ok(found)
    }

    fn note(&mut self, kind: String) {
        if kind == oid::CHALLENGE_PASSWORD.to_string() {
            self.challenge_password = true;
        } else if kind == oid::ATTESTATION.to_string() {
            self.attestation = true;
        } else {
            self.others.push(kind);
        }
    }

    fn read_extensions(&mut self, mut extensions: Reader<'_>) -> Result<(), Error> {
        while !extensions.is_empty() {
            let mut extension = extensions.sequence()?;
            let kind = extension.dotted_oid()?;
            if extension.next_is(der::Tag::Boolean) {
                extension.boolean()?;
            }
            let value = extension.octets()?;
            if kind == oid::SUBJECT_ALT_NAME.to_string() {
                self.alternative_names
                    .extend(AlternativeName::read_all(value)?);
            } else if kind == oid::EXTENDED_KEY_USAGE.to_string() {
                self.extended_key_usages
                    .extend(ExtendedKeyUsage::read_all(value)?);
            } else {
                self.others.push(kind);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_no_line_breaks_and_are_read_with_them() {
        let der: Vec<u8> = (0..=255).collect();
        let body = encode_body(&der);
        assert!(!body.contains(char::is_whitespace));
        let broken: Vec<String> = body
            .as_bytes()
            .chunks(76)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect();
        for line_end in ["\n", "\r\n", " \t"] {
            let text = broken.join(line_end) + line_end;
            assert_eq!(decode_body(text.as_bytes()).unwrap(), der);
        }
        for bad in [&b"%"[..], b"QQ", b"\xff\xfe", b"QUI=QUI="] {
            assert!(decode_body(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            decode_body(&vec![b'A'; MAX_INPUT + 1]),
            Err(Error::TooLarge(MAX_INPUT + 1))
        );
    }

    #[test]
    fn attributes_of_rfc_7030_are_read() {
        // RFC 7030, section 4.5.2: challengePassword, P-384, an extension to be chosen, a digest, a MAC address.
        let body = b"MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw==";
        let der = decode_body(body).unwrap();
        let found = CsrAttributes::parse(&der).unwrap();
        assert!(found.challenge_password && !found.attestation);
        assert_eq!(found.others, ["1.3.6.1.1.1.1.22", "1.2.840.10045.4.3.3"]);
        let (algorithm, curve) = found.key.unwrap();
        assert_eq!(algorithm, "1.2.840.10045.2.1");
        assert_eq!(curve.as_deref(), Some("1.3.132.0.34"));
    }

    #[test]
    fn wanted_keys_and_names_are_read() {
        let san = [
            0x30, 0x0f, 0x82, 0x0d, b'a', b'.', b'e', b'x', b'a', b'm', b'p', b'l', b'e', b'.',
            b'o', b'r', b'g',
        ];
        let extension = crate::certificate::extension(oid::SUBJECT_ALT_NAME, true, &san);
        let attribute = |kind, value| {
            crate::asn1::sequence(&[crate::asn1::oid(kind), crate::asn1::set_of(vec![value])])
        };
        let der = crate::asn1::sequence(&[
            crate::asn1::oid(oid::CHALLENGE_PASSWORD),
            crate::asn1::oid(oid::ATTESTATION),
            crate::asn1::oid(oid::ECDSA_SHA384),
            attribute(oid::EC_PUBLIC_KEY, crate::asn1::oid(oid::SECP384R1)),
            attribute(oid::EXTENSION_REQUEST, crate::asn1::sequence(&[extension])),
        ]);
        let found = CsrAttributes::parse(&der).unwrap();
        assert!(found.challenge_password && found.attestation);
        assert_eq!(found.others, ["1.2.840.10045.4.3.3"]);
        assert_eq!(
            found.key,
            Some((
                "1.2.840.10045.2.1".to_owned(),
                Some("1.3.132.0.34".to_owned())
            ))
        );
        assert_eq!(
            found.alternative_names,
            [AlternativeName::Dns("a.example.org".to_owned())]
        );
        for cut in 0..der.len() {
            assert!(CsrAttributes::parse(&der[..cut]).is_err());
        }
        assert_eq!(
            CsrAttributes::parse(&[0x30, 0]).unwrap(),
            CsrAttributes::default()
        );
    }
}
