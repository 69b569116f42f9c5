//! The command line: flags to a [run](crate::RunSpec), the run's events to text.
//!
//! `args` is what can be asked for, `targets` finds the workspaces, `run` carries a run out, `output` shows its events, and
//! `exit` says what the process exits with. `config` reads the command line, with the defaults of the
//! configuration file; `plan` shows what would be done; `window` keeps within the limit of open files. This module is public for the binary alone.

mod agent;
mod allocator;
mod app;
mod args;
mod completion;
mod config;
mod error;
mod exit;
mod interrupt;
mod jobs;
mod known;
mod local;
mod operation;
mod output;
mod plan;
mod run;
#[cfg(feature = "service")]
mod serve;
mod service;
mod targets;
mod window;

pub use allocator::give_memory_back_soon;
pub use app::main;
pub use exit::{
    COMMAND_FAILED, COMMAND_TIMED_OUT, INTERNAL_ERROR, INTERRUPTED, MAX_FAIL_REACHED, NOTHING_SELECTED, SUCCESS, USAGE,
    WORKSPACE_UNUSABLE,
};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use jobs::read_lines as read_job_lines;
#[cfg(any(test, feature = "hot-paths"))]
pub(crate) use output::JsonLineWriter;
