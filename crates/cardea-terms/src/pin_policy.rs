//! What a new PIN must look like.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;

/// How many bytes a PIN can have, whatever its card's policy is.
pub const PIN_LENGTHS: RangeInclusive<u8> = 4..=127;

/// Rules for a new PIN: the PIN policy of MS-TPMVSC, whose characters are bytes here.
///
/// They bind every PIN that is set later, not the comparison with an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinPolicy {
    min: u8,
    max: u8,
    /// In the order of [`CharacterClass::ALL`].
    rules: [CharacterRule; 5],
}

/// A class of characters that a policy has a rule for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharacterClass {
    /// `A` to `Z`.
    Uppercase,
    /// `a` to `z`.
    Lowercase,
    /// `0` to `9`.
    Digits,
    /// All else from space to `~`.
    Special,
    /// Control characters, and all outside ASCII.
    Other,
}

/// What a policy says of one class of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharacterRule {
    /// A PIN may have them.
    Allowed = 0,
    /// A PIN must have one of them.
    Required = 1,
    /// A PIN must have none of them.
    Disallowed = 2,
}

/// What is not a PIN policy, or one that no PIN could satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinPolicyError {
    /// Not the eight numbers of MS-TPMVSC.
    Form,
    /// A length that no PIN can have: not in [`PIN_LENGTHS`].
    Length,
    /// The shortest length is larger than the longest.
    Order,
    /// More classes are required than the longest PIN has bytes.
    TooManyRequired,
    /// All classes are disallowed.
    NothingAllowed,
}

/// A rule that a PIN breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinRuleError {
    /// It is too short or too long.
    Length {
        /// Fewest bytes.
        min: u8,
        /// Most bytes.
        max: u8,
    },
    /// It has no character of a class that is required.
    Missing(CharacterClass),
    /// It has a character of a class that is disallowed.
    Disallowed(CharacterClass),
}

impl Default for PinPolicy {
    /// 4 to 127 bytes of any kind: the rules of a card that has no policy.
    fn default() -> Self {
        Self::of_length(*PIN_LENGTHS.start())
    }
}

impl PinPolicy {
    /// The rules for PUKs: 8 to 127 bytes of any kind.
    #[must_use]
    pub fn puk() -> Self {
        Self::of_length(8)
    }

    fn of_length(min: u8) -> Self {
        Self {
            min,
            max: *PIN_LENGTHS.end(),
            rules: [CharacterRule::Allowed; 5],
        }
    }

    /// A policy of its parts: fewest bytes, most bytes, and a rule for each of [`CharacterClass::ALL`].
    ///
    /// # Errors
    ///
    /// [`PinPolicyError`], but for [`PinPolicyError::Form`].
    pub fn new(min: u8, max: u8, rules: [CharacterRule; 5]) -> Result<Self, PinPolicyError> {
        let count = |wanted| rules.iter().filter(|rule| **rule == wanted).count();
        if !PIN_LENGTHS.contains(&min) || !PIN_LENGTHS.contains(&max) {
            Err(PinPolicyError::Length)
        } else if min > max {
            Err(PinPolicyError::Order)
        } else if count(CharacterRule::Required) > usize::from(max) {
            Err(PinPolicyError::TooManyRequired)
        } else if count(CharacterRule::Disallowed) == rules.len() {
            Err(PinPolicyError::NothingAllowed)
        } else {
            Ok(Self { min, max, rules })
        }
    }

    /// Reads the 32 bytes: eight little-endian numbers, the first of which is 1.
    ///
    /// # Errors
    ///
    /// [`PinPolicyError`].
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, PinPolicyError> {
        let (words, _) = bytes.as_chunks::<4>();
        let &[reserved, min, max, ref classes @ ..] = words else {
            return Err(PinPolicyError::Form);
        };
        let classes: &[[u8; 4]; 5] = classes.try_into().map_err(|_| PinPolicyError::Form)?;
        let mut rules = [CharacterRule::Allowed; 5];
        for (rule, word) in rules.iter_mut().zip(classes) {
            let number = u32::from_le_bytes(*word);
            *rule = CharacterRule::ALL
                .into_iter()
                .find(|rule| *rule as u32 == number)
                .ok_or(PinPolicyError::Form)?;
        }
        if u32::from_le_bytes(reserved) != 1 {
            return Err(PinPolicyError::Form);
        }
        let length = |word| u8::try_from(u32::from_le_bytes(word));
        match (length(min), length(max)) {
            (Ok(min), Ok(max)) => Self::new(min, max, rules),
            _ => Err(PinPolicyError::Length),
        }
    }

