//! Rules for a card's PINs, as text on the command line and as the 32 bytes that the card keeps
//! (MS-TPMVSC: eight little-endian numbers).
//!
//! The daemon decides; here a PIN is checked before it is sent, to say which rule it breaks.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

const SHORTEST: u8 = 4;
const LONGEST: u8 = 127;

/// Keyword, what one of them is called, what many are called; in the order of the 32 bytes.
const CLASSES: [(&str, &str, &str); 5] = [
    ("upper", "an uppercase letter", "uppercase letters"),
    ("lower", "a lowercase letter", "lowercase letters"),
    ("digits", "a digit", "digits"),
    ("special", "a special character", "special characters"),
    (
        "other",
        "a control or non-ASCII character",
        "control or non-ASCII characters",
    ),
];

/// A policy that some PIN can satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    min: u8,
    max: u8,
    rules: [Rule; 5],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Allowed,
    Required,
    Disallowed,
}

impl Default for Policy {
    /// The rules of a card without a policy.
    fn default() -> Self {
        Self {
            min: SHORTEST,
            max: LONGEST,
            rules: [Rule::Allowed; 5],
        }
    }
}

impl Policy {
    /// The rule for PUKs.
    pub(crate) fn puk() -> Self {
        Self {
            min: 8,
            ..Self::default()
        }
    }

