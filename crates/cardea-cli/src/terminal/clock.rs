//! Times as the person at the terminal reads them: in the local time zone, which is that of `TZ`, else
//! `/etc/localtime`. Where there is none, or it cannot be read, it is UTC.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time, from seconds since 1970. Beyond the years of the calendar: the seconds.
pub(crate) fn local(seconds: i64) -> String {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(|| TimeZone::try_system().unwrap_or(TimeZone::UTC));
    shown(seconds, zone)
}

fn shown(seconds: i64, zone: &TimeZone) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => {
            let time = time.to_zoned_datetime(zone.clone());
            time.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
        }
        Err(_) => format!("{seconds} s after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_their_zone() {
        let utc = |seconds| shown(seconds, &TimeZone::UTC);
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        // The value is that of date(1).
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(shown(1_774_746_000, &berlin), "2026-03-29 03:00:00 CEST");
    }

    #[test]
    fn time_outside_the_calendar_is_shown_as_seconds() {
        for edge in [i64::MAX, i64::MIN] {
            let text = shown(edge, &TimeZone::UTC);
            assert_eq!(text, format!("{edge} s after 1970"));
        }
    }
}
