use std::{cell::Cell, time::Duration};

use actix::Addr;
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{CancelReason, JobStep, RunOperation, attempt::Shared, emitter::Emitter, progress::CommandProgress};
use crate::{
    CommandResult, ErrorKind, Failure, Operation, RemoteWorkspace, WorkspaceError,
    fleet::{Outcome, RunEventKind, TargetId, TargetValue},
    messages::{
        Alive, Ask, Attach, AttachCommand, CommandEvent, Execute, ExecuteCommand, GetServerInfo, Known, StartCommand,
        StopCommand, Traced,
    },
    protocol::EventId,
    workspace::{Behalf, ask},
};

/// How many events of one command may wait to be reported. Each may be a chunk of a mebibyte.
const EVENTS: usize = 2;

/// The longest bound that is told apart from none.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How one step ended.
pub(super) struct StepEnd {
    pub(super) outcome: Outcome,
    /// What came of it; of one that ended in an earlier process, only where that may decide what comes of the job.
    pub(super) result: Result<Option<TargetValue>, WorkspaceError>,
}

/// What stops the steps of a job: somebody, or the time that they have together.
pub(super) struct Stopper {
    token: CancellationToken,
    deadline: Option<actix_rt::time::Instant>,
    limit: Option<Duration>,
    out_of_time: Cell<bool>,
}

impl Stopper {
    /// Cancels the token when the time is up, of which so much is left.
    pub(super) fn new(token: CancellationToken, limit: Option<Duration>, left: Option<Duration>) -> Self {
        let deadline = left.map(|left| actix_rt::time::Instant::now() + left.min(LONGEST));
        Self { token, deadline, limit, out_of_time: Cell::new(false) }
    }

    pub(super) fn is_out_of_time(&self) -> bool {
        self.out_of_time.get()
    }

    /// Carries work out that the token ends, and cancels the token when the time is up meanwhile.
    async fn bound<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(deadline) = self.deadline else { return work.await };
        tokio::pin!(work);
        if !self.token.is_cancelled() {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = actix_rt::time::sleep_until(deadline) => {}
                () = self.token.cancelled() => {}
            }
            if !self.token.is_cancelled() {
                self.out_of_time.set(true);
                self.token.cancel();
            }
        }
        work.await
    }
}

/// Whether carrying it out a second time would run something a second time.
pub(super) const fn starts_a_command(step: &JobStep) -> bool {
    matches!(step.operation, RunOperation::Execute(_) | RunOperation::Start(_))
}

/// Asks one workspace, and stops waiting when the steps are to stop.
pub(super) struct Asking<'a> {
    pub(super) id: &'a TargetId,
    pub(super) address: &'a Addr<RemoteWorkspace>,
    pub(super) attempt: u32,
    pub(super) work: Option<&'a TaskTracker>,
    pub(super) emitter: &'a Emitter,
    pub(super) stream_output: bool,
    pub(super) stopper: &'a Stopper,
    pub(super) shared: &'a Shared,
    /// The place of the step in the job.
    pub(super) index: usize,
    /// Whether an earlier process may have begun it, and the command of it that is known.
    pub(super) begun: Option<Option<CommandProgress>>,
}

