use std::{collections::BTreeMap, str::FromStr};

/// Selects the workspaces that carry a label with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label.
    pub label: String,
    /// The value that it must have.
    pub value: String,
}

/// A text that is no [`LabelFilter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write it as LABEL=VALUE, as in gpu=yes")]
pub struct InvalidLabel;

impl FromStr for LabelFilter {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        match text.split_once('=') {
            Some((label, value)) if !label.is_empty() => Ok(Self { label: label.to_owned(), value: value.to_owned() }),
            _ => Err(InvalidLabel),
        }
    }
}

impl LabelFilter {
    /// Whether these labels satisfy it.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.label).is_some_and(|value| *value == self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_needs_its_value() {
        let filter: LabelFilter = "zone=eu=1".parse().unwrap();
        assert_eq!((filter.label.as_str(), filter.value.as_str()), ("zone", "eu=1"));
        assert!("zone".parse::<LabelFilter>().is_err());
        assert!("=eu".parse::<LabelFilter>().is_err());
    }

    #[test]
    fn only_the_same_value_matches() {
        let labels = BTreeMap::from([("zone".to_owned(), "eu".to_owned())]);
        assert!("zone=eu".parse::<LabelFilter>().unwrap().matches(&labels));
        assert!(!"zone=e".parse::<LabelFilter>().unwrap().matches(&labels));
        assert!(!"gpu=eu".parse::<LabelFilter>().unwrap().matches(&labels));
    }
}
