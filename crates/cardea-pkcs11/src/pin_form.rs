//! A PIN that came out of a file with the line end behind it.
//!
//! `pin-source=file:` of a PKCS#11 URI (RFC 7512 §2.4) is a file's whole content, and editors and `echo` end files with
//! a newline: every login with it is a wrong PIN.
//! Where the card's policy says that no PIN of it has that byte, or is that long, the newline is known to be none of
//! the PIN's, and is left out; where a PIN could have it, nothing is guessed.

use super::slots::pin_lengths;

/// Where a policy has its rule for control characters and those outside ASCII (MS-TPMVSC: the eighth number).
const OTHER: usize = 28;

/// The rule that none of them may occur.
const DISALLOWED: u32 = 2;

/// The PIN without one line end that it cannot have.
pub(crate) fn without_impossible_newline<'a>(pin: &'a [u8], policy: Option<&[u8; 32]>) -> &'a [u8] {
    let Some(line) = pin.strip_suffix(b"\n") else {
        return pin;
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rule = policy.and_then(|policy| policy.get(OTHER..)?.first_chunk::<4>());
    let is_disallowed = rule.is_some_and(|rule| u32::from_le_bytes(*rule) == DISALLOWED);
    let (_, longest) = pin_lengths(policy);
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    match is_disallowed || (pin.len() > longest && line.len() <= longest) {
        true => line,
        false => pin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(max: u32, other: u32) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (at, word) in [1, 4, max, 0, 0, 0, 0, other].into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&u32::to_le_bytes(word));
        }
        bytes
    }

    #[test]
    fn newline_that_no_pin_of_the_card_has_is_left_out() {
        let digits = policy(127, DISALLOWED);
        for (pin, left) in [
            (&b"123456\n"[..], &b"123456"[..]),
            (b"123456\r\n", b"123456"),
            (b"123456\n\n", b"123456\n"),
            (b"123456", b"123456"),
            (b"\n", b""),
            (b"", b""),
            (b"12\n34", b"12\n34"),
            (b"123456\r", b"123456\r"),
        ] {
            assert_eq!(without_impossible_newline(pin, Some(&digits)), left);
        }
        // Too long with it, and not without.
        let short = policy(6, 0);
        assert_eq!(
            without_impossible_newline(b"123456\n", Some(&short)),
            b"123456"
        );
        assert_eq!(
            without_impossible_newline(b"12345\n", Some(&short)),
            b"12345\n"
        );
        assert_eq!(
            without_impossible_newline(b"1234567\n", Some(&short)),
            b"1234567\n"
        );
    }

    #[test]
    fn newline_that_a_pin_could_have_stays() {
        for policy in [None, Some(policy(127, 0)), Some(policy(127, 1))] {
            let pin = b"123456\n";
            assert_eq!(without_impossible_newline(pin, policy.as_ref()), pin);
        }
        let longest = [&[b'1'; 127][..], b"\n"].concat();
        assert_eq!(without_impossible_newline(&longest, None).len(), 127);
    }
}
