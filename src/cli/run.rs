use std::io;

use futures::{StreamExt as _, future::try_join_all};
use tokio::runtime::Builder;

use super::{
    error::CliError,
    exit::{self, Tally},
    interrupt::Interrupt,
    output::Sink,
};
use crate::{Fleet, RunHandle, RunSpec, WorkspaceConfig, fleet::RunEventKind};

/// Carries a run out on these workspaces, shows it in the sink and returns the exit code.
pub(super) fn carry_out(
    configs: Vec<WorkspaceConfig>,
    spec: RunSpec,
    mut sink: Box<dyn Sink>,
    largest_remote: bool,
    interrupt: &Interrupt,
) -> Result<u8, CliError> {
    let runtime = Builder::new_current_thread().build().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let fleet =
            Fleet::builder().worker_threads(cores.min(configs.len())).start().map_err(|error| failed(&error))?;
        try_join_all(configs.into_iter().map(|config| fleet.add(config)))
            .await
            .map_err(|error| CliError::usage(error.to_string()))?;
        let run = interrupt.start(|| {
            let run = fleet.run(spec);
            let cancel = run.canceller();
            (run, cancel)
        });
        let code = follow(run, sink.as_mut(), Tally::new(largest_remote), interrupt).await;
        fleet.shutdown().await;
        code
    })
}

fn failed(error: &io::Error) -> CliError {
    CliError::internal(format!("can not start the runtime: {error}"))
}

/// Shows the events to the end. The next is taken when the one before is written, so that a reader who is slow slows down
/// the commands, in place of filling the memory.
async fn follow(
    mut run: RunHandle,
    sink: &mut dyn Sink,
    mut tally: Tally,
    interrupt: &Interrupt,
) -> Result<u8, CliError> {
    let mut unshown = None;
    let mut finished = false;
    while let Some(event) = run.next().await {
        match &event.kind {
            RunEventKind::TargetFinished(target) => tally.add(target),
            RunEventKind::RunCancelled { reason } => tally.cancelled = Some(*reason),
            _ => {}
        }
        finished |= matches!(event.kind, RunEventKind::RunFinished(_));
        if unshown.is_some() {
            continue;
        }
        tally.interrupted = interrupt.is_interrupted();
        if let Err(error) = sink.event(&event, tally.exit_code()) {
            // Nobody reads on: stop the commands, and see them stopped.
            run.cancel();
            tally.cut_short = true;
            unshown = Some(error);
        }
    }
    // The signal may have come while a write waited for its reader.
    tally.interrupted = interrupt.is_interrupted();
    match unshown {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::internal(format!("can not write to stdout: {error}")))
        }
        None if !finished => Err(CliError {
            code: exit::INTERNAL_ERROR,
            message: "the run ended before all targets were reported".into(),
        }),
        _ => Ok(tally.exit_code()),
    }
}
