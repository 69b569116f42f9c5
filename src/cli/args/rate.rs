//! Rates as people write them.

const HOW: &str = "write it as 5/s, 30/m or 100/h";

/// Reads a rate: a number and `/s`, `/m` or `/h`; a second when there is no unit. Returns how many in a second.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, seconds) = match text.trim().split_once('/') {
        None => (text.trim(), 1.0),
        Some((number, unit)) => match unit.trim() {
            "s" => (number, 1.0),
            "m" | "min" => (number, 60.0),
            "h" => (number, 3600.0),
            other => return Err(format!("`{other}` is not a unit of a rate; {HOW}")),
        },
    };
    let value: f64 = number.trim().parse().map_err(|_| format!("`{number}` is not a number; {HOW}"))?;
    // Less than one a day is a mistake, and more than a million a second no bound.
    let rate = value / seconds;
    if !(1.0 / 86_400.0..=1e6).contains(&rate) {
        return Err(format!(
            "a rate lies between one a day and a million a second; {HOW}, or leave it away for no bound"
        ));
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, rate) in [("5/s", 5.0), ("30/m", 0.5), ("7200/h", 2.0), ("3", 3.0), ("0.5/s", 0.5), (" 6 / m ", 0.1)]
        {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_the_way_out() {
        for text in ["", "x", "5/d", "/s", "0/s", "-1/s", "NaN", "inf/s", "5/"] {
            assert!(parse_rate(text).unwrap_err().contains("5/s"), "{text}");
        }
    }
}
