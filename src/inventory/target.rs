use super::name::check_name;
use crate::fleet::{MOST_NAMES, NamePattern, split_list};

/// One target as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A workspace by its address.
    Url(String),
    /// A workspace by its name in the inventory.
    Name(String),
    /// Workspaces of the inventory by a range or a glob.
    Pattern(NamePattern),
}

impl Target {
    /// Reads one target: what holds `://` is a URL, all else a name or a pattern. A URL with ranges is many.
    ///
    /// # Errors
    /// It is a name that no workspace can have, or no pattern.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        if text.contains("://") {
            if !text.contains('[') {
                return Ok(vec![Self::Url(text.to_owned())]);
            }
            let urls = NamePattern::of_url(text).and_then(|pattern| pattern.expand());
            return urls.map(|urls| urls.into_iter().map(Self::Url).collect()).map_err(|error| error.to_string());
        }
        if text.contains(['[', ']', '*', '?']) {
            let pattern: NamePattern = text.parse().map_err(|error: crate::fleet::InvalidPattern| error.to_string())?;
            return Ok(vec![Self::Pattern(pattern)]);
        }
        check_name(text)?;
        Ok(vec![Self::Name(text.to_owned())])
    }
}

/// Reads the argument of `-w`: names, patterns and URLs with commas between them. Empty parts count for nothing.
///
/// # Errors
/// The part that is wrong, and what is wrong with it.
pub fn parse_target_list(text: &str) -> Result<Vec<Target>, (String, String)> {
    let mut targets = Vec::new();
    for part in split_list(text) {
        targets.extend(Target::parse(part).map_err(|reason| (part.to_owned(), reason))?);
        if targets.len() as u64 > MOST_NAMES {
            return Err((
                part.to_owned(),
                format!("with it there are more than {MOST_NAMES} targets; give fewer at once"),
            ));
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_holds_names_patterns_and_urls() {
        assert_eq!(
            parse_target_list("web-1, http://h:1/s/a,,n[1-3,7]").unwrap(),
            [
                Target::Name("web-1".into()),
                Target::Url("http://h:1/s/a".into()),
                Target::Pattern("n[1-3,7]".parse().unwrap())
            ]
        );
        assert_eq!(
            parse_target_list("http://h:[8,10]").unwrap(),
            [Target::Url("http://h:8".into()), Target::Url("http://h:10".into())]
        );
        assert_eq!(parse_target_list(" , ").unwrap(), []);
        assert_eq!(parse_target_list("ok,no way").unwrap_err().0, "no way");
        assert_eq!(parse_target_list("http://h/[1-9999999]").unwrap_err().0, "http://h/[1-9999999]");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[a-z,:/ .\\-\u{0}]{0,40}") {
            if let Ok(targets) = parse_target_list(&text) && !text.contains('[') {
                prop_assert!(targets.len() <= text.split(',').count());
            }
        }

        #[test]
        fn a_list_of_good_names_comes_back(names in prop::collection::vec("[a-z][a-z0-9.-]{0,8}", 0..6)) {
            let read = parse_target_list(&names.join(",")).unwrap();
            prop_assert_eq!(read, names.into_iter().map(Target::Name).collect::<Vec<_>>());
        }
    }
}
