//! PEM: labels, and base64 decoded in constant time.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use crate::Error;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// One block.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) content: Content,
}

/// What a block holds.
pub(crate) enum Content {
    /// Bytes.
    Der(Zeroizing<Vec<u8>>),
    /// Encrypted in the manner of SSLeay, with headers inside the block.
    OldEncryption,
}

/// Whether this looks like PEM rather than DER.
#[must_use]
pub fn is_pem(input: &[u8]) -> bool {
    // DER may have text in it that looks like PEM; text that begins with `0` has no such length behind it.
    match input {
        [0x30, 0x80..=0xff, ..] => false,
        [0x30, len, rest @ ..] if rest.len() == usize::from(*len) => false,
        _ => find(input, BEGIN).is_some(),
    }
}

/// All blocks, text between them left out.
pub(crate) fn blocks(mut input: &[u8], what: &'static str) -> Result<Vec<Block>, Error> {
    let mut found = Vec::new();
    while let Some(start) = find(input, BEGIN) {
        let (block, rest) = block(input.get(start + BEGIN.len()..).unwrap_or_default())
            .ok_or(Error::Malformed { what })?;
        found.push(block);
        input = rest;
    }
    Ok(found)
}

/// One block from behind its `BEGIN`, and what follows it.
fn block(input: &[u8]) -> Option<(Block, &[u8])> {
    let label_len = find(input, DASHES)?;
    let (label, rest) = input.split_at_checked(label_len)?;
    let label = std::str::from_utf8(label).ok()?;
    if label.len() > 64 || label.chars().any(char::is_control) {
        return None;
    }
    let rest = rest.strip_prefix(DASHES)?;
    let (body, rest) = rest.split_at_checked(find(rest, END)?)?;
    let rest = rest
        .strip_prefix(END)?
        .strip_prefix(label.as_bytes())?
        .strip_prefix(DASHES)?;
    let content = if find(body, b":").is_some() {
        // RFC 1421 headers.
        find(body, b"ENCRYPTED")?;
        Content::OldEncryption
    } else {
        Content::Der(decode(body)?)
    };
    let label = label.to_owned();
    Some((Block { label, content }, rest))
}

fn decode(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut out = Zeroizing::new(vec![0; text.len() / 4 * 3]);
    let len = Base64::decode(text.as_slice(), &mut out).ok()?.len();
    out.truncate(len);
    Some(out)
}

/// PEM of bytes.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    // Never grown, and no other copy of what it is made of: it may be a secret.
    let lines = der.len().div_ceil(LINE);
    let mut out = String::with_capacity(der.len().div_ceil(3) * 4 + lines + 2 * label.len() + 40);
    out.extend(["-----BEGIN ", label, "-----\n"]);
    let mut line = Zeroizing::new([0; 64]);
    for part in der.chunks(LINE) {
        out.push_str(Base64::encode(part, &mut *line).unwrap_or_default());
        out.push('\n');
    }
    out.extend(["-----END ", label, "-----\n"]);
    out
}

/// Bytes in a line of 64 characters.
const LINE: usize = 48;

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(input: &[u8]) -> Vec<(String, Vec<u8>)> {
        blocks(input, "test")
            .unwrap()
            .into_iter()
            .map(|block| match block.content {
                Content::Der(der) => (block.label, der.to_vec()),
                Content::OldEncryption => (block.label, b"old".to_vec()),
            })
            .collect()
    }

    #[test]
    fn encoded_blocks_are_read_again_with_text_around_them() {
        for len in [0_u8, 1, 2, 3, 47, 48, 49, 96, 200] {
            let der: Vec<u8> = (0..len).collect();
            let text = format!("Bag Attributes\n{}and more", encode("A B", &der));
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(contents(text.as_bytes()), [("A B".to_owned(), der)]);
        }
    }

    #[test]
    fn lines_of_any_length_and_carriage_returns_are_read() {
        let text = b"-----BEGIN X-----\r\nAQ\r\nID\r\n-----END X-----\r\n";
        assert_eq!(contents(text), [("X".to_owned(), vec![1, 2, 3])]);
    }

    #[test]
    fn blocks_follow_each_other_and_old_encryption_is_known() {
        let text = b"-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END X-----\n-----BEGIN Y-----\nAQID\n-----END Y-----";
        assert_eq!(
            contents(text),
            [
                ("X".to_owned(), b"old".to_vec()),
                ("Y".to_owned(), vec![1, 2, 3])
            ]
        );
    }

    #[test]
    fn der_with_text_like_pem_in_it_is_no_pem() {
        let text = b"-----BEGIN X-----\nAQID\n-----END X-----\n".to_vec();
        assert!(is_pem(&text));
        assert!(is_pem(&[&b"0 s:CN=x\n"[..], &text].concat()));
        assert!(!is_pem(&crate::asn1::sequence(std::slice::from_ref(&text))));
        assert!(!is_pem(&crate::asn1::sequence(&[text.repeat(9)])));
    }

    #[test]
    fn damaged_blocks_are_refused() {
        for text in [
            &b"-----BEGIN X-----\nAQID\n"[..],
            b"-----BEGIN X-----\nAQID\n-----END Y-----",
            b"-----BEGIN X-----\nAQI\n-----END X-----",
            b"-----BEGIN X-----\nA*ID\n-----END X-----",
            b"-----BEGIN X",
        ] {
            assert!(blocks(text, "test").is_err());
        }
    }
}
