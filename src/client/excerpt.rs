//! A few words of an answer, for messages.

/// How many characters of an answer a message may show.
const LENGTH: usize = 80;

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
    fn an_excerpt_is_one_printable_line() {
        assert_eq!(excerpt(b"<HTML><Title>502\r\n Bad Gateway</TITLE>"), "502 Bad Gateway");
        assert_eq!(excerpt(b"\x1b[1mhi\0\xff there\n"), "[1mhi there");
        assert_eq!(excerpt("ü".repeat(100).as_bytes()), format!("{}...", "ü".repeat(80)));
        assert_eq!(excerpt(b""), "");
    }
}
