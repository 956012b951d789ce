//! Times as the person at the terminal reads them: in the local time zone.
//!
//! The zone is that of `TZ`, else `/etc/localtime`, as in tzset(3): a name below `/usr/share/zoneinfo`, a path, or a
//! rule (POSIX.1-2017 §8.3). Files are TZif (RFC 8536) of version 2 or later. What cannot be read is UTC.

use std::path::Path;
use std::sync::OnceLock;

use cardea_terms::civil_from_days;

/// A time, from seconds since 1970.
pub(crate) fn local(seconds: i64) -> String {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    ZONE.get_or_init(|| Zone::of_environment().unwrap_or_default())
        .show(seconds)
}

const DAY: i64 = 86_400;

/// Longest zone file: those of the time zone database have a few kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// How far from UTC, and what that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offset {
    seconds: i64,
    name: String,
}

impl Default for Offset {
    fn default() -> Self {
        Self {
            seconds: 0,
            name: "UTC".into(),
        }
    }
}

/// A time zone.
#[derive(Debug, Default)]
struct Zone {
    /// Before the first transition.
    first: Offset,
    /// Since when which offset applies, in the order of time.
    transitions: Vec<(i64, Offset)>,
    /// After the last transition.
    rule: Option<Rule>,
}

impl Zone {
    fn of_environment() -> Option<Self> {
        let Some(value) = std::env::var_os("TZ") else {
            return Self::of_file(Path::new("/etc/localtime"));
        };
        let value = value.to_str()?;
        let value = value.strip_prefix(':').unwrap_or(value);
        let database = Path::new("/usr/share/zoneinfo");
        match value {
            "" => None,
            path if path.starts_with('/') => Self::of_file(Path::new(path)),
            name if name.split('/').any(|part| part == "..") => None,
            name => Self::of_file(&database.join(name)).or_else(|| {
                Some(Self {
                    rule: Some(Rule::parse(name)?),
                    ..Self::default()
                })
            }),
        }
    }

    fn of_file(path: &Path) -> Option<Self> {
        let found = path.metadata().ok()?;
        let small = found.is_file() && found.len() <= MAX_FILE;
        let content = small.then(|| std::fs::read(path).ok()).flatten()?;
        Self::parse(&content)
    }

    /// TZif: the second block, which has 64-bit times, and the rule behind it.
    fn parse(content: &[u8]) -> Option<Self> {
        let first = Header::parse(content)?;
        let rest = content.get(Header::LENGTH + first.length(4)..)?;
        let header = Header::parse(rest)?;
        let body = rest.get(Header::LENGTH..)?;
        let (times, body) = body.split_at_checked(header.times * 8)?;
        let (kinds, body) = body.split_at_checked(header.times)?;
        let (types, body) = body.split_at_checked(header.types * 6)?;
        let names = body.get(..header.characters)?;
        let offset = |kind: usize| {
            let [a, b, c, d, _, name] = *types.as_chunks::<6>().0.get(kind)?;
            let name = names.get(usize::from(name)..)?.split(|byte| *byte == 0);
            Some(Offset {
                seconds: i64::from(i32::from_be_bytes([a, b, c, d])),
                name: String::from_utf8(name.take(1).flatten().copied().collect()).ok()?,
            })
        };
        let transitions = times.as_chunks::<8>().0.iter().zip(kinds);
        let transitions = transitions
            .map(|(time, kind)| Some((i64::from_be_bytes(*time), offset(usize::from(*kind))?)))
            .collect::<Option<Vec<_>>>()?;
        let footer = rest.get(Header::LENGTH + header.length(8)..)?;
        let footer = std::str::from_utf8(footer).ok()?.trim_matches('\n');
        Some(Self {
            first: offset(0)?,
            transitions,
            rule: Rule::parse(footer),
        })
    }

