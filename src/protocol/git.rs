use serde::{Deserialize, Serialize};

/// How a file differs from the compared state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum GitChangeStatus {
    /// The file was renamed. Today's servers report a rename as a deletion and an addition instead.
    Moved,
    /// The file is new.
    Added,
    /// The file is gone.
    Deleted,
    /// The file's content changed.
    Updated,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GitChange {
    /// How it changed.
    pub status: GitChangeStatus,
    /// Its path, relative to the directory that was asked about.
    pub path: String,
}

/// A file's two contents. Both absent: the path is in no repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitDiff {
    /// The content now; empty for a deleted or binary file.
    #[serde(default)]
    pub modified: Option<String>,
    /// The content it is compared with; absent for a new file.
    #[serde(default)]
    pub original: Option<String>,
}

/// One commit of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCommit {
    /// The full object name.
    pub sha: String,
    /// The abbreviated object name.
    pub short_sha: String,
    /// The first line of the message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When it was made, as the server writes it (RFC 3339).
    pub timestamp: String,
}

/// The answer to `GET /api/git/commits`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCommitPage {
    /// The commits.
    pub commits: Vec<GitCommit>,
    /// Whether older commits were left out by the limit.
    #[serde(default)]
    pub has_more: bool,
}
