use serde::{Deserialize, Serialize};

use super::ask;
pub use crate::client::DiffBase;
use crate::{
    Operation,
    protocol::{self, GitChange, GitCommitPage},
};

/// Lists the files that differ. A step. A path in no repository is an error.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GitChanges {
    /// The directory to ask about; joined to the workspace's `working_dir` when relative.
    pub path: String,
    /// The commit to compare with. Default: the server's choice, usually where the branch left its upstream.
    #[serde(default)]
    pub reference: Option<String>,
}

impl GitChanges {
    /// The changes in this directory.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), reference: None }
    }

    /// Sets the commit to compare with.
    #[must_use]
    pub fn with_reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }
}

ask!(GitChanges => Vec<GitChange>, Operation::GitChanges);

/// Compares a file. A step. A path in no repository is an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GitDiff {
    /// The file to ask about; joined to the workspace's `working_dir` when relative.
    pub path: String,
    /// What to compare with.
    #[serde(default)]
    pub base: DiffBase,
}

impl GitDiff {
    /// The file against the server's choice of base.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), base: DiffBase::default() }
    }

    /// Sets what to compare with.
    #[must_use]
    pub fn with_base(mut self, base: DiffBase) -> Self {
        self.base = base;
        self
    }
}

ask!(GitDiff => protocol::GitDiff, Operation::GitDiff);

/// Lists commits, newest first. A step. Servers before 1.35 have no such route.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GitCommits {
    /// The directory to ask about; joined to the workspace's `working_dir` when relative.
    pub path: String,
    /// How many at most, 1 to 200. Default: the server's 50.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl GitCommits {
    /// The commits of the repository of this directory.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), limit: None }
    }

    /// Sets how many commits to list at most.
    #[must_use]
    pub const fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }
}

ask!(GitCommits => GitCommitPage, Operation::GitCommits);
