use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::service::HostPattern;

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
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = at_least_one, help_heading = LIMITS)]
    pub(in crate::cli) max_commands: usize,

    /// How many runs may go on at once; more are refused
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_least_one, help_heading = LIMITS)]
    pub(in crate::cli) max_runs: usize,

    /// How long commands and runs that have ended are kept
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    pub(in crate::cli) retention_age: Duration,

    /// How many bytes of the log of a command or run are kept, with K, M or G; what is written after that is left out
    ///
    /// The command runs on, and its result says `truncated`. Of a run it is output that is left out; how its targets end is not.
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = parse_size, help_heading = LIMITS)]
    pub(in crate::cli) max_log: usize,

    /// How many bytes of commands and runs are kept, with K, M or G; the oldest that have ended are removed first
    ///
    /// Their records, output and events are counted. Space in the file of the records is used again, and given back at the next
    /// start where much of it is empty.
    #[arg(long, value_name = "BYTES", default_value = "10G", value_parser = parse_size)]
    pub(in crate::cli) retention_bytes: usize,

    /// Add N workspaces with agent servers of this program, which end with it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(in crate::cli) local: Option<u32>,

    /// Ask for one of the keys of this file: one a line, as NAME:ACCESS:KEY, with read-only or full as ACCESS
    ///
    /// WSFLEET_SERVICE_KEYS may hold such lines as well. A key has 16 or more visible characters. It is sent as
    /// Authorization: Bearer KEY or as X-Session-API-Key: KEY.
    #[arg(long, value_name = "FILE", help_heading = SECURITY)]
    pub(in crate::cli) api_key_file: Option<PathBuf>,

    /// Serve over TLS with the certificate of this PEM file, and those between it and its authority
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = SECURITY)]
    pub(in crate::cli) tls_cert: Option<PathBuf>,

    /// The certificate's private key, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = SECURITY)]
    pub(in crate::cli) tls_key: Option<PathBuf>,

    /// Let workspaces that are added be at these hosts alone, as HOST or HOST:PORT with * for any text; may be repeated
    ///
    /// Without it they may be anywhere but at link-local addresses, where clouds tell their machines' secrets.
    #[arg(long, value_name = "HOST", help_heading = SECURITY)]
    pub(in crate::cli) allow_host: Vec<HostPattern>,

    #[allow(rustdoc::bare_urls, reason = "it is shown as it is")]
    /// Let pages of this origin use the service, as in https://fleet.example; may be repeated, * is any
    #[arg(long, value_name = "ORIGIN", help_heading = SECURITY)]
    pub(in crate::cli) allow_origin: Vec<String>,

    /// Another name by which a service on a loopback address is reached, such as that of a proxy; may be repeated
    #[arg(long, value_name = "NAME", help_heading = SECURITY)]
    pub(in crate::cli) server_name: Vec<String>,

    /// Take so many requests a second of one key on average, and as many at once; 0 is no bound
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = LIMITS)]
    pub(in crate::cli) rate_limit: u32,

    /// Let so many connections be open at once
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one, help_heading = LIMITS)]
    pub(in crate::cli) max_connections: usize,

    /// Go on so long after SIGTERM, with /ready answering 503, before no further request is taken [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = LIMITS)]
    pub(in crate::cli) drain_delay: Option<Duration>,

    /// Give requests that go on so long to end then
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration, help_heading = LIMITS)]
    pub(in crate::cli) drain_timeout: Duration,

    /// How log messages are written to stderr
    ///
    /// What is written says RUST_LOG; without it, warnings and what commands are started. RUST_LOG=info shows each request.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(in crate::cli) log_format: LogFormat,
}

/// How log messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    /// As lines for people
    Text,
    /// As JSON Lines
    Json,
}

const SECURITY: &str = "Security";
const LIMITS: &str = "Limits";

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it is 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
