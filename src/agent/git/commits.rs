use std::path::Path;

use super::{
    base::EMPTY_TREE,
    changes::parse_name_status,
    command::{Git, GitError, GitResult},
    diff::{closest_repository, content_at, relative},
};
use crate::{
    agent::file::resolve_leniently,
    protocol::{GitChange, GitCommit, GitCommitPage, GitDiff},
};

/// One line a commit, fields parted by a character that none of them can hold.
const FORMAT: &str = "--format=%H%x1f%h%x1f%an%x1f%aI%x1f%s";

/// The newest commits of the current branch.
pub(super) async fn commits(git: &Git<'_>, directory: &Path, limit: usize) -> GitResult<GitCommitPage> {
    let repository = git.repository(directory).await?;
    let Some(head) = git.resolve(&repository, "HEAD").await else {
        return Ok(GitCommitPage { commits: Vec::new(), has_more: false });
    };
    let count = (limit + 1).to_string();
    let log = git.text(&repository, &["log", "--no-show-signature", FORMAT, "-n", &count, &head]).await?;
    let mut commits: Vec<_> = log.split('\n').filter_map(parse_commit).collect();
    let has_more = commits.len() > limit;
    commits.truncate(limit);
    Ok(GitCommitPage { commits, has_more })
}

fn parse_commit(line: &str) -> Option<GitCommit> {
    let fields: Vec<_> = line.split('\u{1f}').collect();
    let [sha, short_sha, author, timestamp, subject] = fields.as_slice() else { return None };
    let [sha, short_sha, author, timestamp, subject] =
        [sha, short_sha, author, timestamp, subject].map(|f| (*f).to_owned());
    Some(GitCommit { sha, short_sha, subject, author, timestamp })
}

/// A commit and what it is compared with: its first parent, or nothing.
async fn commit_and_parent(git: &Git<'_>, repository: &Path, commit: &str) -> GitResult<(String, String)> {
    let sha = git.text(repository, &["rev-parse", "--verify", &format!("{commit}^{{commit}}")]).await?;
    let parent = git.resolve(repository, &format!("{sha}^")).await;
    Ok((sha, parent.unwrap_or_else(|| EMPTY_TREE.to_owned())))
}

/// What a commit changed.
pub(super) async fn commit_changes(git: &Git<'_>, directory: &Path, commit: &str) -> GitResult<Vec<GitChange>> {
    let repository = git.repository(directory).await?;
    let (sha, parent) = commit_and_parent(git, &repository, commit).await?;
    let shown = ["--no-pager", "diff", "--name-status", &parent, &sha];
    parse_name_status(&git.run_with(&repository, &shown, &["-z"]).await?)
}

/// What a commit changed in one file.
pub(super) async fn commit_diff(git: &Git<'_>, asked_path: &Path, commit: &str) -> GitResult<GitDiff> {
    let path = resolve_leniently(asked_path);
    let Some(repository) = closest_repository(&path) else {
        return Err(GitError::NoRepository(format!("File is not in a git repository: {}", path.display())));
    };
    let repository = git.repository(&repository).await?;
    let (sha, parent) = commit_and_parent(git, &repository, commit).await?;
    let name = relative(&path, &repository)?;
    let original = content_at(git, &repository, &format!("{parent}:{name}")).await?;
    let modified = content_at(git, &repository, &format!("{sha}:{name}")).await?;
    Ok(GitDiff { modified: Some(modified), original: Some(original) })
}
