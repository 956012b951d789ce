//! EST (RFC 7030): what an answer means. No I/O.

use cardea_pki::Certificate;
use cardea_pki::est;

use crate::error::{Error, shown};
use crate::http::HttpAnswer;

/// Without Retry-After, RFC 7030 leaves the time to the client.
const DEFAULT_WAIT: i64 = 300;
/// The longest wait that an authority can order.
const LONGEST_WAIT: i64 = 86_400;

/// What the authority said to a request.
#[derive(Debug)]
pub(crate) enum EstAnswer {
    /// Certificates.
    Issued(Vec<Certificate>),
    /// Not yet: ask again in so many seconds.
    Later(i64),
    /// It wants a password.
    PasswordNeeded,
}

/// Judges the answer to `simpleenroll` and `simplereenroll`.
pub(crate) fn judge(answer: &HttpAnswer, now: i64) -> Result<EstAnswer, Error> {
    let text = shown(&answer.body);
    let said = match text.is_empty() {
        true => String::new(),
        false => format!(": {text}"),
    };
    match answer.status {
        200 => {
            let der = est::decode_body(&answer.body)?;
            Ok(EstAnswer::Issued(est::certificates(&der)?))
        }
        202 => Ok(EstAnswer::Later(
            retry_after(answer, now).unwrap_or(DEFAULT_WAIT),
        )),
        401 => {
            let schemes = answer.header("www-authenticate").unwrap_or_default();
            match schemes.to_ascii_lowercase().contains("basic") {
                true => Ok(EstAnswer::PasswordNeeded),
                false => Err(Error::Refused(
                    "the authority wants another kind of authentication than Basic, which is not supported".to_owned(),
                )),
            }
        }
        400 => Err(Error::Refused(format!(
            "the authority refused the request as it is{said}"
        ))),
        403 => Err(Error::Refused(format!(
            "the authority issues no certificate to you{said}; ask its administrator"
        ))),
        503 => Err(Error::Unreachable(format!(
            "the authority is not available now{said}"
        ))),
        300..400 => Err(Error::Untrusted(format!(
            "the authority sends us to another place ({}), where nothing is sent; correct the address in the profile",
            shown(answer.header("location").unwrap_or("nowhere").as_bytes())
        ))),
        status @ 500.. => Err(Error::Unreachable(format!(
            "the authority answered with the error {status}{said}"
        ))),
        status => Err(Error::Refused(format!(
            "the authority answered with {status}{said}"
        ))),
    }
}

/// Retry-After (RFC 9110, section 10.2.3): seconds, or a date.
pub(crate) fn retry_after(answer: &HttpAnswer, now: i64) -> Option<i64> {
    let value = answer.header("retry-after")?.trim();
    let seconds = match value.parse::<u32>() {
        Ok(seconds) => i64::from(seconds),
        Err(_) => http_date(value)?.saturating_sub(now),
    };
    Some(seconds.clamp(1, LONGEST_WAIT))
}

/// IMF-fixdate (RFC 9110, section 5.6.7), the only form that is sent today: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let mut clock = parts.next()?.split(':');
    let number = |text: &str| text.parse::<u16>().ok().map(i64::from);
    let month = MONTHS.iter().position(|name| *name == month)?;
    let month = i64::try_from(month).ok()?.checked_add(1)?;
    let (day, year) = (number(day)?, number(year)?);
    let time = [
        number(clock.next()?)?,
        number(clock.next()?)?,
        number(clock.next()?)?,
    ];
    let [hour, minute, second] = time;
    // Howard Hinnant's days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
        HttpAnswer {
            status,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.to_vec(),
        }
    }

    #[test]
    fn waiting_is_by_seconds_or_date_and_bounded() {
        let wait = |value| match judge(&answer(202, &[("retry-after", value)], b""), 784_111_770) {
            Ok(EstAnswer::Later(seconds)) => seconds,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("17"), 17);
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), 7);
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), 1, "in the past");
        assert_eq!(wait("4000000000"), LONGEST_WAIT);
        assert_eq!(wait("soon"), DEFAULT_WAIT);
        assert!(matches!(
            judge(&answer(202, &[], b""), 0),
            Ok(EstAnswer::Later(DEFAULT_WAIT))
        ));
    }

    #[test]
    fn each_status_says_who_must_do_what() {
        for (status, is_refusal) in [
            (400, true),
            (403, true),
            (404, true),
            (503, false),
            (500, false),
        ] {
            let error = judge(&answer(status, &[], b"no\x1b[31m\n"), 0).unwrap_err();
            assert_eq!(matches!(error, Error::Refused(_)), is_refusal, "{status}");
            let text = error.to_string();
            assert!(text.contains("no") && !text.contains('\x1b'), "{text}");
        }
        let redirected = answer(302, &[("location", "https://elsewhere/")], b"");
        assert!(matches!(judge(&redirected, 0), Err(Error::Untrusted(_))));
        let basic = answer(401, &[("www-authenticate", "Basic realm=x")], b"");
        assert!(matches!(judge(&basic, 0), Ok(EstAnswer::PasswordNeeded)));
        let other = answer(401, &[("www-authenticate", "Negotiate")], b"");
        assert!(matches!(judge(&other, 0), Err(Error::Refused(_))));
        assert!(judge(&answer(200, &[], b"<html>"), 0).is_err());
    }
}