    fn offset(&self, seconds: i64) -> &Offset {
        let past = self
            .transitions
            .partition_point(|(since, _)| *since <= seconds);
        let last = past
            .checked_sub(1)
            .and_then(|index| self.transitions.get(index))
            .map_or(&self.first, |(_, offset)| offset);
        match &self.rule {
            Some(rule) if past == self.transitions.len() => rule.offset(seconds),
            _ => last,
        }
    }

    fn show(&self, seconds: i64) -> String {
        let offset = self.offset(seconds);
        let shown = seconds.saturating_add(offset.seconds);
        let (days, rest) = (shown.div_euclid(DAY), shown.rem_euclid(DAY));
        let (year, month, day) = civil_from_days(days);
        format!(
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} {}",
            rest / 3600,
            rest / 60 % 60,
            rest % 60,
            offset.name
        )
    }
}

/// The counts at the beginning of a block.
struct Header {
    universal: usize,
    standard: usize,
    leaps: usize,
    times: usize,
    types: usize,
    characters: usize,
}

impl Header {
    const LENGTH: usize = 44;

    fn parse(content: &[u8]) -> Option<Self> {
        let (head, counts) = content.get(..Self::LENGTH)?.split_at_checked(20)?;
        let version = head.strip_prefix(b"TZif")?.first()?;
        if !(b'2'..).contains(version) {
            return None;
        }
        let counts: Vec<usize> = counts
            .as_chunks::<4>()
            .0
            .iter()
            .map(|count| usize::try_from(u32::from_be_bytes(*count)))
            .collect::<Result<_, _>>()
            .ok()?;
        // More than a file can have, so that no product overflows.
        let fits = counts.iter().all(|count| *count < 1 << 20);
        match *counts.as_slice() {
            [universal, standard, leaps, times, types, characters] if fits => Some(Self {
                universal,
                standard,
                leaps,
                times,
                types,
                characters,
            }),
            _ => None,
        }
    }

    /// Of the block behind it, whose times have so many bytes.
    fn length(&self, time: usize) -> usize {
        self.times * (time + 1)
            + self.types * 6
            + self.characters
            + self.leaps * (time + 4)
            + self.standard
            + self.universal
    }
}

/// What applies every year.
#[derive(Debug)]
struct Rule {
    standard: Offset,
    /// Summer time, since when and until when.
    summer: Option<(Offset, Moment, Moment)>,
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let standard = Offset {
            name: name(&mut rest)?,
            seconds: -time(&mut rest)?,
        };
        if rest.is_empty() {
            return Some(Self {
                standard,
                summer: None,
            });
        }
        let called = name(&mut rest)?;
        let seconds = match rest.starts_with(',') {
            true => standard.seconds + 3600,
            false => -time(&mut rest)?,
        };
        let summer = Offset {
            name: called,
            seconds,
        };
        let begin = Moment::parse(&mut rest)?;
        let end = Moment::parse(&mut rest)?;
        rest.is_empty().then_some(Self {
            standard,
            summer: Some((summer, begin, end)),
        })
    }

    fn offset(&self, seconds: i64) -> &Offset {
        let Some((summer, begin, end)) = &self.summer else {
            return &self.standard;
        };
        let days = seconds
            .saturating_add(self.standard.seconds)
            .div_euclid(DAY);
        let (year, _, _) = civil_from_days(days);
        // Each in the time that applies before it.
        let begin = begin.in_year(year).saturating_sub(self.standard.seconds);
        let end = end.in_year(year).saturating_sub(summer.seconds);
        let is_summer = match begin < end {
            true => (begin..end).contains(&seconds),
            false => !(end..begin).contains(&seconds),
        };
        match is_summer {
            true => summer,
            false => &self.standard,
        }
    }
}

/// When in a year, in local time.
#[derive(Debug)]
struct Moment {
    day: DayOfYear,
    seconds: i64,
}

#[derive(Debug)]
enum DayOfYear {
    /// From 1, never 29 February.
    Julian(i64),
    /// From 0.
    Counted(i64),
    /// Month from 1, week from 1 to 5 (the last), weekday from 0 (Sunday).
    Weekday(i64, i64, i64),
}

