//! Subject alternative names.

use std::fmt;
use std::str::FromStr;

use cardea_terms::is_unsafe_to_show;
use der::{Tag, TagNumber, Tagged};

use crate::Error;
use crate::asn1::{self, Reader};
use crate::error::quotable;
use crate::name::text_of;
use crate::oid;

const WHAT: &str = "subject alternative name";

/// A name beside the subject.
///
/// As text: `dns:host.example.org`, `email:ada@example.org`, `pkinit:ada@EXAMPLE.ORG`, `upn:ada@EXAMPLE.ORG`,
/// `uri:urn:uuid:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlternativeName {
    /// A host.
    Dns(String),
    /// An address for mail (rfc822Name).
    Email(String),
    /// A Kerberos principal with its realm: who signs in by PKINIT (otherName 1.3.6.1.5.2.2, RFC 4556, section 3.2.2).
    Pkinit(String),
    /// A user principal name: who logs on with the card (otherName 1.3.6.1.4.1.311.20.2.3).
    Upn(String),
    /// A URI.
    Uri(String),
}

impl AlternativeName {
    /// The GeneralName.
    pub(crate) fn to_der(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => asn1::element(asn1::primitive(1), text.as_bytes()),
            Self::Dns(text) => asn1::element(asn1::primitive(2), text.as_bytes()),
            Self::Uri(text) => asn1::element(asn1::primitive(6), text.as_bytes()),
            Self::Pkinit(text) => other_name(oid::PKINIT_NAME, &principal_to_der(text)),
            Self::Upn(text) => {
                let value = asn1::element(asn1::TAG_UTF8_STRING, text.as_bytes());
                other_name(oid::UPN, &value)
            }
        }
    }

    /// Those of an extension's value that this crate knows.
    pub(crate) fn read_all(der: &[u8]) -> Result<Vec<Self>, Error> {
        let mut names = Reader::whole(der, WHAT)?;
        let mut found = Vec::new();
        while !names.is_empty() {
            if let Some(mut other) = names.constructed(0)? {
                let kind = other.dotted_oid()?;
                let Some(mut value) = other.constructed(0)? else {
                    continue;
                };
                if kind == oid::UPN.to_string() {
                    found.extend(text_of(value.encoded()?).map(Self::Upn));
                } else if kind == oid::PKINIT_NAME.to_string() {
                    found.extend(principal_from_der(value.encoded()?).map(Self::Pkinit));
                }
                continue;
            }
            let name = names.any()?;
            let text = || std::str::from_utf8(name.value()).map(str::to_owned);
            if name.tag() == (primitive(1)) {
                found.extend(text().map(Self::Email));
            } else if name.tag() == primitive(2) {
                found.extend(text().map(Self::Dns));
            } else if name.tag() == primitive(6) {
                found.extend(text().map(Self::Uri));
            }
        }
        Ok(found)
    }

    fn kind_and_text(&self) -> (&'static str, &str) {
        match self {
            Self::Dns(text) => ("dns", text),
            Self::Email(text) => ("email", text),
            Self::Pkinit(text) => ("pkinit", text),
            Self::Upn(text) => ("upn", text),
            Self::Uri(text) => ("uri", text),
        }
    }

    /// Refuses what could not stand in a request.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (_, text) = self.kind_and_text();
        let invalid = |reason| Error::InvalidText {
            what: WHAT,
            value: quotable(&self.to_string()),
            reason,
        };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(invalid("it has blanks or control characters"));
        }
        if !matches!(self, Self::Upn(_)) && !text.is_ascii() {
            return Err(invalid("it must be ASCII: write a host as punycode"));
        }
        match self {
            Self::Dns(text)
                if !text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.*".contains(c)) =>
            {
                Err(invalid("a host is letters, digits, dots and hyphens"))
            }
            Self::Email(text) | Self::Pkinit(text) | Self::Upn(text) if !is_address(text) => {
                Err(invalid("it must look like name@domain"))
            }
            Self::Uri(text) if !text.contains(':') => {
                Err(invalid("a URI begins with a scheme and a colon"))
            }
            _ => Ok(()),
        }
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

/// An otherName (RFC 5280, section 4.2.1.6).
fn other_name(kind: der::asn1::ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    let value = asn1::element(asn1::constructed(0), value);
    asn1::nest(asn1::constructed(0), &[asn1::oid(kind), value])
}

/// `name@REALM` as a KRB5PrincipalName of type NT-PRINCIPAL; components of the name have slashes between them.
fn principal_to_der(text: &str) -> Vec<u8> {
    let (name, realm) = text.rsplit_once('@').unwrap_or((text, ""));
    let string = |text: &str| asn1::element(TAG_GENERAL_STRING, text.as_bytes());
    let components: Vec<_> = name.split('/').map(string).collect();
    let name = asn1::sequence(&[
        asn1::element(asn1::constructed(0), &asn1::unsigned(&[1])),
        asn1::element(asn1::constructed(1), &asn1::sequence(&components)),
    ]);
    asn1::sequence(&[
        asn1::element(asn1::constructed(0), &string(realm)),
        asn1::element(asn1::constructed(1), &name),
    ])
}

