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
    fn counts_have_their_plural() {
        assert_eq!((count(1, "target"), count(0, "target")), ("1 target".to_owned(), "0 targets".to_owned()));
    }
}
