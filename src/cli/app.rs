use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    agent,
    args::{Cli, Command, OutputArgs, TargetArgs},
    error::CliError,
    exit,
    interrupt::Interrupt,
    local::LocalAgents,
    operation::{self, Prepared},
    output, run, targets,
};

/// Runs the program on the arguments and the environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal can not be told about it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::SUCCESS });
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init();
    let code = carry_out(cli.command).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "wsfleet: {error}");
        error.code
    });
    ExitCode::from(code)
}

fn carry_out(command: Command) -> Result<u8, CliError> {
    raise_file_limit();
    match command {
        Command::Run(args) => {
            let style = output::Style { stream: args.stream, ..style(&args.output, true) };
            fleet(&args.targets, style, args.maxrc, |configs| operation::run(&args, configs))
        }
        Command::Upload(args) => fleet(&args.targets, style(&args.output, false), false, |_| operation::upload(&args)),
        Command::Download(args) => {
            fleet(&args.targets, style(&args.output, false), false, |configs| operation::download(&args, configs))
        }
        Command::Changes(args) => {
            fleet(&args.targets, style(&args.output, false), false, |configs| Ok(operation::changes(&args, configs)))
        }
        Command::Diff(args) => {
            fleet(&args.targets, style(&args.output, false), false, |configs| Ok(operation::diff(&args, configs)))
        }
        Command::Ping(args) => fleet(&args.targets, style(&args.output, false), false, |_| Ok(operation::ping())),
        Command::Info(args) => fleet(&args.targets, style(&args.output, false), false, |_| Ok(operation::info())),
        Command::Agent(args) => agent::serve(args),
    }
}

/// Allows as many open files as this process may have. Each workspace takes some, and the usual 1024 is there for the sake of
/// programs that use select(2).
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::info!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

fn style(args: &OutputArgs, command: bool) -> output::Style {
    output::Style { json: args.json, color: args.color, stream: false, command }
}

/// Carries one operation out on the workspaces that are meant. All that can be wrong with the request is found before
/// anything is sent.
fn fleet(
    args: &TargetArgs,
    style: output::Style,
    largest_remote: bool,
    prepare: impl FnOnce(&mut Vec<crate::WorkspaceConfig>) -> Result<Prepared, CliError>,
) -> Result<u8, CliError> {
    let interrupt = Interrupt::listen()?;
    let mut agents = LocalAgents::default();
    let mut configs = targets::configs(args, &mut agents, &interrupt)?;
    let Prepared { spec } = prepare(&mut configs)?;
    let spec = spec.with_fanout(args.fanout as usize);
    let code = run::carry_out(configs, spec, output::sink(&style), largest_remote, &interrupt);
    agents.stop();
    code
}
