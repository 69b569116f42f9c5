use std::time::{Duration, Instant};

use actix::Addr;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{RunOperation, RunSpec, Work, emitter::Emitter};
use crate::{
    ErrorKind, Failure, Operation, RemoteWorkspace, WorkspaceError,
    fleet::{Outcome, RunEventKind, TargetFinished, TargetId, TargetValue},
    messages::{Alive, Ask, CommandEvent, Execute, ExecuteCommand, GetServerInfo},
    workspace::ask,
};

/// How many events of one command may wait to be reported. Each may be a chunk of a mebibyte.
const EVENTS: usize = 2;

/// One workspace within a run.
pub(crate) struct Target {
    pub(crate) name: String,
    /// Absent when the fleet has no workspace of this name.
    pub(crate) address: Option<Addr<RemoteWorkspace>>,
}

/// A target whose turn never came.
pub(super) fn skipped(target: Target) -> TargetFinished {
    TargetFinished {
        target: TargetId::workspace(target.name),
        outcome: Outcome::Skipped,
        value: None,
        error: None,
        duration: Duration::ZERO,
        attempt: 0,
    }
}

/// Carries a run's operation out on one target, and reports how that ended.
///
/// All reporting of a target is done in here: the run polls the futures of all targets and awaits nothing else, so none
/// of them can be granted room for an event and then not be polled to use it.
pub(super) async fn carry_out(
    target: Target,
    spec: &RunSpec,
    emitter: &Emitter,
    cancel: &CancellationToken,
) -> Outcome {
    let finished = operate_on(target, spec, emitter, cancel).await;
    let outcome = finished.outcome;
    emitter.emit(RunEventKind::TargetFinished(Box::new(finished))).await;
    outcome
}

async fn operate_on(target: Target, spec: &RunSpec, emitter: &Emitter, cancel: &CancellationToken) -> TargetFinished {
    let began = Instant::now();
    let Target { name, address } = target;
    let result = match address {
        Some(address) => operate(&name, &address, spec, emitter, cancel).await,
        None => Err(Failure::invalid("the fleet has no workspace of this name").on(&name, Operation::LookUp)),
    };
    let outcome = match &result {
        Ok(TargetValue::Command(result)) => Outcome::from(result),
        Ok(_) => Outcome::Succeeded,
        Err(error) => Outcome::from(&error.kind),
    };
    let (value, error) = match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    };
    TargetFinished { target: TargetId::workspace(name), outcome, value, error, duration: began.elapsed(), attempt: 1 }
}

async fn operate(
    name: &str,
    address: &Addr<RemoteWorkspace>,
    spec: &RunSpec,
    emitter: &Emitter,
    cancel: &CancellationToken,
) -> Result<TargetValue, WorkspaceError> {
    let asking = Asking { name, address, cancel };
    let Work::Each(job) = &spec.work else { unreachable!() };
    match job.steps[0].operation.for_target(name) {
        RunOperation::Execute(command) => execute(&asking, command, spec.stream_output, emitter).await,
        RunOperation::Upload(message) => asking.send(message).await.map(TargetValue::File),
        RunOperation::Download(message) => asking.send(message).await.map(TargetValue::File),
        RunOperation::UploadDirectory(message) => asking.send(message).await.map(TargetValue::File),
        RunOperation::DownloadDirectory(message) => asking.send(message).await.map(TargetValue::File),
        RunOperation::Changes(message) => asking.send(message).await.map(TargetValue::Changes),
        RunOperation::Diff(message) => asking.send(message).await.map(TargetValue::Diff),
        RunOperation::Ping => asking.send(Alive).await.map(TargetValue::Alive),
        RunOperation::Info => asking.send(GetServerInfo).await.map(|info| TargetValue::Info(Box::new(info))),
    }
}

/// Asks one target, and stops waiting when the run is cancelled.
struct Asking<'a> {
    name: &'a str,
    address: &'a Addr<RemoteWorkspace>,
    cancel: &'a CancellationToken,
}

impl Asking<'_> {
    async fn send<M: Ask>(&self, message: M) -> Result<M::Answer, WorkspaceError> {
        tokio::select! {
            answer = ask(self.name.into(), self.address, message) => answer,
            () = self.cancel.cancelled() => {
                let reason = "the run was cancelled; a step that has begun goes on".to_owned();
                Err(Failure::maybe_sent(ErrorKind::Stopped { reason }).on(self.name, M::OPERATION))
            }
        }
    }
}

/// Runs a command and reports what happens to it. Its end is waited for also after a cancellation, which stops it.
async fn execute(
    asking: &Asking<'_>,
    command: ExecuteCommand,
    follow_output: bool,
    emitter: &Emitter,
) -> Result<TargetValue, WorkspaceError> {
    let (events, mut happened) = mpsc::channel(EVENTS);
    let message = Execute { command, caller: asking.cancel.clone(), events: Some(events), follow_output };
    let answer = ask(asking.name.into(), asking.address, message);
    let report = async {
        while let Some(event) = happened.recv().await {
            emitter.emit(run_event(asking.name, event)).await;
        }
    };
    // The events end when the command has: their sender lives no longer than its watch.
    let (answer, ()) = futures::join!(answer, report);
    answer.map(TargetValue::Command)
}

fn run_event(name: &str, event: CommandEvent) -> RunEventKind {
    let target = TargetId::workspace(name);
    match event {
        CommandEvent::Started { command_id } => RunEventKind::TargetStarted { target, command_id, attempt: 1 },
        CommandEvent::Output { stream, text } => RunEventKind::Output { target, stream, text },
    }
}
