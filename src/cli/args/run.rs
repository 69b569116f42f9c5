use std::time::Duration;

use clap::Args;

use super::{OutputArgs, SecretVariable, TargetArgs, Variable, duration::parse_duration, heading};

/// Of `run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// The command and its arguments
    #[arg(required_unless_present = "list_targets", trailing_var_arg = true, value_name = "COMMAND")]
    pub(in crate::cli) words: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,

    /// Print output as it comes, each line marked with its workspace
    #[arg(long, help_heading = heading::OUTPUT)]
    pub(in crate::cli) stream: bool,

    /// The directory to run in [default: the workspace's own]
    #[arg(long, value_name = "DIR", help_heading = heading::COMMAND)]
    pub(in crate::cli) cwd: Option<String>,

    /// How long the command may take, as in 0.5, 30s, 1.5m or 2h [default: no bound]
    #[arg(
        short = 'u',
        long,
        value_name = "TIME",
        env = "WSFLEET_COMMAND_TIMEOUT",
        hide_env_values = true,
        value_parser = parse_duration,
        allow_hyphen_values = true,
        help_heading = heading::COMMAND
    )]
    pub(in crate::cli) command_timeout: Option<Duration>,

    /// A variable for the command; {workspace} in its value becomes the workspace's name
    #[arg(short = 'e', long = "env", value_name = "KEY=VALUE", help_heading = heading::COMMAND)]
    pub(in crate::cli) env: Vec<Variable>,

    /// A secret variable for the command, its value taken from your environment (from VARIABLE, or from KEY itself)
    ///
    /// It appears neither in the command's text nor in a process list.
    #[arg(long, value_name = "KEY[=VARIABLE]", help_heading = heading::COMMAND)]
    pub(in crate::cli) secret_env: Vec<SecretVariable>,

    /// Give what is piped into this program to the command of every workspace, at most 64 MiB
    #[arg(long, help_heading = heading::COMMAND)]
    pub(in crate::cli) stdin: bool,

    /// Exit with the largest exit code of the commands, where a signal N counts as 128+N
    #[arg(short = 'S', long, help_heading = heading::COMMAND)]
    pub(in crate::cli) maxrc: bool,
}
