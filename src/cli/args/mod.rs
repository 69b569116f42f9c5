//! What can be asked for: the flags, and how their values are read.

mod agent;
mod completion;
mod duration;
pub(super) mod heading;
mod known;
mod operations;
mod output;
mod rate;
mod run;
#[cfg(feature = "service")]
mod serve;
mod targets;
mod values;

use clap::{Parser, Subcommand};

pub(super) use agent::AgentArgs;
pub(super) use completion::CompletionArgs;
pub(super) use duration::parse_duration;
pub(super) use known::{AttachArgs, KnownArgs, StopArgs};
pub(super) use operations::{ChangesArgs, DiffArgs, DownloadArgs, PlainArgs, UploadArgs};
pub(super) use output::{ColorWhen, FollowArgs, OutputArgs, ProgressKind, ResumeArgs};
pub(super) use run::{PolicyArgs, PushArgs, RunArgs};
#[cfg(feature = "service")]
pub(super) use serve::{LogFormat, ServeArgs};
pub(super) use targets::TargetArgs;
pub(super) use values::{HeaderArg, SecretVariable, Variable};

/// Drives many remote workspaces at once. Each is a sandbox that runs an OpenHands agent server.
#[derive(Debug, Parser)]
#[command(name = "wsfleet", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,

    /// The configuration file [default: wsfleet/config.toml in the XDG config folder]
    ///
    /// It holds defaults for options under their long names, as in fanout = 128, and in a table such as [run] for one
    /// command alone. An option on the command line wins over the environment, and that over the file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "WSFLEET_CONFIG",
        hide_env_values = true,
        help_heading = heading::CONFIGURATION
    )]
    pub(super) config: Option<std::path::PathBuf>,

    /// Read no configuration file
    #[arg(long, global = true, help_heading = heading::CONFIGURATION)]
    pub(super) no_config: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a command on workspaces
    ///
    /// The words of COMMAND are joined by spaces, as ssh does, and given to the /bin/sh of each workspace: quote what your
    /// own shell must not touch, as in wsfleet run -a -- 'echo $HOME'.
    ///
    /// Output is printed workspace by workspace as they finish; --stream prints it line by line as it comes. What a command
    /// writes to its stderr goes to stderr here, each line marked with the workspace.
    ///
    /// --retries, --max-fail, --rate and the timeouts say what happens when things go wrong or take long; --jobs works off
    /// a file of jobs, each on a workspace of its own.
    ///
    /// Ctrl-C stops the commands on the workspaces and reports what was gathered; a second one leaves at once.
    #[command(after_help = EXIT_CODES, after_long_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// Follow commands to their end that were started before, as by run --detach
    ///
    /// It does not matter who started them, nor whether they have ended by now: their output is shown from the beginning, or
    /// from --stdout-from and --stderr-from on, in all the ways of wsfleet run, and their exit codes count as there.
    ///
    /// Ctrl-C ends the following and leaves the commands running, unless --stop is given. They may be attached to again, as
    /// long as their servers know them.
    #[command(after_help = EXIT_CODES, after_long_help = ATTACH_HELP)]
    Attach(Box<AttachArgs>),
    /// Stop commands that were started before, with all their processes
    ///
    /// A command that has ended, or that its server does not know, is none to stop, and counts as stopped.
    Stop(Box<StopArgs>),
    /// Copy a local file or directory to workspaces
    Upload(Box<UploadArgs>),
    /// Copy a file or directory of workspaces to here
    ///
    /// {workspace} in DEST becomes the workspace's name, with `_` for each `/` in it. From more than one workspace, DEST
    /// without {workspace} is a directory: the files become DEST/WORKSPACE/NAME, each in a directory of its own.
    Download(Box<DownloadArgs>),
    /// List the changed files of a git repository
    Changes(Box<ChangesArgs>),
    /// Show how a file of a git repository differs
    Diff(Box<DiffArgs>),
    /// Ask whether workspaces answer, and how fast
    Ping(Box<PlainArgs>),
    /// Show which server a workspace runs
    Info(Box<PlainArgs>),
    /// Run an agent server on this machine
    ///
    /// It speaks the API of OpenHands agent servers, prints one line with its address when it is ready, and ends on SIGTERM or
    /// SIGINT, with the commands that it runs. Whoever can reach it and has the key can run commands as you.
    Agent(AgentArgs),
    /// Run the runtime as a service, with an HTTP API and a dashboard
    ///
    /// It prints its address when it is ready and ends on SIGTERM or SIGINT. What runs on the workspaces then runs on, and is
    /// taken up by the next service with the same state directory.
    #[cfg(feature = "service")]
    Serve(Box<ServeArgs>),
    /// Print a script that completes command lines in a shell
    ///
    /// For bash: source <(wsfleet completion bash). For zsh: put the output of wsfleet completion zsh into a file _wsfleet
    /// of a folder in $fpath. For fish: wsfleet completion fish | source.
    Completion(CompletionArgs),
}

