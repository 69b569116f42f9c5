use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Effect, ErrorKind, Operation};
use crate::protocol::Trace;

/// A failed operation on a workspace: what was attempted, where, why it failed and what is known of its effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{workspace}: {operation}: {kind} ({})", effect.describe())]
pub struct WorkspaceError {
    /// The workspace's name.
    pub workspace: String,
    /// What was attempted.
    pub operation: Operation,
    /// What is known of its effect.
    pub effect: Effect,
    /// Why it failed.
    #[serde(flatten)]
    pub kind: ErrorKind,
    /// What the message belongs to, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Arc<Trace>>,
}

impl WorkspaceError {
    /// Whether sending the same again is safe and may go better.
    ///
    /// False whenever the first try may have had an effect that a second would double: a command that may have been
    /// started, for one. Reading twice does no harm, so reads are retryable whatever their effect.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.kind.is_transient() && (matches!(self.effect, Effect::NotSent) || self.operation_repeats_safely())
    }

    const fn operation_repeats_safely(&self) -> bool {
        match self.operation {
            Operation::ExecuteCommand | Operation::StartCommand => false,
            Operation::AttachCommand
            | Operation::GetCommandOutput
            | Operation::StopCommand
            | Operation::FileUpload
            | Operation::FileDownload
            | Operation::DirectoryUpload
            | Operation::DirectoryDownload
            | Operation::GitChanges
            | Operation::GitDiff
            | Operation::GitCommits
            | Operation::GetServerInfo
            | Operation::Alive
            | Operation::WaitReady
            | Operation::Hold
            | Operation::ResetClient
            | Operation::UpdateConnection
            | Operation::AddWorkspace
            | Operation::LookUp => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(operation: Operation, effect: Effect) -> WorkspaceError {
        let kind = ErrorKind::Unreachable { reason: "connection reset".into() };
        WorkspaceError { workspace: "w1".into(), operation, effect, kind, trace: None }
    }

    #[test]
    fn a_command_that_may_have_started_is_not_retryable_but_a_read_is() {
        assert!(!error(Operation::ExecuteCommand, Effect::MaybeSent).is_retryable());
        assert!(error(Operation::ExecuteCommand, Effect::NotSent).is_retryable());
        assert!(error(Operation::GitDiff, Effect::MaybeSent).is_retryable());
    }

    #[test]
    fn the_message_names_workspace_operation_reason_and_effect() {
        assert_eq!(
            error(Operation::ExecuteCommand, Effect::MaybeSent).to_string(),
            "w1: execute_command: unreachable: connection reset (it may have been carried out)"
        );
    }

    #[test]
    fn an_error_survives_json() {
        let before = error(Operation::FileUpload, Effect::Done);
        let json = serde_json::to_value(&before).unwrap();
        assert_eq!(json["kind"], "unreachable");
        assert_eq!(serde_json::from_value::<WorkspaceError>(json).unwrap(), before);
    }
}
