use std::{io, sync::Arc, thread, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::try_join_all};
use tokio::runtime::Builder;

use super::{
    args::ProgressKind,
    error::CliError,
    exit::{self, Tally},
    interrupt::Interrupt,
    output::{Commands, Progress, Relay, Style, Unwritten, Watch},
};
use crate::{
    Fleet, RunHandle, RunSpec, WorkspaceConfig,
    fleet::{RunEvent, RunEventKind},
};

/// How long is rested when all events there were have been handed on: this thread has nothing else to do, and would otherwise be
/// woken for each of thousands.
const REST: Duration = Duration::from_millis(1);

/// A run, and how it is shown.
pub(super) struct Request {
    pub(super) spec: RunSpec,
    pub(super) style: Style,
    pub(super) progress: ProgressKind,
    /// Whether the largest exit code of a remote command is asked for.
    pub(super) largest_remote: bool,
}

/// Carries a run out on these workspaces, shows it and returns the exit code.
pub(super) fn carry_out(
    configs: Vec<WorkspaceConfig>,
    request: Request,
    interrupt: &Interrupt,
) -> Result<u8, CliError> {
    let Request { spec, style, progress: kind, largest_remote } = request;
    let screen = Watch::screen(kind);
    let outlets = style.outlets(&Arc::new(Commands::of_run(&spec)), &targets(&configs, &spec), &screen)?;
    for directory in outlets.iter().filter_map(|outlet| outlet.temporary.as_deref()) {
        interrupt.remove_when_leaving(directory);
    }
    let progress = Progress::default();
    interrupt.show(screen.clone(), progress.clone());
    let runtime = Builder::new_current_thread().build().map_err(|error| failed(&error))?;
    let ended = runtime.block_on(async {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let fleet =
            Fleet::builder().worker_threads(cores.min(configs.len())).start().map_err(|error| failed(&error))?;
        try_join_all(configs.into_iter().map(|config| fleet.add(config)))
            .await
            .map_err(|error| CliError::usage(error.to_string()))?;
        interrupt.suspend_when_paused(fleet.clone());
        let run = interrupt.start(|| {
            let run = fleet.run(spec);
            let cancel = run.canceller();
            (run, cancel)
        });
        // Where nobody reads on: stop the commands, and see them stopped.
        let relay = Relay::start(outlets, run.ender()).map_err(|error| failed(&error))?;
        let watch = Watch::start(kind, screen, progress.clone()).map_err(|error| failed(&error))?;
        let ended = follow(run, &relay, &progress, Tally::new(largest_remote), interrupt).await;
        fleet.shutdown().await;
        Ok::<_, CliError>((ended, relay, watch))
    });
    let (ended, relay, watch) = ended?;
    let unwritten = relay.finish();
    drop(watch);
    verdict(ended, &unwritten, interrupt)
}

/// What the process exits with when all is written that could be.
fn verdict(ended: Ended, unwritten: &[Unwritten], interrupt: &Interrupt) -> Result<u8, CliError> {
    let Ended { mut tally, finished } = ended;
    // The signal may have come while a write waited for its reader.
    tally.interrupted = interrupt.is_interrupted();
    let has_no_reader = |unwritten: &Unwritten| unwritten.error.kind() == io::ErrorKind::BrokenPipe;
    tally.cut_short = unwritten.iter().any(has_no_reader);
    match unwritten.iter().find(|unwritten| !has_no_reader(unwritten)) {
        Some(Unwritten { what, error }) => Err(CliError::internal(format!("can not write to {what}: {error}"))),
        None if !finished => Err(CliError {
            code: exit::INTERNAL_ERROR,
            message: "the run ended before all targets were reported".into(),
        }),
        None => Ok(tally.exit_code()),
    }
}

fn failed(error: &io::Error) -> CliError {
    CliError::internal(format!("can not start the runtime: {error}"))
}

/// What the targets are called, in their order.
fn targets(configs: &[WorkspaceConfig], spec: &RunSpec) -> Vec<Arc<str>> {
    match &spec.work {
        crate::fleet::Work::Each(_) => configs.iter().map(|config| config.name.as_str().into()).collect(),
        crate::fleet::Work::Jobs(jobs) => jobs.iter().filter_map(|job| job.name.as_deref().map(Into::into)).collect(),
    }
}

/// What is known when a run has ended.
struct Ended {
    tally: Tally,
    /// Whether its last event came.
    finished: bool,
}

/// The next event.
async fn next(run: &mut RunHandle) -> Option<RunEvent> {
    if let Some(event) = run.next().now_or_never() {
        return event;
    }
    thread::sleep(REST);
    run.next().await
}

/// Hands the events on to the end.
async fn follow(
    mut run: RunHandle,
    relay: &Relay,
    progress: &Progress,
    mut tally: Tally,
    interrupt: &Interrupt,
) -> Ended {
    let mut finished = false;
    while let Some(event) = next(&mut run).await {
        match &event.kind {
            RunEventKind::TargetFinished(target) => tally.add(target),
            RunEventKind::RunCancelled { reason } => tally.cancelled = Some(*reason),
            _ => {}
        }
        finished |= matches!(event.kind, RunEventKind::RunFinished(_));
        tally.interrupted = interrupt.is_interrupted();
        progress.note(&event);
        relay.send(event, tally.exit_code());
    }
    Ended { tally, finished }
}