impl Asking<'_> {
    pub(super) async fn carry_out(&self, operation: RunOperation) -> StepEnd {
        let result = self.stopper.bound(self.operate(operation)).await;
        let (outcome, result) = self.judge(result);
        StepEnd { outcome, result: result.map(Some) }
    }

    async fn operate(&self, operation: RunOperation) -> Result<TargetValue, WorkspaceError> {
        match operation {
            RunOperation::Execute(command) => self.execute(command).await,
            RunOperation::Start(message) => self.start(message).await,
            RunOperation::Attach(attach) => self.attach(attach.of(&self.id.workspace)).await,
            RunOperation::Stop(stop) => self.stop(stop.of(&self.id.workspace)).await,
            RunOperation::Upload(message) => self.send(message).await.map(TargetValue::File),
            RunOperation::Download(message) => self.send(message).await.map(TargetValue::File),
            RunOperation::UploadDirectory(message) => self.send(message).await.map(TargetValue::File),
            RunOperation::DownloadDirectory(message) => self.send(message).await.map(TargetValue::File),
            RunOperation::Changes(message) => self.send(message).await.map(TargetValue::Changes),
            RunOperation::Diff(message) => self.send(message).await.map(TargetValue::Diff),
            RunOperation::Ping => self.send(Alive).await.map(TargetValue::Alive),
            RunOperation::Info => self.send(GetServerInfo).await.map(|info| TargetValue::Info(Box::new(info))),
        }
    }

    async fn send<M: Ask>(&self, message: M) -> Result<M::Answer, WorkspaceError> {
        if self.stopper.token.is_cancelled() {
            return Err(self.not_begun(M::OPERATION));
        }
        tokio::select! {
            answer = self.ask(message) => answer,
            () = self.stopper.token.cancelled() => {
                let reason = "the run was cancelled or its time was up; a step that has begun goes on".to_owned();
                Err(Failure::maybe_sent(ErrorKind::Stopped { reason }).on(&self.id.workspace, M::OPERATION))
            }
        }
    }

    /// Sends a message, with what the run belongs to.
    fn ask<M: Ask>(&self, message: M) -> impl Future<Output = Result<M::Answer, WorkspaceError>> + use<M> {
        let workspace = self.id.workspace.clone();
        let behalf = Behalf::of(self.work).under_way();
        match self.shared.trace.clone() {
            None => ask(workspace, self.address, message, behalf).left_future(),
            Some(trace) => ask(workspace, self.address, Traced { message, trace }, behalf).right_future(),
        }
    }

    /// Runs a command and reports what happens to it. Its end is waited for also when it is to stop, which stops it.
    async fn execute(&self, mut command: ExecuteCommand) -> Result<TargetValue, WorkspaceError> {
        let (events, happened) = mpsc::channel(EVENTS);
        command.process_id = Some(self.process_id());
        command.resume = self.begun.is_some();
        let known = self.begun.flatten();
        let message = Execute {
            command,
            known: known.map(|known| Known { command_id: known.command_id, told: known.told }),
            caller: self.stopper.token.clone(),
            called_off: self.stopper.token.clone(),
            events: Some(events),
            follow_output: self.stream_output,
        };
        self.follow(message, happened, known).await
    }

    /// Follows a command that was started before, and reports what happens to it.
    async fn attach(&self, attach: Option<AttachCommand>) -> Result<TargetValue, WorkspaceError> {
        let attach = attach.ok_or_else(|| self.no_command(Operation::AttachCommand))?;
        let (events, happened) = mpsc::channel(EVENTS);
        let known = self.begun.flatten();
        let message = Attach {
            attach,
            caller: self.stopper.token.clone(),
            events: Some(events),
            follow_output: self.stream_output,
            told: known.map(|known| known.told).unwrap_or_default(),
        };
        self.follow(message, happened, known).await
    }

    /// Sends a message that is answered when a command has ended, and reports what happens meanwhile.
    async fn follow(
        &self,
        message: impl Ask<Answer = CommandResult>,
        mut happened: mpsc::Receiver<CommandEvent>,
        known: Option<CommandProgress>,
    ) -> Result<TargetValue, WorkspaceError> {
        let answer = self.ask(message);
        let report = async move {
            loop {
                tokio::select! {
                    event = happened.recv() => match event {
                        // That was told by the process that started it.
                        Some(CommandEvent::Started { command_id })
                            if known.is_some_and(|known| known.command_id == command_id) => {}
                        Some(event) => self.emitter.emit(self.run_event(event)).await,
                        None => return,
                    },
                    // The command's watch sees that these events are taken no more, and reads nothing for nobody.
                    () = self.emitter.abandoned() => return,
                }
            }
        };
        // The events end when the command has: their sender lives no longer than its watch.
        let (answer, ()) = futures::join!(answer, report);
        answer.map(TargetValue::Command)
    }

    /// Starts a command and reports that. Whether it was started is waited for also when the run is to stop: nobody would
    /// know its id.
    async fn start(&self, StartCommand(mut command): StartCommand) -> Result<TargetValue, WorkspaceError> {
        command.process_id = Some(self.process_id());
        command.resume = self.begun.is_some();
        if !command.resume && self.stopper.token.is_cancelled() {
            return Err(self.not_begun(Operation::StartCommand));
        }
        let command_id = self.ask(StartCommand(command)).await?;
        if self.begun.flatten().is_none_or(|known| known.command_id != command_id) {
            self.emitter.emit(self.run_event(CommandEvent::Started { command_id })).await;
        }
        Ok(TargetValue::Started(command_id))
    }

    /// Ends a command that was started before.
    async fn stop(&self, stop: Option<StopCommand>) -> Result<TargetValue, WorkspaceError> {
        let stop = stop.ok_or_else(|| self.no_command(Operation::StopCommand))?;
        self.send(stop).await.map(|()| TargetValue::Ended(stop.command_id))
    }

    fn no_command(&self, operation: Operation) -> WorkspaceError {
        Failure::invalid("no command of this workspace was named").on(&self.id.workspace, operation)
    }

    fn not_begun(&self, operation: Operation) -> WorkspaceError {
        let reason = "its turn did not come before it was to stop".to_owned();
        Failure::not_sent(ErrorKind::Stopped { reason }).on(&self.id.workspace, operation)
    }

    /// The id of the step's command, which follows from what every process knows that goes on with the run.
    fn process_id(&self) -> EventId {
        let job = self.id.job.as_deref().unwrap_or_default();
        let numbers = [u64::from(self.attempt), self.index as u64].map(u64::to_le_bytes);
        let words = [b"step", self.id.workspace.as_bytes(), job.as_bytes(), &numbers[0], &numbers[1]];
        self.emitter.run_id().derived(&words)
    }

    fn run_event(&self, event: CommandEvent) -> RunEventKind {
        let target = self.id.clone();
        match event {
            CommandEvent::Started { command_id } => {
                RunEventKind::TargetStarted { target, command_id, attempt: self.attempt, step: self.index }
            }
            CommandEvent::Output { stream, text } => RunEventKind::Output { target, stream, text },
        }
    }

    /// Says how a step ended. One that was stopped because of the time has timed out.
    fn judge(&self, result: Result<TargetValue, WorkspaceError>) -> (Outcome, Result<TargetValue, WorkspaceError>) {
        let outcome = match &result {
            Ok(TargetValue::Command(result)) => Outcome::from(result),
            Ok(_) => Outcome::Succeeded,
            Err(error) => Outcome::from(&error.kind),
        };
        if outcome != Outcome::Stopped {
            return (outcome, result);
        }
        let removed = !self.shared.leases.has(&self.id.workspace);
        if !removed && self.shared.leases.have_ended() && !self.stopper.token.is_cancelled() {
            // The fleet was drained, and its drain has lasted long enough.
            return (outcome, result);
        }
        // A command can be stopped by whoever knows its id. A step that is refused although nothing is to stop tells of a
        // workspace that was removed, drained or given up, also when another one has its name by now.
        if !self.stopper.token.is_cancelled() && (removed || result.is_err()) {
            let gone = |error: WorkspaceError| {
                let kind = if removed { self::removed() } else { ErrorKind::Gone { reason: error.kind.to_string() } };
                WorkspaceError { kind, ..error }
            };
            return (Outcome::Gone, result.map_err(gone));
        }
        if !self.is_out_of_time() {
            return (outcome, result);
        }
        let result = match result {
            Ok(TargetValue::Command(result)) => Ok(TargetValue::Command(timed_out(result))),
            Err(error) => Err(self.deadline(error)),
            other => other,
        };
        (Outcome::TimedOut, result)
    }

    /// Whether the time of the job or of the run is up.
    fn is_out_of_time(&self) -> bool {
        self.stopper.is_out_of_time()
            || (self.shared.stop.is_cancelled() && self.shared.reason.get() == Some(CancelReason::GlobalTimeout))
    }

    fn deadline(&self, error: WorkspaceError) -> WorkspaceError {
        let (waiting_for, limit) = match self.stopper.limit.filter(|_| self.stopper.is_out_of_time()) {
            Some(limit) => ("the steps of the target", limit),
            None => ("the run to end", self.shared.global_timeout.unwrap_or_default()),
        };
        WorkspaceError { kind: ErrorKind::Deadline { waiting_for: waiting_for.to_owned(), limit }, ..error }
    }
}

/// What is said of a workspace that was removed while a run used it.
pub(super) fn removed() -> ErrorKind {
    ErrorKind::Gone { reason: "the workspace was removed from the fleet".to_owned() }
}

/// A command that was stopped because its time was up, as one whose own time was up is told.
fn timed_out(result: CommandResult) -> CommandResult {
    let raw_exit_code = result.raw_exit_code.or(Some(result.exit_code));
    CommandResult { timeout_occurred: true, stopped: false, exit_code: -1, raw_exit_code, ..result }
}
