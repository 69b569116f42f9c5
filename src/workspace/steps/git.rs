use std::rc::Rc;

use super::helper;
use crate::{
    ErrorKind, Failure,
    messages::{GitChanges, GitCommits, GitDiff},
    protocol::{self, GitChange, GitCommitPage},
    workspace::{backoff::Retry, core::Core, shell},
};

/// A commit that exists nowhere. Asked for changes against it, a server refuses in a repository and finds nothing
/// outside one.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Lists the files that differ.
pub(crate) async fn changes(core: &Rc<Core>, message: GitChanges) -> Result<Vec<GitChange>, Failure> {
    let path = resolve(core, &message.path)?;
    let retry = Retry::new(core);
    let ask = || async { core.client()?.git_changes(&path, message.reference.as_deref()).await };
    let mut changes = retry.until_answered(ask).await?;
    for change in &mut changes {
        if let Some(name) = unquote(&change.path) {
            change.path = name;
        }
    }
    if changes.is_empty() {
        check_repository(core, &retry, &path).await?;
    }
    Ok(changes)
}

/// Compares a file.
pub(crate) async fn diff(core: &Rc<Core>, message: GitDiff) -> Result<protocol::GitDiff, Failure> {
    let path = resolve(core, &message.path)?;
    let retry = Retry::new(core);
    let diff = retry.until_answered(|| async { core.client()?.git_diff(&path, &message.base).await }).await?;
    if diff.modified.is_none() && diff.original.is_none() {
        check_repository(core, &retry, parent(&path)).await?;
    }
    Ok(diff)
}

/// Lists commits.
pub(crate) async fn commits(core: &Rc<Core>, message: GitCommits) -> Result<GitCommitPage, Failure> {
    if let Some(limit) = message.limit
        && !(1..=200).contains(&limit)
    {
        return Err(Failure::invalid(format!("a limit of {limit} commits is out of range: give 1 to 200")));
    }
    let path = resolve(core, &message.path)?;
    Retry::new(core).until_answered(|| async { core.client()?.git_commits(&path, message.limit).await }).await
}

/// Settles whether a path that a server had nothing to say about is in a repository: its answer does not tell.
async fn check_repository(core: &Rc<Core>, retry: &Retry, path: &str) -> Result<(), Failure> {
    let asked = retry.until_answered(|| async { core.client()?.git_changes(path, Some(NO_COMMIT)).await });
    match asked.await {
        Err(Failure { kind: ErrorKind::Rejected { status: 400, .. }, .. }) => return Ok(()),
        // Servers that do not know the parameter answer as before.
        Ok(_) => {}
        Err(failure) => return Err(failure),
    }
    let script = format!("LC_ALL=C git -C {} rev-parse --git-dir", shell::quote(path));
    let asked = retry.until_answered(|| helper::run(core, script.clone())).await?;
    if asked.exit_code == Some(0) {
        return Ok(());
    }
    let said = asked.stderr.unwrap_or_default();
    let reason = said.lines().next().unwrap_or("git does not say why").trim_start_matches("fatal: ").to_owned();
    Err(Failure::not_sent(ErrorKind::NotARepository { path: path.to_owned(), reason }))
}

/// The name behind a quoted one, as servers report names with characters outside ASCII: every byte of such a character
/// is three octal digits after a slash that was a backslash once. What does not decode to such a name stays as it is.
pub(in crate::workspace) fn unquote(path: &str) -> Option<String> {
    let quoted = path.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let (mut bytes, mut at) = (Vec::with_capacity(quoted.len()), 0);
    while at < quoted.len() {
        let octal = quoted.get(at + 1..at + 4).filter(|_| matches!(quoted[at], b'/' | b'\\')).and_then(octal_byte);
        match octal {
            Some(byte) => {
                bytes.push(byte);
                at += 4;
            }
            None => {
                bytes.push(quoted[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_ascii())
}

/// A byte of 128 or more written as three octal digits.
fn octal_byte(digits: &[u8]) -> Option<u8> {
    let value = digits.iter().try_fold(0u32, |value, digit| match digit {
        b'0'..=b'7' => Some(value * 8 + u32::from(digit - b'0')),
        _ => None,
    });
    value.and_then(|value| u8::try_from(value).ok()).filter(|byte| *byte >= 0x80)
}

/// Joins a path to the workspace's directory, as the Python class does.
fn resolve(core: &Core, path: &str) -> Result<String, Failure> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let Some(base) = &core.config.working_dir else {
        return Err(Failure::invalid(format!(
            "git path `{path}` is relative and the workspace has no `working_dir`: give an absolute path, or set one"
        )));
    };
    Ok(join(base, path))
}

fn join(base: &str, path: &str) -> String {
    let root = if base.starts_with('/') { "/" } else { "" };
    let parts = base.split('/').chain(path.split('/')).filter(|part| !part.is_empty() && *part != ".");
    format!("{root}{}", parts.collect::<Vec<_>>().join("/"))
}

fn parent(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_joined_as_the_original_does() {
        assert_eq!(join("/workspace/", "a//b"), "/workspace/a/b");
        assert_eq!(join("/workspace", "."), "/workspace");
        assert_eq!(join("/workspace", ""), "/workspace");
    }

    #[test]
    fn quoted_names_are_decoded_and_others_left_alone() {
        assert_eq!(unquote(r#""sub/303/274n/303/257.txt""#).as_deref(), Some("subünï.txt"));
        assert_eq!(unquote(r#""a//303/274""#).as_deref(), Some("a/ü"));
        for plain in ["a b.txt", "303/274", r#""x/123""#, r#""/377""#, "\""] {
            assert_eq!(unquote(plain), None, "{plain}");
        }
    }

    #[test]
    fn parents() {
        assert_eq!(parent("/a/b"), "/a");
        assert_eq!(parent("/a"), "/");
        assert_eq!(parent("/"), "/");
    }
}
