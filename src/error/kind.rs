use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::EventId;

/// Why something did not work.
///
/// A command that ran and failed is not an error: it is a [`CommandResult`](crate::CommandResult).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request was refused before anything was sent, because it can not work.
    #[error("{reason}")]
    InvalidInput {
        /// What is wrong and what to do about it.
        reason: String,
    },
    /// A file of this machine could not be read or written.
    #[error("local file {path}: {reason}")]
    Local {
        /// The file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// No usable connection: name resolution, connecting, or a connection lost before the answer.
    #[error("unreachable: {reason}")]
    Unreachable {
        /// What failed.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {reason}")]
    Tls {
        /// What failed.
        reason: String,
    },
    /// The server does not accept the session key (401 or 403).
    #[error("unauthorized ({status}): {detail}")]
    Unauthorized {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        detail: String,
    },
    /// The sandbox behind the address no longer exists, or is another one.
    #[error("the sandbox is gone: {reason}")]
    Gone {
        /// How that is known.
        reason: String,
    },
    /// The server has no such file, command or commit (404).
    #[error("not found: {detail}")]
    NotFound {
        /// The server's words.
        detail: String,
    },
    /// The server refused the request (another 4xx).
    #[error("rejected ({status}): {detail}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        detail: String,
    },
    /// The path is in no git repository.
    #[error("{path} is in no git repository: {reason}")]
    NotARepository {
        /// The path that was asked about.
        path: String,
        /// How that is known.
        reason: String,
    },
    /// The server failed or is too busy (5xx, 429), or had not got the whole request when it was tired of waiting (408).
    #[error("server error ({status}): {detail}")]
    ServerError {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        detail: String,
        /// How long the server asks to wait before another try.
        retry_after: Option<Duration>,
    },
    /// The answer was not what an agent server answers: truncated, malformed or larger than its bound.
    #[error("protocol violation: {reason}")]
    Protocol {
        /// What was wrong with it.
        reason: String,
        /// Whether it merely broke off, so that another try may bring all of it.
        #[serde(default)]
        cut_short: bool,
    },
    /// No answer in time.
    #[error("no answer within {limit:?} while {waiting_for}")]
    Deadline {
        /// What was waited for.
        waiting_for: String,
        /// How long.
        limit: Duration,
    },
    /// The workspace has more to do than it was allowed to queue; nothing was sent.
    #[error("overloaded: {reason}")]
    Overloaded {
        /// Which bound was met, and what to do about it.
        reason: String,
    },
    /// The workspace or the whole runtime was stopped.
    #[error("stopped: {reason}")]
    Stopped {
        /// Who stopped what.
        reason: String,
    },
    /// The runtime itself failed: an actor or a step of it panicked. The actor is started again.
    #[error("the runtime failed: {reason}")]
    Panicked {
        /// What panicked, and what it said.
        reason: String,
    },
    /// A command may have run, or may run still, and nobody can tell any more.
    #[error("outcome unknown: {reason}")]
    OutcomeUnknown {
        /// How it came to that.
        reason: String,
        /// The id that the server gave the command, where it is known: `get_command_output` takes it.
        command_id: Option<EventId>,
        /// The id to look for in the sandbox: processes of the command have it in `WSFLEET_COMMAND_ID`.
        process_id: Option<EventId>,
    },
}

impl ErrorKind {
    /// The kind's stable name, as in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InvalidInput { .. } => "invalid_input",
            Self::Local { .. } => "local",
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Gone { .. } => "gone",
            Self::NotFound { .. } => "not_found",
            Self::Rejected { .. } => "rejected",
            Self::NotARepository { .. } => "not_a_repository",
            Self::ServerError { .. } => "server_error",
            Self::Protocol { .. } => "protocol",
            Self::Deadline { .. } => "deadline",
            Self::Overloaded { .. } => "overloaded",
            Self::Stopped { .. } => "stopped",
            Self::Panicked { .. } => "panicked",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
        }
    }

    /// Whether another try may go better, the effect of the first left aside.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::ServerError { .. }
            | Self::Deadline { .. }
            | Self::Overloaded { .. }
            | Self::Panicked { .. } => true,
            Self::Protocol { cut_short, .. } => *cut_short,
            Self::InvalidInput { .. }
            | Self::Local { .. }
            | Self::Tls { .. }
            | Self::Unauthorized { .. }
            | Self::Gone { .. }
            | Self::NotFound { .. }
            | Self::Rejected { .. }
            | Self::NotARepository { .. }
            | Self::Stopped { .. }
            | Self::OutcomeUnknown { .. } => false,
        }
    }
}
