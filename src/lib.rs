//! A runtime that drives many remote workspaces at once.
//!
//! A *workspace* is a sandbox that runs an agent server: an HTTP API to execute shell commands, move files, and read git
//! changes and diffs. Each workspace is an actor that owns its HTTP client and takes its messages in order; a supervisor
//! owns the workspaces of a [`Fleet`]; each running command has a child actor that watches it to its end.
//!
//! Start with [`Fleet`] and [`Workspace`]. The messages that a workspace takes, with all their settings, are in
//! [`messages`]; what can go wrong is in [`error`]. With the feature `agent`, the module `agent` has an agent server
//! that runs in this process, so that everything can be tried without a sandbox.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod client;
pub mod error;
pub mod fleet;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handle;
#[cfg(all(feature = "cli", any(test, feature = "hot-paths")))]
#[doc(hidden)]
pub mod hot_paths;
#[cfg(feature = "cli")]
pub mod inventory;
pub mod protocol;
#[cfg(feature = "service")]
pub mod service;
pub mod workspace;

pub use client::{Connection, SessionKey, TlsRoots};
pub use error::{Effect, ErrorKind, Failure, Operation, WorkspaceError};
pub use fleet::{Drain, DrainReport, FleetStatus, Outcome, RunOperation, RunSpec, Selector};
pub use handle::{CommandStream, Fleet, FleetBuilder, JobSender, Lease, LeaseDrop, RunHandle, Workspace};
pub use workspace::{
    CommandResult, FileOperationResult, Health, HealthState, InitConfig, InitPayload, Keepalive, OnRemove,
    OutputStream, Push, RemoteWorkspace, Snapshot, WorkspaceConfig, messages,
};

/// The examples of the README, compiled.
#[cfg(all(doctest, feature = "agent"))]
#[doc = include_str!("../README.md")]
struct Readme;
