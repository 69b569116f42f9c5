//! The endpoints below `/file` but for the transfer of one file.

use super::{agent_client::AgentClient, download::Download, exchange::Call};
use crate::{
    ErrorKind, Failure,
    protocol::{HomeReply, SubdirPage, Success},
};

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveFormat {
    /// A patch of everything since the base.
    #[default]
    GitDelta,
    /// A compressed tar file of the whole folder.
    TarGz,
}

/// What to archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveQuery {
    /// The form.
    pub format: ArchiveFormat,
    /// The ref that a patch begins at; the server's choice when absent.
    pub base_ref: Option<String>,
    /// Whether `.git`, `node_modules`, `target` and their like are left out.
    pub use_default_excludes: bool,
    /// Patterns of what else to leave out.
    pub excludes: Vec<String>,
}

impl Default for ArchiveQuery {
    fn default() -> Self {
        Self { format: ArchiveFormat::GitDelta, base_ref: None, use_default_excludes: true, excludes: Vec::new() }
    }
}

impl AgentClient {
    /// Makes a folder, and those above it. One that is there already is no failure.
    ///
    /// # Errors
    /// As any request.
    pub async fn create_directory(&self, path: &str) -> Result<Success, Failure> {
        self.ask(Call::post(self, self.api("/file/create_directory").with("path", path)).small()).await
    }

    /// The home directory of the server's user.
    ///
    /// # Errors
    /// As any request.
    pub async fn home(&self) -> Result<HomeReply, Failure> {
        self.ask(Call::get(self, self.api("/file/home")).small()).await
    }

    /// Does nothing that a server counts as use, so that its sandbox is not reaped as idle: a folder is asked for as if it
    /// were a file, which is refused. The home directory would not do; agent servers do not count it.
    ///
    /// # Errors
    /// As any request, but for the refusal.
    pub async fn show_use(&self, folder: &str) -> Result<(), Failure> {
        let target = self.api("/file/download").with("path", folder);
        match self.answer(Call::get(self, target)).await {
            Ok(_) | Err(Failure { kind: ErrorKind::NotFound { .. } | ErrorKind::Rejected { status: 400, .. }, .. }) => {
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// One page of the folders in a folder.
    ///
    /// # Errors
    /// As any request.
    pub async fn search_subdirs(
        &self,
        path: &str,
        page_id: Option<&str>,
        limit: u32,
        include_hidden: bool,
    ) -> Result<SubdirPage, Failure> {
        let target = self.api("/file/search_subdirs").with("path", path).with("limit", &limit.to_string());
        let target = target.with_some("page_id", page_id).with_some("include_hidden", include_hidden.then_some("true"));
        self.ask(Call::get(self, target).small()).await
    }

    /// A folder as a patch or a tar file.
    ///
    /// The server packs it all before it answers, so it has ten times the
    /// [answer timeout](super::ClientLimits::answer_timeout).
    ///
    /// # Errors
    /// As any request.
    pub async fn archive(&self, path: &str, query: &ArchiveQuery) -> Result<Download, Failure> {
        let format = match query.format {
            ArchiveFormat::GitDelta => "git-delta",
            ArchiveFormat::TarGz => "tar.gz",
        };
        let mut target = self.api("/file/archive").with("path", path).with("format", format);
        target = target.with_some("base_ref", query.base_ref.as_deref());
        target = target.with_some("use_default_excludes", (!query.use_default_excludes).then_some("false"));
        for pattern in &query.excludes {
            target = target.with("exclude", pattern);
        }
        self.receive(Call::get(self, target).long(self.limits().answer_timeout * 10), None).await
    }
}
