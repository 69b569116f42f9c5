//! Durations, sizes and texts of others, for people.

use std::{borrow::Cow, time::Duration};

/// A duration with as many digits as say something.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.01 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = duration.as_secs();
        let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
        if hours > 0 { format!("{hours} h {minutes} min") } else { format!("{minutes} min {seconds} s") }
    }
}

/// "1 target", "2 targets".
pub(super) fn count(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// One line of a text that a server or a file name made up: it must not move the cursor or fake another line.
pub(super) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    Cow::Owned(line)
}

/// By what names are put in order: numbers within them by their value, so that `node2` comes before `node10`.
pub(super) fn order_of(name: &str) -> Vec<(&str, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (text, after) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        // No number comes first, one that is too large last.
        parts.push((text, if end == 0 { 0 } else { after[..end].parse().unwrap_or(u64::MAX) }));
        rest = &after[end..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, text) in [
            (1, "1.0 ms"),
            (12, "12 ms"),
            (999, "999 ms"),
            (1500, "1.5 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_text_of_others_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[2J"), "a b\\u{1b}[2J");
        assert_eq!(one_line("plain ü"), "plain ü");
    }

    #[test]
    fn numbers_in_names_are_numbers() {
        let mut names = ["node10", "node2", "a", "node", "10.0.0.10:80", "10.0.0.9:80", "n99999999999999999999", ""];
        names.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
        assert_eq!(names, ["", "10.0.0.9:80", "10.0.0.10:80", "a", "n99999999999999999999", "node", "node2", "node10"]);
    }

    #[test]
    fn counts_have_their_plural() {
        assert_eq!((count(1, "target"), count(0, "target")), ("1 target".to_owned(), "0 targets".to_owned()));
    }
}
