use std::path::PathBuf;

use clap::Args;

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

    /// Add N workspaces with agent servers of this program, which end with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(in crate::cli) local: Option<u32>,
}