impl Command {
    /// Its target options, if it has targets.
    pub(super) fn targets_mut(&mut self) -> Option<&mut TargetArgs> {
        match self {
            Self::Run(args) => Some(&mut args.targets),
            Self::Attach(args) => Some(&mut args.targets),
            Self::Stop(args) => Some(&mut args.targets),
            Self::Upload(args) => Some(&mut args.targets),
            Self::Download(args) => Some(&mut args.targets),
            Self::Changes(args) => Some(&mut args.targets),
            Self::Diff(args) => Some(&mut args.targets),
            Self::Ping(args) | Self::Info(args) => Some(&mut args.targets),
            Self::Agent(_) | Self::Completion(_) => None,
            #[cfg(feature = "service")]
            Self::Serve(_) => None,
        }
    }
}

/// What follows the help of most commands. A macro, so that other texts can hold it.
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0    every target succeeded
  1    internal error
  2    the command line, the inventory or a local file is wrong; nothing was sent
  3    a command ran out of time, or the run did
  4    a workspace could not be used (unreachable, unauthorized, gone, rejected, server_error,
       protocol_error, outcome_unknown)
  5    a command failed or was stopped, or stdout was closed before everything was written (as by
       head)
  6    no workspace was selected
  7    targets were skipped because too many had failed
  130  interrupted
The first that applies decides, in the order 130, 7, 4, 3, 5.

Log messages go to stderr when RUST_LOG asks for them, as in RUST_LOG=workspace_fleet=debug."
    };
}

const EXIT_CODES: &str = exit_codes!();

const RUN_HELP: &str = concat!(
    "\
Examples:
  Try it out on four workspaces of this machine:
    wsfleet run --local 4 -- 'echo hello from $PWD'
  On three workspaces of the inventory wsfleet.toml, at most a minute each:
    wsfleet run -w 'node[1-3]' -u 1m -- make test
  On all with a label but one, 200 at a time, as JSON Lines:
    wsfleet run -l tier=gpu -x node7 -f 200 --json -- nvidia-smi -L
  See first where it would run:
    wsfleet run -l tier=gpu --dry-run -- nvidia-smi -L
  On agent servers by their addresses, the session key in $KEY:
    wsfleet run -w 'http://10.0.0.[1-50]:8000' --api-key-env KEY -- uptime

",
    exit_codes!()
);

const ATTACH_HELP: &str = concat!(
    "\
Examples:
  Start a build on all workspaces, and look at it later:
    wsfleet run -a --detach -- make all > builds
    wsfleet attach --from builds
  Follow the build of one of them live, and only what it writes from here on to stdout:
    wsfleet attach node1 0f8fad5bd9cb469fa16570867728950e --stream --stdout-from 120433
  Stop it:
    wsfleet stop node1 0f8fad5bd9cb469fa16570867728950e

",
    exit_codes!()
);

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_words_of_a_command_need_no_dashes_before_them() {
        for line in [&["wsfleet", "run", "-w", "a", "ls", "-l"][..], &["wsfleet", "run", "-w", "a", "--", "ls", "-l"]] {
            let Command::Run(run) = Cli::try_parse_from(line).unwrap().command else { panic!() };
            assert_eq!(run.words, ["ls", "-l"]);
        }
    }
}