    /// Of a card: 4 to 127 bytes of any kind where it has none.
    pub(crate) fn of(bytes: Option<&[u8; 32]>) -> Self {
        bytes.and_then(Self::from_bytes).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let &[reserved, min, max, ref rules @ ..] = words else {
            return None;
        };
        let mut policy = Self {
            min: u8::try_from(u32::from_le_bytes(min)).ok()?,
            max: u8::try_from(u32::from_le_bytes(max)).ok()?,
            rules: [Rule::Allowed; 5],
        };
        if u32::from_le_bytes(reserved) != 1 || rules.len() != policy.rules.len() {
            return None;
        }
        for (rule, word) in policy.rules.iter_mut().zip(rules) {
            *rule = match u32::from_le_bytes(*word) {
                0 => Rule::Allowed,
                1 => Rule::Required,
                2 => Rule::Disallowed,
                _ => return None,
            };
        }
        policy.sound().is_ok().then_some(policy)
    }

    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = [1, u32::from(self.min), u32::from(self.max)]
            .into_iter()
            .chain(self.rules.map(|rule| rule as u32));
        for (target, word) in bytes.chunks_exact_mut(4).zip(words) {
            target.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Refuses rules that no PIN could satisfy.
    fn sound(&self) -> Result<(), String> {
        let lengths = SHORTEST..=LONGEST;
        let required = self.rules.iter().filter(|rule| **rule == Rule::Required);
        if !lengths.contains(&self.min) || !lengths.contains(&self.max) {
            Err(format!(
                "min and max are from {SHORTEST} to {LONGEST} bytes"
            ))
        } else if self.min > self.max {
            Err("min is larger than max".into())
        } else if required.count() > usize::from(self.max) {
            Err("more kinds of characters are required than max bytes can hold".into())
        } else if self.rules.iter().all(|rule| *rule == Rule::Disallowed) {
            Err("no characters are left for a PIN".into())
        } else {
            Ok(())
        }
    }

    /// Checks a new PIN or PUK (`what`).
    pub(crate) fn check(&self, what: &str, value: &[u8]) -> Result<(), String> {
        let length = value.len();
        if length < usize::from(self.min) || length > usize::from(self.max) {
            return Err(format!(
                "the {what} has {length} bytes; it must have {} to {}",
                self.min, self.max
            ));
        }
        let mut present = [false; 5];
        for &byte in value {
            if let Some(flag) = present.get_mut(class_of(byte)) {
                *flag = true;
            }
        }
        for ((rule, present), (_, one, many)) in self.rules.iter().zip(present).zip(CLASSES) {
            match (rule, present) {
                (Rule::Required, false) => {
                    return Err(format!("the {what} must have {one}: the card's policy"));
                }
                (Rule::Disallowed, true) => {
                    return Err(format!(
                        "the {what} must not have {many}: the card's policy"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn to_json(self) -> Value {
        let mut value = json!({ "min": self.min, "max": self.max });
        if let Some(value) = value.as_object_mut() {
            for ((keyword, _, _), rule) in CLASSES.iter().zip(self.rules) {
                value.insert((*keyword).to_owned(), rule.word().into());
            }
        }
        value
    }
}

impl Rule {
    fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Disallowed => "disallowed",
            Self::Required => "required",
        }
    }
}

/// Index in [`CLASSES`]. Space counts as special; control characters go with those outside ASCII.
fn class_of(byte: u8) -> usize {
    match byte {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        0x20..=0x7E => 3,
        _ => 4,
    }
}

/// In words.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} bytes", self.min, self.max)?;
        let having = |wanted: Rule| -> Vec<&str> {
            CLASSES
                .iter()
                .zip(self.rules)
                .filter(|(_, rule)| *rule == wanted)
                .map(|((_, _, many), _)| *many)
                .collect()
        };
        let (required, disallowed) = (having(Rule::Required), having(Rule::Disallowed));
        if required.is_empty() && disallowed.is_empty() {
            return f.write_str(", any characters");
        }
        if !required.is_empty() {
            write!(f, ", with {}", required.join(" and "))?;
        }
        if !disallowed.is_empty() {
            write!(f, ", without {}", disallowed.join(" and "))?;
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut policy = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (keyword, value) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` is not keyword=value, as in min=4,digits=required")
            })?;
            if seen.contains(&keyword) {
                return Err(format!("{keyword} is given twice"));
            }
            seen.push(keyword);
            match keyword {
                "min" => policy.min = number(keyword, value)?,
                "max" => policy.max = number(keyword, value)?,
                _ => policy.set_rule(keyword, value)?,
            }
        }
        policy.sound()?;
        Ok(policy)
    }
}

impl Policy {
    fn set_rule(&mut self, keyword: &str, value: &str) -> Result<(), String> {
        let (_, rule) = CLASSES
            .iter()
            .zip(&mut self.rules)
            .find(|((known, _, _), _)| *known == keyword)
            .ok_or_else(|| {
                format!(
                    "`{keyword}` is unknown; the keywords are min, max, upper, lower, digits, special and other"
                )
            })?;
        *rule = [Rule::Allowed, Rule::Disallowed, Rule::Required]
            .into_iter()
            .find(|rule| rule.word() == value)
            .ok_or_else(|| {
                format!("{keyword} is required, allowed or disallowed, not `{value}`")
            })?;
        Ok(())
    }
}

fn number(keyword: &str, value: &str) -> Result<u8, String> {
    value
        .parse()
        .map_err(|_| format!("{keyword} is a number from {SHORTEST} to {LONGEST}, not `{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reading: 4 to 8, a digit, nothing outside ASCII.
    const EXAMPLE: [u32; 8] = [1, 4, 8, 0, 0, 1, 0, 2];

    fn bytes(words: [u32; 8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (target, word) in bytes.chunks_exact_mut(4).zip(words) {
            target.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn text_becomes_the_bytes_of_the_specification() {
        let policy: Policy = "min=4,max=8,digits=required,other=disallowed"
            .parse()
            .unwrap();
        assert_eq!(policy.to_bytes(), bytes(EXAMPLE));
        assert_eq!(Policy::from_bytes(&bytes(EXAMPLE)), Some(policy));
        let all: Policy = "upper=disallowed,lower=required,digits=allowed,special=required,other=allowed,max=12,min=6"
            .parse()
            .unwrap();
        assert_eq!(all.to_bytes(), bytes([1, 6, 12, 2, 1, 0, 1, 0]));
        let usual = Policy::default().to_bytes();
        assert_eq!(usual, bytes([1, 4, 127, 0, 0, 0, 0, 0]));
        assert_eq!("min=4".parse(), Ok(Policy::default()));
    }

    #[test]
    fn errors_name_the_invalid_part() {
        for (text, part) in [
            ("", "keyword=value"),
            ("min", "keyword=value"),
            ("min=4,", "keyword=value"),
            ("min=x", "number"),
            ("min=300", "number"),
            ("min=3", "from 4 to 127"),
            ("max=128", "from 4 to 127"),
            ("min=9,max=8", "larger"),
            ("min=4,min=5", "twice"),
            ("digits=must", "not `must`"),
            ("letters=required", "`letters`"),
            (
                "upper=disallowed,lower=disallowed,digits=disallowed,special=disallowed,other=disallowed",
                "no characters",
            ),
            (
                "max=4,upper=required,lower=required,digits=required,special=required,other=required",
                "more kinds",
            ),
        ] {
            let error = text.parse::<Policy>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn policy_bytes_out_of_range_are_refused() {
        for words in [
            [0, 4, 8, 0, 0, 0, 0, 0],
            [1, 3, 8, 0, 0, 0, 0, 0],
            [1, 4, 8, 3, 0, 0, 0, 0],
            [1, 4, 260, 0, 0, 0, 0, 0],
            [1, 4, 8, 2, 2, 2, 2, 2],
        ] {
            assert_eq!(Policy::from_bytes(&bytes(words)), None, "{words:?}");
        }
    }

    #[test]
    fn broken_pin_rule_is_named() {
        let policy = Policy::from_bytes(&bytes(EXAMPLE)).unwrap();
        assert_eq!(policy.check("PIN", b"abc1"), Ok(()));
        for (pin, part) in [
            (&b"123"[..], "3 bytes"),
            (b"123456789", "4 to 8"),
            (b"abcd", "must have a digit"),
            ("1234ä".as_bytes(), "must not have control or non-ASCII"),
        ] {
            let error = policy.check("PIN", pin).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(Policy::puk().check("PUK", b"1234567").is_err());
        assert!(Policy::puk().check("PUK", b"12345678").is_ok());
    }

    #[test]
    fn policies_are_put_into_words() {
        for (text, words) in [
            ("min=4", "4 to 127 bytes, any characters"),
            (
                "max=8,digits=required,upper=required",
                "4 to 8 bytes, with uppercase letters and digits",
            ),
            (
                "max=8,digits=required,other=disallowed",
                "4 to 8 bytes, with digits, without control or non-ASCII characters",
            ),
        ] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), words);
        }
    }
}
