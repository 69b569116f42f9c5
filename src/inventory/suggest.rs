//! "Did you mean": what is spelled like something that does not exist.

/// How many suggestions are made at most.
const MOST: usize = 3;

/// The candidates that are spelled most like `wrong`, best first.
pub(crate) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let lower = wrong.to_lowercase();
    let tolerance = (lower.chars().count() / 3).max(1);
    let mut ranked: Vec<(usize, &str)> = candidates
        .into_iter()
        // The length alone tells most of a large inventory apart.
        .filter(|candidate| candidate.len().abs_diff(wrong.len()) <= tolerance * 4)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(MOST).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// The names for a sentence: `a`, `b` or `c`.
pub(crate) fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The names for a sentence: `a`, `b`, `c`.
pub(crate) fn all(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_spelling_comes_first() {
        assert_eq!(nearest("hots", ["headers", "host", "hosts"]), ["host", "hosts"]);
        assert_eq!(nearest("build-01", ["build-02", "build-1", "web"]), ["build-02", "build-1"]);
        assert!(nearest("zzz", ["host", "name"]).is_empty());
    }

    #[test]
    fn suggestions_read_as_a_sentence() {
        let names = |names: &[&str]| list(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["a"]), "`a`");
        assert_eq!(names(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
