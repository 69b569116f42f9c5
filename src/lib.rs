//! A runtime that drives many remote workspaces at once.

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod client;
pub mod error;
pub mod fleet;
pub mod handle;
#[cfg(feature = "cli")]
pub mod inventory;
pub mod protocol;
pub mod workspace;

pub use client::{Connection, SessionKey, TlsRoots};
pub use error::{Effect, ErrorKind, Failure, Operation, WorkspaceError};
pub use fleet::{Outcome, RunOperation, RunSpec, Selector};
pub use handle::{CommandStream, Fleet, FleetBuilder, RunHandle, Workspace};
pub use workspace::{
    CommandResult, FileOperationResult, OutputStream, RemoteWorkspace, Snapshot, WorkspaceConfig, messages,
};
