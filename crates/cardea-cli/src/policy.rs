//! Rules for a card's PINs as text on the command line and in JSON.
//!
//! The daemon decides; here a PIN is checked before it is sent, to say which rule it breaks.

use std::fmt;
use std::str::FromStr;

use cardea_terms::{CharacterClass, CharacterRule, PIN_LENGTHS, PinPolicy, PinRuleError};
use serde_json::{Value, json};

/// A policy that some PIN can satisfy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy(PinPolicy);

impl Policy {
    /// The rules for PUKs.
    pub(crate) fn puk() -> Self {
        Self(PinPolicy::puk())
    }

    /// Of a card: 4 to 127 bytes of any kind where it has none.
    pub(crate) fn of(bytes: Option<&[u8; 32]>) -> Self {
        let policy = bytes.and_then(|bytes| PinPolicy::parse(bytes).ok());
        Self(policy.unwrap_or_default())
    }

    pub(crate) fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Checks a new PIN or PUK (`what`).
    pub(crate) fn check(&self, what: &str, value: &[u8]) -> Result<(), String> {
        self.0.check(value).map_err(|error| match error {
            PinRuleError::Length { min, max } => {
                let length = value.len();
                format!("the {what} has {length} bytes; it must have {min} to {max}")
            }
            PinRuleError::Missing(class) => {
                format!("the {what} must have {}: the card's policy", one(class))
            }
            PinRuleError::Disallowed(class) => {
                format!(
                    "the {what} must not have {}: the card's policy",
                    many(class)
                )
            }
        })
    }

    pub(crate) fn to_json(self) -> Value {
        let mut value = json!({ "min": self.0.min(), "max": self.0.max() });
        if let Some(value) = value.as_object_mut() {
            for (class, rule) in self.0.rules() {
                value.insert(keyword(class).to_owned(), word(rule).into());
            }
        }
        value
    }
}

fn word(rule: CharacterRule) -> &'static str {
    match rule {
        CharacterRule::Allowed => "allowed",
        CharacterRule::Disallowed => "disallowed",
        CharacterRule::Required => "required",
    }
}

fn keyword(class: CharacterClass) -> &'static str {
    match class {
        CharacterClass::Uppercase => "upper",
        CharacterClass::Lowercase => "lower",
        CharacterClass::Digits => "digits",
        CharacterClass::Special => "special",
        CharacterClass::Other => "other",
    }
}

fn one(class: CharacterClass) -> &'static str {
    match class {
        CharacterClass::Uppercase => "an uppercase letter",
        CharacterClass::Lowercase => "a lowercase letter",
        CharacterClass::Digits => "a digit",
        CharacterClass::Special => "a special character",
        CharacterClass::Other => "a control or non-ASCII character",
    }
}

fn many(class: CharacterClass) -> &'static str {
    match class {
        CharacterClass::Uppercase => "uppercase letters",
        CharacterClass::Lowercase => "lowercase letters",
        CharacterClass::Digits => "digits",
        CharacterClass::Special => "special characters",
        CharacterClass::Other => "control or non-ASCII characters",
    }
}

/// In words.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} bytes", self.0.min(), self.0.max())?;
        let having = |rule| self.0.classes(rule).map(many).collect::<Vec<_>>();
        let required = having(CharacterRule::Required);
        let disallowed = having(CharacterRule::Disallowed);
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
        let (mut min, mut max) = PIN_LENGTHS.into_inner();
        let mut rules = CharacterClass::ALL.map(|class| (class, CharacterRule::Allowed));
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
                "min" => min = number(keyword, value)?,
                "max" => max = number(keyword, value)?,
                _ => set_rule(&mut rules, keyword, value)?,
            }
        }
        let policy = PinPolicy::new(min, max, rules.map(|(_, rule)| rule));
        policy.map(Self).map_err(|error| error.to_string())
    }
}

fn set_rule(
    rules: &mut [(CharacterClass, CharacterRule)],
    text: &str,
    value: &str,
) -> Result<(), String> {
    let mut rules = rules.iter_mut();
    let (_, rule) = rules
        .find(|(class, _)| keyword(*class) == text)
        .ok_or_else(|| {
            format!(
                "`{text}` is unknown; the keywords are min, max, upper, lower, digits, special and other"
            )
        })?;
    let mut known = CharacterRule::ALL.into_iter();
    *rule = known
        .find(|rule| word(*rule) == value)
        .ok_or_else(|| format!("{text} is required, allowed or disallowed, not `{value}`"))?;
    Ok(())
}

fn number(keyword: &str, value: &str) -> Result<u8, String> {
    let (shortest, longest) = (PIN_LENGTHS.start(), PIN_LENGTHS.end());
    value
        .parse()
        .map_err(|_| format!("{keyword} is a number from {shortest} to {longest}, not `{value}`"))
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
        assert_eq!(Policy::of(Some(&bytes(EXAMPLE))), policy);
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
    fn card_with_policy_that_is_none_has_the_usual_rules() {
        let unknown = bytes([1, 3, 8, 0, 0, 0, 0, 0]);
        assert_eq!(Policy::of(Some(&unknown)), Policy::default());
        assert_eq!(Policy::of(None), Policy::default());
    }

    #[test]
    fn broken_pin_rule_is_named() {
        let policy = Policy::of(Some(&bytes(EXAMPLE)));
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
