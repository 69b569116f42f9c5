use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A condition on a label. Its text form, also of serde, is `LABEL=VALUE`, `LABEL!=VALUE` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelFilter {
    /// The label.
    pub label: String,
    /// What must hold for it.
    pub condition: LabelCondition,
}

/// What must hold for a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelCondition {
    /// It has this value.
    Is(String),
    /// It has another value, or is not there.
    IsNot(String),
    /// It is there.
    Exists,
}

/// A text that is no [`LabelFilter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write it as LABEL=VALUE, LABEL!=VALUE or LABEL, as in gpu=yes")]
pub struct InvalidLabel;

impl LabelFilter {
    /// Whether these labels satisfy it.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.label);
        match &self.condition {
            LabelCondition::Is(value) => found == Some(value),
            LabelCondition::IsNot(value) => found != Some(value),
            LabelCondition::Exists => found.is_some(),
        }
    }
}

impl FromStr for LabelFilter {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let (label, condition) = match text.split_once('=') {
            None => (text, LabelCondition::Exists),
            Some((label, value)) => match label.strip_suffix('!') {
                Some(label) => (label, LabelCondition::IsNot(value.to_owned())),
                None => (label, LabelCondition::Is(value.to_owned())),
            },
        };
        if label.is_empty() || label.contains('!') {
            return Err(InvalidLabel);
        }
        Ok(Self { label: label.to_owned(), condition })
    }
}

impl fmt::Display for LabelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)?;
        match &self.condition {
            LabelCondition::Is(value) => write!(f, "={value}"),
            LabelCondition::IsNot(value) => write!(f, "!={value}"),
            LabelCondition::Exists => Ok(()),
        }
    }
}

impl TryFrom<String> for LabelFilter {
    type Error = InvalidLabel;

    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        text.parse()
    }
}

impl From<LabelFilter> for String {
    fn from(filter: LabelFilter) -> Self {
        filter.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_and_shown() {
        for text in ["zone=eu=1", "zone!=eu", "zone", "zone=", "zone!="] {
            assert_eq!(text.parse::<LabelFilter>().unwrap().to_string(), text);
        }
        for text in ["", "=eu", "!=eu", "!zone", "a!b=c"] {
            assert!(text.parse::<LabelFilter>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_label_is_compared_with_its_value() {
        let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
        let holds = |text: &str| text.parse::<LabelFilter>().unwrap().matches(&labels);
        assert!(holds("zone=eu") && holds("zone") && holds("zone!=us") && holds("gpu!=yes"));
        assert!(!holds("zone=e") && !holds("gpu") && !holds("zone!=eu") && !holds("gpu=eu"));
    }
}
