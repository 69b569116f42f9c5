use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CommandResult, ErrorKind};

/// How a target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The command exited with 0, or the operation was carried out.
    Succeeded,
    /// The command exited with another code.
    Failed,
    /// The command's time was up.
    TimedOut,
    /// Somebody stopped it.
    Stopped,
    /// No usable connection to the workspace.
    Unreachable,
    /// The session key is not accepted.
    Unauthorized,
    /// The sandbox behind the address no longer exists or was replaced.
    Gone,
    /// The request was refused, by the server or before it was sent.
    Rejected,
    /// The server failed.
    ServerError,
    /// The server does not speak the agent-server API as it should.
    ProtocolError,
    /// The command may have run and nobody can tell.
    OutcomeUnknown,
    /// It was never its turn.
    Skipped,
}

impl Outcome {
    /// Every outcome, in the order of summaries.
    pub const ALL: [Self; 12] = [
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Stopped,
        Self::Unreachable,
        Self::Unauthorized,
        Self::Gone,
        Self::Rejected,
        Self::ServerError,
        Self::ProtocolError,
        Self::OutcomeUnknown,
        Self::Skipped,
    ];

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Stopped => "stopped",
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Gone => "gone",
            Self::Rejected => "rejected",
            Self::ServerError => "server_error",
            Self::ProtocolError => "protocol_error",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<&CommandResult> for Outcome {
    fn from(result: &CommandResult) -> Self {
        if result.timeout_occurred {
            Self::TimedOut
        } else if result.stopped {
            Self::Stopped
        } else if result.exit_code == 0 {
            Self::Succeeded
        } else {
            Self::Failed
        }
    }
}

impl From<&ErrorKind> for Outcome {
    fn from(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::Unreachable { .. } | ErrorKind::Tls { .. } | ErrorKind::Deadline { .. } => Self::Unreachable,
            ErrorKind::Unauthorized { .. } => Self::Unauthorized,
            ErrorKind::Gone { .. } => Self::Gone,
            ErrorKind::InvalidInput { .. }
            | ErrorKind::Local { .. }
            | ErrorKind::NotFound { .. }
            | ErrorKind::Rejected { .. }
            | ErrorKind::NotARepository { .. }
            | ErrorKind::Overloaded { .. } => Self::Rejected,
            ErrorKind::ServerError { .. } => Self::ServerError,
            ErrorKind::Protocol { .. } => Self::ProtocolError,
            ErrorKind::Stopped { .. } => Self::Stopped,
            ErrorKind::OutcomeUnknown { .. } | ErrorKind::Panicked { .. } => Self::OutcomeUnknown,
        }
    }
}
