use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::json;

use crate::agent::http::Fault;

/// A moment in whole microseconds since 1970, UTC. In the log it is also the key of an event, so no two are equal.
pub(super) type Micros = i64;

pub(super) fn now() -> Micros {
    Timestamp::now().as_microsecond()
}

fn civil(at: Micros) -> civil::DateTime {
    let at = Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX);
    TimeZone::UTC.to_datetime(at)
}

/// As the real server writes it: six digits of fraction, or none when they are all zero.
pub(super) fn to_rfc3339(at: Micros) -> String {
    let t = civil(at);
    let seconds =
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second());
    match at.rem_euclid(1_000_000) {
        0 => format!("{seconds}Z"),
        micros => format!("{seconds}.{micros:06}Z"),
    }
}

/// The twenty digits that begin the name of an event.
pub(super) fn to_digits(at: Micros) -> String {
    let t = civil(at);
    let micros = at.rem_euclid(1_000_000);
    format!("{:04}{:02}{:02}{:02}{:02}{:02}{micros:06}", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second())
}

/// Reads [`to_digits`] from the beginning of a text.
pub(super) fn from_digits(text: &str) -> Option<Micros> {
    let digits = text.get(..20).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let part = |range: std::ops::Range<usize>| digits[range].parse::<i16>().ok();
    let small = |range: std::ops::Range<usize>| digits[range].parse::<i8>().ok();
    let micros: i32 = digits[14..].parse().ok()?;
    let at = civil::DateTime::new(
        part(0..4)?,
        small(4..6)?,
        small(6..8)?,
        small(8..10)?,
        small(10..12)?,
        small(12..14)?,
        micros * 1_000,
    );
    Some(TimeZone::UTC.to_timestamp(at.ok()?).ok()?.as_microsecond())
}

/// Reads a moment as leniently as the real server: RFC 3339 with any offset, without an offset (then UTC), a date alone,
/// or seconds or milliseconds since 1970.
pub(super) fn parse(text: &str) -> Result<Micros, Fault> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_microsecond());
    }
    if let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        // The bound at which the real server takes a number for milliseconds.
        let seconds = if number.abs() > 2e10 { number / 1e3 } else { number };
        return Ok((seconds * 1e6).clamp(-6e16, 2.5e17) as Micros);
    }
    let civil = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(Into::into));
    civil.ok().and_then(|at| TimeZone::UTC.to_timestamp(at).ok()).map(Timestamp::as_microsecond).ok_or_else(|| {
        let reason = match text.len() {
            0..10 => "input is too short",
            _ if text.as_bytes()[..10].iter().all(|b| b.is_ascii_digit() || *b == b'-') => {
                "unexpected extra characters at the end of the input"
            }
            _ => "invalid character in year",
        };
        Fault {
            context: Some(json!({ "error": reason })),
            ..Fault::with_reason("datetime_from_date_parsing", "Input should be a valid datetime or date, ", reason)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Micros = 1_795_373_886_894_030;

    #[test]
    fn digits_and_rfc3339_name_the_same_moment() {
        assert_eq!(to_rfc3339(AT), "2026-11-22T18:58:06.894030Z");
        assert_eq!(to_digits(AT), "20261122185806894030");
        assert_eq!(from_digits("20261122185806894030_BashCommand_x"), Some(AT));
        assert_eq!(to_rfc3339(AT - 894_030), "2026-11-22T18:58:06Z");
        for wrong in ["", "2026", "20261322185806894030", "2026112218580689403é"] {
            assert_eq!(from_digits(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_form_of_a_moment_is_read() {
        for text in [
            "2026-11-22T18:58:06.894030Z",
            "2026-11-22T20:58:06.894030+02:00",
            "2026-11-22T18:58:06.894030",
            "2026-11-22 18:58:06.894030",
        ] {
            assert_eq!(parse(text).unwrap(), AT, "{text}");
        }
        assert_eq!(parse("2026-11-22").unwrap(), AT - AT.rem_euclid(86_400_000_000));
        assert_eq!(parse("1600000000").unwrap(), 1_600_000_000_000_000);
        assert_eq!(parse("1600000000000").unwrap(), 1_600_000_000_000_000);
        assert!(parse("zz").unwrap_err().message.ends_with("input is too short"));
        assert!(parse("NaN").is_err() && parse("").is_err());
    }
}
