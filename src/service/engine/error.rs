use crate::{Failure, WorkspaceError, service::StoreError};

/// Why the service does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// There is no such thing.
    #[error("there is no {what} {name}")]
    NotFound { what: &'static str, name: String },
    /// There is one already, or it is in a state in which that cannot be done.
    #[error("{0}")]
    Conflict(String),
    /// What is asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The service may not talk to this host.
    #[error("the service may not talk to {0}: the one who runs it says to which hosts it may, with --allow-host")]
    HostNotAllowed(String),
    /// A workspace of the store that cannot be used.
    #[error("the workspace {name} is left aside: {reason}; add it again or change how it is reached, or remove it")]
    LeftAside { name: String, reason: String },
    /// An `Idempotency-Key` that belongs to another request.
    #[error(
        "this Idempotency-Key was used for another request: a key belongs to one method, path and body; use a new one for \
         each thing that is to be started"
    )]
    KeyReused,
    /// As much goes on as may at once.
    #[error("{0}")]
    Overloaded(String),
    /// The service ends.
    #[error("the service ends")]
    Ending,
    /// The workspace.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        Self::Invalid(failure.kind.to_string())
    }
}
