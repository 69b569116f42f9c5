//! One remote workspace: its actor, its messages and its results.

mod result;
mod stream;

pub(crate) use result::millis;
pub use result::{CommandResult, FileOperationResult};
pub use stream::OutputStream;
