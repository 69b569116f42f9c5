//! What can be asked for: the flags, and how their values are read.

mod agent;
mod duration;
pub(super) mod heading;
mod operations;
mod output;
mod run;
mod targets;
mod values;

use clap::{Parser, Subcommand};

pub(super) use agent::AgentArgs;
pub(super) use operations::{ChangesArgs, DiffArgs, DownloadArgs, PlainArgs, UploadArgs};
pub(super) use output::{ColorWhen, OutputArgs};
pub(super) use run::RunArgs;
pub(super) use targets::TargetArgs;
pub(super) use values::{HeaderArg, SecretVariable, Variable};

/// Drives many remote workspaces at once. Each is a sandbox that runs an OpenHands agent server.
#[derive(Debug, Parser)]
#[command(name = "wsfleet", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
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
    /// Ctrl-C stops the commands on the workspaces and reports what was gathered; a second one leaves at once.
    #[command(after_help = EXIT_CODES)]
    Run(Box<RunArgs>),
    /// Copy a local file to workspaces
    Upload(Box<UploadArgs>),
    /// Copy a file of workspaces to here
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
}

const EXIT_CODES: &str = "\
Exit codes:
  0    every target succeeded
  1    internal error
  2    the command line, the inventory or a local file is wrong; nothing was sent
  3    a command ran out of time
  4    a workspace could not be used (unreachable, unauthorized, gone, rejected, server_error,
       protocol_error, outcome_unknown)
  5    a command failed or was stopped, also because stdout was closed (as by head)
  6    no workspace was selected
  7    targets were skipped because too many had failed
  130  interrupted
The first that applies decides, in the order 130, 7, 4, 3, 5.

Log messages go to stderr when RUST_LOG asks for them, as in RUST_LOG=workspace_fleet=debug.";

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
