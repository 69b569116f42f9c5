//! The headings under which `--help` groups the flags, in the order in which it shows them.
//!
//! They are all here so that the flags of all commands share them.

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
/// How fast a run goes, and when it gives up.
pub(in crate::cli) const PACE: &str = "Pace and limits";
/// What is worked off in place of one command.
pub(in crate::cli) const JOBS: &str = "Jobs";
/// What is shown.
pub(in crate::cli) const OUTPUT: &str = "Output";
/// What is left of a run that was carried out before.
pub(in crate::cli) const RESUMING: &str = "Resuming";
/// Where defaults come from.
pub(in crate::cli) const CONFIGURATION: &str = "Configuration";
