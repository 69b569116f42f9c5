use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ApiError, ApiResult, QueryParams};
use crate::protocol::EventId;

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// The machine-readable kind.
    pub(crate) kind: &'static str,
    /// The text for people.
    pub(crate) message: String,
    /// What the text was made from, where the real server tells it.
    pub(crate) context: Option<Value>,
}

impl Fault {
    pub(crate) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: None }
    }

    pub(crate) fn missing() -> Self {
        Self::new("missing", "Field required")
    }

    /// A fault whose text is a prefix and a reason, with the reason repeated as context.
    pub(crate) fn with_reason(kind: &'static str, prefix: &str, reason: &str) -> Self {
        Self { context: Some(json!({ "error": reason })), ..Self::new(kind, format!("{prefix}{reason}")) }
    }

    fn one_of(kind: &'static str, names: &[&str]) -> Self {
        let expected = match names {
            [rest @ .., last] if !rest.is_empty() => {
                let rest: Vec<_> = rest.iter().map(|name| format!("'{name}'")).collect();
                format!("{} or '{last}'", rest.join(", "))
            }
            _ => names.iter().map(|name| format!("'{name}'")).collect(),
        };
        Self {
            context: Some(json!({ "expected": expected })),
            ..Self::new(kind, format!("Input should be {expected}"))
        }
    }

    /// The entry of a 422.
    pub(crate) fn entry(self, location: &[&str], input: Value) -> Entry {
        Entry { kind: self.kind, loc: json!(location), msg: self.message, input, ctx: self.context }
    }
}

/// An entry of a 422: what is wrong, where, and what was there.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) loc: Value,
    pub(super) msg: String,
    pub(super) input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ctx: Option<Value>,
}

/// Collects what is wrong with a request, so that one answer tells all of it.
#[derive(Default)]
pub(crate) struct Checks(Vec<Entry>);

impl Checks {
    pub(crate) fn push(&mut self, fault: Fault, location: &[&str], input: Value) {
        self.0.push(fault.entry(location, input));
    }

    /// The value, unless something was wrong.
    pub(crate) fn finish<T>(self, value: T) -> ApiResult<T> {
        if self.0.is_empty() { Ok(value) } else { Err(ApiError::invalid(self.0)) }
    }

    /// Reads an optional query parameter.
    pub(crate) fn query<T>(
        &mut self,
        query: &QueryParams,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        query.get(name).and_then(|text| self.one(name, text, read))
    }

