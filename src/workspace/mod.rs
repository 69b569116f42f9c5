//! One remote workspace: its actor, its messages and its results.

mod result;
mod shell;
mod step_queue;
mod stream;
mod watch;

pub(crate) use result::millis;
pub use result::{CommandResult, FileOperationResult};
pub use stream::OutputStream;
