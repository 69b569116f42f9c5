//! Patterns over names: ranges and globs.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// The most names that patterns are expanded into.
pub const MOST_NAMES: u64 = 1_000_000;

/// The most digits of a number of a range.
const MOST_DIGITS: usize = 18;

/// A pattern over names.
///
/// - `[1-20,35]` is a *range*: the numbers 1 to 20, and 35. Zeros before a number set the width: `[01-10]` is 01, 02, and so
///   on to 10. A pattern may have several ranges; they are combined.
/// - `*` is any text, also none, and `?` any one character.
/// - `[a-f_]` is any one of these characters, `[!a-f]` any other. Brackets that hold nothing but digits, `-` and `,` are a
///   range: `[0-9]` means the same either way, and `[10-12]` is a range.
///
/// A pattern without any of these is a name. In the serde form it is its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern {
    text: String,
    parts: Vec<Part>,
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(String);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Literal(String),
    Range(Vec<Span>),
    AnyText,
    AnyCharacter,
    OneOf { characters: Vec<RangeInclusive<char>>, inverted: bool },
}

/// Numbers of a range, written with this many digits at least.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Span {
    from: u64,
    to: u64,
    width: usize,
}

impl NamePattern {
    /// Whether a name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        // Most names differ in their beginning, and what is no pattern is compared alone.
        let (rest, parts) = match self.parts.split_first() {
            Some((Part::Literal(literal), parts)) => match name.strip_prefix(literal.as_str()) {
                Some(rest) => (rest, parts),
                None => return false,
            },
            _ => (name, self.parts.as_slice()),
        };
        if parts.is_empty() { rest.is_empty() } else { matches(parts, rest) }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is a name, without anything special in it.
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(self.parts.as_slice(), [] | [Part::Literal(_)])
    }

    /// Whether it says which names there are: it has ranges at most.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_) | Part::Range(_)))
    }

    /// How many names it stands for; 0 when that can not be told because it [is no list](Self::is_list).
    #[must_use]
    pub fn count(&self) -> u64 {
        if !self.is_list() {
            return 0;
        }
        let of = |part: &Part| match part {
            Part::Range(spans) => spans.iter().fold(0_u64, |sum, span| sum.saturating_add(span.to - span.from + 1)),
            _ => 1,
        };
        self.parts.iter().map(of).fold(1, u64::saturating_mul)
    }

    /// The names it stands for, the last range fastest; none when it [is no list](Self::is_list).
    ///
    /// # Errors
    /// They are more than [`MOST_NAMES`].
    pub fn expand(&self) -> Result<Vec<String>, InvalidPattern> {
        let count = self.count();
        if count > MOST_NAMES {
            return Err(InvalidPattern(format!(
                "it stands for {count} names, and {MOST_NAMES} are the most; give fewer at once"
            )));
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut names = vec![String::new()];
        for part in &self.parts {
            match part {
                Part::Literal(literal) => names.iter_mut().for_each(|name| name.push_str(literal)),
                Part::Range(spans) => {
                    let numbers =
                        || spans.iter().flat_map(|span| (span.from..=span.to).map(|number| (number, span.width)));
                    names = names
                        .iter()
                        .flat_map(|name| numbers().map(move |(number, width)| format!("{name}{number:0width$}")))
                        .collect();
                }
                Part::AnyText | Part::AnyCharacter | Part::OneOf { .. } => return Ok(Vec::new()),
            }
        }
        Ok(names)
    }

    /// The ranges of a URL: every other bracket in it, and `*` and `?`, stand for themselves.
    ///
    /// # Errors
    /// A range is wrong.
    pub fn of_url(text: &str) -> Result<Self, InvalidPattern> {
        parse(text, true)
    }
}

impl FromStr for NamePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        parse(text, false)
    }
}

impl TryFrom<String> for NamePattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.text
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parts of a list with commas between them; the commas within brackets are not between parts.
pub fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |c| {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn parse(text: &str, is_url: bool) -> Result<NamePattern, InvalidPattern> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let mut after = &rest[first.len_utf8()..];
        let part = match first {
            '*' if !is_url => Part::AnyText,
            '?' if !is_url => Part::AnyCharacter,
            '[' => match after.split_once(']') {
                Some((content, behind)) if !is_url || is_range(content) => {
                    after = behind;
                    bracket(content)?
                }
                None if !is_url => return Err(InvalidPattern("`[` has no `]`; write a range as [1-20,35]".to_owned())),
                _ => Part::Literal("[".to_owned()),
            },
            ']' if !is_url => return Err(InvalidPattern("`]` has no `[`; write a range as [1-20,35]".to_owned())),
            literal => Part::Literal(literal.to_string()),
        };
        match (parts.last_mut(), part) {
            (Some(Part::Literal(before)), Part::Literal(more)) => before.push_str(&more),
            // One after another they mean no more than one.
            (Some(Part::AnyText), Part::AnyText) => {}
            (_, part) => parts.push(part),
        }
        rest = after;
    }
    Ok(NamePattern { text: text.to_owned(), parts })
}

