use std::fmt;

use serde::{Deserialize, Serialize};

/// What was attempted on a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// Run a command to its end.
    ExecuteCommand,
    /// Start a command.
    StartCommand,
    /// Follow a command that was started before.
    AttachCommand,
    /// Read a command's output.
    GetCommandOutput,
    /// Stop a command.
    StopCommand,
    /// Write a file of the sandbox.
    FileUpload,
    /// Read a file of the sandbox.
    FileDownload,
    /// Write a directory of the sandbox.
    DirectoryUpload,
    /// Read a directory of the sandbox.
    DirectoryDownload,
    /// List changed files.
    GitChanges,
    /// Compare a file.
    GitDiff,
    /// List commits.
    GitCommits,
    /// Ask what the server is.
    GetServerInfo,
    /// Ask whether the server answers.
    Alive,
    /// Wait until the server is ready.
    WaitReady,
    /// Keep the sandbox from being reaped.
    Hold,
    /// Drop the connections.
    ResetClient,
    /// Change the address, the key or the headers.
    UpdateConnection,
    /// Add a workspace to a fleet.
    AddWorkspace,
    /// Find a workspace of a fleet.
    LookUp,
}

impl Operation {
    /// The name of the method that does it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExecuteCommand => "execute_command",
            Self::StartCommand => "start_command",
            Self::AttachCommand => "attach",
            Self::GetCommandOutput => "get_command_output",
            Self::StopCommand => "stop_command",
            Self::FileUpload => "file_upload",
            Self::FileDownload => "file_download",
            Self::DirectoryUpload => "directory_upload",
            Self::DirectoryDownload => "directory_download",
            Self::GitChanges => "git_changes",
            Self::GitDiff => "git_diff",
            Self::GitCommits => "git_commits",
            Self::GetServerInfo => "get_server_info",
            Self::Alive => "alive",
            Self::WaitReady => "wait_ready",
            Self::Hold => "hold",
            Self::ResetClient => "reset_client",
            Self::UpdateConnection => "update_connection",
            Self::AddWorkspace => "add",
            Self::LookUp => "workspace",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
