use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The body of an answer that is an error.
///
/// 4xx carry `detail` as a text, or as a list of entries for 422. 5xx may add the real text in `exception`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was wrong.
    pub detail: ErrorDetail,
    /// The server's own text for a 5xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
    /// The id under which the server logged an unhandled error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_id: Option<String>,
}

/// The two forms of [`ErrorBody::detail`], and whatever else a gateway may put there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ErrorDetail {
    /// A plain text.
    Text(String),
    /// The entries of a 422, or any other JSON.
    Other(Value),
}

impl ErrorBody {
    /// An error body with a plain text.
    #[must_use]
    pub fn text(detail: impl Into<String>) -> Self {
        Self { detail: ErrorDetail::Text(detail.into()), exception: None, error_id: None }
    }

    /// The most telling text of the body on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        // Old servers send an empty one.
        if let Some(exception) = self.exception.as_ref().filter(|exception| !exception.is_empty()) {
            return exception.clone();
        }
        match &self.detail {
            ErrorDetail::Text(text) => text.clone(),
            ErrorDetail::Other(Value::Array(entries)) => {
                entries.iter().map(entry_summary).collect::<Vec<_>>().join("; ")
            }
            ErrorDetail::Other(value) => value.to_string(),
        }
    }
}

/// One entry of a 422 as `loc: msg`.
fn entry_summary(entry: &Value) -> String {
    let Some(message) = entry.get("msg").and_then(Value::as_str) else {
        return entry.to_string();
    };
    let location = entry.get("loc").and_then(Value::as_array).map(|parts| {
        let parts = parts.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
        parts.collect::<Vec<_>>().join(".")
    });
    match location {
        Some(location) if !location.is_empty() => format!("{location}: {message}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(body: &str) -> String {
        serde_json::from_str::<ErrorBody>(body).unwrap().summary()
    }

    #[test]
    fn each_form_is_told_in_words() {
        assert_eq!(summary(r#"{"detail":"File not found"}"#), "File not found");
        assert_eq!(
            summary(
                r#"{"detail":[{"type":"int_parsing","loc":["body","timeout"],"msg":"not an integer","input":"x"}]}"#
            ),
            "body.timeout: not an integer"
        );
        assert_eq!(summary(r#"{"detail":"Internal Server Error","exception":"503: busy"}"#), "503: busy");
        assert_eq!(summary(r#"{"detail":"Internal Server Error","exception":""}"#), "Internal Server Error");
        assert_eq!(summary(r#"{"detail":{"code":7}}"#), r#"{"code":7}"#);
    }
}
