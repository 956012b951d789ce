//! The TPM's own authorisations as they stand in files, descriptors and service credentials.

use zeroize::Zeroizing;

use crate::message::{Hierarchy, SecretBytes};

/// Longest authorisation in bytes: every TPM takes that many.
pub const MAX_AUTHORISATION: usize = 32;

/// Longest file with authorisations in bytes.
pub const MAX_AUTHORISATION_FILE: usize = 256;

/// Why a file does not contain an authorisation. Reveals nothing of the content but its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorisationError {
    /// `hex:` and something else than pairs of hexadecimal digits.
    Digits,
    /// So many bytes.
    Length(usize),
    /// The file of `cardea tpm provision` has another authorisation only.
    Other,
}

impl std::fmt::Display for AuthorisationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Digits => f.write_str("has other characters than hexadecimal digits after hex:"),
            Self::Length(length) => write!(
                f,
                "has {length} bytes; it must have 1 to {MAX_AUTHORISATION}"
            ),
            Self::Other => f.write_str("is not in that file, which contains another authorisation"),
        }
    }
}

impl std::error::Error for AuthorisationError {}

/// Takes an authorisation out of a content: `owner-auth hex:…` or `lockout-auth hex:…` where a line has that,
/// as in the file that `cardea tpm provision` writes; else the content is the value, or `hex:` and digits. One
/// line end, of Unix or of Windows, does not count.
///
/// # Errors
///
/// [`AuthorisationError`].
pub fn parse_authorisation(
    hierarchy: Hierarchy,
    content: &[u8],
) -> Result<SecretBytes, AuthorisationError> {
    let content = content
        .strip_suffix(b"\r\n")
        .or_else(|| content.strip_suffix(b"\n"))
        .unwrap_or(content);
    let labelled = |hierarchy: Hierarchy| {
        let label = hierarchy.word().as_bytes();
        content.split(|byte| *byte == b'\n').find_map(|line| {
            line.strip_prefix(label)?
                .strip_prefix(b"-auth ")?
                .strip_prefix(b"hex:")
        })
    };
    let any = [Hierarchy::Lockout, Hierarchy::Owner]
        .into_iter()
        .any(|hierarchy| labelled(hierarchy).is_some());
    let digits = match (labelled(hierarchy), any) {
        (Some(digits), _) => Some(digits),
        (None, true) => return Err(AuthorisationError::Other),
        (None, false) => content.strip_prefix(b"hex:"),
    };
    let value = match digits {
        Some(digits) => bytes(digits)?,
        None => Zeroizing::new(content.to_vec()),
    };
    if value.is_empty() || value.len() > MAX_AUTHORISATION {
        return Err(AuthorisationError::Length(value.len()));
    }
    Ok(SecretBytes::new(value.to_vec()))
}

/// Blanks do not count. Never grown, so that no copy stays behind.
fn bytes(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, AuthorisationError> {
    let mut digits = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let value = |digit: Option<&u8>| {
        digit
            .and_then(|digit| char::from(*digit).to_digit(16))
            .and_then(|value| u8::try_from(value).ok())
            .ok_or(AuthorisationError::Digits)
    };
    while let Some(high) = digits.next() {
        bytes.push(value(Some(high))? << 4 | value(digits.next())?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(content: &[u8]) -> Result<Vec<u8>, AuthorisationError> {
        parse_authorisation(Hierarchy::Owner, content).map(|value| value.expose().to_vec())
    }

    #[test]
    fn values_are_bytes_digits_or_lines_of_provision() {
        for content in [
            &b"\x01\x23"[..],
            b"\x01\x23\n",
            b"hex:0123",
            b"hex: 01 23\n",
            b"lockout-auth hex:FF\nowner-auth hex:0123\n",
            b"owner-auth hex:0123",
        ] {
            assert_eq!(owner(content).unwrap(), [0x01, 0x23], "{content:?}");
        }
        assert_eq!(owner(b"owner-auth secret").unwrap(), b"owner-auth secret");
        assert_eq!(owner(&[7; 32]).unwrap().len(), 32);
    }

    #[test]
    fn other_contents_are_refused_and_the_others_value_is_never_taken() {
        for (content, error) in [
            (&b""[..], AuthorisationError::Length(0)),
            (b"\n", AuthorisationError::Length(0)),
            (b"hex:", AuthorisationError::Length(0)),
            (&[7; 33], AuthorisationError::Length(33)),
            (b"hex:012", AuthorisationError::Digits),
            (b"hex:0g", AuthorisationError::Digits),
            (b"lockout-auth hex:0123\n", AuthorisationError::Other),
        ] {
            assert_eq!(owner(content), Err(error), "{content:?}");
        }
    }
}
