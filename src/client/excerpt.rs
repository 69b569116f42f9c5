//! A few words of an answer, for messages.

/// How many characters of an answer a message may show.
const LENGTH: usize = 80;

/// How many characters of a server's own words a message may show.
const WORDS: usize = 4_000;

/// A server's own words as a message may show them: not endless, and without what would move a terminal's cursor.
pub(super) fn shown(words: &str) -> String {
    let plain = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c };
    let mut shown: String = words.chars().take(WORDS).map(plain).collect();
    if words.chars().nth(WORDS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The title of an HTML page, or the first printable characters of any other text, on one line.
pub(super) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let text = title(&text).unwrap_or(&text);
    let printable = text.chars().map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { ' ' } else { c });
    let mut line = String::new();
    for word in printable.collect::<String>().split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    let length = lower[start..].find("</title>")?;
    Some(&page[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_bounded_and_printable() {
        assert_eq!(shown("no\tsuch\nfile\r\x1b[2J"), "no\tsuch\nfile  [2J");
        assert_eq!(shown(&"ü".repeat(WORDS)), "ü".repeat(WORDS));
        assert_eq!(shown(&"ü".repeat(WORDS + 1)), format!("{}...", "ü".repeat(WORDS)));
    }

    #[test]
    fn an_excerpt_is_one_printable_line() {
        assert_eq!(excerpt(b"<HTML><Title>502\r\n Bad Gateway</TITLE>"), "502 Bad Gateway");
        assert_eq!(excerpt(b"\x1b[1mhi\0\xff there\n"), "[1mhi there");
        assert_eq!(excerpt("ü".repeat(100).as_bytes()), format!("{}...", "ü".repeat(80)));
        assert_eq!(excerpt(b""), "");
    }
}
