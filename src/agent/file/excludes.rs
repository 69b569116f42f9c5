use std::path::{Component, Path};

/// What an archive leaves out unless it is told not to.
const DEFAULTS: [&str; 13] = [
    ".git/",
    "node_modules/",
    ".venv/",
    "venv/",
    "__pycache__/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    "dist/",
    "build/",
    ".next/",
    "target/",
    "*.pyc",
];

/// Files within a `.git` directory that may hold credentials.
const GIT_SECRETS: [&str; 5] = ["config", "config.worktree", "credentials", ".git-credentials", "FETCH_HEAD"];

/// The patterns of what an archive leaves out. A pattern with a slash inside is matched from the root, one without against
/// any name; a slash at the end makes it match directories only.
#[derive(Debug, Clone)]
pub(super) struct Excludes(Vec<String>);

impl Excludes {
    pub(super) fn new<'a>(defaults: bool, further: impl Iterator<Item = &'a str>) -> Self {
        let defaults = if defaults { &DEFAULTS[..] } else { &[] };
        Self(defaults.iter().copied().chain(further).map(str::to_owned).collect())
    }

    pub(super) fn patterns(&self) -> &[String] {
        &self.0
    }

    /// Whether a path below the root is left out.
    pub(super) fn matches(&self, path: &Path, is_directory: bool) -> bool {
        let parts = names(path);
        self.0.iter().any(|pattern| matches_one(pattern, &parts, is_directory))
    }

    /// The same as arguments for git.
    pub(super) fn pathspecs(&self) -> Vec<String> {
        let mut specs = Vec::new();
        for raw in &self.0 {
            let pattern = raw.trim_end_matches('/');
            if pattern.is_empty() {
                continue;
            }
            let anywhere = if pattern.contains('/') { "" } else { "**/" };
            if !raw.ends_with('/') {
                specs.push(format!(":(glob,exclude){anywhere}{pattern}"));
            }
            specs.push(format!(":(glob,exclude){anywhere}{pattern}/**"));
        }
        specs
    }
}

fn names(path: &Path) -> Vec<String> {
    let normal = path.components().filter(|part| matches!(part, Component::Normal(_)));
    normal.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
}

fn matches_one(raw: &str, parts: &[String], is_directory: bool) -> bool {
    let pattern = raw.trim_end_matches('/');
    let directories_only = raw.ends_with('/');
    if pattern.contains('/') {
        let pattern: Vec<_> = pattern.split('/').collect();
        let covers = parts.len() >= pattern.len() && pattern.iter().zip(parts).all(|(p, part)| fnmatch(p, part));
        return covers && !(directories_only && !is_directory && parts.len() == pattern.len());
    }
    let parts = match parts {
        [rest @ .., _] if directories_only && !is_directory => rest,
        all => all,
    };
    parts.iter().any(|part| fnmatch(pattern, part))
}

/// Shell matching of one name: `*`, `?`, `[abc]`, `[!abc]`, ranges.
fn fnmatch(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    // Where to take up again when what follows the last star does not match.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n]),
            Some(c) => (*c == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Matches one character against `[...]`; the length of the class when it does.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'!');
    let first = if negated { 2 } else { 1 };
    // A closing bracket right at the beginning is an ordinary character.
    let close = (first + 1..pattern.len()).find(|at| pattern[*at] == ']');
    let Some(close) = close else { return (c == '[').then_some(1) };
    let (mut at, mut found) = (first, false);
    while at < close {
        if at + 2 < close && pattern[at + 1] == '-' {
            found |= (pattern[at]..=pattern[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= pattern[at] == c;
            at += 1;
        }
    }
    (found != negated).then_some(close + 1)
}

/// Whether this is a file within a `.git` directory that may hold credentials. Never archived.
pub(super) fn is_git_secret(path: &Path) -> bool {
    let parts = names(path);
    let Some(at) = parts.iter().position(|part| part == ".git") else { return false };
    let internal = &parts[at + 1..];
    internal.iter().any(|part| part == "logs")
        || internal.last().is_some_and(|last| GIT_SECRETS.contains(&last.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, name) in [
            ("*.pyc", "a.pyc"),
            ("a*b*c", "aXbYbZc"),
            ("?", "é"),
            ("[a-c]x", "bx"),
            ("[!a]", "b"),
            ("[]]", "]"),
            ("[", "["),
        ] {
            assert!(fnmatch(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.pyc", "a.py"), ("a*b", "abc"), ("[a-c]", "d"), ("[!a]", "a"), ("", "a"), ("?", "")]
        {
            assert!(!fnmatch(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_directory_pattern_spares_a_file_of_that_name() {
        let excludes = Excludes::new(true, ["secrets/prod", "a/*/c/"].into_iter());
        for (path, is_directory) in
            [("x/build", true), ("build/x", false), ("m.pyc", false), ("secrets/prod/key", false), ("a/b/c", true)]
        {
            assert!(excludes.matches(Path::new(path), is_directory), "{path}");
        }
        for (path, is_directory) in [("x/build", false), ("secrets/dev", false), ("a/b/c", false), ("a/b/b/c", true)] {
            assert!(!excludes.matches(Path::new(path), is_directory), "{path}");
        }
    }

    #[test]
    fn credentials_are_found_in_submodules_too() {
        for path in [".git/config", "x/.git/modules/y/config", ".git/logs/HEAD"] {
            assert!(is_git_secret(Path::new(path)), "{path}");
        }
        assert!(!is_git_secret(Path::new(".git/HEAD")) && !is_git_secret(Path::new("config")));
    }
}