    /// The 32 bytes that [`PinPolicy::parse`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let lengths = [1, u32::from(self.min), u32::from(self.max)];
        let numbers = lengths
            .into_iter()
            .chain(self.rules.map(|rule| rule as u32));
        let mut bytes = [0; 32];
        for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Fewest bytes.
    #[must_use]
    pub fn min(&self) -> u8 {
        self.min
    }

    /// Most bytes.
    #[must_use]
    pub fn max(&self) -> u8 {
        self.max
    }

    /// The rule for each class.
    pub fn rules(&self) -> impl Iterator<Item = (CharacterClass, CharacterRule)> {
        CharacterClass::ALL.into_iter().zip(self.rules)
    }

    /// The classes that have this rule.
    pub fn classes(&self, rule: CharacterRule) -> impl Iterator<Item = CharacterClass> {
        let rules = self.rules();
        rules.filter_map(move |(class, its)| (its == rule).then_some(class))
    }

    /// Whether a new PIN obeys.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn check(&self, pin: &[u8]) -> Result<(), PinRuleError> {
        self.check_length(pin)?;
        for (class, rule) in self.rules() {
            let is_present = pin.iter().any(|byte| CharacterClass::of(*byte) == class);
            match (rule, is_present) {
                (CharacterRule::Required, false) => return Err(PinRuleError::Missing(class)),
                (CharacterRule::Disallowed, true) => return Err(PinRuleError::Disallowed(class)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a PIN could have been set under this policy, as far as its length goes.
    ///
    /// # Errors
    ///
    /// [`PinRuleError::Length`].
    pub fn check_length(&self, pin: &[u8]) -> Result<(), PinRuleError> {
        if (usize::from(self.min)..=usize::from(self.max)).contains(&pin.len()) {
            Ok(())
        } else {
            Err(self.length_error())
        }
    }

    /// What a PIN of another length is refused with.
    #[must_use]
    pub fn length_error(&self) -> PinRuleError {
        PinRuleError::Length {
            min: self.min,
            max: self.max,
        }
    }
}

impl CharacterClass {
    /// In the order of a policy's bytes.
    pub const ALL: [Self; 5] = [
        Self::Uppercase,
        Self::Lowercase,
        Self::Digits,
        Self::Special,
        Self::Other,
    ];

    fn of(byte: u8) -> Self {
        match byte {
            b'A'..=b'Z' => Self::Uppercase,
            b'a'..=b'z' => Self::Lowercase,
            b'0'..=b'9' => Self::Digits,
            0x20..=0x7E => Self::Special,
            _ => Self::Other,
        }
    }

    /// Its key in the policies of D-Bus.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Uppercase => "uppercase",
            Self::Lowercase => "lowercase",
            Self::Digits => "digits",
            Self::Special => "special",
            Self::Other => "other",
        }
    }
}

impl CharacterRule {
    /// In the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Required, Self::Disallowed];

    /// Its word in the policies of D-Bus.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::Required => "require",
            Self::Disallowed => "disallow",
        }
    }

    /// The rule with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.word() == word)
    }
}

impl fmt::Display for PinPolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shortest, longest) = (PIN_LENGTHS.start(), PIN_LENGTHS.end());
        match self {
            Self::Form => f.write_str("not the eight numbers of a PIN policy"),
            Self::Length => write!(
                f,
                "min and max of a PIN policy are from {shortest} to {longest} bytes"
            ),
            Self::Order => f.write_str("min of the PIN policy is larger than max"),
            Self::TooManyRequired => f.write_str(
                "the PIN policy requires more kinds of characters than max bytes can hold",
            ),
            Self::NothingAllowed => f.write_str("the PIN policy leaves no characters for a PIN"),
        }
    }
}

impl Error for PinPolicyError {}

