//! Certificates inside PKCS#7 (CMS, RFC 5652): what certification authorities hand out as `.p7b` and `.p7c`.

use crate::asn1::{self, Reader};
use crate::{Error, ber, oid};

const WHAT: &str = "PKCS#7 file";

/// Whether bytes begin as PKCS#7 does, sound or not.
pub(crate) fn looks_like(der: &[u8]) -> bool {
    // A SEQUENCE of whatever length, indefinite included, and an object identifier, which no certificate begins with.
    let content = match der {
        [0x30, len @ 0x81..=0x84, rest @ ..] => rest.get(usize::from(len & 0x7f)..),
        [0x30, _, rest @ ..] => Some(rest),
        _ => None,
    };
    content.is_some_and(|content| content.first() == Some(&asn1::TAG_OID))
}

/// The DER of all certificates; there may be none. Signatures are not looked at.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    // As it is if possible: transcoding would change certificates that are not quite DER, and break their signatures.
    match signed_data(bytes) {
        Err(Error::Malformed { .. }) => signed_data(&ber::padded_to_der(bytes, WHAT)?),
        result => result,
    }
}

/// ContentInfo with SignedData (RFC 5652, sections 3 and 5.1).
fn signed_data(der: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut info = Reader::whole(without_padding(der), WHAT)?;
    match info.oid()? {
        oid::PKCS7_SIGNED => {}
        other => return Err(Error::Unsupported(oid::describe(other))),
    }
    let mut content = info.constructed(0)?.ok_or_else(|| info.malformed())?;
    let mut signed = content.sequence()?;
    signed.small()?;
    signed.set()?;
    signed.sequence()?;
    let mut found = Vec::new();
    if let Some(mut certificates) = signed.constructed(0)? {
        while !certificates.is_empty() {
            let is_certificate = certificates.next_is(der::Tag::Sequence);
            let encoded = certificates.encoded()?;
            // The others are attribute certificates and what PKCS#6 had.
            if is_certificate {
                found.push(encoded.to_vec());
            }
        }
    }
    Ok(found)
}

/// Zero bytes and white space behind the content, as with certificates.
fn without_padding(bytes: &[u8]) -> &[u8] {
    match asn1::split_element(bytes) {
        Some((_, _, rest)) if asn1::is_padding(rest) => {
            bytes.get(..bytes.len() - rest.len()).unwrap_or_default()
        }
        _ => bytes,
    }
}
