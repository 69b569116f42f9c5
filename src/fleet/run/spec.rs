use serde::{Deserialize, Serialize};

use crate::{
    fleet::Selector,
    messages::{ExecuteCommand, FileDownload, FileUpload, GitChanges, GitDiff},
};

/// How many targets run at once unless something else is asked for.
pub const DEFAULT_FANOUT: usize = 64;

/// What a run does, and where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunSpec {
    /// Its targets.
    pub selector: Selector,
    /// What is done on each.
    pub operation: RunOperation,
    /// How many targets run at once, at least 1. Default: [`DEFAULT_FANOUT`].
    pub fanout: usize,
    /// Whether output is reported while commands run. Default: false.
    #[serde(default)]
    pub stream_output: bool,
}

/// What a run does on each of its targets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunOperation {
    /// Runs a command. `{workspace}` in the value of a variable becomes the target's name.
    Execute(ExecuteCommand),
    /// Writes a file.
    Upload(FileUpload),
    /// Reads a file. `{workspace}` in the local path becomes the target's name.
    Download(FileDownload),
    /// Lists changed files.
    Changes(GitChanges),
    /// Compares a file.
    Diff(GitDiff),
    /// Asks whether the server answers.
    Ping,
    /// Asks what the server is.
    Info,
}

impl RunSpec {
    /// This operation on these targets, all else at its default.
    #[must_use]
    pub const fn new(selector: Selector, operation: RunOperation) -> Self {
        Self { selector, operation, fanout: DEFAULT_FANOUT, stream_output: false }
    }

    /// This command on these targets, all else at its default.
    #[must_use]
    pub fn command(selector: Selector, command: impl Into<ExecuteCommand>) -> Self {
        Self::new(selector, RunOperation::Execute(command.into()))
    }

    /// Sets how many targets run at once.
    #[must_use]
    pub const fn with_fanout(mut self, fanout: usize) -> Self {
        self.fanout = fanout;
        self
    }

    /// Sets whether output is reported while commands run.
    #[must_use]
    pub const fn with_stream_output(mut self, stream_output: bool) -> Self {
        self.stream_output = stream_output;
        self
    }
}

impl RunOperation {
    /// The operation in words; a command in its own.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Execute(command) => command.command.clone(),
            Self::Upload(upload) => format!("upload to {}", upload.destination),
            Self::Download(download) => format!("download {}", download.source),
            Self::Changes(changes) => format!("changes {}", changes.path).trim_end().to_owned(),
            Self::Diff(diff) => format!("diff {}", diff.path),
            Self::Ping => "ping".to_owned(),
            Self::Info => "info".to_owned(),
        }
    }

    /// The operation for one target.
    pub(super) fn for_target(&self, name: &str) -> Self {
        let mut own = self.clone();
        match &mut own {
            Self::Execute(command) => {
                for value in command.env.values_mut().filter(|value| value.contains(PLACEHOLDER)) {
                    *value = value.replace(PLACEHOLDER, name);
                }
            }
            Self::Download(download) => {
                if let Some(path) = download.destination.to_str().filter(|path| path.contains(PLACEHOLDER)) {
                    download.destination = path.replace(PLACEHOLDER, &file_name(name)).into();
                }
            }
            Self::Upload(_) | Self::Changes(_) | Self::Diff(_) | Self::Ping | Self::Info => {}
        }
        own
    }
}

const PLACEHOLDER: &str = "{workspace}";

/// A workspace's name as one part of a local path, which it can never leave.
fn file_name(name: &str) -> String {
    let name = name.replace(['/', '\\', '\0'], "_");
    if matches!(name.as_str(), "" | "." | "..") { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_take_the_place_of_the_placeholder() {
        let operation = RunOperation::Execute(ExecuteCommand::new("true").with_env("W", "<{workspace}>"));
        let RunOperation::Execute(command) = operation.for_target("a/b") else { panic!() };
        assert_eq!(command.env["W"], "<a/b>");
    }

    #[test]
    fn a_name_cannot_leave_the_destination() {
        let operation = RunOperation::Download(FileDownload::new("/x", "out/{workspace}/x"));
        for (name, expected) in [("../../etc", "out/.._.._etc/x"), ("..", "out/_../x"), ("h:1/s/a", "out/h:1_s_a/x")] {
            let RunOperation::Download(download) = operation.for_target(name) else { panic!() };
            assert_eq!(download.destination, std::path::Path::new(expected));
        }
    }
}