impl Moment {
    /// `,` and what is behind it.
    fn parse(rest: &mut &str) -> Option<Self> {
        *rest = rest.strip_prefix(',')?;
        let day = if let Some(julian) = rest.strip_prefix('J') {
            *rest = julian;
            DayOfYear::Julian(number(rest)?)
        } else if let Some(month) = rest.strip_prefix('M') {
            *rest = month;
            let month = number(rest)?;
            *rest = rest.strip_prefix('.')?;
            let week = number(rest)?;
            *rest = rest.strip_prefix('.')?;
            DayOfYear::Weekday(month, week, number(rest)?)
        } else {
            DayOfYear::Counted(number(rest)?)
        };
        let fits = match day {
            DayOfYear::Julian(day) => (1..=365).contains(&day),
            DayOfYear::Counted(day) => (0..=365).contains(&day),
            DayOfYear::Weekday(month, week, weekday) => {
                (1..=12).contains(&month) && (1..=5).contains(&week) && (0..=6).contains(&weekday)
            }
        };
        let seconds = match rest.strip_prefix('/') {
            Some(behind) => {
                *rest = behind;
                time(rest)?
            }
            None => 2 * 3600,
        };
        fits.then_some(Self { day, seconds })
    }

    /// Seconds since 1970, in local time.
    fn in_year(&self, year: i64) -> i64 {
        let first = days_before(year, 1);
        let day = match self.day {
            DayOfYear::Counted(day) => first + day,
            DayOfYear::Julian(day) => first + day - 1 + i64::from(day > 59 && is_leap(year)),
            DayOfYear::Weekday(month, week, weekday) => {
                let month_begins = days_before(year, month);
                let next = match month {
                    12 => days_before(year + 1, 1),
                    _ => days_before(year, month + 1),
                };
                // 1970-01-01 was a Thursday.
                let to_first = (weekday - 4 - month_begins).rem_euclid(7);
                let day = month_begins + to_first + (week - 1) * 7;
                if day < next { day } else { day - 7 }
            }
        };
        day.saturating_mul(DAY).saturating_add(self.seconds)
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 to the first of a month.
fn days_before(year: i64, month: i64) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let whole = year - 1;
    let leaps = whole.div_euclid(4) - whole.div_euclid(100) + whole.div_euclid(400) - 477;
    let in_year = usize::try_from(month - 1)
        .ok()
        .and_then(|month| BEFORE.get(month))
        .unwrap_or(&0);
    (year - 1970) * 365 + leaps + in_year + i64::from(month > 2 && is_leap(year))
}

/// Letters, or anything in angle brackets.
fn name(rest: &mut &str) -> Option<String> {
    let (name, behind) = match rest.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?,
        None => {
            let end = rest
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(rest.len());
            rest.split_at_checked(end)?
        }
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '-';
    *rest = behind;
    (name.len() >= 3 && name.chars().all(allowed)).then(|| name.to_owned())
}

/// `[+-]hh[:mm[:ss]]`
fn time(rest: &mut &str) -> Option<i64> {
    let sign = match rest.chars().next()? {
        '-' => -1,
        _ => 1,
    };
    *rest = rest.trim_start_matches(['+', '-']);
    let mut seconds = number(rest)? * 3600;
    for unit in [60, 1] {
        if let Some(behind) = rest.strip_prefix(':') {
            *rest = behind;
            seconds += number(rest)? * unit;
        }
    }
    Some(sign * seconds)
}

fn number(rest: &mut &str) -> Option<i64> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, behind) = rest.split_at_checked(end)?;
    *rest = behind;
    // At most 167 hours (RFC 8536 §3.3.1) and 365 days.
    (digits.len() <= 3).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Zone {
        Zone {
            rule: Some(Rule::parse(text).unwrap()),
            ..Zone::default()
        }
    }

    #[test]
    fn times_without_a_zone_are_utc() {
        let zone = Zone::default();
        assert_eq!(zone.show(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(zone.show(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(zone.show(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(zone.show(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(zone.show(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(zone.show(-1), "1969-12-31 23:59:59 UTC");
        for edge in [i64::MAX, i64::MIN] {
            assert!(zone.show(edge).ends_with("UTC"));
            assert!(!rule("CET-1CEST,M3.5.0,M10.5.0/3").show(edge).is_empty());
        }
    }

    /// The values are those of date(1).
    #[test]
    fn rules_have_summer_time_in_both_hemispheres() {
        let berlin = rule("CET-1CEST,M3.5.0,M10.5.0/3");
        assert_eq!(berlin.show(1_774_745_999), "2026-03-29 01:59:59 CET");
        assert_eq!(berlin.show(1_774_746_000), "2026-03-29 03:00:00 CEST");
        assert_eq!(berlin.show(1_792_889_999), "2026-10-25 02:59:59 CEST");
        assert_eq!(berlin.show(1_792_890_000), "2026-10-25 02:00:00 CET");
        let sydney = rule("AEST-10AEDT,M10.1.0,M4.1.0/3");
        assert_eq!(sydney.show(1_767_225_600), "2026-01-01 11:00:00 AEDT");
        assert_eq!(sydney.show(1_782_864_000), "2026-07-01 10:00:00 AEST");
        let india = rule("<+0530>-5:30");
        assert_eq!(india.show(0), "1970-01-01 05:30:00 +0530");
        assert_eq!(rule("XXX3YYY,J60,300/1").show(0), "1969-12-31 21:00:00 XXX");
    }

    #[test]
    fn invalid_rules_are_refused() {
        for text in [
            "",
            "CE-1",
            "CET",
            "CET-1CEST",
            "CET-1CEST,M13.1.0,M10.5.0",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,M3.5.0,M10.5.0,",
            "CET-99999",
            "<CET-1",
            "<a b>-1",
        ] {
            assert!(Rule::parse(text).is_none(), "{text}");
        }
    }

    fn file(footer: &str) -> Vec<u8> {
        let header = |times: u32, types: u32, characters: u32| {
            let mut bytes = b"TZif2".to_vec();
            bytes.extend([0; 15]);
            for count in [0, 0, 0, times, types, characters] {
                bytes.extend(count.to_be_bytes());
            }
            bytes
        };
        let mut bytes = header(0, 1, 4);
        bytes.extend([0; 10]);
        bytes.extend(header(1, 2, 8));
        bytes.extend(1000_i64.to_be_bytes());
        bytes.push(1);
        bytes.extend([0, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 0x0E, 0x10, 0, 4]);
        bytes.extend(b"LMT\0CET\0");
        bytes.extend(format!("\n{footer}\n").bytes());
        bytes
    }

    #[test]
    fn zone_files_are_read() {
        let zone = Zone::parse(&file("")).unwrap();
        assert_eq!(zone.show(999), "1970-01-01 00:16:39 LMT");
        assert_eq!(zone.show(1000), "1970-01-01 01:16:40 CET");
        let zone = Zone::parse(&file("EET-2")).unwrap();
        assert_eq!(zone.show(999), "1970-01-01 00:16:39 LMT");
        assert_eq!(zone.show(1000), "1970-01-01 02:16:40 EET");
    }

    #[test]
    fn cut_and_changed_zone_files_are_refused_or_shown() {
        let whole = file("CET-1CEST,M3.5.0,M10.5.0/3");
        for length in 0..whole.len() {
            let _ = Zone::parse(&whole[..length]).map(|zone| zone.show(2000));
            let mut changed = whole.clone();
            changed[length] ^= 0xFF;
            let _ = Zone::parse(&changed).map(|zone| zone.show(2000));
        }
        assert!(Zone::parse(&whole[..100]).is_none());
    }
}
