use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

use crate::agent::http::{ApiError, ApiResult};

/// A path of a request, which must be absolute.
pub(super) fn absolute(text: &str) -> ApiResult<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        // Collecting the components drops a final slash, as the real server does.
        Ok(path.components().collect())
    } else {
        Err(ApiError::bad_request("Path must be absolute"))
    }
}

/// How many symbolic links to nothing are followed one after another.
const MOST_LINKS: usize = 40;

/// A path without symbolic links and `..`, also when its end does not exist.
pub(in crate::agent) fn resolve_leniently(path: &Path) -> PathBuf {
    let mut resolved = resolve_parents(path);
    for _ in 0..MOST_LINKS {
        // What is left at the end can still be a link, to something that does not exist.
        let Ok(link) = resolved.read_link() else { break };
        resolved = resolve_parents(&resolved.parent().unwrap_or(Path::new("/")).join(link));
    }
    resolved
}

fn resolve_parents(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (mut existing, mut rest) = (absolute.as_path(), Vec::<OsString>::new());
    let base = loop {
        if let Ok(found) = existing.canonicalize() {
            break found;
        }
        match (existing.parent(), existing.components().next_back()) {
            (Some(parent), Some(last)) => {
                rest.push(last.as_os_str().to_owned());
                existing = parent;
            }
            _ => break existing.to_owned(),
        }
    };
    rest.iter().rev().fold(base, |mut resolved, part| {
        match Path::new(part).components().next() {
            Some(Component::ParentDir) => {
                resolved.pop();
            }
            Some(Component::CurDir) | None => {}
            Some(_) => resolved.push(part),
        }
        resolved
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_a_missing_end_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        assert_eq!(resolve_leniently(&base.join("link/no/pe")), base.join("real/no/pe"));
        assert_eq!(resolve_leniently(&base.join("link/no/../x")), base.join("real/x"));
        std::os::unix::fs::symlink("real/missing", base.join("dangling")).unwrap();
        assert_eq!(resolve_leniently(&base.join("dangling")), base.join("real/missing"));
        std::os::unix::fs::symlink("loop", base.join("loop")).unwrap();
        assert_eq!(resolve_leniently(&base.join("loop")), base.join("loop"));
    }

    #[test]
    fn a_final_slash_is_dropped() {
        assert_eq!(absolute("/a//b/").unwrap(), Path::new("/a/b"));
        assert!(absolute("a").is_err() && absolute("").is_err());
    }
}
