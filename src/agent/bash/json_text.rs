/// Appends a text as it stands between the quotes of a JSON string.
pub(super) fn push_escaped(json: &mut String, mut text: &str) {
    json.reserve(text.len() + text.len() / 16);
    while let Some(at) = first_special(text.as_bytes()) {
        // What is special is ASCII, and so are its neighbours' borders.
        json.push_str(&text[..at]);
        push_special(json, text.as_bytes()[at]);
        text = &text[at + 1..];
    }
    json.push_str(text);
}

fn push_special(json: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => json.push_str("\\\""),
        b'\\' => json.push_str("\\\\"),
        b'\n' => json.push_str("\\n"),
        b'\r' => json.push_str("\\r"),
        b'\t' => json.push_str("\\t"),
        0x08 => json.push_str("\\b"),
        0x0C => json.push_str("\\f"),
        _ => {
            json.push_str("\\u00");
            json.push(HEX[usize::from(byte >> 4)].into());
            json.push(HEX[usize::from(byte & 0xF)].into());
        }
    }
}

/// Where the first byte is that a JSON string cannot have as it is. Output is mostly text without any, so it is looked at
/// eight bytes at a time: a library would look at each.
fn first_special(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(8 * at + found.trailing_zeros() as usize / 8);
        }
    }
    let done = bytes.len() - rest.len();
    rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).map(|at| done + at)
}

/// Sets the highest bit of each special byte. A borrow may set that of a byte above one that is special, and of no other.
const fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    const fn equal(word: u64, byte: u8) -> u64 {
        let word = word ^ (ONES * byte as u64);
        word.wrapping_sub(ONES) & !word
    }
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (control | equal(word, b'"') | equal(word, b'\\')) & HIGHEST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut json = String::new();
        push_escaped(&mut json, text);
        json
    }

    #[test]
    fn every_byte_is_escaped_as_by_the_library_at_every_place_of_a_word() {
        for byte in 0..0x80_u8 {
            for before in 0..17 {
                let text = format!("{}{}é\u{1f}", "x".repeat(before), char::from(byte));
                assert_eq!(format!("\"{}\"", escaped(&text)), serde_json::to_string(&text).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_escaped_as_by_the_library(text in "(\\PC|[\x00-\x7f])*") {
            prop_assert_eq!(format!("\"{}\"", escaped(&text)), serde_json::to_string(&text).unwrap());
        }
    }
}
