use super::{InventoryError, target::Target};
use crate::fleet::split_list;

/// Reads a hostfile: a name, a pattern or a URL a line; empty lines count for nothing, and neither does what follows a `#` that
/// begins a line or comes after a space. Each target comes with its line.
///
/// # Errors
/// The first line that is wrong, with its number; `file` is what the message calls the file.
pub fn parse_hostfile(file: &str, text: &str) -> Result<Vec<(usize, Target)>, InventoryError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut targets = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = without_comment(line).trim();
        if content.is_empty() {
            continue;
        }
        let line = index + 1;
        let malformed = |reason: String| InventoryError::Malformed {
            file: file.to_owned(),
            line,
            reason: format!("`{}`: {reason}", shown(content)),
        };
        if content.contains([' ', '\t']) || split_list(content).nth(1).is_some() || content.ends_with(',') {
            return Err(malformed("one name or URL a line, please".to_owned()));
        }
        targets.extend(Target::parse(content).map_err(malformed)?.into_iter().map(|target| (line, target)));
    }
    Ok(targets)
}

fn without_comment(line: &str) -> &str {
    let begins_comment = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    line.match_indices('#').find(|(at, _)| begins_comment(*at)).map_or(line, |(at, _)| &line[..at])
}

/// The start of a text, for a message: a binary file given by mistake must not fill the screen.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("..");
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_and_empty_lines_count_for_nothing() {
        let text = "\u{feff}# all of them\nweb-1\r\n\n  http://h:1/s/a   # the second\n#web-9\n";
        assert_eq!(
            parse_hostfile("hosts", text).unwrap(),
            [(2, Target::Name("web-1".into())), (4, Target::Url("http://h:1/s/a".into()))]
        );
    }

    #[test]
    fn a_hash_inside_a_word_is_no_comment() {
        assert_eq!(parse_hostfile("hosts", "http://h/a#b").unwrap(), [(1, Target::Url("http://h/a#b".into()))]);
    }

    #[test]
    fn a_range_is_many_and_its_commas_are_its_own() {
        let read = parse_hostfile("hosts", "http://h:[1,3]\nweb[1,3]\n").unwrap();
        let [first, second, third] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!((first, second), (&(1, Target::Url("http://h:1".into())), &(1, Target::Url("http://h:3".into()))));
        assert!(matches!(third, (2, Target::Pattern(_))));
        assert!(parse_hostfile("hosts", "a,b\n").is_err() && parse_hostfile("hosts", "a,\n").is_err());
    }

    #[test]
    fn a_bad_line_is_named() {
        let message = parse_hostfile("hosts", "ok\nweb-1 web-2\n").unwrap_err().to_string();
        assert_eq!(message, "hosts:2: `web-1 web-2`: one name or URL a line, please");
        let message = parse_hostfile("hosts", "we\u{1b}b").unwrap_err().to_string();
        assert!(message.starts_with("hosts:1: ") && !message.contains('\u{1b}'), "{message}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_line(text in "(\\PC|[\n\r\t# ,\u{0}\u{feff}]){0,60}") {
            let lines = text.lines().count();
            match parse_hostfile("f", &text) {
                Ok(targets) => prop_assert!(targets.iter().all(|(line, _)| (1..=lines).contains(line))),
                Err(InventoryError::Malformed { line, .. }) => prop_assert!((1..=lines).contains(&line)),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
