//! Times as people write them.

use std::time::Duration;

/// The longest time that is taken seriously.
const MAX_DAYS: u64 = 365;

/// Reads a time: a number with or without a fraction, and `ms`, `s`, `m`, `h` or `d`; seconds when there is no unit.
pub(in crate::cli) fn parse_duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write it as 30s, 0.5, 1.5m or 2h";
    let text = text.trim();
    let unit_begins = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |at| at + 1);
    let (number, unit) = text.split_at(unit_begins);
    if number.is_empty() || number.starts_with('+') || number.contains(['e', 'E']) {
        return Err(match text.to_ascii_lowercase().trim_start_matches(['-', '+']) {
            "nan" => format!("NaN is not a time; {HOW}"),
            "inf" | "infinity" => format!("a time must end; leave the option away for no bound, or {HOW}"),
            _ => format!("not a time; {HOW}"),
        });
    }
    let value: f64 = number.parse().map_err(|_| format!("`{number}` is not a number; {HOW}"))?;
    if value.is_sign_negative() {
        return Err(format!("a time must not be negative; {HOW}"));
    }
    let unit_seconds = match unit.trim_start() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        other => return Err(format!("`{other}` is not a unit of time: use ms, s, m, h or d")),
    };
    let seconds = value * unit_seconds;
    let too_long = || format!("longer than {MAX_DAYS} days; leave the option away for no bound");
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| too_long())?;
    if duration > Duration::from_secs(MAX_DAYS * 86_400) {
        return Err(too_long());
    }
    if duration < Duration::from_millis(1) {
        return Err(format!("shorter than a millisecond leaves no time for anything; {HOW}"));
    }
    Ok(duration)
}

/// The same of a time that may be 0, for something that is not to be done.
pub(in crate::cli) fn parse_duration_or_zero(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_with_fractions_and_units() {
        for (text, millis) in [
            ("0.5", 500),
            ("30", 30_000),
            ("30s", 30_000),
            ("250ms", 250),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            (".5s", 500),
            ("1 s", 1000),
            ("365d", 365 * 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "not a time"),
            ("abc", "not a time"),
            ("NaN", "NaN"),
            ("-nan", "NaN"),
            ("inf", "must end"),
            ("-inf", "must end"),
            ("infinity", "must end"),
            ("-1", "negative"),
            ("-0.5s", "negative"),
            ("0", "millisecond"),
            ("0.0001", "millisecond"),
            ("1e300", "not a time"),
            ("366d", "365 days"),
            ("9999999999999999999999", "365 days"),
            ("5 weeks", "`weeks`"),
            ("1.2.3", "`1.2.3`"),
            ("1h30m", "`1h30`"),
        ] {
            let reason = parse_duration(text).unwrap_err();
            assert!(reason.contains(why), "{text}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_within_bounds_or_refused(text in "\\PC{0,12}|-?[0-9.]{0,30}[a-z]{0,2}") {
            if let Ok(time) = parse_duration(&text) {
                prop_assert!((Duration::from_millis(1)..=Duration::from_secs(MAX_DAYS * 86_400)).contains(&time));
            }
        }
    }
}
