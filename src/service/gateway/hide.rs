use bytes::{Bytes, BytesMut};
use memchr::memmem::find;

use crate::protocol::CommandHead;

/// The name of the field.
const FIELD: &[u8] = b"\"command\"";

/// How many blanks may stand between a name and its value.
const BLANKS: usize = 64;

/// Takes the runtime's head off the commands in a JSON text that comes in pieces, and changes nothing else.
///
/// It looks for the field's name in its quotes. Within a text that stands in JSON, quotes are escaped, and so what looks like
/// the field there is not taken for it.
#[derive(Default)]
pub(super) struct Hider {
    /// What may be the beginning of a head.
    held: BytesMut,
    /// The last byte before that.
    last: u8,
}

/// What is found at the name of a field.
enum Found {
    /// The head is between these places.
    Head(usize, usize),
    /// Something else.
    Other,
    /// More has to come before that can be said.
    Unclear,
}

impl Hider {
    /// Takes a piece and returns what can go on.
    pub(super) fn take(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        let mut out = BytesMut::with_capacity(self.held.len());
        loop {
            let Some(at) = find(&self.held, FIELD) else {
                // The end may be the beginning of the name.
                let keep = (1..FIELD.len()).rev().find(|&length| self.held.ends_with(&FIELD[..length])).unwrap_or(0);
                let sure = self.held.len() - keep;
                self.let_go(&mut out, sure);
                break;
            };
            let before = if at > 0 { self.held[at - 1] } else { self.last };
            let found = if before == b'\\' { Found::Other } else { look(&self.held[at + FIELD.len()..]) };
            match found {
                Found::Head(from, to) => {
                    let value = at + FIELD.len();
                    self.let_go(&mut out, value + from);
                    drop(self.held.split_to(to - from));
                }
                Found::Other => self.let_go(&mut out, at + FIELD.len()),
                Found::Unclear => {
                    self.let_go(&mut out, at);
                    break;
                }
            }
        }
        out.freeze()
    }

    /// Returns what was held back to the end.
    pub(super) fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    fn let_go(&mut self, out: &mut BytesMut, count: usize) {
        if let Some(last) = count.checked_sub(1) {
            self.last = self.held[last];
            out.extend_from_slice(&self.held.split_to(count));
        }
    }
}

/// A whole text without heads.
pub(super) fn hidden(text: &[u8]) -> Bytes {
    let mut hider = Hider::default();
    let begin = hider.take(text);
    let end = hider.finish();
    if end.is_empty() { begin } else { [begin, end].concat().into() }
}

/// Looks at what comes after the name of the field.
fn look(rest: &[u8]) -> Found {
    let blanks =
        |from: usize| from + rest[from..].iter().take(BLANKS).take_while(|byte| byte.is_ascii_whitespace()).count();
    let colon = blanks(0);
    match rest.get(colon) {
        None if colon < BLANKS => return Found::Unclear,
        Some(b':') => {}
        _ => return Found::Other,
    }
    let quote = blanks(colon + 1);
    match rest.get(quote) {
        None if quote - colon <= BLANKS => return Found::Unclear,
        Some(b'"') => {}
        _ => return Found::Other,
    }
    let value = &rest[quote + 1..];
    match value.get(..CommandHead::LENGTH) {
        Some(head) => match std::str::from_utf8(head).ok().and_then(CommandHead::strip) {
            Some(_) => Found::Head(quote + 1, quote + 1 + CommandHead::LENGTH),
            None => Found::Other,
        },
        None if CommandHead::may_begin(value) => Found::Unclear,
        None => Found::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::EventId;

    fn cut(text: &[u8], at: &[usize]) -> Vec<u8> {
        let mut hider = Hider::default();
        let (mut out, mut from) = (Vec::new(), 0);
        for &at in at.iter().filter(|at| **at < text.len()) {
            if at > from {
                out.extend_from_slice(&hider.take(&text[from..at]));
                from = at;
            }
        }
        out.extend_from_slice(&hider.take(&text[from..]));
        out.extend_from_slice(&hider.finish());
        out
    }

    proptest! {
        #[test]
        fn only_heads_are_taken_out_wherever_the_text_is_cut(mut at in prop::collection::vec(0usize..1500, 0..12)) {
            at.sort_unstable();
            let head = CommandHead::new(EventId::random());
            let with = |head: &str| json!({
                "items": [
                    { "kind": "BashCommand", "command": format!("{head}echo \"command\": x"), "cwd": null },
                    { "kind": "BashOutput", "stdout": format!("\"command\":\"{}kept", CommandHead::new(head_id())) },
                    { "kind": "BashOutput", "stdout": "ends with a backslash\\", "command": format!("{head}two") },
                    { "command": "short" },
                    { "command": null },
                ],
                "next_page_id": null,
            });
            let text = serde_json::to_vec(&with(&head.to_string())).unwrap();
            prop_assert_eq!(cut(&text, &at), serde_json::to_vec(&with("")).unwrap());
            let pretty = serde_json::to_vec_pretty(&with(&head.to_string())).unwrap();
            prop_assert_eq!(cut(&pretty, &at), serde_json::to_vec_pretty(&with("")).unwrap());
        }
    }

    /// The same each time, so that both texts have it.
    fn head_id() -> EventId {
        "0f8fad5bd9cb469fa16570867728950e".parse().unwrap()
    }

    #[test]
    fn only_one_head_is_taken_off() {
        let [ours, theirs] = [CommandHead::new(EventId::random()), CommandHead::new(EventId::random())];
        let text = format!(r#"{{"command":"{ours}{theirs}true"}}"#);
        assert_eq!(hidden(text.as_bytes()), format!(r#"{{"command":"{theirs}true"}}"#));
    }
}
