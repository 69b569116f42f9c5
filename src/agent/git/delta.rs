use std::{fs::File, path::Path, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use super::{
    base::EMPTY_TREE,
    command::{Git, GitError},
};
use crate::agent::http::{ApiError, ApiResult, python_repr};

/// What a header value keeps when it is percent-encoded.
pub(in crate::agent) const HEADER_SAFE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~');

const READ_TREE_TIME: Duration = Duration::from_secs(60);
const DIFF_TIME: Duration = Duration::from_secs(300);

/// Writes what distinguishes a work tree from its base, as a patch. The repository's own index is not touched. Gives the
/// file back, and the commit that the patch applies to, which is empty when there is none.
pub(in crate::agent) async fn write_delta(
    git: &Git<'_>,
    root: &Path,
    base_ref: Option<&str>,
    file: File,
    excludes: &[String],
) -> ApiResult<(File, String)> {
    git.repository(root).await.map_err(|error| match error {
        GitError::NoRepository(text) | GitError::Failed(text) => {
            ApiError::bad_request(format!("Not a git repository: {text}"))
        }
    })?;
    let detached = git.text(root, &["rev-parse", "--abbrev-ref", "HEAD"]).await.is_ok_and(|name| name == "HEAD");
    // A pinned checkout is compared with what it was pinned to.
    let asked = base_ref.or(detached.then_some("HEAD"));
    let base = git.export_base(root, asked).await.map_err(|_| {
        let name = base_ref.map_or_else(|| "None".to_owned(), python_repr);
        ApiError::bad_request(format!("base_ref {name} could not be resolved"))
    })?;
    // Two names are needed beside each other, for git replaces the index by renaming a lock onto it.
    let scratch = tempfile::tempdir().map_err(|error| failed(&error.to_string()))?;
    let index = scratch.path().join("index");
    let pathspecs: Vec<_> = ["--", "."].into_iter().chain(excludes.iter().map(String::as_str)).collect();
    let add = [&["add", "-A"], pathspecs.as_slice()].concat();
    let diff = [&["diff", "--binary", "--cached", &base], pathspecs.as_slice()].concat();
    git.run_with_index(root, &index, &["read-tree", &base], None, READ_TREE_TIME).await.map_err(|e| failed(&e))?;
    git.run_with_index(root, &index, &add, None, DIFF_TIME).await.map_err(|e| failed(&e))?;
    git.run_with_index(root, &index, &diff, Some(&file), DIFF_TIME).await.map_err(|e| failed(&e))?;
    let commit = match base.as_str() {
        EMPTY_TREE => String::new(),
        base => git.resolve(root, &format!("{base}^{{commit}}")).await.unwrap_or_default(),
    };
    Ok((file, commit))
}

fn failed(text: &str) -> ApiError {
    ApiError::internal(format_args!("Failed to generate git delta: {text}"))
}

/// Where a repository comes from and what is checked out, as headers; what cannot be told is left out.
pub(in crate::agent) async fn identity(git: &Git<'_>, root: &Path) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if let Ok(remote) = git.text(root, &["remote", "get-url", "origin"]).await {
        headers.push(("X-Archive-Repo-Remote", without_credentials(&remote)));
    }
    if let Ok(told) = git.text(root, &["rev-parse", "HEAD", "--abbrev-ref", "HEAD"]).await
        && let Some((head, branch)) = told.split_once('\n')
    {
        let branch = if branch == "HEAD" { "DETACHED" } else { branch };
        headers.push(("X-Archive-Branch", branch.to_owned()));
        headers.push(("X-Archive-Head-Commit", head.to_owned()));
    }
    headers
}

/// A remote's address without the user, password and query that may be secret.
fn without_credentials(remote: &str) -> String {
    let Ok(mut url) = url::Url::parse(remote) else { return remote.to_owned() };
    if !matches!(url.scheme(), "http" | "https") {
        return remote.to_owned();
    }
    let hidden = url.set_username("").is_ok() && url.set_password(None).is_ok();
    url.set_query(None);
    if hidden { url.into() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_remote_is_not_told() {
        assert_eq!(without_credentials("https://x:T0ken@h/o/r.git?t=1"), "https://h/o/r.git");
        assert_eq!(without_credentials("git@h:o/r.git"), "git@h:o/r.git");
    }
}
