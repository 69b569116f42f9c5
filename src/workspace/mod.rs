//! One remote workspace: its actor, its messages and its results.
//!
//! [`RemoteWorkspace`] turns messages into *steps*, which its step queue keeps in order. A step that starts a command
//! leaves a child actor behind that watches the command to its end; the children share one feed of news.

mod actor;
mod ask;
mod compat;
mod config;
mod core;
mod directory;
mod feed;
pub mod messages;
mod result;
mod shell;
mod snapshot;
mod step_queue;
mod steps;
mod stream;
mod superseded;
mod watch;

pub use actor::RemoteWorkspace;
pub(crate) use ask::ask;
pub use config::WorkspaceConfig;
pub(crate) use result::millis;
pub use result::{CommandResult, FileOperationResult};
pub use snapshot::Snapshot;
pub use stream::OutputStream;
