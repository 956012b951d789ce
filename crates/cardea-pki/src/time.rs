//! UTCTime and GeneralizedTime as seconds of the Unix epoch.

use cardea_terms::civil_from_days;
use der::asn1::AnyRef;
use der::{Tag, Tagged};

use crate::asn1::element;

const TAG_UTC_TIME: u8 = 0x17;
const TAG_GENERALIZED_TIME: u8 = 0x18;
const DAY: i64 = 86_400;

/// The time that an element holds; RFC 5280's forms only: seconds present, `Z` at the end.
pub(crate) fn parse(any: AnyRef<'_>) -> Option<i64> {
    let text = any.value().strip_suffix(b"Z")?;
    let (year, rest) = match any.tag() {
        Tag::UtcTime => {
            let (year, rest) = digits(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        Tag::GeneralizedTime => digits(text, 4)?,
        _ => return None,
    };
    let (month, rest) = digits(rest, 2)?;
    let (day, rest) = digits(rest, 2)?;
    let (hour, rest) = digits(rest, 2)?;
    let (minute, rest) = digits(rest, 2)?;
    let (second, rest) = digits(rest, 2)?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && rest.is_empty();
    in_range.then(|| days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
}

/// The element for a time: UTCTime to 2049, GeneralizedTime from 2050, as RFC 5280 wants.
pub(crate) fn encode(unix: i64) -> Option<Vec<u8>> {
    let (year, month, day) = civil_from_days(unix.div_euclid(DAY));
    let second = unix.rem_euclid(DAY);
    let clock = format!(
        "{month:02}{day:02}{:02}{:02}{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    match year {
        1950..=2049 => Some(element(
            TAG_UTC_TIME,
            format!("{:02}{clock}", year % 100).as_bytes(),
        )),
        0..=9999 => Some(element(
            TAG_GENERALIZED_TIME,
            format!("{year:04}{clock}").as_bytes(),
        )),
        _ => None,
    }
}

/// A GeneralizedTime of any year, as CMP has it.
pub(crate) fn encode_generalized(unix: i64) -> Option<Vec<u8>> {
    let (year, month, day) = civil_from_days(unix.div_euclid(DAY));
    let second = unix.rem_euclid(DAY);
    (0..=9999).contains(&year).then(|| {
        let text = format!(
            "{year:04}{month:02}{day:02}{:02}{:02}{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        );
        element(TAG_GENERALIZED_TIME, text.as_bytes())
    })
}

fn digits(text: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(digit - b'0');
    }
    Some((number, rest))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<i64> {
        parse(AnyRef::new(Tag::UtcTime, text.as_bytes()).unwrap())
    }

    fn generalized(text: &str) -> Option<i64> {
        parse(AnyRef::new(Tag::GeneralizedTime, text.as_bytes()).unwrap())
    }

    #[test]
    fn known_times_are_read() {
        assert_eq!(utc("700101000000Z"), Some(0));
        assert_eq!(utc("500101000000Z"), Some(-631_152_000));
        assert_eq!(utc("491231235959Z"), Some(2_524_607_999));
        assert_eq!(generalized("20500101000000Z"), Some(2_524_608_000));
        assert_eq!(generalized("99991231235959Z"), Some(253_402_300_799));
        assert_eq!(generalized("20000229120000Z"), Some(951_825_600));
        assert_eq!(generalized("00000101000000Z"), Some(-62_167_219_200));
    }

    #[test]
    fn other_forms_and_impossible_days_are_refused() {
        for text in [
            "7001010000Z",
            "700101000000",
            "700101000000+0000",
            "701301000000Z",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
        for text in ["21000229000000Z", "20200101240000Z", "20200101000000.5Z"] {
            assert_eq!(generalized(text), None, "{text}");
        }
    }

    #[test]
    fn written_times_are_read_again() {
        for unix in [
            0,
            -1,
            951_825_600,
            2_524_607_999,
            2_524_608_000,
            253_402_300_799,
        ] {
            let encoded = encode(unix).unwrap();
            let mut reader = crate::asn1::Reader::new(&encoded, "time").unwrap();
            assert_eq!(parse(reader.any().unwrap()), Some(unix));
        }
        assert_eq!(encode(253_402_300_800), None);
        assert_eq!(encode(i64::MAX), None);
        assert_eq!(encode(i64::MIN), None);
    }
}
