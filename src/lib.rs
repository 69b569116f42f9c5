//! A runtime that drives many remote workspaces at once.
#[cfg(feature = "agent")]
pub mod agent;
pub mod client;
pub mod error;
pub mod fleet;
pub mod protocol;
pub mod workspace;

pub use client::{Connection, SessionKey, TlsRoots};
pub use error::{Effect, ErrorKind, Failure, Operation, WorkspaceError};
pub use workspace::{CommandResult, FileOperationResult, OutputStream};
