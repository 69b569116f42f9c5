use std::path::PathBuf;

use clap::Args;

use super::{FollowArgs, OutputArgs, PushArgs, TargetArgs, heading};

/// Which commands are meant that were started before.
#[derive(Debug, Args)]
pub(in crate::cli) struct KnownArgs {
    /// The workspace, by name or URL, and the id of its command
    #[arg(
        value_names = ["TARGET", "ID"],
        num_args = 2,
        required_unless_present_any = ["from", "list_targets"],
        conflicts_with_all = ["workspaces", "hostfile", "all", "labels", "local", "pick", "exclude"]
    )]
    pub(in crate::cli) command: Vec<String>,

    /// Commands from a file: what run --detach has printed, or its JSON Lines; `-` reads stdin
    ///
    /// A line is a workspace's name, a tab or spaces, and the id of its command; `#` begins a comment. Of JSON Lines those
    /// count in which a command is started. The names are looked up in the inventory, unless -w, -a and the like say which
    /// workspaces are meant: then lines of others are left aside. A workspace given by URL has to be given by -w again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "local", "pick"])]
    pub(in crate::cli) from: Option<PathBuf>,
}

/// Of `attach`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AttachArgs {
    #[command(flatten)]
    pub(in crate::cli) known: KnownArgs,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,

    #[command(flatten)]
    pub(in crate::cli) follow: FollowArgs,

    #[command(flatten)]
    pub(in crate::cli) push: PushArgs,

    /// From which byte of its stdout on a command is followed: what comes before is left out
    ///
    /// The `stdout_bytes` and `stderr_bytes` of --json count from the beginning of the command: they are the positions to go
    /// on from.
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = heading::COMMAND)]
    pub(in crate::cli) stdout_from: u64,

    /// The same of its stderr
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = heading::COMMAND)]
    pub(in crate::cli) stderr_from: u64,

    /// Stop the commands on Ctrl-C, in place of leaving them running
    #[arg(long, help_heading = heading::COMMAND)]
    pub(in crate::cli) stop: bool,

    /// Exit with the largest exit code of the commands, where a signal N counts as 128+N
    #[arg(short = 'S', long, help_heading = heading::COMMAND)]
    pub(in crate::cli) maxrc: bool,
}

/// Of `stop`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StopArgs {
    #[command(flatten)]
    pub(in crate::cli) known: KnownArgs,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,
}
