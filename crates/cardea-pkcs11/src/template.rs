//! The attributes that a program passes.

use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::object::Given;
use crate::rv::{Result, Rv};
use crate::x509;

/// Longest label, identifier or name of an application.
const MAX_TEXT: usize = 255;

/// A copy of the program's attributes; the values are erased when it is dropped.
#[derive(Debug)]
pub(crate) struct Template(Vec<(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>);

impl Template {
    /// Checks that an attribute that occurs twice has the same value twice.
    pub(crate) fn new(attributes: Vec<(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>) -> Result<Self> {
        for (position, (kind, value)) in attributes.iter().enumerate() {
            let mut others = attributes.iter().skip(position + 1);
            if others.any(|(other, said)| other == kind && said != value) {
                return Err(Rv(CKR_TEMPLATE_INCONSISTENT));
            }
        }
        Ok(Self(attributes))
    }

    #[cfg(test)]
    pub(crate) fn of(attributes: &[(CK_ATTRIBUTE_TYPE, &[u8])]) -> Result<Self> {
        let copied = attributes.iter();
        let copied = copied.map(|(kind, value)| (*kind, Zeroizing::new(value.to_vec())));
        Self::new(copied.collect())
    }

    pub(crate) fn attributes(&self) -> &[(CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)] {
        &self.0
    }

    pub(crate) fn get(&self, wanted: CK_ATTRIBUTE_TYPE) -> Option<&[u8]> {
        let mut attributes = self.0.iter();
        let found = attributes.find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| value.as_slice())
    }

    /// The value of a required attribute.
    pub(crate) fn need(&self, wanted: CK_ATTRIBUTE_TYPE) -> Result<&[u8]> {
        self.get(wanted).ok_or(Rv(CKR_TEMPLATE_INCOMPLETE))
    }

    pub(crate) fn flag(&self, wanted: CK_ATTRIBUTE_TYPE) -> Result<Option<bool>> {
        match self.get(wanted) {
            None => Ok(None),
            Some([value]) => Ok(Some(*value != CK_FALSE)),
            Some(_) => Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID)),
        }
    }

    pub(crate) fn long(&self, wanted: CK_ATTRIBUTE_TYPE) -> Result<Option<CK_ULONG>> {
        let value = self.get(wanted).map(TryInto::try_into).transpose();
        let value = value.map_err(|_| Rv(CKR_ATTRIBUTE_VALUE_INVALID))?;
        Ok(value.map(CK_ULONG::from_ne_bytes))
    }

    pub(crate) fn text(&self, wanted: CK_ATTRIBUTE_TYPE) -> Result<Option<String>> {
        let text = self
            .get(wanted)
            .map(|text| String::from_utf8(text.to_vec()));
        text.transpose()
            .map_err(|_| Rv(CKR_ATTRIBUTE_VALUE_INVALID))
    }

    /// A label or a name of an application; empty without it.
    pub(crate) fn short_text(&self, wanted: CK_ATTRIBUTE_TYPE) -> Result<String> {
        let text = self.text(wanted)?.unwrap_or_default();
        if text.len() > MAX_TEXT {
            return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
        }
        Ok(text)
    }

    /// An identifier; empty without it.
    pub(crate) fn short_bytes(&self, wanted: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>> {
        let bytes = self.get(wanted).unwrap_or_default();
        if bytes.len() > MAX_TEXT {
            return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
        }
        Ok(bytes.to_vec())
    }

    /// Label and identifier: each that of this template, or else that of the key's other half.
    pub(crate) fn names(&self, other: &Self) -> Result<(String, Vec<u8>)> {
        let (label, other_label) = (self.short_text(CKA_LABEL)?, other.short_text(CKA_LABEL)?);
        let (id, other_id) = (self.short_bytes(CKA_ID)?, other.short_bytes(CKA_ID)?);
        Ok((
            if label.is_empty() { other_label } else { label },
            if id.is_empty() { other_id } else { id },
        ))
    }

    /// Refuses a template that gives an attribute a different value.
    pub(crate) fn require_long(&self, wanted: CK_ATTRIBUTE_TYPE, value: CK_ULONG) -> Result {
        match self.long(wanted)? {
            Some(said) if said != value => Err(Rv(CKR_TEMPLATE_INCONSISTENT)),
            _ => Ok(()),
        }
    }

    /// Whether the object is to be on the card; without the attribute it is the session's (PKCS#11 3.1 §4.4).
    pub(crate) fn is_for_token(&self) -> Result<bool> {
        Ok(self.flag(CKA_TOKEN)? == Some(true))
    }

    /// Refuses a template for an object on the card.
    pub(crate) fn refuse_token(&self) -> Result {
        if self.is_for_token()? {
            return Err(Rv(CKR_TEMPLATE_INCONSISTENT));
        }
        Ok(())
    }

    /// Refuses a template for a private key that could be extracted.
    pub(crate) fn require_sensitive(&self) -> Result {
        if self.flag(CKA_EXTRACTABLE)? == Some(true) || self.flag(CKA_SENSITIVE)? == Some(false) {
            return Err(Rv(CKR_TEMPLATE_INCONSISTENT));
        }
        Ok(())
    }

    /// The attributes of a template that an object of a session keeps as they are given.
    pub(crate) fn given(&self, class: CK_OBJECT_CLASS) -> Result<Given> {
        let mut given = Given::new();
        for (kind, value) in &self.0 {
            let is_kept = match *kind {
                CKA_PRIVATE if class == CKO_PRIVATE_KEY => false,
                // Secret keys cannot be copied, whatever the template says.
                CKA_COPYABLE if class == CKO_SECRET_KEY => {
                    self.flag(*kind)?;
                    false
                }
                CKA_PRIVATE | CKA_MODIFIABLE | CKA_COPYABLE | CKA_DESTROYABLE => {
                    self.flag(*kind)?;
                    true
                }
                CKA_UNIQUE_ID => return Err(Rv(CKR_ATTRIBUTE_READ_ONLY)),
                CKA_START_DATE | CKA_END_DATE if class != CKO_DATA => {
                    let digits = value.iter().all(u8::is_ascii_digit);
                    if !digits || !matches!(value.len(), 0 | 8) {
                        return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
                    }
                    true
                }
                CKA_CERTIFICATE_CATEGORY | CKA_JAVA_MIDP_SECURITY_DOMAIN
                    if class == CKO_CERTIFICATE =>
                {
                    if self.long(*kind)?.is_some_and(|value| value > 3) {
                        return Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
                    }
                    true
                }
                CKA_NAME_HASH_ALGORITHM if class == CKO_CERTIFICATE => {
                    self.long(*kind)?;
                    true
                }
                CKA_CHECK_VALUE if class == CKO_CERTIFICATE => {
                    // Empty, to have none, or the correct one (§4.6.3).
                    let invalid = Rv(CKR_ATTRIBUTE_VALUE_INVALID);
                    let der = x509::without_padding(self.need(CKA_VALUE)?).ok_or(invalid)?;
                    if !value.is_empty() && **value != x509::check_value(der) {
                        return Err(invalid);
                    }
                    true
                }
                CKA_URL
                | CKA_HASH_OF_SUBJECT_PUBLIC_KEY
                | CKA_HASH_OF_ISSUER_PUBLIC_KEY
                | CKA_SUBJECT
                | CKA_ISSUER
                | CKA_SERIAL_NUMBER => class == CKO_CERTIFICATE,
                _ => false,
            };
            if is_kept {
                given.insert(*kind, value.to_vec());
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_must_have_the_size_of_their_type() {
        let given = Template::of(&[
            (CKA_TOKEN, &[1]),
            (CKA_PRIVATE, &[1, 0]),
            (CKA_CLASS, &CKO_DATA.to_ne_bytes()),
            (CKA_KEY_TYPE, &[1]),
            (CKA_LABEL, "ä".as_bytes()),
            (CKA_ISSUER, &[0xFF]),
        ])
        .unwrap();
        assert_eq!(given.flag(CKA_TOKEN), Ok(Some(true)));
        assert_eq!(
            given.flag(CKA_PRIVATE),
            Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID))
        );
        assert_eq!(given.flag(CKA_SIGN), Ok(None));
        assert_eq!(given.long(CKA_CLASS), Ok(Some(CKO_DATA)));
        assert_eq!(
            given.long(CKA_KEY_TYPE),
            Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID))
        );
        assert_eq!(given.text(CKA_LABEL), Ok(Some("ä".to_owned())));
        assert!(given.text(CKA_ISSUER).is_err());
        assert_eq!(given.need(CKA_VALUE), Err(Rv(CKR_TEMPLATE_INCOMPLETE)));
    }

    #[test]
    fn contradictions_are_refused_and_repetitions_accepted() {
        assert!(Template::of(&[(CKA_TOKEN, &[1]), (CKA_TOKEN, &[1])]).is_ok());
        let contradiction = Template::of(&[(CKA_TOKEN, &[1]), (CKA_TOKEN, &[0])]);
        assert_eq!(contradiction.err(), Some(Rv(CKR_TEMPLATE_INCONSISTENT)));
    }

    #[test]
    fn values_that_an_attribute_cannot_have_are_refused() {
        let invalid = Err(Rv(CKR_ATTRIBUTE_VALUE_INVALID));
        for (kind, value) in [
            (CKA_START_DATE, &b"2026"[..]),
            (CKA_END_DATE, b"2026-1-1"),
            (CKA_CERTIFICATE_CATEGORY, &[4, 0, 0, 0, 0, 0, 0, 0]),
            (CKA_CERTIFICATE_CATEGORY, &[1]),
            (CKA_CHECK_VALUE, &[1, 2, 3]),
            (CKA_MODIFIABLE, &[0, 0]),
        ] {
            let template = Template::of(&[(kind, value), (CKA_VALUE, b"DER")]).unwrap();
            let given = template.given(CKO_CERTIFICATE);
            assert_eq!(given, invalid, "{kind:X}");
        }
        let named = Template::of(&[(CKA_UNIQUE_ID, b"mine")]).unwrap();
        assert_eq!(named.given(CKO_DATA), Err(Rv(CKR_ATTRIBUTE_READ_ONLY)));
    }
}