    /// Reads a query parameter that may be given more than once.
    pub(crate) fn queries<T>(
        &mut self,
        query: &QueryParams,
        name: &str,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<T> {
        query.all(name).filter_map(|text| self.one(name, text, &read)).collect()
    }

    fn one<T>(&mut self, name: &str, text: &str, read: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        read(text).map_err(|fault| self.push(fault, &["query", name], json!(text))).ok()
    }

    /// Reads a query parameter that must be there. The empty text stands in for a missing one.
    pub(crate) fn required(&mut self, query: &QueryParams, name: &str) -> String {
        query.get(name).map(str::to_owned).unwrap_or_else(|| {
            self.push(Fault::missing(), &["query", name], Value::Null);
            String::new()
        })
    }

    /// Reads one of some names, by its position.
    pub(crate) fn choice(
        &mut self,
        query: &QueryParams,
        name: &str,
        kind: &'static str,
        names: &[&str],
    ) -> Option<usize> {
        self.query(query, name, |text| {
            names.iter().position(|name| *name == text).ok_or_else(|| Fault::one_of(kind, names))
        })
    }

    /// Reads a whole number within bounds.
    pub(crate) fn limit(&mut self, query: &QueryParams, name: &str, bounds: Bounds, default: usize) -> usize {
        let read = |text: &str| {
            let number = integer(text)?;
            bounds.check(number)?;
            usize::try_from(number).map_err(|_| not_an_integer())
        };
        self.query(query, name, read).unwrap_or(default)
    }

    pub(crate) fn flag(&mut self, query: &QueryParams, name: &str, default: bool) -> bool {
        self.query(query, name, boolean).unwrap_or(default)
    }
}

/// The bounds of a page size.
#[derive(Clone, Copy)]
pub(crate) enum Bounds {
    /// More than 0 and at most this.
    Positive(i64),
    /// At least 1 and at most this; the same numbers, worded differently.
    FromOne(i64),
}

impl Bounds {
    fn check(self, number: i64) -> Result<(), Fault> {
        let (Self::Positive(most) | Self::FromOne(most)) = self;
        let (kind, message, context) = match self {
            Self::Positive(_) if number <= 0 => {
                ("greater_than", "Input should be greater than 0".to_owned(), json!({ "gt": 0 }))
            }
            Self::FromOne(_) if number < 1 => {
                ("greater_than_equal", "Input should be greater than or equal to 1".to_owned(), json!({ "ge": 1 }))
            }
            _ if number > most => {
                ("less_than_equal", format!("Input should be less than or equal to {most}"), json!({ "le": most }))
            }
            _ => return Ok(()),
        };
        Err(Fault { context: Some(context), ..Fault::new(kind, message) })
    }
}

fn not_an_integer() -> Fault {
    Fault::new("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
}

/// Reads a whole number from a text as the real server does: `7`, ` 7 ` and `7.0` are 7. One beyond 64 bits becomes
/// the largest there is.
pub(crate) fn integer(text: &str) -> Result<i64, Fault> {
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    let (negative, digits) = match whole.as_bytes() {
        [b'-', ..] => (true, &whole[1..]),
        [b'+', ..] => (false, &whole[1..]),
        _ => (false, whole),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(not_an_integer());
    }
    Ok(whole.parse().unwrap_or(if negative { i64::MIN } else { i64::MAX }))
}

fn boolean(text: &str) -> Result<bool, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Ok(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Ok(false),
        _ => Err(Fault::new("bool_parsing", "Input should be a valid boolean, unable to interpret input")),
    }
}

/// Reads a UUID in any of its forms.
pub(crate) fn uuid(text: &str) -> Result<EventId, Fault> {
    let reason = match Uuid::try_parse(text) {
        Ok(_) => return text.parse().map_err(|_| Fault::new("uuid_parsing", "Input should be a valid UUID")),
        Err(_) => uuid_problem(text),
    };
    Err(Fault::with_reason("uuid_parsing", "Input should be a valid UUID, ", &reason))
}

fn uuid_problem(text: &str) -> String {
    match text.char_indices().find(|(_, c)| !c.is_ascii_hexdigit() && *c != '-') {
        Some((at, c)) => format!("invalid character: found `{c}` at {at}"),
        None => format!("invalid length: found {}", text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_leniently_as_by_the_real_server() {
        assert_eq!(integer(" 7 "), Ok(7));
        assert_eq!(integer("7.0"), Ok(7));
        assert_eq!(integer("-3"), Ok(-3));
        assert_eq!(integer("99999999999999999999999"), Ok(i64::MAX));
        for wrong in ["", "x", "1.5", "1.", "-", "1e3"] {
            assert_eq!(integer(wrong).unwrap_err().kind, "int_parsing", "{wrong}");
        }
    }

    #[test]
    fn a_wrong_id_says_where() {
        assert_eq!(uuid("zz").unwrap_err().message, "Input should be a valid UUID, invalid character: found `z` at 0");
        assert_eq!(uuid("").unwrap_err().message, "Input should be a valid UUID, invalid length: found 0");
        assert!(uuid("12345678-1234-5678-1234-567812345678").is_ok());
    }

    #[test]
    fn choices_are_listed() {
        assert_eq!(Fault::one_of("enum", &["A", "B"]).message, "Input should be 'A' or 'B'");
        assert_eq!(Fault::one_of("enum", &["A", "B", "C"]).message, "Input should be 'A', 'B' or 'C'");
    }
}
