//! The endpoints below `/git`.

use serde::{Deserialize, Serialize};

use super::{agent_client::AgentClient, exchange::Call};
use crate::{
    Failure,
    protocol::{GitChange, GitCommitPage, GitDiff},
};

/// What a file is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffBase {
    /// The state that the server takes as the base: the branch's upstream, its fork point, or `HEAD`.
    #[default]
    WorkingTree,
    /// A ref: the file now against the file there.
    Ref(String),
    /// A commit, 4 to 64 hex digits: the file there against the file before it.
    Commit(String),
}

impl AgentClient {
    /// The files below `path` that changed, since `reference` where one is given.
    ///
    /// # Errors
    /// As any request. A path in no repository is an empty list, not a failure.
    pub async fn git_changes(&self, path: &str, reference: Option<&str>) -> Result<Vec<GitChange>, Failure> {
        let target = self.api("/git/changes").with("path", path).with_some("ref", reference);
        self.ask(Call::get(self, target)).await
    }

    /// A file's content now and at the base.
    ///
    /// # Errors
    /// As any request. A path in no repository is two absent contents, not a failure.
    pub async fn git_diff(&self, path: &str, base: &DiffBase) -> Result<GitDiff, Failure> {
        let target = self.api("/git/diff").with("path", path);
        let target = match base {
            DiffBase::WorkingTree => target,
            DiffBase::Ref(reference) => target.with("ref", reference),
            DiffBase::Commit(sha) => target.with("commit", sha),
        };
        self.ask(Call::get(self, target)).await
    }

    /// The newest commits, 50 unless `limit` says otherwise (1 to 200).
    ///
    /// # Errors
    /// As any request.
    pub async fn git_commits(&self, path: &str, limit: Option<u32>) -> Result<GitCommitPage, Failure> {
        let limit = limit.map(|limit| limit.to_string());
        let target = self.api("/git/commits").with("path", path).with_some("limit", limit.as_deref());
        self.ask(Call::get(self, target)).await
    }

    /// What a commit changed, by paths from the top of the repository.
    ///
    /// # Errors
    /// As any request; `sha` must be 4 to 64 hex digits.
    pub async fn git_commit_changes(&self, sha: &str, path: &str) -> Result<Vec<GitChange>, Failure> {
        if !(4..=64).contains(&sha.len()) || !sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason = format!("`{}` is not a commit: give 4 to 64 hex digits", sha.escape_debug());
            return Err(Failure::invalid(reason));
        }
        let target = self.api(&format!("/git/commits/{sha}/changes")).with("path", path);
        self.ask(Call::get(self, target)).await
    }

    /// Repositories that the server's user can reach at a hosting provider such as `github`, as the server tells them.
    ///
    /// # Errors
    /// As any request.
    pub async fn git_repositories(&self, provider: &str, query: Option<&str>) -> Result<serde_json::Value, Failure> {
        let target = self.api("/git/repositories/search").with("provider", provider).with_some("query", query);
        self.ask(Call::get(self, target).small()).await
    }
}
