//! Durations as people write them: 30s, 10m, 8h, 7d.

use std::fmt;
use std::str::FromStr;

use cardea_terms::NO_SESSION_LIMIT;

/// A session limit: a duration, or `none`.
pub(crate) fn session_limit(text: &str) -> Result<Seconds, &'static str> {
    match text {
        "none" => Ok(Seconds(NO_SESSION_LIMIT)),
        _ => text.parse(),
    }
}

/// A number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) u32);

const UNITS: [(char, &str, u32); 4] = [
    ('d', "d", 86_400),
    ('h', "h", 3600),
    ('m', "min", 60),
    ('s', "s", 1),
];

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be a whole number and a unit: 30s, 10m, 8h, 7d";
        let (_, _, size) = UNITS
            .iter()
            .find(|(letter, _, _)| text.ends_with(*letter))
            .ok_or(wrong)?;
        let number = text.get(..text.len() - 1).unwrap_or_default();
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong);
        }
        let number: u32 = number.parse().map_err(|_| wrong)?;
        number
            .checked_mul(*size)
            .map(Self)
            .ok_or("is too long; the maximum is ten years")
    }
}

/// In the largest unit that leaves nothing over.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = UNITS
            .iter()
            .find(|(_, _, size)| self.0 != 0 && self.0.is_multiple_of(*size));
        match fitting {
            Some((_, unit, size)) => write!(f, "{} {unit}", self.0 / size),
            None => write!(f, "{} s", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds, shown) in [
            ("30s", 30, "30 s"),
            ("10m", 600, "10 min"),
            ("8h", 28_800, "8 h"),
            ("90m", 5400, "90 min"),
            ("2d", 172_800, "2 d"),
            ("0s", 0, "0 s"),
        ] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)));
            assert_eq!(Seconds(seconds).to_string(), shown);
        }
        assert_eq!(Seconds(61).to_string(), "61 s");
    }

    #[test]
    fn session_limit_can_be_none() {
        assert_eq!(session_limit("none"), Ok(Seconds(NO_SESSION_LIMIT)));
        assert_eq!(session_limit("10m"), Ok(Seconds(600)));
        assert!(session_limit("never").is_err());
        assert!("none".parse::<Seconds>().is_err());
    }

    #[test]
    fn invalid_durations_are_refused() {
        for text in [
            "",
            "s",
            "10",
            "-1s",
            "+1s",
            "1.5h",
            "1h30m",
            "8 h",
            "h8",
            "99999999d",
            "5ms",
            "1w",
        ] {
            assert!(text.parse::<Seconds>().is_err(), "{text:?}");
        }
    }
}
