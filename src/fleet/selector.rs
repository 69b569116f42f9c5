use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Picks workspaces of a fleet: by name, by label, or all. Several conditions must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

impl Selector {
    /// Every workspace.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The workspaces of these names. A run reports a name that does not exist as a rejected target.
    #[must_use]
    pub fn names<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self { names: Some(names.into_iter().map(Into::into).collect()), labels: BTreeMap::new() }
    }

    /// The workspaces with this label.
    #[must_use]
    pub fn label(label: impl Into<String>, value: impl Into<String>) -> Self {
        Self::all().and_label(label, value)
    }

    /// Only those of them with this label.
    #[must_use]
    pub fn and_label(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// Whether it picks a workspace of this name with these labels.
    #[must_use]
    pub fn picks(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
            && self.labels.iter().all(|(label, value)| labels.get(label) == Some(value))
    }

    /// The names it asks for, if it asks for names.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_must_all_hold() {
        let labels = BTreeMap::from([("tier".to_owned(), "gpu".to_owned())]);
        assert!(Selector::all().picks("a", &labels));
        assert!(Selector::names(["a", "b"]).and_label("tier", "gpu").picks("a", &labels));
        assert!(!Selector::names(["b"]).picks("a", &labels));
        assert!(!Selector::label("tier", "cpu").picks("a", &labels));
        assert!(!Selector::label("zone", "gpu").picks("a", &labels));
    }
}
