//! Challenges and responses as people read them out: 16 hexadecimal digits in groups of four, and a check digit.
//!
//! The check digit is that of Luhn over base 16, as ISO/IEC 7812-1 annex B has it over base 10: one wrong digit and
//! nearly all swapped neighbours are noticed, before anything is tried.

/// Bytes of a challenge or a response: a block of DES.
const BLOCK: usize = 8;

/// Why digits are not a challenge or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DictationError {
    /// There are others than 16 or 17 hexadecimal digits.
    #[error("it must have 16 hexadecimal digits and may have a check digit")]
    Digits,
    /// The check digit is not that of the others.
    #[error("it was misheard or mistyped: the check digit does not match")]
    CheckDigit,
}

/// `1122 3344 5566 7788-3`.
#[must_use]
pub fn to_dictation(block: &[u8; BLOCK]) -> String {
    let groups: Vec<String> = block
        .chunks(2)
        .map(base16ct::upper::encode_string)
        .collect();
    let check = char::from_digit(check_digit(&digits(block)), 16).unwrap_or('?');
    format!("{}-{}", groups.join(" "), check.to_ascii_uppercase())
}

/// What was typed, however it is grouped, with the check digit or without.
///
/// # Errors
///
/// [`DictationError`].
pub fn from_dictation(typed: &[u8]) -> Result<[u8; BLOCK], DictationError> {
    let plain = |byte: &&u8| !byte.is_ascii_whitespace() && **byte != b'-';
    let digits: Option<Vec<u32>> = typed
        .iter()
        .filter(plain)
        .map(|byte| char::from(*byte).to_digit(16))
        .collect();
    let digits = digits.ok_or(DictationError::Digits)?;
    let (own, check) = match digits.split_at_checked(2 * BLOCK) {
        Some((own, [])) => (own, None),
        Some((own, [check])) => (own, Some(*check)),
        _ => return Err(DictationError::Digits),
    };
    if check.is_some_and(|check| check != check_digit(own)) {
        return Err(DictationError::CheckDigit);
    }
    let mut block = [0; BLOCK];
    for (byte, pair) in block.iter_mut().zip(own.chunks(2)) {
        let value = pair.iter().fold(0, |value, digit| value << 4 | digit);
        *byte = u8::try_from(value).map_err(|_| DictationError::Digits)?;
    }
    Ok(block)
}

fn digits(block: &[u8]) -> Vec<u32> {
    let nibbles = block.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(u32::from).collect()
}

/// Every second digit counts twice, from the last one on.
fn check_digit(digits: &[u32]) -> u32 {
    let weights = [2, 1].into_iter().cycle();
    let sum: u32 = digits
        .iter()
        .rev()
        .zip(weights)
        .map(|(digit, weight)| digit * weight)
        .map(|product| product / 16 + product % 16)
        .sum();
    (16 - sum % 16) % 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: [u8; 8] = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];

    #[test]
    fn what_is_dictated_is_understood() {
        assert_eq!(to_dictation(&BLOCK), "1122 3344 5566 7788-3");
        let response = [0x88, 0xBE, 0x35, 0x4D, 0x2E, 0x0B, 0x28, 0x69];
        assert_eq!(to_dictation(&response), "88BE 354D 2E0B 2869-1");
        for text in [
            "1122334455667788",
            "1122 3344 5566 7788-3",
            "11223344556677883",
            " 1122-3344 5566\t7788\n",
        ] {
            assert_eq!(from_dictation(text.as_bytes()), Ok(BLOCK), "{text}");
        }
        for number in 0..=255_u8 {
            let block = [number, 1, 2, 3, number, 5, 0xFF, number];
            assert_eq!(from_dictation(to_dictation(&block).as_bytes()), Ok(block));
        }
    }

    #[test]
    fn every_wrong_digit_is_noticed() {
        let right = to_dictation(&BLOCK);
        for (at, digit) in right
            .char_indices()
            .filter(|(_, digit)| digit.is_ascii_hexdigit())
        {
            for other in "0123456789ABCDEF".chars().filter(|other| *other != digit) {
                let mut wrong = right.clone();
                wrong.replace_range(at..=at, &other.to_string());
                assert_eq!(
                    from_dictation(wrong.as_bytes()),
                    Err(DictationError::CheckDigit),
                    "{wrong}"
                );
            }
        }
    }

    #[test]
    fn other_lengths_and_letters_are_none() {
        for text in [
            "",
            "112233445566778",
            "112233445566778833",
            "112233445566778G",
            "1122_3344_5566_7788",
        ] {
            assert_eq!(
                from_dictation(text.as_bytes()),
                Err(DictationError::Digits),
                "{text}"
            );
        }
    }
}
