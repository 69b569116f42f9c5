//! Text as Python's methods see it, since both sides of a diff are shaped by them.

/// Ends of lines, as `str.splitlines` knows them.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Every kind of line end made a line feed, the last one dropped: `"\n".join(text.splitlines())`.
pub(super) fn normalize_lines(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let mut lines: String = text.chars().map(|c| if is_line_end(c) { '\n' } else { c }).collect();
    if lines.ends_with('\n') {
        lines.pop();
    }
    lines
}

/// `\r\n` and `\r` made line feeds, as when a program's output is read as text.
pub(super) fn universal_newlines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Without white space around it, as `str.strip` knows white space.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_in_python() {
        assert_eq!(normalize_lines("a\r\nb\u{c}c\u{2028}d\n"), "a\nb\nc\nd");
        assert_eq!(normalize_lines("\n  lead\n\n\n"), "\n  lead\n\n");
        assert_eq!(normalize_lines(""), "");
        assert_eq!(universal_newlines("a\r\nb\rc"), "a\nb\nc");
        assert_eq!(strip(" \u{1f}a b\n"), "a b");
    }
}
