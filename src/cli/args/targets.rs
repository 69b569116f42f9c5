use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{HeaderArg, duration::parse_duration};
use crate::inventory::LabelFilter;

/// The most agents of `--local`: each takes a thread and a port of this machine.
const MAX_LOCAL: u32 = 256;

/// Which workspaces are meant, and how they are reached.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = super::heading::TARGETS)]
pub(in crate::cli) struct TargetArgs {
    /// Workspaces by name or URL, with commas between them
    ///
    /// A name is looked up in the inventory. A workspace given by its URL is named by host, port and path, as in
    /// gateway:443/s/abc. The option can be given more than once.
    #[arg(short = 'w', long = "workspaces", value_name = "NAME|URL,...")]
    pub(in crate::cli) workspaces: Vec<String>,

    /// Workspaces from a file: a name or a URL a line, `#` begins a comment, `-` reads stdin
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) hostfile: Vec<PathBuf>,

    /// All workspaces of the inventory
    #[arg(short = 'a', long)]
    pub(in crate::cli) all: bool,

    /// The workspaces of the inventory with this label; given more than once, with all of them
    ///
    /// Workspaces given by -w or --hostfile are added to these.
    #[arg(short = 'l', long = "label", value_name = "LABEL=VALUE")]
    pub(in crate::cli) labels: Vec<LabelFilter>,

    /// N agent servers within this process, each with an empty directory of its own, for trying things out
    ///
    /// They are named local-1, local-2 and so on. The directories are temporary and are removed at the end. At most 256.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LOCAL)),
        conflicts_with_all = ["workspaces", "hostfile", "all", "labels", "headers"]
    )]
    pub(in crate::cli) local: Option<u32>,

    /// The inventory [default: wsfleet.toml here, or else wsfleet/wsfleet.toml in the XDG config folder]
    #[arg(long, value_name = "FILE", env = "WSFLEET_INVENTORY", hide_env_values = true)]
    pub(in crate::cli) inventory: Option<PathBuf>,

    /// The environment variable with the session key, for workspaces given by URL
    #[arg(long, value_name = "VARIABLE", env = "WSFLEET_API_KEY_ENV", hide_env_values = true)]
    pub(in crate::cli) api_key_env: Option<String>,

    /// A header in each request, for workspaces given by URL, as in 'X-Team: blue'
    ///
    /// Other users of this machine can see the command line: a secret header belongs into the inventory.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(in crate::cli) headers: Vec<HeaderArg>,

    /// The certificate authorities to trust in place of the system's, a PEM file, for workspaces given by URL
    #[arg(long, value_name = "FILE", env = "WSFLEET_CA_FILE", hide_env_values = true)]
    pub(in crate::cli) ca_file: Option<PathBuf>,

    /// How long a connection may take, as in 5, 500ms or 1m [default: 10s]
    #[arg(
        short = 't',
        long,
        value_name = "TIME",
        env = "WSFLEET_CONNECT_TIMEOUT",
        hide_env_values = true,
        value_parser = parse_duration,
        allow_hyphen_values = true
    )]
    pub(in crate::cli) connect_timeout: Option<Duration>,

    /// How many workspaces are worked on at once
    #[arg(
        short = 'f',
        long,
        value_name = "N",
        default_value_t = 64,
        env = "WSFLEET_FANOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(in crate::cli) fanout: u32,
}

impl TargetArgs {
    /// Whether any option says which workspaces are meant.
    pub(in crate::cli) fn any(&self) -> bool {
        self.all
            || self.local.is_some()
            || !(self.workspaces.is_empty() && self.hostfile.is_empty() && self.labels.is_empty())
    }
}