/// The principal as text, if it is one: a name of any type.
fn principal_from_der(der: &[u8]) -> Option<String> {
    let mut fields = Reader::whole(der, WHAT).ok()?;
    let realm = general_string(fields.constructed(0).ok()??.last_encoded().ok()?)?;
    let mut outer = fields.constructed(1).ok()??;
    let mut name = outer.sequence().ok()?;
    name.constructed(0).ok()??;
    let (tag, mut components, behind) =
        asn1::split_element(name.constructed(1).ok()??.last_encoded().ok()?)?;
    let mut parts = Vec::new();
    while let Some((part_tag, value, rest)) = asn1::split_element(components) {
        if part_tag != TAG_GENERAL_STRING {
            return None;
        }
        parts.push(std::str::from_utf8(value).ok()?);
        components = rest;
    }
    let is_whole = tag == asn1::TAG_SEQUENCE && components.is_empty() && behind.is_empty();
    (is_whole && !parts.is_empty()).then(|| format!("{}@{realm}", parts.join("/")))
}

fn general_string(encoded: &[u8]) -> Option<&str> {
    match asn1::split_element(encoded)? {
        (TAG_GENERAL_STRING, value, []) => std::str::from_utf8(value).ok(),
        _ => None,
    }
}

const TAG_GENERAL_STRING: u8 = 0x1b;

fn primitive(number: u32) -> Tag {
    TagNumber(number).context_specific(false)
}

impl fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = self.kind_and_text();
        write!(f, "{kind}:")?;
        // A certificate may hold anything; a terminal must not obey it.
        for c in text.chars() {
            if is_unsafe_to_show(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for AlternativeName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidText {
            what: WHAT,
            value: quotable(text),
            reason: "it must begin with `dns:`, `email:`, `pkinit:`, `upn:` or `uri:`",
        };
        let (kind, value) = text.split_once(':').ok_or_else(invalid)?;
        let value = value.trim().to_owned();
        let name = match kind.trim().to_ascii_lowercase().as_str() {
            "dns" => Self::Dns(value),
            "email" => Self::Email(value),
            "pkinit" => Self::Pkinit(value),
            "upn" => Self::Upn(value),
            "uri" => Self::Uri(value),
            _ => return Err(invalid()),
        };
        name.check()?;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_text_and_der() {
        let texts = [
            "dns:host.example.org",
            "email:ada@example.org",
            "pkinit:host/a.example.org@EXAMPLE.ORG",
            "upn:ädä@EXAMPLE.ORG",
            "uri:https://example.org/ada",
        ];
        let names: Vec<AlternativeName> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(
            names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            texts
        );
        let der = asn1::sequence(
            &names
                .iter()
                .map(AlternativeName::to_der)
                .collect::<Vec<_>>(),
        );
        assert_eq!(AlternativeName::read_all(&der).unwrap(), names);
    }

    #[test]
    fn sign_in_names_have_the_bytes_of_openssl() {
        // `openssl req` with otherName:1.3.6.1.4.1.311.20.2.3;UTF8 and 1.3.6.1.5.2.2;SEQUENCE (3.0.19).
        let der = base16ct::upper::decode_vec(
            "3050A01F060A2B060104018237140203A0110C0F616461404558414D504C452E4F5247A02D06062B06010502\
             02A0233021A00D1B0B4558414D504C452E4F5247A110300EA003020101A10730051B03616461",
        )
        .unwrap();
        let names = [
            AlternativeName::Upn("ada@EXAMPLE.ORG".to_owned()),
            AlternativeName::Pkinit("ada@EXAMPLE.ORG".to_owned()),
        ];
        assert_eq!(AlternativeName::read_all(&der).unwrap(), names);
        let parts: Vec<_> = names.iter().map(AlternativeName::to_der).collect();
        assert_eq!(asn1::sequence(&parts), der);
        for cut in 2..der.len() {
            // Damaged names are left out or refused; nothing panics.
            let mut damaged = der.clone();
            damaged[cut] ^= 0x20;
            let _ = AlternativeName::read_all(&damaged);
        }
    }

    #[test]
    fn kinds_are_read_in_any_case() {
        assert_eq!(
            "DNS: example.org".parse(),
            Ok(AlternativeName::Dns("example.org".to_owned()))
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "example.org",
            "ip:127.0.0.1",
            "dns:",
            "dns:exämple.org",
            "dns:a/b",
            "email:ada",
            "email:@x",
            "upn:ada",
            "pkinit:ada",
            "pkinit:ädä@X",
            "uri:example",
            "dns:a b",
        ] {
            assert!(text.parse::<AlternativeName>().is_err(), "{text}");
        }
    }
}
