use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{InvalidPattern, LabelCondition, LabelFilter, NamePattern, pattern::split_list};

/// Picks workspaces of a fleet: by name, by pattern, by label, or all. Several conditions must all hold.
///
/// ```
/// use workspace_fleet::Selector;
///
/// let selector = Selector::matching("node[1-20],web-*")?.and_label("tier", "gpu").and_not(Selector::names(["node7"]));
/// # Ok::<(), workspace_fleet::fleet::InvalidPattern>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    /// One of these must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    patterns: Option<Vec<NamePattern>>,
    /// Each of these must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    label_filters: Vec<LabelFilter>,
    /// None of these must pick it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not: Vec<Selector>,
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
        Self { names: Some(names.into_iter().map(Into::into).collect()), ..Self::default() }
    }

    /// The workspaces whose name matches one of these [patterns](NamePattern), with commas between them. What matches no
    /// workspace picks none.
    ///
    /// # Errors
    /// A part of the text is no pattern.
    pub fn matching(patterns: &str) -> Result<Self, InvalidPattern> {
        let patterns = split_list(patterns).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { patterns: Some(patterns), ..Self::default() })
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

    /// Only those of them that have this label, whatever its value.
    #[must_use]
    pub fn and_has_label(self, label: impl Into<String>) -> Self {
        self.and_filter(LabelFilter { label: label.into(), condition: LabelCondition::Exists })
    }

    /// Only those of them where this label has another value, or is not there.
    #[must_use]
    pub fn and_label_is_not(self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.and_filter(LabelFilter { label: label.into(), condition: LabelCondition::IsNot(value.into()) })
    }

    /// Only those of them whose labels satisfy this.
    #[must_use]
    pub fn and_filter(mut self, filter: LabelFilter) -> Self {
        self.label_filters.push(filter);
        self
    }

    /// Only those of them that the other selector does not pick. A name that is left out so needs not exist.
    #[must_use]
    pub fn and_not(mut self, other: Self) -> Self {
        self.not.push(other);
        self
    }

    /// Whether it picks a workspace of this name with these labels.
    #[must_use]
    pub fn picks(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
            && self.labels.iter().all(|(label, value)| labels.get(label) == Some(value))
            && self.label_filters.iter().all(|filter| filter.matches(labels))
            && self.patterns.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
            && !self.not.iter().any(|other| other.picks(name, labels))
    }

    /// The names it asks for, if it asks for names. One that it excludes again is not asked for.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        // Labels are not known of a workspace that does not exist; a selector without any tells by the name alone.
        let excluded =
            |name: &str| self.not.iter().any(|other| !other.has_labels() && other.picks(name, &BTreeMap::new()));
        self.names.iter().flatten().map(String::as_str).filter(move |name| !excluded(name))
    }

    /// The one name that it can pick, if it is made for one.
    pub(super) fn only_name(&self) -> Option<&str> {
        let names = self.names.as_ref().filter(|names| names.len() == 1)?;
        names.first().map(String::as_str)
    }

    fn has_labels(&self) -> bool {
        !self.labels.is_empty() || !self.label_filters.is_empty() || self.not.iter().any(Self::has_labels)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn patterns_labels_and_exclusions() {
        let none = BTreeMap::new();
        let gpu = BTreeMap::from([("tier".to_owned(), "gpu".to_owned())]);
        let some = Selector::matching("node[1-20],web-*").unwrap().and_not(Selector::names(["node7"]));
        assert!(some.picks("node8", &none) && some.picks("web-x", &none));
        assert!(!some.picks("node7", &none) && !some.picks("node21", &none) && !some.picks("db", &none));
        assert!(!Selector::matching("").unwrap().picks("a", &none), "no pattern matches nothing");
        assert!(Selector::all().and_has_label("tier").picks("a", &gpu));
        assert!(!Selector::all().and_has_label("tier").picks("a", &none));
        assert!(Selector::all().and_label_is_not("tier", "gpu").picks("a", &none));
        assert!(!Selector::all().and_label_is_not("tier", "gpu").picks("a", &gpu));
    }

    #[test]
    fn a_name_that_is_excluded_again_is_not_asked_for() {
        let selector = Selector::names(["a", "b", "c"]).and_not(Selector::matching("a*").unwrap());
        let selector = selector.and_not(Selector::names(["c"]).and_label("tier", "gpu"));
        assert_eq!(selector.named().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn the_serde_form_is_that_of_before_where_nothing_new_is_used() {
        let old = r#"{"names":["a"],"labels":{"tier":"gpu"}}"#;
        let selector: Selector = serde_json::from_str(old).unwrap();
        assert_eq!(selector, Selector::names(["a"]).and_label("tier", "gpu"));
        assert_eq!(serde_json::to_string(&selector).unwrap(), old);
        assert_eq!(serde_json::to_string(&Selector::all()).unwrap(), "{}");
        let new = Selector::matching("n[1-3,7],w*").unwrap().and_has_label("gpu").and_not(Selector::names(["w1"]));
        let json = serde_json::to_string(&new).unwrap();
        assert_eq!(json, r#"{"patterns":["n[1-3,7]","w*"],"label_filters":["gpu"],"not":[{"names":["w1"]}]}"#);
        assert_eq!(serde_json::from_str::<Selector>(&json).unwrap(), new);
    }

    proptest! {
        #[test]
        fn exclusion_is_the_opposite(name in "[ab][0-9]", excluded in prop::collection::btree_set("[ab][0-9]", 0..5)) {
            let selector = Selector::matching("a*").unwrap().and_not(Selector::names(excluded.clone()));
            let expected = name.starts_with('a') && !excluded.contains(&name);
            prop_assert_eq!(selector.picks(&name, &BTreeMap::new()), expected);
        }
    }
}
