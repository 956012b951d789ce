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
/// As text: `dns:host.example.org`, `email:ada@example.org`, `upn:ada@EXAMPLE.ORG`, `uri:urn:uuid:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlternativeName {
    /// A host.
    Dns(String),
    /// An address for mail (rfc822Name).
    Email(String),
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
            Self::Upn(text) => {
                let value = asn1::element(asn1::TAG_UTF8_STRING, text.as_bytes());
                asn1::nest(
                    asn1::constructed(0),
                    &[
                        asn1::oid(oid::UPN),
                        asn1::element(asn1::constructed(0), &value),
                    ],
                )
            }
        }
    }

    /// Those of an extension's value that this crate knows.
    pub(crate) fn read_all(der: &[u8]) -> Result<Vec<Self>, Error> {
        let mut names = Reader::whole(der, WHAT)?;
        let mut found = Vec::new();
        while !names.is_empty() {
            if let Some(mut other) = names.constructed(0)? {
                if other.oid()? == oid::UPN
                    && let Some(mut value) = other.constructed(0)?
                {
                    found.extend(text_of(value.encoded()?).map(Self::Upn));
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
            Self::Email(text) | Self::Upn(text) if !is_address(text) => {
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
            reason: "it must begin with `dns:`, `email:`, `upn:` or `uri:`",
        };
        let (kind, value) = text.split_once(':').ok_or_else(invalid)?;
        let value = value.trim().to_owned();
        let name = match kind.trim().to_ascii_lowercase().as_str() {
            "dns" => Self::Dns(value),
            "email" => Self::Email(value),
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
            "uri:example",
            "dns:a b",
        ] {
            assert!(text.parse::<AlternativeName>().is_err(), "{text}");
        }
    }
}
