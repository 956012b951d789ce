//! What a new PIN must look like (MS-TPMVSC: PIN policy of 32 bytes).

use crate::secret::Pin;

/// Rules for a new PIN. They bind every PIN set later, not the comparison of an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinPolicy {
    min: u8,
    max: u8,
    uppercase: CharacterRule,
    lowercase: CharacterRule,
    digits: CharacterRule,
    special: CharacterRule,
    other: CharacterRule,
}

/// What a policy says of one class of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CharacterRule {
    Allow,
    Require,
    Disallow,
}

/// 32 bytes that are not a PIN policy, or that no PIN could satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid PIN policy")]
pub struct PinPolicyError;

/// A PIN that the card's policy does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinRuleError {
    /// A character of a class that is not allowed, or a required class is missing.
    #[error("the PIN does not have the characters that the card's policy asks for")]
    Characters,
    /// Too short or too long.
    #[error("the PIN must have {min} to {max} bytes")]
    Length {
        /// Shortest.
        min: u8,
        /// Longest.
        max: u8,
    },
}

impl Default for PinPolicy {
    /// 4 to 127 bytes of any kind: what a card without a recorded policy asks for.
    fn default() -> Self {
        Self::of_length(4)
    }
}

impl PinPolicy {
    /// The rule for PUKs: 8 to 127 bytes of any kind.
    #[must_use]
    pub fn puk() -> Self {
        Self::of_length(8)
    }

    fn of_length(min: u8) -> Self {
        Self {
            min,
            max: 127,
            uppercase: CharacterRule::Allow,
            lowercase: CharacterRule::Allow,
            digits: CharacterRule::Allow,
            special: CharacterRule::Allow,
            other: CharacterRule::Allow,
        }
    }

    /// Reads the 32 bytes: eight little-endian numbers.
    ///
    /// # Errors
    ///
    /// [`PinPolicyError`] for a field out of its range, and for rules that no PIN can satisfy.
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, PinPolicyError> {
        let (words, _) = bytes.as_chunks::<4>();
        let &[reserved, min, max, upper, lower, digits, special, other] = words else {
            return Err(PinPolicyError);
        };
        if u32::from_le_bytes(reserved) != 1 {
            return Err(PinPolicyError);
        }
        let policy = Self {
            min: length(min)?,
            max: length(max)?,
            uppercase: CharacterRule::parse(upper)?,
            lowercase: CharacterRule::parse(lower)?,
            digits: CharacterRule::parse(digits)?,
            special: CharacterRule::parse(special)?,
            other: CharacterRule::parse(other)?,
        };
        let rules = policy.rules();
        let required = rules
            .iter()
            .filter(|&&r| r == CharacterRule::Require)
            .count();
        let nothing_allowed = rules.iter().all(|&r| r == CharacterRule::Disallow);
        if policy.min > policy.max || required > usize::from(policy.max) || nothing_allowed {
            return Err(PinPolicyError);
        }
        Ok(policy)
    }

    /// The 32 bytes that [`PinPolicy::parse`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let [upper, lower, digits, special, other] = self.rules().map(CharacterRule::number);
        let numbers = [
            1,
            self.min.into(),
            self.max.into(),
            upper,
            lower,
            digits,
            special,
            other,
        ];
        let mut bytes = [0; 32];
        for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&u32::to_le_bytes(number));
        }
        bytes
    }

    /// Whether a new PIN obeys.
    ///
    /// # Errors
    ///
    /// [`PinRuleError`]: the rule that it breaks.
    pub fn check(&self, pin: &Pin) -> Result<(), PinRuleError> {
        self.check_length(pin)?;
        let mut present = [false; 5];
        for &byte in pin.expose() {
            if let Some(flag) = present.get_mut(class_of(byte)) {
                *flag = true;
            }
        }
        let obeyed = self
            .rules()
            .iter()
            .zip(present)
            .all(|(rule, present)| match rule {
                CharacterRule::Allow => true,
                CharacterRule::Require => present,
                CharacterRule::Disallow => !present,
            });
        if obeyed {
            Ok(())
        } else {
            Err(PinRuleError::Characters)
        }
    }

    /// Whether a PIN could have been set under this policy, as far as its length goes.
    pub(crate) fn check_length(&self, pin: &Pin) -> Result<(), PinRuleError> {
        if pin.len() < self.min || pin.len() > self.max {
            return Err(self.length_error());
        }
        Ok(())
    }

    /// What a PIN of another length is refused with.
    pub(crate) fn length_error(&self) -> PinRuleError {
        PinRuleError::Length {
            min: self.min,
            max: self.max,
        }
    }

    fn rules(&self) -> [CharacterRule; 5] {
        [
            self.uppercase,
            self.lowercase,
            self.digits,
            self.special,
            self.other,
        ]
    }
}

