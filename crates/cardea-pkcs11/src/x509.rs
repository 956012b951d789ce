//! The fields of a certificate that are attributes of its object (RFC 5280 §4.1).

use sha1::{Digest, Sha1};

/// Borrowed from the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    /// INTEGER, with its header.
    pub(crate) serial: &'a [u8],
    /// Name, with its header.
    pub(crate) issuer: &'a [u8],
    /// Name, with its header.
    pub(crate) subject: &'a [u8],
    /// YYYYMMDD, if it can be read.
    pub(crate) not_before: Option<[u8; 8]>,
    /// YYYYMMDD, if it can be read.
    pub(crate) not_after: Option<[u8; 8]>,
    /// SubjectPublicKeyInfo, with its header.
    pub(crate) key: &'a [u8],
}

/// The fields of a certificate; `None` if it is malformed.
pub(crate) fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let (_, certificate, _) = element(der)?;
    let (_, tbs, _) = element(certificate)?;
    let mut rest = tbs;
    let (tag, ..) = element(rest)?;
    if tag == 0xA0 {
        (_, rest) = whole(rest)?;
    }
    let (serial, rest) = whole(rest)?;
    let (_, rest) = whole(rest)?;
    let (issuer, rest) = whole(rest)?;
    let (_, validity, rest) = element(rest)?;
    let (subject, rest) = whole(rest)?;
    let (key, _) = whole(rest)?;
    let (begin, begin_value, end) = element(validity)?;
    let (end_tag, end_value, _) = element(end)?;
    Some(Fields {
        serial,
        issuer,
        subject,
        not_before: date(begin, begin_value),
        not_after: date(end_tag, end_value),
        key,
    })
}

/// A certificate without zero bytes and white space behind it, which some programs write; `None` if something else
/// is there.
pub(crate) fn without_padding(der: &[u8]) -> Option<&[u8]> {
    let (certificate, padding) = whole(der)?;
    let is_padding = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    padding.iter().all(is_padding).then_some(certificate)
}

/// `CKA_CHECK_VALUE` of a certificate (PKCS#11 3.1 §4.6.3).
pub(crate) fn check_value(der: &[u8]) -> [u8; 3] {
    let [first, second, third, ..]: [u8; 20] = Sha1::digest(der).into();
    [first, second, third]
}

/// UTCTime (`17`) or GeneralizedTime (`18`).
fn date(tag: u8, value: &[u8]) -> Option<[u8; 8]> {
    let text = match tag {
        0x17 => {
            let century: &[u8] = if *value.first()? >= b'5' {
                b"19"
            } else {
                b"20"
            };
            [century, value.get(..6)?].concat()
        }
        0x18 => value.get(..8)?.to_vec(),
        _ => return None,
    };
    text.try_into().ok()
}

/// The first element with its header, and the rest.
pub(crate) fn whole(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, _, rest) = element(data)?;
    data.split_at_checked(data.len() - rest.len())
}

/// Tag and value of the first element, and the rest (DER, one-byte tags).
pub(crate) fn element(data: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = data.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7F))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        rest = after;
    }
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_and_truncated_certificates_have_no_fields() {
        let certificate = include_bytes!("../../cardea-pki/tests/data/p256.cert.der");
        let found = fields(certificate).unwrap();
        assert_eq!(found.serial.first(), Some(&0x02));
        assert_eq!(found.subject.first(), Some(&0x30));
        assert_eq!(found.key.first(), Some(&0x30));
        assert!(found.not_before.unwrap() < found.not_after.unwrap());
        for length in 0..certificate.len() - 1 {
            assert_eq!(fields(&certificate[..length]), None, "{length}");
        }
        assert_eq!(fields(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0]), None);
    }
}
