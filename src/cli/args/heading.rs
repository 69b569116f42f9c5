//! The headings under which `--help` groups the flags, in the order in which it shows them.
//!
//! They are all here so that the flags of all commands share them.
#![allow(dead_code, reason = "each flag names its heading, and not every heading has a flag in every build")]

/// Which workspaces are meant.
pub(in crate::cli) const TARGETS: &str = "Targets";
/// Where the workspaces are known from.
pub(in crate::cli) const INVENTORY: &str = "Inventory";
/// How workspaces are reached.
pub(in crate::cli) const CONNECTION: &str = "Connection";
/// What the command is given.
pub(in crate::cli) const COMMAND: &str = "Command";
/// How many at once, how fast, how long.
pub(in crate::cli) const RUNNING: &str = "Running";
/// What happens when targets fail.
pub(in crate::cli) const FAILURES: &str = "Failures";
/// What is shown.
pub(in crate::cli) const OUTPUT: &str = "Output";
/// What is written to files beside it.
pub(in crate::cli) const REPORTS: &str = "Reports";
/// Where defaults come from.
pub(in crate::cli) const CONFIGURATION: &str = "Configuration";
