use std::{io::Write as _, process::ExitCode};

use clap::{
    CommandFactory as _,
    error::{ContextKind, ContextValue},
};

use super::{
    agent,
    allocator::give_memory_back_soon,
    args::{AttachArgs, Cli, Command, OutputArgs, ProgressKind, ResumeArgs, RunArgs, StopArgs, TargetArgs},
    completion,
    config::{self, Stop},
    error::CliError,
    exit,
    interrupt::Interrupt,
    known,
    local::LocalAgents,
    operation::{self, Prepared},
    output, plan, run, targets, window,
};
use crate::{
    RunSpec, WorkspaceConfig,
    fleet::{Work, raise_open_file_limit},
};

/// Runs the program on the arguments and the environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    give_memory_back_soon();
    let args: Vec<_> = std::env::args_os().collect();
    if let [_, only] = &args[..]
        && (only == "--version" || only == "-V")
    {
        return tell_version();
    }
    let cli = match config::parse(&args) {
        Ok(cli) => cli,
        Err(Stop::Configuration(error)) => {
            let _ = writeln!(std::io::stderr(), "wsfleet: {error}");
            return ExitCode::from(error.code);
        }
        Err(Stop::CommandLine(error)) => {
            // A closed terminal can not be told about it.
            let _ = error.print();
            if let Some(variable) = variable_of(&error) {
                let _ = writeln!(std::io::stderr(), "\nThe value is that of the environment variable {variable}.");
            }
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::SUCCESS });
        }
    };
    match &cli.command {
        #[cfg(feature = "service")]
        Command::Serve(args) => super::serve::log(args.log_format),
        _ => env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off")).init(),
    }
    let code = carry_out(cli.command).unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "wsfleet: {error}");
        error.code
    });
    ExitCode::from(code)
}

/// Tells the version as clap does. To make all commands with their options first takes longer than everything else in it.
fn tell_version() -> ExitCode {
    let version = clap::Command::new("wsfleet").version(env!("CARGO_PKG_VERSION")).render_version();
    // A closed terminal can not be told.
    let _ = std::io::stdout().write_all(version.as_bytes());
    ExitCode::from(exit::SUCCESS)
}

/// The environment variable that a wrong value comes from: of that there is nothing to see on the command line.
fn variable_of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidArg) else { return None };
    let mut program = Cli::command();
    program.build();
    let of_all = program.get_arguments().chain(program.get_subcommands().flat_map(clap::Command::get_arguments));
    let option = of_all.into_iter().find(|option| option.to_string() == *wrong)?;
    let variable = option.get_env()?.to_str()?;
    let short = option.get_short().map(|short| format!("-{short}"));
    let given = std::env::args_os().filter_map(|word| word.into_string().ok()).any(|word| {
        let long = option.get_long().and_then(|long| word.strip_prefix("--")?.strip_prefix(long));
        long.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            || short.as_ref().is_some_and(|short| word.starts_with(short))
    });
    (!given && std::env::var_os(variable).is_some()).then(|| variable.to_owned())
}

fn carry_out(command: Command) -> Result<u8, CliError> {
    raise_open_file_limit();
    match command {
        Command::Run(args) => run_command(*args),
        Command::Attach(args) => attach(*args),
        Command::Stop(args) => stop(*args),
        Command::Upload(args) => fleet(&args.targets, &args.output, |_| operation::upload(&args)),
        Command::Download(args) => fleet(&args.targets, &args.output, |configs| operation::download(&args, configs)),
        Command::Changes(args) => fleet(&args.targets, &args.output, |configs| Ok(operation::changes(&args, configs))),
        Command::Diff(args) => fleet(&args.targets, &args.output, |configs| Ok(operation::diff(&args, configs))),
        Command::Ping(args) => fleet(&args.targets, &args.output, |_| Ok(operation::ping())),
        Command::Info(args) => fleet(&args.targets, &args.output, |_| Ok(operation::info())),
        Command::Agent(args) => agent::serve(args),
        #[cfg(feature = "service")]
        Command::Serve(args) => super::serve::serve(*args),
        Command::Completion(args) => Ok(completion::print(&args)),
    }
}

fn style(args: &OutputArgs) -> output::Style {
    let layout = match args {
        OutputArgs { fold: true, .. } => output::Layout::Folded,
        OutputArgs { tag: true, .. } => output::Layout::Tagged,
        _ => output::Layout::Grouped,
    };
    output::Style {
        json: args.json,
        color: args.color,
        layout,
        keep_order: args.keep_order,
        joblog: args.joblog.clone(),
        append_joblog: false,
        junit: args.junit.clone(),
        results: args.results.clone(),
    }
}

/// `wsfleet run`, on what a joblog leaves of the targets.
fn run_command(mut args: RunArgs) -> Result<u8, CliError> {
    let mut style = style(&args.output);
    if args.follow.stream {
        style.layout = output::Layout::Live;
    }
    operation::check_stdin(&args)?;
    let rest = Rest::load(&args)?;
    style.append_joblog = rest.is_some();
    // Each job of a file has its own command; what is left of them is told when they are read.
    if args.resume.retry_failed && args.jobs.is_none() {
        match rest.as_ref().map_or(Ok(None), |rest| rest.joblog.failed_command())? {
            Some(command) => args.words = vec![command.to_owned()],
            None => return Ok(nothing_left("nothing in the joblog failed")),
        }
    }
    let how = How { style, progress: args.output.progress, largest_remote: args.maxrc, leaves: args.detach };
    fleet_with(&args.targets, how, |configs| {
        configs.iter_mut().for_each(|config| config.push = args.policy.push.push.into());
        let mut prepared = operation::run(&args, configs)?;
        if let Some(rest) = rest {
            rest.leave(&mut prepared.spec, configs);
        }
        Ok(prepared)
    })
}

