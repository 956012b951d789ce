//! Distinguished names: from text, to text.

use std::fmt;
use std::str::FromStr;

use cardea_terms::is_unsafe_to_show;
use der::asn1::ObjectIdentifier;

use crate::Error;
use crate::asn1::{self, Reader};
use crate::error::quotable;
use crate::oid;

const WHAT: &str = "name";
const TAG_NUMERIC_STRING: u8 = 0x12;
const TAG_PRINTABLE_STRING: u8 = 0x13;
const TAG_TELETEX_STRING: u8 = 0x14;
const TAG_IA5_STRING: u8 = 0x16;
const TAG_VISIBLE_STRING: u8 = 0x1a;
const TAG_UNIVERSAL_STRING: u8 = 0x1c;
const TAG_BMP_STRING: u8 = 0x1e;

/// A distinguished name (X.501).
///
/// From text in two ways. RFC 4514, the most particular part first: `CN=Ada Lovelace,O=Example,C=GB`, with `\` before
/// what is not meant as punctuation. OpenSSL's `-subj`, the most particular part last: `/C=GB/O=Example/CN=Ada Lovelace`.
/// [`fmt::Display`] writes RFC 4514.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    der: Vec<u8>,
    text: String,
    common_name: Option<String>,
}

impl Name {
    /// The DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The most particular common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Whether it has no parts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn from_der(der: &[u8]) -> Result<Self, Error> {
        let mut sequence = Reader::whole(der, WHAT)?;
        let mut parts = Vec::new();
        let mut common_name = None;
        while !sequence.is_empty() {
            let mut set = sequence.set()?;
            let mut values = Vec::new();
            while !set.is_empty() {
                let mut attribute = set.sequence()?;
                let kind = attribute.oid()?;
                let encoded = attribute.last_encoded()?;
                let text = text_of(encoded);
                if kind == oid::COMMON_NAME {
                    common_name = text.clone().or(common_name);
                }
                values.push(show(kind, text, encoded));
            }
            if values.is_empty() {
                return Err(sequence.malformed());
            }
            // Their order means nothing; this one is OpenSSL's.
            values.reverse();
            parts.push(values.join("+"));
        }
        parts.reverse();
        Ok(Self {
            der: der.to_vec(),
            text: parts.join(","),
            common_name,
        })
    }

    /// From RDNs in the order of the DER.
    fn from_rdns(rdns: Vec<Vec<Attribute>>) -> Result<Self, Error> {
        let mut parts = Vec::new();
        for rdn in rdns {
            let encoded = rdn
                .into_iter()
                .map(|attribute| attribute.encode())
                .collect::<Result<Vec<_>, _>>()?;
            parts.push(asn1::set_of(encoded));
        }
        Self::from_der(&asn1::sequence(&parts))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.text)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidText {
            what: WHAT,
            value: quotable(text),
            reason,
        };
        let mut rdns = match text.strip_prefix('/') {
            Some(rest) => read(rest, '/', &invalid)?,
            None => read(text, ',', &invalid)?,
        };
        if !text.starts_with('/') {
            rdns.reverse();
        }
        Self::from_rdns(rdns)
    }
}

