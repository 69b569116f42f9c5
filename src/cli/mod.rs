//! The command line: flags to a [run](crate::RunSpec), the run's events to text.
//!
//! `args` is what can be asked for, `targets` finds the workspaces, `run` carries a run out, `output` shows its events, and
//! `exit` says what the process exits with. This module is public for the binary alone.

mod agent;
mod app;
mod args;
mod error;
mod exit;
mod interrupt;
mod jobs;
mod local;
mod operation;
mod output;
mod run;
mod targets;

pub use app::main;
pub use exit::{
    COMMAND_FAILED, COMMAND_TIMED_OUT, INTERNAL_ERROR, INTERRUPTED, MAX_FAIL_REACHED, NOTHING_SELECTED, SUCCESS, USAGE,
    WORKSPACE_UNUSABLE,
};
