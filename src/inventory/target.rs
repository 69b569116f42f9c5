use super::name::check_name;

/// One target as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A workspace by its address.
    Url(String),
    /// A workspace by its name in the inventory.
    Name(String),
}

impl Target {
    /// Reads one target: what holds `://` is a URL, all else a name.
    ///
    /// # Errors
    /// It is a name that no workspace can have.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Ok(Self::Url(text.to_owned()));
        }
        check_name(text)?;
        Ok(Self::Name(text.to_owned()))
    }
}

/// Reads the argument of `-w`: names and URLs with commas between them. Empty parts count for nothing.
///
/// # Errors
/// The part that is wrong, and what is wrong with it.
pub fn parse_target_list(text: &str) -> Result<Vec<Target>, (String, String)> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| Target::parse(part).map_err(|reason| (part.to_owned(), reason)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_holds_names_and_urls() {
        assert_eq!(
            parse_target_list("web-1, http://h:1/s/a,,").unwrap(),
            [Target::Name("web-1".into()), Target::Url("http://h:1/s/a".into())]
        );
        assert_eq!(parse_target_list(" , ").unwrap(), []);
        assert_eq!(parse_target_list("ok,no way").unwrap_err().0, "no way");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[a-z,:/ .\\-\u{0}]{0,40}") {
            if let Ok(targets) = parse_target_list(&text) {
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
