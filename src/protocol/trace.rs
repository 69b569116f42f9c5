use std::{collections::BTreeMap, fmt, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// The header that says which trace a request belongs to.
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// The header that carries a caller's tags.
pub const BAGGAGE_HEADER: &str = "baggage";

/// The most bytes of all tags together, as a header.
const MAX_BAGGAGE: usize = 8_192;

/// The most tags.
const MAX_TAGS: usize = 64;

/// What must not stand in the value of a baggage member as it is.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// What a caller wants to find a piece of work again by: the trace it belongs to, and tags of the caller's own.
///
/// It travels with a message: into the headers of its requests (`traceparent` and `baggage`, as W3C Trace Context and
/// Baggage define them), and into results, errors and the events of runs. It must not hold secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Plain")]
pub struct Trace {
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceParent>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// A trace as it is read, before it is checked.
#[derive(Deserialize)]
struct Plain {
    #[serde(default)]
    traceparent: Option<TraceParent>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

impl TryFrom<Plain> for Trace {
    type Error = InvalidTrace;

    fn try_from(plain: Plain) -> Result<Self, InvalidTrace> {
        let trace = Self { traceparent: plain.traceparent, tags: BTreeMap::new() };
        plain.tags.into_iter().try_fold(trace, |trace, (name, value)| trace.with_tag(name, value))
    }
}

/// Why something is no trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTrace(String);

impl Trace {
    /// A trace with this parent.
    #[must_use]
    pub fn new(traceparent: TraceParent) -> Self {
        Self { traceparent: Some(traceparent), tags: BTreeMap::new() }
    }

    /// Adds a tag.
    ///
    /// # Errors
    /// The name is no token, or there are more than 64 tags or 8,192 bytes of them.
    pub fn with_tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self, InvalidTrace> {
        let name = name.into();
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(InvalidTrace(format!(
                "`{}` is no name of a tag: use letters, digits and any of ! # $ & ' * + - . ^ _ ` | ~",
                name.escape_debug()
            )));
        }
        self.tags.insert(name, value.into());
        if self.tags.len() > MAX_TAGS || self.baggage().is_some_and(|baggage| baggage.len() > MAX_BAGGAGE) {
            return Err(InvalidTrace(format!("tags may be {MAX_TAGS} and {MAX_BAGGAGE} bytes in all: give fewer")));
        }
        Ok(self)
    }

    /// The trace it belongs to.
    #[must_use]
    pub const fn traceparent(&self) -> Option<&TraceParent> {
        self.traceparent.as_ref()
    }

    /// The caller's tags.
    #[must_use]
    pub const fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traceparent.is_none() && self.tags.is_empty()
    }

    /// The tags as the value of the baggage header; `None` without tags.
    #[must_use]
    pub fn baggage(&self) -> Option<String> {
        let member = |(name, value): (&String, &String)| format!("{name}={}", utf8_percent_encode(value, ENCODED));
        (!self.tags.is_empty()).then(|| self.tags.iter().map(member).collect::<Vec<_>>().join(","))
    }
}

/// Which trace something belongs to, and below which span: the value of a `traceparent` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

impl TraceParent {
    /// The value of the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_id = |part: &str, length| part.len() == length && is_hex(part) && part.bytes().any(|byte| byte != b'0');
        let parts: Vec<&str> = text.split('-').collect();
        match parts[..] {
            // Later versions may have more parts, and begin with these.
            [version, trace, span, flags, ref more @ ..]
                if version.len() == 2
                    && is_hex(version)
                    && version != "ff"
                    && is_id(trace, 32)
                    && is_id(span, 16)
                    && flags.len() == 2
                    && is_hex(flags)
                    && (more.is_empty() || version != "00")
                    && more.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_graphic())) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidTrace(format!(
                "`{}` is no traceparent: it looks like 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                text.escape_debug()
            ))),
        }
    }
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTrace;

    fn try_from(text: String) -> Result<Self, InvalidTrace> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~') && byte != b'%'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_it_is_defined() {
        assert_eq!(PARENT.parse::<TraceParent>().unwrap().as_str(), PARENT);
        let later = format!("cc{}-what-comes", &PARENT[2..]);
        assert!(later.parse::<TraceParent>().is_ok());
        for bad in [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &format!("ff{}", &PARENT[2..]),
            &format!("{PARENT}-more"),
            &format!("{PARENT}\r\nx: y"),
            &PARENT[1..],
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_a_header() {
        let trace = Trace::default().with_tag("job", "a b,c;d=é%").unwrap().with_tag("user", "u1").unwrap();
        assert_eq!(trace.baggage().unwrap(), "job=a%20b%2Cc%3Bd=%C3%A9%25,user=u1");
        assert_eq!(Trace::default().baggage(), None);
        for bad in ["", "a b", "a=b", "a,b", "é", "a%b", "a\n"] {
            assert!(Trace::default().with_tag(bad, "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_bounded() {
        assert!(Trace::default().with_tag("a", "x".repeat(9_000)).is_err());
        let many = (0..65).try_fold(Trace::default(), |trace, tag| trace.with_tag(format!("t{tag}"), ""));
        assert!(many.is_err());
    }

    #[test]
    fn what_is_read_is_checked() {
        let good = serde_json::json!({ "traceparent": PARENT, "tags": { "a": "1" } });
        let trace: Trace = serde_json::from_value(good.clone()).unwrap();
        assert_eq!(serde_json::to_value(&trace).unwrap(), good);
        for bad in [serde_json::json!({ "traceparent": "x" }), serde_json::json!({ "tags": { "a b": "1" } })] {
            assert!(serde_json::from_value::<Trace>(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn whatever_a_tag_holds_the_header_is_one_line_of_ascii(value in "\\PC*|[\u{0}-\u{ff}]{0,20}") {
            let baggage = Trace::default().with_tag("t", value.clone()).unwrap().baggage().unwrap();
            prop_assert!(baggage.bytes().all(|byte| byte.is_ascii_graphic()));
            let encoded = baggage.strip_prefix("t=").unwrap();
            prop_assert_eq!(percent_encoding::percent_decode_str(encoded).decode_utf8().unwrap(), value);
        }
    }
}