/// Attributes that have a name: the keyword that is shown, what else is understood, the most characters.
const ATTRIBUTES: &[(&str, &[&str], &str, usize)] = &[
    ("CN", &["COMMONNAME"], "2.5.4.3", 64),
    ("SN", &["SURNAME"], "2.5.4.4", 40),
    ("serialNumber", &["SERIALNUMBER"], "2.5.4.5", 64),
    ("C", &["COUNTRYNAME"], "2.5.4.6", 2),
    ("L", &["LOCALITYNAME"], "2.5.4.7", 128),
    ("ST", &["S", "STATEORPROVINCENAME"], "2.5.4.8", 128),
    ("STREET", &["STREETADDRESS"], "2.5.4.9", 128),
    ("O", &["ORGANIZATIONNAME"], "2.5.4.10", 64),
    ("OU", &["ORGANIZATIONALUNITNAME"], "2.5.4.11", 64),
    ("title", &["T", "TITLE"], "2.5.4.12", 64),
    ("description", &["DESCRIPTION"], "2.5.4.13", 1024),
    ("postalCode", &["POSTALCODE"], "2.5.4.17", 40),
    ("name", &["NAME"], "2.5.4.41", 64),
    ("GN", &["GIVENNAME"], "2.5.4.42", 16),
    ("initials", &["INITIALS"], "2.5.4.43", 5),
    (
        "generationQualifier",
        &["GENERATIONQUALIFIER"],
        "2.5.4.44",
        3,
    ),
    ("dnQualifier", &["DNQUALIFIER"], "2.5.4.46", 64),
    ("pseudonym", &["PSEUDONYM"], "2.5.4.65", 128),
    (
        "organizationIdentifier",
        &["ORGANIZATIONIDENTIFIER"],
        "2.5.4.97",
        128,
    ),
    ("UID", &["USERID"], "0.9.2342.19200300.100.1.1", 256),
    ("DC", &["DOMAINCOMPONENT"], "0.9.2342.19200300.100.1.25", 63),
    (
        "emailAddress",
        &["E", "EMAIL", "EMAILADDRESS"],
        "1.2.840.113549.1.9.1",
        255,
    ),
];

struct Attribute {
    kind: ObjectIdentifier,
    value: Value,
}

enum Value {
    /// A text, in the string type that its kind wants.
    Text(String),
    /// DER as it is, from `#` and hexadecimal digits.
    Encoded(Vec<u8>),
}

impl Attribute {
    fn encode(self) -> Result<Vec<u8>, Error> {
        let value = match self.value {
            Value::Encoded(der) => der,
            Value::Text(text) => encode_text(self.kind, &text)?,
        };
        Ok(asn1::sequence(&[asn1::oid(self.kind), value]))
    }
}

/// RFC 5280, appendix A.1: country, serial number and qualifier are PrintableString; mail and domain IA5String.
fn encode_text(kind: ObjectIdentifier, text: &str) -> Result<Vec<u8>, Error> {
    let dotted = kind.to_string();
    let invalid = |reason| Error::InvalidText {
        what: "value in a name",
        value: quotable(text),
        reason,
    };
    let known = ATTRIBUTES.iter().find(|(_, _, oid, _)| *oid == dotted);
    if text.is_empty() {
        return Err(invalid("it is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid("it has control characters"));
    }
    if known.is_some_and(|(_, _, _, most)| text.chars().count() > *most) {
        return Err(invalid("it is longer than RFC 5280 allows"));
    }
    let tag = match known.map(|(keyword, ..)| *keyword) {
        Some("C") if !(text.len() == 2 && text.chars().all(|c| c.is_ascii_uppercase())) => {
            return Err(invalid("a country must be two uppercase letters"));
        }
        Some("C" | "serialNumber" | "dnQualifier") => {
            if !text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c))
            {
                return Err(invalid(
                    "it must consist of ASCII letters, digits and `'()+,-./:=?`",
                ));
            }
            TAG_PRINTABLE_STRING
        }
        Some("DC" | "emailAddress") => {
            if !text.is_ascii() {
                return Err(invalid("it must be ASCII"));
            }
            TAG_IA5_STRING
        }
        _ => asn1::TAG_UTF8_STRING,
    };
    Ok(asn1::element(tag, text.as_bytes()))
}

fn kind_of(keyword: &str) -> Option<ObjectIdentifier> {
    let upper = keyword.to_ascii_uppercase();
    let named = ATTRIBUTES.iter().find(|(shown, others, _, _)| {
        shown.eq_ignore_ascii_case(&upper) || others.contains(&upper.as_str())
    });
    let dotted = match named {
        Some((_, _, dotted, _)) => dotted,
        None => upper.strip_prefix("OID.").unwrap_or(keyword),
    };
    ObjectIdentifier::new(dotted).ok()
}

