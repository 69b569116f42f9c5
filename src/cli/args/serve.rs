use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{duration::parse_duration, output::parse_size};

/// Of `serve`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ServeArgs {
    /// The address or name to listen on; any but a loopback address needs API keys
    #[arg(long, default_value = "127.0.0.1")]
    pub(in crate::cli) host: String,

    /// The port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 7171)]
    pub(in crate::cli) port: u16,

    /// Where workspaces, commands, runs and their output are kept [default: wsfleet in the XDG state folder]
    ///
    /// It is made where there is none, for this user alone. One service at a time can use it.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) state_dir: Option<PathBuf>,

    /// How many commands may run at once, those of runs left aside; more are refused
    #[arg(long, value_name = "N", default_value = "4096")]
    pub(in crate::cli) max_commands: usize,

    /// How many runs may go on at once; more are refused
    #[arg(long, value_name = "N", default_value = "256")]
    pub(in crate::cli) max_runs: usize,

    /// How long commands and runs that have ended are kept
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    pub(in crate::cli) retention_age: Duration,

    /// How many bytes of output and events are kept, with K, M or G; the oldest that have ended are removed first
    #[arg(long, value_name = "BYTES", default_value = "10G", value_parser = parse_size)]
    pub(in crate::cli) retention_bytes: usize,

    /// Add N workspaces with agent servers of this program, which end with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(in crate::cli) local: Option<u32>,
}
