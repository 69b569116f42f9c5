use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    FollowArgs, OutputArgs, ResumeArgs, SecretVariable, TargetArgs, Variable, duration::parse_duration, heading,
    rate::parse_rate,
};
use crate::{
    Push,
    fleet::{LabelCap, MaxFail},
    protocol::TraceParent,
};

/// Of `run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// The command and its arguments
    #[arg(
        required_unless_present_any = ["jobs", "retry_failed", "list_targets"],
        trailing_var_arg = true,
        value_name = "COMMAND"
    )]
    pub(in crate::cli) words: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) targets: TargetArgs,

    #[command(flatten)]
    pub(in crate::cli) output: OutputArgs,

    #[command(flatten)]
    pub(in crate::cli) policy: PolicyArgs,

    #[command(flatten)]
    pub(in crate::cli) follow: FollowArgs,

    #[command(flatten)]
    pub(in crate::cli) resume: ResumeArgs,

    /// Start the command, leave it running, and print its id
    ///
    /// For each workspace a line is printed with its name, a tab and the id of its command, which wsfleet attach --from and
    /// wsfleet stop --from read. The exit code is 0 when the command was started on all of them. With -u it is the agent server
    /// that ends the command when its time is up; -e, --secret-env and --stdin are as ever.
    #[arg(
        long,
        conflicts_with_all = [
            "jobs", "local", "stream", "fold", "maxrc", "resume", "resume_failed", "retry_failed"
        ],
        help_heading = heading::COMMAND
    )]
    pub(in crate::cli) detach: bool,

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

    /// The trace that the run belongs to, as a W3C traceparent: sent with every request, and on every event
    #[arg(long, value_name = "TRACEPARENT", env = "TRACEPARENT", hide_env_values = true, help_heading = heading::COMMAND)]
    pub(in crate::cli) traceparent: Option<TraceParent>,

    /// A tag of yours for the run: sent with every request as W3C baggage, and on every event
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_tag, help_heading = heading::COMMAND)]
    pub(in crate::cli) trace_tag: Vec<(String, String)>,

    /// Exit with the largest exit code of the commands, where a signal N counts as 128+N
    #[arg(short = 'S', long, help_heading = heading::COMMAND)]
    pub(in crate::cli) maxrc: bool,

    /// Work off the jobs of a file in place of COMMAND: a JSON object a line, `-` reads stdin
    ///
    /// Each job gets one of the workspaces for itself, for as long as it takes. All lines are checked before anything is sent.
    /// A line has these keys, all but `steps` optional:
    ///   {"name": "t1", "workspace": "w1", "selector": {"tier": "gpu"}, "env": {"A": "b"}, "timeout": "10m",
    ///    "steps": [{"upload": {"from": "t1.tar", "to": "/tmp/t.tar"}}, {"run": "make test", "timeout": "5m"}],
    ///    "finally": [{"download": {"from": "/tmp/log", "to": "logs/{job}"}}]}
    /// `finally` steps are carried out whatever happened before. docs/fleet.md describes the file.
    #[arg(
        long,
        value_name = "FILE",
        verbatim_doc_comment,
        conflicts_with_all = ["words", "stdin"],
        help_heading = heading::JOBS
    )]
    pub(in crate::cli) jobs: Option<PathBuf>,

    /// Carry a job out again on another workspace when its own is lost in the middle
    ///
    /// Only jobs that name no workspace move. What such a job had done on the lost workspace is done a second time.
    #[arg(long, requires = "jobs", help_heading = heading::JOBS)]
    pub(in crate::cli) move_lost_jobs: bool,
}

/// How fast a run goes, and when it gives up.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::PACE)]
pub(in crate::cli) struct PolicyArgs {
    /// How many workspaces are begun with in a second (N/s), a minute (N/m) or an hour (N/h) at most
    ///
    /// As in --rate 5/s or --rate 30/m. It holds beside -f: that bounds how many run at once. [default: no bound]
    #[arg(long, value_name = "N/s", env = "WSFLEET_RATE", hide_env_values = true, value_parser = parse_rate)]
    pub(in crate::cli) rate: Option<f64>,

    /// How many workspaces behind the same host and port are worked on at once [default: no bound]
    ///
    /// Use it when many workspaces share one gateway, as in --per-host 8.
    #[arg(
        long,
        value_name = "N",
        env = "WSFLEET_PER_HOST",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(in crate::cli) per_host: Option<u32>,

