//! Handles to a fleet and to its workspaces: `Clone + Send + Sync`, usable from any async runtime.
//!
//! The runtime behind them owns its threads. The handles reach it through messages, so they work inside a plain
//! multi-threaded tokio program, inside an actix system, and in a synchronous `main` that blocks on their futures.

mod command_stream;
mod fleet;
mod lease;
mod run;
#[cfg(all(test, feature = "agent"))]
mod supervision_tests;
mod workspace;

pub use command_stream::CommandStream;
pub use fleet::{Fleet, FleetBuilder};
pub use lease::{Lease, LeaseDrop};
pub use run::{JobSender, RunClosed, RunHandle};
pub use workspace::Workspace;

use crate::{ErrorKind, Failure, Operation, WorkspaceError};

/// What is said of a message to a fleet that has ended.
pub(crate) fn fleet_ended(workspace: &str, operation: Operation) -> WorkspaceError {
    let reason = "the fleet was shut down".to_owned();
    Failure::not_sent(ErrorKind::Stopped { reason }).on(workspace, operation)
}
