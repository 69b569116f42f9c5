//! Failures as the records that the Python class returns in their place.

use std::time::Duration;

use crate::{CommandResult, FileOperationResult, WorkspaceError, protocol::EventId};

impl CommandResult {
    /// The record that the Python class returns for a command that failed to run: exit code -1, and the reason in
    /// `stderr`.
    #[must_use]
    pub fn from_error(command: impl Into<String>, error: &WorkspaceError) -> Self {
        let stderr = error.to_string();
        Self {
            command: command.into(),
            exit_code: -1,
            stdout: String::new(),
            stdout_bytes: 0,
            stderr_bytes: stderr.len() as u64,
            stderr,
            timeout_occurred: false,
            stopped: false,
            raw_exit_code: None,
            command_id: EventId::nil(),
            duration: Duration::ZERO,
            truncated: false,
            trace: error.trace.clone(),
        }
    }
}

impl FileOperationResult {
    /// The record that the Python class returns for a failed transfer: `success` false, and the reason in `error`.
    #[must_use]
    pub fn from_error(source: impl Into<String>, destination: impl Into<String>, error: &WorkspaceError) -> Self {
        Self {
            success: false,
            source_path: source.into(),
            destination_path: destination.into(),
            file_size: None,
            files: None,
            sha256: None,
            error: Some(error.to_string()),
            trace: error.trace.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Failure, Operation};

    #[test]
    fn the_records_of_the_original() {
        let failure = Failure::not_sent(ErrorKind::Unreachable { reason: "refused".into() });
        let error = failure.on("w1", Operation::ExecuteCommand);
        let record = CommandResult::from_error("true", &error);
        assert_eq!((record.exit_code, record.timeout_occurred), (-1, false));
        assert!(record.stderr.contains("refused"));
        let record = FileOperationResult::from_error("/a", "/b", &error);
        assert_eq!((record.success, record.error.as_deref()), (false, Some(error.to_string().as_str())));
    }
}