    /// How many workspaces with the same value of a label are worked on at once, as in zone=4 [default: no bound]
    ///
    /// With --per-label zone=4 at most four of zone=a and four of zone=b run at a time. Workspaces without the label are not
    /// bound.
    #[arg(long, value_name = "LABEL=N", env = "WSFLEET_PER_LABEL", hide_env_values = true)]
    pub(in crate::cli) per_label: Option<LabelCap>,

    /// How long each try at a workspace may take, as in 30s or 10m [default: no bound]
    ///
    /// -u bounds one command; this bounds everything that is done on a workspace, but the `finally` steps of a job. What is
    /// running then is stopped and keeps its output; the workspace counts as timed out.
    #[arg(
        long,
        value_name = "TIME",
        env = "WSFLEET_TARGET_TIMEOUT",
        hide_env_values = true,
        value_parser = parse_duration,
        allow_hyphen_values = true
    )]
    pub(in crate::cli) target_timeout: Option<Duration>,

    /// How long the whole run may take, as in 30m or 2h [default: no bound]
    ///
    /// Then what runs is stopped, what waits is skipped, and the exit code is 3.
    #[arg(
        long,
        value_name = "TIME",
        env = "WSFLEET_GLOBAL_TIMEOUT",
        hide_env_values = true,
        value_parser = parse_duration,
        allow_hyphen_values = true
    )]
    pub(in crate::cli) global_timeout: Option<Duration>,

    /// End the run when so many have failed, as in 10, 5% or 10:immediate [default: never]
    ///
    /// Everything but success counts, unreachable workspaces too. With :wait, the default, what runs goes on to its end; with
    /// :immediate it is stopped. What waits is skipped, and the exit code is 7.
    #[arg(long, value_name = "N|N%[:wait|:immediate]", env = "WSFLEET_MAX_FAIL", hide_env_values = true)]
    pub(in crate::cli) max_fail: Option<MaxFail>,

    /// How often a command that failed or ran out of time is run again [default: 0]
    ///
    /// --retries 2 means up to three tries. A success after a failure counts as one, and is called flaky.
    #[arg(
        long,
        value_name = "N",
        env = "WSFLEET_RETRIES",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(..=1000)
    )]
    pub(in crate::cli) retries: Option<u32>,

    /// How often to try again when a workspace could not be used and nothing was done there [default: 0]
    ///
    /// It never runs a command twice: a command that may have started is not tried again. Only the `finally` steps of a job
    /// belong to each try, and may run once more. There is a pause before each try, twice as long each time.
    #[arg(
        long,
        value_name = "N",
        env = "WSFLEET_TRANSPORT_RETRIES",
        hide_env_values = true,
        value_parser = clap::value_parser!(u32).range(..=1000)
    )]
    pub(in crate::cli) transport_retries: Option<u32>,

    /// Name the workspaces that still run after this time, as in 1m [default: never]
    #[arg(
        long,
        value_name = "TIME",
        env = "WSFLEET_SLOW_AFTER",
        hide_env_values = true,
        value_parser = parse_duration,
        allow_hyphen_values = true
    )]
    pub(in crate::cli) slow_after: Option<Duration>,

    #[command(flatten)]
    pub(in crate::cli) push: PushArgs,
}

/// How output comes.
#[derive(Debug, Args)]
#[command(next_help_heading = heading::PACE)]
pub(in crate::cli) struct PushArgs {
    /// Whether servers push the output of commands that run for long, over their event socket
    ///
    /// `always` is safe with OpenHands agent servers as long as wsfleet is not stopped by SIGSTOP: that freezes their commands.
    /// Ctrl-Z closes the sockets first.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", env = "WSFLEET_PUSH", hide_env_values = true)]
    pub(in crate::cli) push: PushWhen,
}

/// On which servers output is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum PushWhen {
    /// Where the server announces that it pushes output as it comes
    #[default]
    Auto,
    /// Always
    Always,
    /// Never: output is searched for
    Never,
}

impl From<PushWhen> for Push {
    fn from(when: PushWhen) -> Self {
        match when {
            PushWhen::Auto => Self::Auto,
            PushWhen::Always => Self::Always,
            PushWhen::Never => Self::Never,
        }
    }
}

/// `KEY=VALUE` of `--trace-tag`.
fn parse_tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
