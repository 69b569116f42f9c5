use serde_json::json;

use super::{Fault, checks::Entry};

/// Words a JSON syntax error as Python's parser words it, for the commonest faults. Gives the position in characters.
pub(crate) fn json_fault(text: &str, error: &serde_json::Error) -> (usize, &'static str) {
    let offset = byte_offset(text, error.line(), error.column());
    let said = error.to_string();
    let (at, words) = if said.starts_with("EOF while parsing an object") {
        let words = match text.trim_end().as_bytes().last() {
            Some(b'{' | b',') => "Expecting property name enclosed in double quotes",
            _ => "Expecting ',' delimiter",
        };
        (text.len(), words)
    } else if said.starts_with("EOF while parsing a string") {
        (text.rfind('"').unwrap_or(0), "Unterminated string starting at")
    } else if said.starts_with("EOF") {
        (text.len(), "Expecting value")
    } else if said.starts_with("trailing comma") {
        let comma = text[..offset].rfind(',').unwrap_or(offset);
        (comma, if text[offset..].starts_with(']') { "Illegal trailing comma before end of array" } else { TRAILING })
    } else if said.starts_with("key must be a string") {
        (offset, "Expecting property name enclosed in double quotes")
    } else if said.starts_with("expected `:`") {
        (offset, "Expecting ':' delimiter")
    } else if said.starts_with("expected `,`") {
        (offset, "Expecting ',' delimiter")
    } else if said.starts_with("trailing characters") {
        (offset, "Extra data")
    } else if said.starts_with("control character") {
        (offset, "Invalid control character at")
    } else {
        (value_start(text, offset), "Expecting value")
    };
    (text[..at].chars().count(), words)
}

const TRAILING: &str = "Illegal trailing comma before end of object";

/// Where the word that is no value begins.
fn value_start(text: &str, offset: usize) -> usize {
    let word = |c: char| c.is_ascii_alphanumeric();
    text[..offset].trim_end_matches(word).len()
}

/// The entry of the 422 for a body that is no JSON.
pub(super) fn json_invalid(text: &str, error: &serde_json::Error) -> Entry {
    let (at, words) = json_fault(text, error);
    let fault = Fault { context: Some(json!({ "error": words })), ..Fault::new("json_invalid", "JSON decode error") };
    Entry { loc: json!(["body", at]), ..fault.entry(&[], json!({})) }
}

/// Where a one-based line and column are, kept within the text and on a character's first byte.
fn byte_offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut offset = (before + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (usize, &'static str) {
        json_fault(text, &serde_json::from_str::<serde_json::Value>(text).unwrap_err())
    }

    #[test]
    fn common_faults_are_worded_and_placed_as_in_python() {
        assert_eq!(fault("{"), (1, "Expecting property name enclosed in double quotes"));
        assert_eq!(fault(r#"{"command":"x",}"#), (14, "Illegal trailing comma before end of object"));
        assert_eq!(fault("nope"), (0, "Expecting value"));
        assert_eq!(fault("[1"), (2, "Expecting value"));
        assert_eq!(fault("{} x"), (3, "Extra data"));
        assert_eq!(fault(r#"{"é" 1}"#), (5, "Expecting ':' delimiter"));
    }
}