/// `wsfleet attach`.
fn attach(mut args: AttachArgs) -> Result<u8, CliError> {
    let known = known::read(&args.known, &mut args.targets)?;
    let mut style = style(&args.output);
    if args.follow.stream {
        style.layout = output::Layout::Live;
    }
    let how = How { style, progress: args.output.progress, largest_remote: args.maxrc, leaves: !args.stop };
    fleet_with(&args.targets, how, |configs| {
        let commands = known.on(configs)?;
        configs.iter_mut().for_each(|config| config.push = args.push.push.into());
        Ok(operation::attach(&args, commands))
    })
}

/// `wsfleet stop`.
fn stop(mut args: StopArgs) -> Result<u8, CliError> {
    let known = known::read(&args.known, &mut args.targets)?;
    fleet(&args.targets, &args.output, |configs| known.on(configs).map(operation::stop))
}

/// What a joblog leaves to be done.
struct Rest {
    joblog: output::Resume,
    again: Again,
}

/// Which of the targets in a joblog are carried out again.
enum Again {
    None,
    Failed,
    OnlyFailed,
}

impl Rest {
    fn load(args: &RunArgs) -> Result<Option<Self>, CliError> {
        let again = match &args.resume {
            ResumeArgs { resume: true, .. } => Again::None,
            ResumeArgs { resume_failed: true, .. } => Again::Failed,
            ResumeArgs { retry_failed: true, .. } => Again::OnlyFailed,
            _ => return Ok(None),
        };
        let Some(path) = &args.output.joblog else { return Ok(None) };
        let note = |note: &str| drop(writeln!(std::io::stderr(), "wsfleet: {note}"));
        let joblog = match output::Resume::load(path, note)? {
            Some(joblog) => joblog,
            None => {
                let missing = format!("the joblog {} is not there", path.display());
                if matches!(again, Again::OnlyFailed) {
                    return Err(CliError::usage(format!(
                        "{missing}: nothing is known of what failed; correct --joblog"
                    )));
                }
                note(&format!("{missing}; everything is carried out"));
                output::Resume::default()
            }
        };
        Ok(Some(Self { joblog, again }))
    }

    /// Takes out of a run what is not to be carried out again.
    fn leave(&self, spec: &mut RunSpec, configs: &mut Vec<WorkspaceConfig>) {
        let commands = output::Commands::of_run(spec);
        match &mut spec.work {
            Work::Each(_) => configs.retain(|config| self.has(&config.name, commands.of_all())),
            Work::Jobs(jobs) => jobs.retain(|job| {
                job.name.as_ref().is_none_or(|name| commands.of_job(name).is_none_or(|command| self.has(name, command)))
            }),
        }
    }

    fn has(&self, target: &str, command: &str) -> bool {
        let ended = self.joblog.outcome(target, command);
        match self.again {
            Again::None => ended.is_none(),
            Again::Failed => ended != Some(crate::Outcome::Succeeded),
            Again::OnlyFailed => ended.is_some_and(|outcome| outcome != crate::Outcome::Succeeded),
        }
    }
}

fn nothing_left(why: &str) -> u8 {
    let _ = writeln!(std::io::stderr(), "wsfleet: nothing to do: {why}");
    exit::SUCCESS
}

/// How a run is shown, and what its exit code is made of.
struct How {
    style: output::Style,
    progress: ProgressKind,
    largest_remote: bool,
    /// Whether the first signal leaves the commands on the workspaces running.
    leaves: bool,
}

/// Carries one operation out, shown in the usual way.
fn fleet(
    args: &TargetArgs,
    output: &OutputArgs,
    prepare: impl FnOnce(&mut Vec<crate::WorkspaceConfig>) -> Result<Prepared, CliError>,
) -> Result<u8, CliError> {
    let how = How { style: style(output), progress: output.progress, largest_remote: false, leaves: false };
    fleet_with(args, how, prepare)
}

/// Carries one operation out on the workspaces that are meant. All that can be wrong with the request is found before
/// anything is sent.
fn fleet_with(
    args: &TargetArgs,
    how: How,
    prepare: impl FnOnce(&mut Vec<crate::WorkspaceConfig>) -> Result<Prepared, CliError>,
) -> Result<u8, CliError> {
    let How { style, progress, largest_remote, leaves } = how;
    let interrupt = Interrupt::listen()?;
    if leaves {
        interrupt.leave_commands_running();
    }
    let mut agents = LocalAgents::default();
    let mut configs = targets::configs(args, &mut agents, &interrupt)?;
    if args.list_targets {
        return plan::list(&configs, style.json);
    }
    let Prepared { spec } = prepare(&mut configs)?;
    if configs.is_empty() || matches!(&spec.work, Work::Jobs(jobs) if jobs.is_empty()) {
        agents.stop();
        return Ok(nothing_left("the joblog leaves none of the targets"));
    }
    let fanout = window::fit(args.fanout as usize, configs.len(), args.local.is_some())?;
    let spec = spec.with_fanout(fanout).with_stream_output(style.takes_output());
    if args.dry_run {
        return plan::show(&configs, &spec, style.json);
    }
    let code = run::carry_out(configs, run::Request { spec, style, progress, largest_remote }, &interrupt);
    agents.stop();
    code
}
