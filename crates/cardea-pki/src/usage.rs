//! What a key may be used for.

use std::fmt;
use std::str::FromStr;

use der::asn1::ObjectIdentifier;

use crate::Error;
use crate::asn1;
use crate::error::quotable;

/// What a key may do (RFC 5280, section 4.2.1.3), in the order of the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUsage {
    /// `digitalSignature`.
    DigitalSignature = 0,
    /// `nonRepudiation`, also called contentCommitment.
    NonRepudiation = 1,
    /// `keyEncipherment`.
    KeyEncipherment = 2,
    /// `dataEncipherment`.
    DataEncipherment = 3,
    /// `keyAgreement`.
    KeyAgreement = 4,
    /// `keyCertSign`.
    KeyCertSign = 5,
    /// `cRLSign`.
    CrlSign = 6,
    /// `encipherOnly`.
    EncipherOnly = 7,
    /// `decipherOnly`.
    DecipherOnly = 8,
}

const KEY_USAGES: &[(KeyUsage, &str)] = &[
    (KeyUsage::DigitalSignature, "digitalSignature"),
    (KeyUsage::NonRepudiation, "nonRepudiation"),
    (KeyUsage::KeyEncipherment, "keyEncipherment"),
    (KeyUsage::DataEncipherment, "dataEncipherment"),
    (KeyUsage::KeyAgreement, "keyAgreement"),
    (KeyUsage::KeyCertSign, "keyCertSign"),
    (KeyUsage::CrlSign, "cRLSign"),
    (KeyUsage::EncipherOnly, "encipherOnly"),
    (KeyUsage::DecipherOnly, "decipherOnly"),
    // Its name since 2008; written as the older one.
    (KeyUsage::NonRepudiation, "contentCommitment"),
];

impl KeyUsage {
    /// The BIT STRING of several.
    pub(crate) fn to_der(usages: &[Self]) -> Vec<u8> {
        let mut bits: u16 = 0;
        for usage in usages {
            bits |= 0x8000 >> (*usage as u16);
        }
        // As short as can be, as DER wants for named bits.
        let unused = bits.trailing_zeros().min(16);
        let [first, second] = bits.to_be_bytes();
        let mut value = vec![u8::try_from(unused % 8).unwrap_or_default()];
        match unused {
            16 => {}
            8.. => value.push(first),
            _ => value.extend([first, second]),
        }
        asn1::element(asn1::TAG_BIT_STRING, &value)
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = KEY_USAGES.iter().find(|(usage, _)| usage == self);
        f.write_str(named.map_or("", |(_, name)| name))
    }
}

impl FromStr for KeyUsage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        KEY_USAGES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(text))
            .map(|(usage, _)| *usage)
            .ok_or_else(|| Error::InvalidText {
                what: "key usage",
                value: quotable(text),
                reason: "there are digitalSignature, nonRepudiation, keyEncipherment, dataEncipherment, keyAgreement, keyCertSign, cRLSign, encipherOnly and decipherOnly",
            })
    }
}

/// What a certificate is for (RFC 5280, section 4.2.1.12), by the names that OpenSSL and Windows know.
///
/// As text: a name or a dotted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtendedKeyUsage(ObjectIdentifier);

const EXTENDED_KEY_USAGES: &[(&str, &str)] = &[
    ("serverAuth", "1.3.6.1.5.5.7.3.1"),
    ("clientAuth", "1.3.6.1.5.5.7.3.2"),
    ("codeSigning", "1.3.6.1.5.5.7.3.3"),
    ("emailProtection", "1.3.6.1.5.5.7.3.4"),
    ("timeStamping", "1.3.6.1.5.5.7.3.8"),
    ("OCSPSigning", "1.3.6.1.5.5.7.3.9"),
    ("ipsecIKE", "1.3.6.1.5.5.7.3.17"),
    ("secureShellClient", "1.3.6.1.5.5.7.3.21"),
    ("secureShellServer", "1.3.6.1.5.5.7.3.22"),
    ("documentSigning", "1.3.6.1.5.5.7.3.36"),
    ("pkinitClientAuth", "1.3.6.1.5.2.3.4"),
    ("smartcardLogon", "1.3.6.1.4.1.311.20.2.2"),
    ("msDocumentSigning", "1.3.6.1.4.1.311.10.3.12"),
    ("msEFS", "1.3.6.1.4.1.311.10.3.4"),
    ("msBitLocker", "1.3.6.1.4.1.311.67.1.1"),
    ("anyExtendedKeyUsage", "2.5.29.37.0"),
    // OpenSSL's and others' names for the same.
    ("msSmartcardLogin", "1.3.6.1.4.1.311.20.2.2"),
    ("pkInitClientAuth", "1.3.6.1.5.2.3.4"),
];

