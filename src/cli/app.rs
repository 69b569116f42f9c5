use std::{io::Write as _, process::ExitCode};

use super::{
    agent,
    args::{Command, OutputArgs, TargetArgs},
    completion,
    config::{self, Stop},
    error::CliError,
    exit,
    interrupt::Interrupt,
    local::LocalAgents,
    operation::{self, Prepared},
    output, plan, run, targets, window,
};
use crate::fleet::raise_open_file_limit;

/// Runs the program on the arguments and the environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match config::parse(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(Stop::Configuration(error)) => {
            let _ = writeln!(std::io::stderr(), "wsfleet: {error}");
            return ExitCode::from(error.code);
        }
        Err(Stop::CommandLine(error)) => {
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
    raise_open_file_limit();
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
        Command::Completion(args) => Ok(completion::print(&args)),
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
    if args.list_targets {
        return plan::list(&configs, style.json);
    }
    let Prepared { operation, stream } = prepare(&mut configs)?;
    let fanout = window::fit(args.fanout as usize, configs.len(), args.local.is_some())?;
    let spec = crate::RunSpec::new(crate::Selector::all(), operation).with_fanout(fanout).with_stream_output(stream);
    if args.dry_run {
        return plan::show(&configs, &spec, style.json);
    }
    let code = run::carry_out(configs, spec, output::sink(&style), largest_remote, &interrupt);
    agents.stop();
    code
}
