//! One remote workspace: its actor, its messages and its results.
//!
//! [`RemoteWorkspace`] turns messages into *steps*, which its step queue keeps in order. A step that starts a command
//! leaves a child actor behind that watches the command to its end; the children share one feed of news.

mod actor;
mod ask;
mod attendant;
mod backoff;
mod behalf;
mod caller;
mod compat;
mod config;
mod core;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod directory;
mod ending;
mod feed;
#[cfg(feature = "service")]
mod gateway;
mod health;
mod keepalive;
mod local_files;
pub mod messages;
mod path_turns;
mod push;
mod result;
mod shell;
mod snapshot;
mod step_queue;
mod steps;
mod stream;
mod superseded;
mod supervision;
mod warm;
mod watch;

pub use actor::RemoteWorkspace;
pub(crate) use ask::ask;
pub(crate) use backoff::doubled;
pub(crate) use behalf::Behalf;
pub use config::{InitConfig, InitPayload, WorkspaceConfig};
pub(crate) use core::Core;
pub use ending::OnRemove;
pub(crate) use ending::{drain, let_end};
pub use health::{Health, HealthState};
pub(crate) use health::{HealthLight, probe_while_idle};
pub use keepalive::Keepalive;
pub use push::Push;
pub use result::{CommandResult, FileOperationResult};
pub(crate) use result::{millis, optional_millis};
#[cfg(feature = "service")]
pub(crate) use shell::quote;
pub use snapshot::Snapshot;
pub use stream::OutputStream;
pub(crate) use supervision::{CommandEnd, Exit, Guarded, Limits, Restarts};
#[cfg(test)]
pub(crate) use supervision::{Faults, Inject, PanicInHandler, PanicInStep};
#[cfg(all(feature = "cli", any(test, feature = "hot-paths")))]
pub(crate) use watch::settle;