impl ExtendedKeyUsage {
    /// The object identifier, dotted.
    #[must_use]
    pub fn oid(&self) -> String {
        self.0.to_string()
    }

    /// Those of an extension's value. Numbers that this type does not hold are left out.
    pub(crate) fn read_all(der: &[u8]) -> Result<Vec<Self>, Error> {
        let mut fields = asn1::Reader::whole(der, "extended key usage")?;
        let mut found = Vec::new();
        while !fields.is_empty() {
            found.extend(fields.dotted_oid()?.parse::<Self>());
        }
        Ok(found)
    }

    /// The extension's value for several.
    pub(crate) fn to_der(usages: &[Self]) -> Vec<u8> {
        let oids: Vec<_> = usages.iter().map(|usage| asn1::oid(usage.0)).collect();
        asn1::sequence(&oids)
    }
}

impl fmt::Display for ExtendedKeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dotted = self.oid();
        let named = EXTENDED_KEY_USAGES.iter().find(|(_, oid)| *oid == dotted);
        f.write_str(named.map_or(dotted.as_str(), |(name, _)| name))
    }
}

impl FromStr for ExtendedKeyUsage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let dotted = EXTENDED_KEY_USAGES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map_or(text, |(_, oid)| oid);
        ObjectIdentifier::new(dotted)
            .map(Self)
            .map_err(|_| Error::InvalidText {
                what: "extended key usage",
                value: quotable(text),
                reason: "use clientAuth, smartcardLogon, emailProtection, codeSigning, … or a dotted number",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_usages_are_the_shortest_bits() {
        use KeyUsage::*;
        for (usages, expected) in [
            (&[][..], &[3, 1, 0][..]),
            (&[DigitalSignature], &[3, 2, 7, 0x80]),
            (&[KeyEncipherment, DigitalSignature], &[3, 2, 5, 0xa0]),
            (&[EncipherOnly], &[3, 2, 0, 0x01]),
            (&[KeyAgreement, DecipherOnly], &[3, 3, 7, 0x08, 0x80]),
        ] {
            assert_eq!(KeyUsage::to_der(usages), expected, "{usages:?}");
        }
    }

    #[test]
    fn sign_in_usages_have_the_bytes_of_openssl() {
        let names = ["clientAuth", "smartcardLogon", "pkinitClientAuth"];
        let usages = names.map(|name| name.parse::<ExtendedKeyUsage>().unwrap());
        let der = ExtendedKeyUsage::to_der(&usages);
        let expected = "301F06082B06010505070302060A2B06010401823714020206072B060105020304";
        assert_eq!(base16ct::upper::encode_string(&der), expected);
        assert_eq!(ExtendedKeyUsage::read_all(&der).unwrap(), usages);
    }

    #[test]
    fn names_come_back() {
        for (usage, name) in &KEY_USAGES[..9] {
            assert_eq!(name.parse(), Ok(*usage));
            assert_eq!(usage.to_string(), *name);
        }
        for (name, oid) in EXTENDED_KEY_USAGES {
            let usage: ExtendedKeyUsage = name.parse().unwrap();
            assert_eq!(usage.oid(), *oid);
            assert_eq!(oid.parse(), Ok(usage));
        }
        assert_eq!(
            "SMARTCARDLOGON"
                .parse::<ExtendedKeyUsage>()
                .unwrap()
                .to_string(),
            "smartcardLogon"
        );
        assert_eq!(
            "1.2.3".parse::<ExtendedKeyUsage>().unwrap().to_string(),
            "1.2.3"
        );
        assert!("logon".parse::<ExtendedKeyUsage>().is_err());
        assert!("sign".parse::<KeyUsage>().is_err());
    }
}