fn is_range(content: &str) -> bool {
    content.contains(|c: char| c.is_ascii_digit())
        && content.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ','))
}

fn bracket(content: &str) -> Result<Part, InvalidPattern> {
    if is_range(content) {
        return content.split(',').map(|span| read_span(span, content)).collect::<Result<_, _>>().map(Part::Range);
    }
    let (inverted, characters) = match content.strip_prefix(['!', '^']) {
        Some(characters) => (true, characters),
        None => (false, content),
    };
    if characters.is_empty() {
        return Err(InvalidPattern(
            "the brackets hold nothing; write a range as [1-20,35], or characters as [a-f]".to_owned(),
        ));
    }
    let mut read = Vec::new();
    let characters: Vec<char> = characters.chars().collect();
    let mut rest = characters.as_slice();
    loop {
        rest = match rest {
            [] => return Ok(Part::OneOf { characters: read, inverted }),
            [from, '-', to, rest @ ..] => {
                if from > to {
                    return Err(InvalidPattern(format!("[{content}]: {from} comes after {to}; turn them round")));
                }
                read.push(*from..=*to);
                rest
            }
            [one, rest @ ..] => {
                read.push(*one..=*one);
                rest
            }
        };
    }
}

fn read_span(text: &str, content: &str) -> Result<Span, InvalidPattern> {
    let bad = |why: &str| InvalidPattern(format!("[{content}]: {why}; write a range as [1-20,35]"));
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |digits: &str| match digits {
        "" => Err(bad("a number is missing")),
        digits if digits.len() > MOST_DIGITS => Err(bad(&format!("{digits} has more than {MOST_DIGITS} digits"))),
        digits => digits.parse::<u64>().map_err(|_| bad(&format!("`{digits}` is not a number"))),
    };
    let (first, last) = (number(from)?, number(to)?);
    if first > last {
        return Err(bad(&format!("{from} is more than {to}: turn them round")));
    }
    let width = if from.len() > 1 && from.starts_with('0') { from.len() } else { 1 };
    Ok(Span { from: first, to: last, width })
}

impl Span {
    /// Whether these digits are a number of it, as it writes them.
    fn holds(&self, digits: &str, number: u64) -> bool {
        let is_padded = digits.len() > 1 && digits.starts_with('0');
        (self.from..=self.to).contains(&number)
            && if is_padded { digits.len() == self.width } else { digits.len() >= self.width }
    }
}

/// Whether the parts give the whole text. It goes through the text once a part, so that no pattern takes long.
fn matches(parts: &[Part], text: &str) -> bool {
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for part in parts {
        let begins = std::mem::replace(&mut ends, vec![false; text.len() + 1]);
        let reached = (0..begins.len()).filter(|&at| begins[at]);
        if let Part::AnyText = part {
            let Some(first) = { reached }.next() else { return false };
            (first..ends.len()).filter(|&at| text.is_char_boundary(at)).for_each(|at| ends[at] = true);
            continue;
        }
        for at in reached {
            mark(part, text, at, &mut ends);
        }
    }
    ends[text.len()]
}

/// Marks where a part can end that begins at a place of the text.
fn mark(part: &Part, text: &str, at: usize, ends: &mut [bool]) {
    let rest = &text[at..];
    match part {
        Part::Literal(literal) => {
            if rest.starts_with(literal.as_str()) {
                ends[at + literal.len()] = true;
            }
        }
        Part::Range(spans) => {
            let mut number = 0;
            for (index, digit) in
                rest.bytes().take(MOST_DIGITS).enumerate().take_while(|(_, byte)| byte.is_ascii_digit())
            {
                number = number * 10 + u64::from(digit - b'0');
                if spans.iter().any(|span| span.holds(&rest[..=index], number)) {
                    ends[at + index + 1] = true;
                }
            }
        }
        Part::AnyCharacter | Part::OneOf { .. } => {
            let Some(first) = rest.chars().next() else { return };
            let taken = match part {
                Part::OneOf { characters, inverted } => {
                    characters.iter().any(|range| range.contains(&first)) != *inverted
                }
                _ => true,
            };
            if taken {
                ends[at + first.len_utf8()] = true;
            }
        }
        Part::AnyText => {}
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