/// Text into RDNs, in its own order.
fn read(
    text: &str,
    separator: char,
    invalid: &impl Fn(&'static str) -> Error,
) -> Result<Vec<Vec<Attribute>>, Error> {
    let mut rdns = Vec::new();
    if text.trim().is_empty() {
        return Ok(rdns);
    }
    let mut rdn = Vec::new();
    let mut rest = text.chars();
    loop {
        let mut keyword = String::new();
        loop {
            match rest.next() {
                Some('=') => break,
                Some(c) if c == separator => return Err(invalid("a part has no `=`")),
                Some(c) => keyword.push(c),
                None => return Err(invalid("a part has no `=`")),
            }
        }
        let kind = kind_of(keyword.trim()).ok_or_else(|| {
            invalid("an unknown keyword; use those of RFC 4514 or a dotted number")
        })?;
        let (value, end) = read_value(&mut rest, separator, invalid)?;
        rdn.push(Attribute { kind, value });
        if end != Some('+') {
            rdns.push(std::mem::take(&mut rdn));
        }
        if end.is_none() {
            return Ok(rdns);
        }
    }
}

/// One value and what ended it.
fn read_value(
    rest: &mut std::str::Chars<'_>,
    separator: char,
    invalid: &impl Fn(&'static str) -> Error,
) -> Result<(Value, Option<char>), Error> {
    // Bytes, because escapes may write one character in several.
    let mut bytes = Vec::new();
    // Blanks at both ends do not count unless they are escaped.
    let mut kept = 0;
    let mut is_literal = false;
    let end = loop {
        match rest.next() {
            None => break None,
            Some(c) if c == separator || c == '+' => break Some(c),
            Some('\\') => {
                is_literal = true;
                let escaped = rest.next().ok_or_else(|| invalid("it ends with `\\`"))?;
                match (separator, escaped.to_digit(16)) {
                    (',', Some(high)) => {
                        let low = rest
                            .next()
                            .and_then(|low| low.to_digit(16))
                            .ok_or_else(|| invalid("`\\` and one hexadecimal digit"))?;
                        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    }
                    _ => push(&mut bytes, escaped),
                }
                kept = bytes.len();
            }
            Some(' ') if bytes.is_empty() => {}
            Some('"') if separator == ',' => {
                return Err(invalid("a quotation mark without `\\` before it"));
            }
            Some(c) => {
                push(&mut bytes, c);
                if c != ' ' {
                    kept = bytes.len();
                }
            }
        }
    };
    bytes.truncate(kept);
    let text = String::from_utf8(bytes).map_err(|_| invalid("an escape that is not UTF-8"))?;
    match text.strip_prefix('#') {
        Some(hex) if separator == ',' && !is_literal => {
            let der = from_hex(hex).ok_or_else(|| invalid("`#` without DER in hexadecimal"))?;
            let whole = Reader::new(&der, WHAT).and_then(Reader::last_encoded);
            whole.map_err(|_| invalid("`#` without DER in hexadecimal"))?;
            Ok((Value::Encoded(der), end))
        }
        _ => Ok((Value::Text(text), end)),
    }
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    base16ct::mixed::decode_vec(text).ok()
}

/// The text of an element of a string type; `None` for other types and impossible text.
pub(crate) fn text_of(encoded: &[u8]) -> Option<String> {
    let (tag, bytes, _) = asn1::split_element(encoded)?;
    match tag {
        asn1::TAG_UTF8_STRING
        | TAG_NUMERIC_STRING
        | TAG_PRINTABLE_STRING
        | TAG_IA5_STRING
        | TAG_VISIBLE_STRING => std::str::from_utf8(bytes).ok().map(str::to_owned),
        // In practice Latin-1.
        TAG_TELETEX_STRING => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        TAG_BMP_STRING => bmp_text(bytes),
        TAG_UNIVERSAL_STRING => {
            let (characters, []) = bytes.as_chunks::<4>() else {
                return None;
            };
            let characters = characters.iter().map(|code| u32::from_be_bytes(*code));
            characters.map(char::from_u32).collect()
        }
        _ => None,
    }
}

/// UTF-16, big-endian.
pub(crate) fn bmp_text(bytes: &[u8]) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else {
        return None;
    };
    char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit)))
        .collect::<Result<String, _>>()
        .ok()
}