impl fmt::Display for PinRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { min, max } => write!(f, "the PIN must have {min} to {max} bytes"),
            Self::Missing(_) | Self::Disallowed(_) => {
                f.write_str("the PIN does not have the characters that the card's policy asks for")
            }
        }
    }
}

impl Error for PinRuleError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(fields: [u32; 8]) -> Result<PinPolicy, PinPolicyError> {
        let mut bytes = [0; 32];
        for (target, field) in bytes.chunks_exact_mut(4).zip(fields) {
            target.copy_from_slice(&field.to_le_bytes());
        }
        let policy = PinPolicy::parse(&bytes)?;
        assert_eq!(policy.to_bytes(), bytes);
        Ok(policy)
    }

    #[test]
    fn card_without_policy_takes_4_to_127_bytes() {
        let policy = PinPolicy::default();
        let error = PinRuleError::Length { min: 4, max: 127 };
        assert_eq!(policy.check(b"123"), Err(error));
        assert_eq!(policy.check(b"1234"), Ok(()));
        assert_eq!(policy.check(&[0xFF; 127]), Ok(()));
        assert_eq!(policy.check(&[0xFF; 128]), Err(error));
        assert_eq!(policy.check(&[0xFF; 128 + 256]), Err(error));
    }

    #[test]
    fn puk_has_at_least_8_bytes() {
        assert!(PinPolicy::puk().check(b"1234567").is_err());
        assert!(PinPolicy::puk().check(b"12345678").is_ok());
    }

    #[test]
    fn each_class_can_be_required_and_disallowed() {
        let samples: [&[u8]; 5] = [b"AAAA", b"aaaa", b"1111", b"! !!", b"\x80\x00\xFF\x7F"];
        for (at, class) in CharacterClass::ALL.into_iter().enumerate() {
            let mut fields = [1, 4, 8, 0, 0, 0, 0, 0];
            fields[3 + at] = 1;
            let required = policy(fields).unwrap();
            fields[3 + at] = 2;
            let disallowed = policy(fields).unwrap();
            for (other, text) in samples.iter().enumerate() {
                let (missing, bad) = match other == at {
                    true => (Ok(()), Err(PinRuleError::Disallowed(class))),
                    false => (Err(PinRuleError::Missing(class)), Ok(())),
                };
                assert_eq!(required.check(text), missing);
                assert_eq!(disallowed.check(text), bad);
            }
        }
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        assert!(policy([1, 4, 127, 0, 1, 2, 0, 0]).is_ok());
        for (wrong, error) in [
            ([0, 4, 127, 0, 0, 0, 0, 0], PinPolicyError::Form),
            ([2, 4, 127, 0, 0, 0, 0, 0], PinPolicyError::Form),
            ([1, 3, 127, 0, 0, 0, 0, 0], PinPolicyError::Length),
            ([1, 4, 128, 0, 0, 0, 0, 0], PinPolicyError::Length),
            ([1, 4, 260, 0, 0, 0, 0, 0], PinPolicyError::Length),
            ([1, 9, 8, 0, 0, 0, 0, 0], PinPolicyError::Order),
            ([1, 4, 8, 3, 0, 0, 0, 0], PinPolicyError::Form),
            ([1, 4, 8, 0, 0, 0, 0, 3], PinPolicyError::Form),
        ] {
            assert_eq!(policy(wrong), Err(error));
        }
    }

    #[test]
    fn rules_that_no_pin_can_satisfy_are_refused() {
        let nothing = policy([1, 4, 8, 2, 2, 2, 2, 2]);
        assert_eq!(nothing, Err(PinPolicyError::NothingAllowed));
        let too_many = policy([1, 4, 4, 1, 1, 1, 1, 1]);
        assert_eq!(too_many, Err(PinPolicyError::TooManyRequired));
        assert!(policy([1, 4, 5, 1, 1, 1, 1, 1]).is_ok());
    }

    #[test]
    fn rules_are_found_by_their_words() {
        for rule in CharacterRule::ALL {
            assert_eq!(CharacterRule::from_word(rule.word()), Some(rule));
        }
        assert_eq!(CharacterRule::from_word("Allow"), None);
    }
}
