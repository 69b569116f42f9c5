//! What people see of a run while it goes on.

mod board;
mod watch;

pub(in crate::cli) use watch::{Progress, Watch};