impl CharacterRule {
    fn parse(word: [u8; 4]) -> Result<Self, PinPolicyError> {
        match u32::from_le_bytes(word) {
            0 => Ok(Self::Allow),
            1 => Ok(Self::Require),
            2 => Ok(Self::Disallow),
            _ => Err(PinPolicyError),
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Allow => 0,
            Self::Require => 1,
            Self::Disallow => 2,
        }
    }
}

fn length(word: [u8; 4]) -> Result<u8, PinPolicyError> {
    u8::try_from(u32::from_le_bytes(word))
        .ok()
        .filter(|length| (4..=127).contains(length))
        .ok_or(PinPolicyError)
}

/// Index in [`PinPolicy::rules`]. Space counts as special.
fn class_of(byte: u8) -> usize {
    match byte {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        0x20..=0x7E => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(fields: [u32; 8]) -> Result<PinPolicy, PinPolicyError> {
        let mut bytes = [0; 32];
        for (target, field) in bytes.chunks_exact_mut(4).zip(fields) {
            target.copy_from_slice(&field.to_le_bytes());
        }
        PinPolicy::parse(&bytes)
    }

    fn pin(text: &[u8]) -> Pin {
        Pin::new(text).unwrap()
    }

    #[test]
    fn default_policy_takes_4_to_127_bytes() {
        let policy = PinPolicy::default();
        assert_eq!(
            policy.check(&pin(b"123")),
            Err(PinRuleError::Length { min: 4, max: 127 })
        );
        assert_eq!(policy.check(&pin(b"1234")), Ok(()));
        assert_eq!(policy.check(&pin(&[0xFF; 127])), Ok(()));
    }

    #[test]
    fn puk_has_at_least_8_bytes() {
        assert!(PinPolicy::puk().check(&pin(b"1234567")).is_err());
        assert!(PinPolicy::puk().check(&pin(b"12345678")).is_ok());
    }

    #[test]
    fn each_class_can_be_required_and_disallowed() {
        let samples: [&[u8]; 5] = [b"AAAA", b"aaaa", b"1111", b"! !!", b"\x80\x00\xFF\x7F"];
        for (class, sample) in samples.iter().enumerate() {
            let mut fields = [1, 4, 8, 0, 0, 0, 0, 0];
            fields[3 + class] = 1;
            let required = policy(fields).unwrap();
            fields[3 + class] = 2;
            let disallowed = policy(fields).unwrap();
            for (other, text) in samples.iter().enumerate() {
                assert_eq!(required.check(&pin(text)).is_ok(), other == class);
                assert_eq!(disallowed.check(&pin(text)).is_ok(), other != class);
            }
            assert!(disallowed.check(&pin(sample)).is_err());
        }
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        assert!(policy([1, 4, 127, 0, 1, 2, 0, 0]).is_ok());
        for wrong in [
            [0, 4, 127, 0, 0, 0, 0, 0],
            [2, 4, 127, 0, 0, 0, 0, 0],
            [1, 3, 127, 0, 0, 0, 0, 0],
            [1, 4, 128, 0, 0, 0, 0, 0],
            [1, 4, 260, 0, 0, 0, 0, 0],
            [1, 9, 8, 0, 0, 0, 0, 0],
            [1, 4, 8, 3, 0, 0, 0, 0],
            [1, 4, 8, 0, 0, 0, 0, 3],
        ] {
            assert_eq!(policy(wrong), Err(PinPolicyError));
        }
    }

    #[test]
    fn rules_that_no_pin_can_satisfy_are_refused() {
        assert_eq!(policy([1, 4, 8, 2, 2, 2, 2, 2]), Err(PinPolicyError));
        assert_eq!(policy([1, 4, 4, 1, 1, 1, 1, 1]), Err(PinPolicyError));
        assert!(policy([1, 4, 5, 1, 1, 1, 1, 1]).is_ok());
    }
}