/// One attribute as RFC 4514 writes it.
fn show(kind: ObjectIdentifier, text: Option<String>, encoded: &[u8]) -> String {
    let dotted = kind.to_string();
    let known = ATTRIBUTES.iter().find(|(_, _, oid, _)| *oid == dotted);
    match (known, text) {
        (Some((keyword, ..)), Some(text)) => format!("{keyword}={}", escape(&text)),
        (known, _) => {
            let keyword = known.map_or(dotted.as_str(), |(keyword, ..)| keyword);
            let hex = base16ct::lower::encode_string(encoded);
            format!("{keyword}=#{hex}")
        }
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' | ' ' if at == 0 => out.extend(['\\', c]),
            ' ' if at == last => out.extend(['\\', c]),
            // Hexadecimal pairs are allowed for any: a terminal must not obey a name.
            c if is_unsafe_to_show(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.push_str(&format!("\\{byte:02X}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn both_ways_of_writing_mean_the_same() {
        let rfc = name("CN=Ada Lovelace,O=Example,C=GB");
        assert_eq!(rfc, name("/C=GB/O=Example/CN=Ada Lovelace"));
        assert_eq!(rfc, name(" cn = Ada Lovelace , o=Example,2.5.4.6=GB"));
        assert_eq!(rfc.to_string(), "CN=Ada Lovelace,O=Example,C=GB");
        assert_eq!(rfc.common_name(), Some("Ada Lovelace"));
        // The country comes first.
        assert_eq!(rfc.der()[2..].first(), Some(&asn1::TAG_SET));
        assert_eq!(rfc.der()[6..11], [0x06, 0x03, 0x55, 0x04, 0x06]);
    }

    #[test]
    fn escapes_come_back() {
        for text in [
            r"CN=a\,b\+c\\d\;\<\>",
            r"CN=\ x\ ",
            r"CN=\#1",
            "CN=Żółw €",
            "OU=b+CN=a,O=c",
            "emailAddress=ada@example.org,DC=example,DC=org",
            r"CN=a\0Ab",
        ] {
            // Control characters are shown, not made.
            if text.contains("0A") {
                assert!(text.parse::<Name>().is_err());
            } else {
                assert_eq!(name(text).to_string(), text);
            }
        }
        assert_eq!(name(r"CN=\C3\A4"), name("CN=ä"));
        assert_eq!(name(r"/CN=a\/b"), name("CN=a/b"));
        assert_eq!(name(r"/CN=a,b").to_string(), r"CN=a\,b");
        assert_eq!(name("CN=#0c0141"), name("CN=A"));
        assert_eq!(name("1.2.3=#0c0141").to_string(), "1.2.3=#0c0141");
    }

    #[test]
    fn shown_control_characters_are_harmless() {
        let der = asn1::sequence(&[asn1::set_of(vec![asn1::sequence(&[
            asn1::oid(oid::COMMON_NAME),
            asn1::element(asn1::TAG_UTF8_STRING, "a\u{1b}[2J\u{202e}".as_bytes()),
        ])])]);
        let name = Name::from_der(&der).unwrap();
        assert_eq!(name.to_string(), r"CN=a\1B[2J\E2\80\AE");
    }

    #[test]
    fn empty_text_is_the_empty_name() {
        assert!(name("").is_empty());
        assert!(name("/").is_empty());
        assert_eq!(name("").der(), [0x30, 0]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "Ada",
            "CN",
            "CN=",
            "CN=a,",
            "CN=a,,O=b",
            "FOO=a",
            "C=Germany",
            "C=gb",
            "CN=a\"b",
            r"CN=a\",
            r"CN=a\4",
            r"CN=\FF",
            "CN=#zz",
            "CN=#0c02",
            "CN=a\nb",
            "DC=ä",
            "/CN=a//O=b",
            "/CN",
            "serialNumber=a_b",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        assert!(format!("CN={}", "x".repeat(65)).parse::<Name>().is_err());
        assert!(format!("CN={}", "ä".repeat(64)).parse::<Name>().is_ok());
    }
}
