use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::Args;

use super::{
    HeaderArg,
    duration::{parse_duration, parse_duration_or_zero},
    heading,
};
use crate::inventory::LabelFilter;

/// The most agents of `--local`: each takes a thread and a port of this machine.
const MAX_LOCAL: u32 = 256;

/// Which workspaces are meant, and how they are reached.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = heading::TARGETS)]
pub(in crate::cli) struct TargetArgs {
    /// Workspaces by name or URL, with commas between them; `-` reads them from stdin
    ///
    /// A name is looked up in the inventory. node[1-20,35] names several, with zeros before the numbers as in n[01-10]; any
    /// text is matched by *, any character by ?. Quote patterns, so that your shell leaves them alone. A workspace given by
    /// its URL is named by host, port and path, as in gateway:443/s/abc; a URL may have ranges too. The option can be given
    /// more than once.
    #[arg(short = 'w', long = "workspaces", value_name = "NAME|URL,...")]
    pub(in crate::cli) workspaces: Vec<String>,

    /// Workspaces from a file: a name, a pattern or a URL a line, `#` begins a comment, `-` reads stdin
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) hostfile: Vec<PathBuf>,

    /// All workspaces of the inventory
    #[arg(short = 'a', long)]
    pub(in crate::cli) all: bool,

    /// The workspaces of the inventory with this label; given more than once, with all of them
    ///
    /// LABEL!=VALUE picks those with another value or none, LABEL alone those that have the label. Workspaces given by -w or
    /// --hostfile are added to these.
    #[arg(short = 'l', long = "label", value_name = "LABEL[=VALUE]")]
    pub(in crate::cli) labels: Vec<LabelFilter>,

    /// But not these workspaces, written as for -w
    #[arg(short = 'x', long, value_name = "NAME|URL,...")]
    pub(in crate::cli) exclude: Vec<String>,

    /// Of these only N, picked at random
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) pick: Option<u32>,

    /// N agent servers within this process, each with an empty directory of its own, for trying things out
    ///
    /// They are named local-1, local-2 and so on. The directories are temporary and are removed at the end. At most 256.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LOCAL)),
        conflicts_with_all = ["workspaces", "hostfile", "all", "labels", "headers", "pick"]
    )]
    pub(in crate::cli) local: Option<u32>,

    /// Print the targets and do nothing: one a line, or objects with --json
    #[arg(long, conflicts_with = "dry_run")]
    pub(in crate::cli) list_targets: bool,

    /// Print what would be done on each target and do nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,

    /// The inventory: a TOML or JSON file, a program that prints one, or `-` for stdin [default: wsfleet.toml here, or else
    /// wsfleet/wsfleet.toml in the XDG config folder]
    ///
    /// A file that can be executed, and whose name does not end in .toml or .json, is a program.
    #[arg(long, value_name = "FILE", env = "WSFLEET_INVENTORY", hide_env_values = true, help_heading = heading::INVENTORY)]
    pub(in crate::cli) inventory: Option<PathBuf>,

    /// A command line that prints the inventory, as JSON or TOML, in place of a file
    #[arg(
        long,
        value_name = "COMMAND",
        env = "WSFLEET_INVENTORY_PROGRAM",
        hide_env_values = true,
        help_heading = heading::INVENTORY
    )]
    pub(in crate::cli) inventory_program: Option<String>,

    /// How long an inventory program may take
    #[arg(
        long,
        value_name = "TIME",
        env = "WSFLEET_INVENTORY_TIMEOUT",
        hide_env_values = true,
        default_value = "30s",
        value_parser = parse_duration,
        allow_hyphen_values = true,
        help_heading = heading::INVENTORY
    )]
    pub(in crate::cli) inventory_timeout: Duration,

    /// A service of `wsfleet serve`, in place of an inventory: its workspaces are meant, and are reached through it
    ///
    /// Names, patterns and labels pick from what it has. It follows updates of their addresses, and knows their keys.
    #[arg(long, value_name = "URL", env = "WSFLEET_SERVICE", hide_env_values = true, help_heading = heading::INVENTORY)]
    pub(in crate::cli) service: Option<String>,

    /// The environment variable with a key of the service, where it wants one
    #[arg(
        long,
        value_name = "VARIABLE",
        env = "WSFLEET_SERVICE_KEY_ENV",
        hide_env_values = true,
        default_value = "WSFLEET_SERVICE_KEY",
        help_heading = heading::INVENTORY
    )]
    pub(in crate::cli) service_key_env: String,

    /// The environment variable with the session key, for workspaces given by URL
    #[arg(
        long,
        value_name = "VARIABLE",
        env = "WSFLEET_API_KEY_ENV",
        hide_env_values = true,
        help_heading = heading::CONNECTION
    )]
    pub(in crate::cli) api_key_env: Option<String>,

    /// A header in each request, for workspaces given by URL, as in 'X-Team: blue'
    ///
    /// Other users of this machine can see the command line: a secret header belongs into the inventory.
    #[arg(long = "header", value_name = "NAME: VALUE", help_heading = heading::CONNECTION)]
    pub(in crate::cli) headers: Vec<HeaderArg>,

    /// The certificate authorities to trust in place of the system's, a PEM file, for workspaces given by URL and the service
    #[arg(long, value_name = "FILE", env = "WSFLEET_CA_FILE", hide_env_values = true, help_heading = heading::CONNECTION)]
    pub(in crate::cli) ca_file: Option<PathBuf>,

    /// How long a connection may take, as in 5, 500ms or 1m [default: 10s]
    #[arg(
        short = 't',
        long,
        value_name = "TIME",
        env = "WSFLEET_CONNECT_TIMEOUT",
        hide_env_values = true,
        value_parser = parse_duration,
        allow_hyphen_values = true,
        help_heading = heading::CONNECTION
    )]
    pub(in crate::cli) connect_timeout: Option<Duration>,

    /// For how long requests that do no harm when they are repeated are tried again after failures that may pass, as in 2m;
    /// 0 for never [default: 30s]
    ///
    /// Reads, git queries, transfers and stops are repeated so, a transfer for as long since it last got on. A start is sent
    /// again only when it is known that its command does not run; --transport-retries tries whole targets again.
    #[arg(
        long,
        value_name = "TIME",
        env = "WSFLEET_RETRY_FOR",
        hide_env_values = true,
        value_parser = parse_duration_or_zero,
        allow_hyphen_values = true,
        help_heading = heading::CONNECTION
    )]
    pub(in crate::cli) retry_for: Option<Duration>,

    /// How many workspaces are worked on at once; fewer when the limit of open files has no room for so many
    #[arg(
        short = 'f',
        long,
        value_name = "N",
        default_value_t = 64,
        env = "WSFLEET_FANOUT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        help_heading = heading::RUNNING
    )]
    pub(in crate::cli) fanout: u32,

    /// Which options the command line gives itself, by their ids; the others come from the environment, from the
    /// configuration file or from here.
    #[arg(skip)]
    pub(in crate::cli) given: BTreeSet<String>,
}

impl TargetArgs {
    /// Whether any option says which workspaces are meant.
    pub(in crate::cli) fn any(&self) -> bool {
        self.all
            || self.local.is_some()
            || !(self.workspaces.is_empty() && self.hostfile.is_empty() && self.labels.is_empty())
    }

    /// The options that read stdin, each once for each time that it does.
    pub(in crate::cli) fn reading_stdin(&self) -> Vec<&'static str> {
        let is_stdin = |file: &&PathBuf| file.as_os_str() == "-";
        let workspaces = self.workspaces.iter().filter(|list| list.trim() == "-").map(|_| "-w -");
        let hostfiles = self.hostfile.iter().filter(is_stdin).map(|_| "--hostfile -");
        let inventory = self.inventory.iter().filter(is_stdin).map(|_| "--inventory -");
        workspaces.chain(hostfiles).chain(inventory).collect()
    }
}
