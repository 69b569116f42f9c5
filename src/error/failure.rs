use serde::{Deserialize, Serialize};

use super::{ErrorKind, Operation, WorkspaceError};

/// What is known of the effect of something that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The server did not get the request, or refused it: nothing happened.
    NotSent,
    /// The server may have carried the request out.
    MaybeSent,
    /// The server carried the request out; what failed came after.
    Done,
}

impl Effect {
    /// The effect in words, to end a message with.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::NotSent => "nothing was done",
            Self::MaybeSent => "it may have been carried out",
            Self::Done => "it was carried out",
        }
    }
}

/// A failed request: why, and what is known of its effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}")]
pub struct Failure {
    /// Why it failed.
    pub kind: ErrorKind,
    /// What is known of its effect.
    pub effect: Effect,
}

impl Failure {
    /// A failure before anything reached the server, or with the server's word that it did nothing.
    #[must_use]
    pub const fn not_sent(kind: ErrorKind) -> Self {
        Self { kind, effect: Effect::NotSent }
    }

    /// A failure after which the server may or may not have acted.
    #[must_use]
    pub const fn maybe_sent(kind: ErrorKind) -> Self {
        Self { kind, effect: Effect::MaybeSent }
    }

    /// A failure of something after the server had acted.
    #[must_use]
    pub const fn done(kind: ErrorKind) -> Self {
        Self { kind, effect: Effect::Done }
    }

    /// Bad input, found before anything was sent.
    #[must_use]
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::not_sent(ErrorKind::InvalidInput { reason: reason.into() })
    }

    /// An answer that is not what an agent server answers.
    #[must_use]
    pub fn protocol(reason: impl Into<String>) -> Self {
        Self::maybe_sent(ErrorKind::Protocol { reason: reason.into(), cut_short: false })
    }

    /// An answer that broke off.
    #[must_use]
    pub fn cut_short(reason: impl Into<String>) -> Self {
        Self::maybe_sent(ErrorKind::Protocol { reason: reason.into(), cut_short: true })
    }

    /// Says where it happened and while doing what.
    #[must_use]
    pub fn on(self, workspace: &str, operation: Operation) -> WorkspaceError {
        WorkspaceError { workspace: workspace.to_owned(), operation, effect: self.effect, kind: self.kind, trace: None }
    }
}
