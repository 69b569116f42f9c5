use std::{
    cell::Cell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Addr;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    CancelReason, Job, JobStep,
    emitter::Emitter,
    placeholder::Names,
    progress::{CommandProgress, TargetProgress, since},
    step::{self, StepEnd, Stopper},
};
use crate::{
    Effect, ErrorKind, Failure, Operation, RemoteWorkspace, WorkspaceError,
    fleet::{Outcome, RunEventKind, StepFinished, TargetFinished, TargetId, TargetValue, lease::Leases},
    messages::Rest,
    protocol::Trace,
};

/// What all attempts of a run share.
pub(super) struct Shared {
    pub(super) emitter: Emitter,
    /// What the run belongs to.
    pub(super) trace: Option<Arc<Trace>>,
    pub(super) stream_output: bool,
    pub(super) target_timeout: Option<Duration>,
    pub(super) global_timeout: Option<Duration>,
    pub(super) finally_timeout: Duration,
    pub(super) slow_after: Option<Duration>,
    /// Cancelled when what runs is to be stopped.
    pub(super) stop: CancellationToken,
    /// Why it is.
    pub(super) reason: Cell<Option<CancelReason>>,
    /// Cancelled when `finally` steps are given up, too.
    pub(super) give_up: CancellationToken,
    pub(super) leases: Rc<Leases>,
    /// Whether a workspace drops its connections when its target has ended, because many more targets wait than may run:
    /// kept ones would add up to more than a process may have open.
    pub(super) rest_after: bool,
}

/// One try at a target.
pub(super) struct Attempt {
    pub(super) id: TargetId,
    /// The workspace, or why there is none.
    pub(super) address: Result<Addr<RemoteWorkspace>, Arc<str>>,
    pub(super) job: Rc<Job>,
    pub(super) number: u32,
    /// Counts what is begun on the workspace, where the run has that for itself.
    pub(super) work: Option<TaskTracker>,
    /// How far an earlier process had come with it.
    pub(super) before: Option<TargetProgress>,
}

/// How an attempt ended.
pub(super) struct AttemptEnd {
    pub(super) finished: Box<TargetFinished>,
    /// Whether the workspace is lost: it can be used no more, or nobody knows what still goes on there.
    pub(super) lost: bool,
    /// Whether nobody can tell what became of a command.
    pub(super) in_doubt: bool,
    /// Whether another try as a whole cannot do anything twice: no command was started before the step that failed.
    pub(super) repeats_safely: bool,
    /// Whether the run was what ended it.
    pub(super) stopped_by_run: bool,
}

/// Carries a job out on one workspace, says what happens meanwhile, and returns how that ended.
///
/// All reporting of a target is done in futures of its own that are polled with those of all other targets, so that
/// none of them can be granted room for an event and then not be polled to use it.
pub(super) async fn carry_out(attempt: Attempt, shared: &Shared) -> AttemptEnd {
    let target = attempt.id.clone();
    let clock = match attempt.before.as_ref().and_then(|before| before.began) {
        Some(began) => Clock::since(since(began)),
        None => {
            let began = RunEventKind::TargetBegan { target: target.clone(), attempt: attempt.number };
            if !shared.emitter.emit_kept(began).await {
                // Nobody would know of what is begun now. The run is about to be stopped for that.
                shared.stop.cancelled().await;
            }
            Clock::since(Duration::ZERO)
        }
    };
    let slow_after = shared.slow_after.filter(|_| attempt.before.as_ref().is_none_or(|before| !before.slow));
    let work = work(attempt, shared, clock);
    let Some(slow_after) = slow_after else { return work.await };
    tokio::pin!(work);
    if let Ok(end) = actix_rt::time::timeout(slow_after.saturating_sub(clock.elapsed()), &mut work).await {
        return end;
    }
    let slow = RunEventKind::TargetSlow { target, running_for: clock.elapsed() };
    futures::join!(work, shared.emitter.emit(slow)).0
}

async fn work(mut attempt: Attempt, shared: &Shared, clock: Clock) -> AttemptEnd {
    let before = attempt.before.take();
    let mut end = match &attempt.address {
        Ok(address) => Course::new(&attempt, address, shared, clock, before).run().await,
        Err(_) if before.is_some() => End::of(Err(left_behind(&attempt.id, before)), Outcome::OutcomeUnknown),
        Err(reason) => {
            End::of(Err(Failure::invalid(&**reason).on(&attempt.id.workspace, Operation::LookUp)), Outcome::Rejected)
        }
    };
    end.explain(&attempt.id.workspace);
    let (value, error) = match end.value {
        Ok(value) => (value, end.error),
        Err(error) => (None, Some(error)),
    };
    if let (true, Ok(address)) = (shared.rest_after, &attempt.address) {
        // One whose mailbox is full is busy, and rests later by itself.
        let _ = address.try_send(Rest);
    }
    AttemptEnd {
        finished: Box::new(TargetFinished {
            target: attempt.id,
            outcome: end.outcome,
            value,
            error,
            duration: clock.elapsed(),
            attempt: attempt.number,
        }),
        lost: end.lost,
        in_doubt: end.in_doubt,
        repeats_safely: !end.commands_before,
        stopped_by_run: end.stopped_by_run,
    }
}

/// What is said of an attempt that an earlier process had begun on a workspace that is not there any more.
fn left_behind(target: &TargetId, before: Option<TargetProgress>) -> WorkspaceError {
    let reason = "it had begun on this workspace, which the fleet does not have any more".to_owned();
    let command_id = before.and_then(|before| before.command).map(|command| command.command_id);
    let kind = ErrorKind::OutcomeUnknown { reason, command_id, process_id: None };
    Failure::maybe_sent(kind).on(&target.workspace, Operation::ExecuteCommand)
}

/// Counts from when an attempt began, in this process or in an earlier one.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    before: Duration,
}

impl Clock {
    fn since(before: Duration) -> Self {
        Self { began: Instant::now(), before }
    }

    fn elapsed(self) -> Duration {
        self.before + self.began.elapsed()
    }
}

/// What a job came to: of the step that decided its outcome.
struct End {
    outcome: Outcome,
    value: Result<Option<TargetValue>, WorkspaceError>,
    /// What is said beside a value.
    error: Option<WorkspaceError>,
    commands_before: bool,
    stopped_by_run: bool,
    /// Of all its steps.
    lost: bool,
    in_doubt: bool,
}

impl End {
    fn of(value: Result<Option<TargetValue>, WorkspaceError>, outcome: Outcome) -> Self {
        Self {
            outcome,
            value,
            error: None,
            commands_before: false,
            stopped_by_run: false,
            lost: false,
            in_doubt: false,
        }
    }

    /// Says of a command that ended with its workspace what happened to that.
    fn explain(&mut self, workspace: &str) {
        if self.outcome == Outcome::Gone && self.value.is_ok() {
            let failure = Failure::maybe_sent(step::removed());
            self.error = Some(failure.on(workspace, Operation::ExecuteCommand));
        }
    }
}

/// A job on its way through its steps.
struct Course<'a> {
    attempt: &'a Attempt,
    address: &'a Addr<RemoteWorkspace>,
    shared: &'a Shared,
    clock: Clock,
    /// The steps that have ended already, in an earlier process.
    done: VecDeque<StepFinished>,
    /// Whether the next step may have been begun by an earlier process, and the command of it that is known.
    begun: Option<Option<CommandProgress>>,
    /// The place of the next step.
    index: usize,
    /// Whether a command was started in a step that has ended.
    commands_before: bool,
    /// Whether a step lost the workspace, or a command in it, also one that does not decide the outcome.
    lost: bool,
    in_doubt: bool,
}

impl<'a> Course<'a> {
    fn new(
        attempt: &'a Attempt,
        address: &'a Addr<RemoteWorkspace>,
        shared: &'a Shared,
        clock: Clock,
        before: Option<TargetProgress>,
    ) -> Self {
        let begun = before.as_ref().map(|before| before.command);
        let done = before.map(|before| before.steps.into()).unwrap_or_default();
        let (commands_before, lost, in_doubt) = (false, false, false);
        Self { attempt, address, shared, clock, done, begun, index: 0, commands_before, lost, in_doubt }
    }

    async fn run(mut self) -> End {
        let job = &self.attempt.job;
        let mut end = self.steps(&job.steps).await;
        end.commands_before = self.commands_before;
        self.index = job.steps.len();
        if let Some(failed) = self.finally(&end).await
            && end.outcome == Outcome::Succeeded
        {
            end = End { commands_before: true, ..failed };
        }
        End { lost: self.lost, in_doubt: self.in_doubt, ..end }
    }

    /// The steps up to the first that fails.
    async fn steps(&mut self, steps: &[JobStep]) -> End {
        let limit = self.attempt.job.timeout.or(self.shared.target_timeout);
        let left = limit.map(|limit| limit.saturating_sub(self.clock.elapsed()));
        let stopper = Stopper::new(self.shared.stop.child_token(), limit, left);
        let mut last = End::of(Ok(None), Outcome::Succeeded);
        for step in steps {
            let ended = self.step(step, &stopper, false).await;
            last = self.end_of(&stopper, ended);
            if last.outcome != Outcome::Succeeded {
                break;
            }
            self.commands_before |= step::starts_a_command(step);
        }
        last
    }

    /// Says of a step that was stopped who stopped it.
    fn end_of(&self, stopper: &Stopper, ended: StepEnd) -> End {
        let StepEnd { outcome, result } = ended;
        let by_run = outcome != Outcome::Succeeded && self.shared.stop.is_cancelled() && !stopper.is_out_of_time();
        End { stopped_by_run: by_run, ..End::of(result, outcome) }
    }

    /// All `finally` steps, whatever becomes of the others. Returns the first that failed.
    async fn finally(&mut self, job_end: &End) -> Option<End> {
        let steps = &self.attempt.job.finally;
        if steps.is_empty() {
            return None;
        }
        let stopper = {
            let limit = Some(self.shared.finally_timeout);
            Stopper::new(self.shared.give_up.child_token(), limit, limit)
        };
        let mut lost = job_end.value.as_ref().err().filter(|error| is_gone(error)).cloned();
        let mut failed = None;
        for step in steps {
            let ended = match &lost {
                Some(error) if self.done.is_empty() => {
                    let ended = StepEnd { outcome: Outcome::from(&error.kind), result: Err(error.clone()) };
                    self.report(step, &ended, true, Duration::ZERO).await;
                    ended
                }
                _ => self.step(step, &stopper, true).await,
            };
            let error = ended.result.as_ref().err();
            lost = lost.or_else(|| error.filter(|error| is_gone(error) || is_unreachable(error)).cloned());
            if failed.is_none() && ended.outcome != Outcome::Succeeded {
                failed = Some(End::of(ended.result, ended.outcome));
            }
        }
        failed
    }

    /// The end of a step that ended in an earlier process.
    fn done(&mut self) -> Option<StepEnd> {
        let done = self.done.pop_front()?;
        self.index += 1;
        let result = match (done.value, done.error) {
            (_, Some(error)) => Err(error),
            (Some(value), None) => Ok(Some(value)),
            (None, None) => Ok(None),
        };
        Some(StepEnd { outcome: done.outcome, result })
    }

    async fn step(&mut self, step: &JobStep, stopper: &Stopper, finally: bool) -> StepEnd {
        if let Some(ended) = self.done() {
            self.judge(&ended);
            return ended;
        }
        let began = Instant::now();
        let names = Names { workspace: &self.attempt.id.workspace, job: self.attempt.id.job.as_deref() };
        let operation = names.fill(&step.operation, &self.attempt.job.env);
        let asking = step::Asking {
            id: &self.attempt.id,
            address: self.address,
            attempt: self.attempt.number,
            work: self.attempt.work.as_ref(),
            emitter: &self.shared.emitter,
            stream_output: self.shared.stream_output,
            stopper,
            shared: self.shared,
            index: self.index,
            begun: self.begun.take(),
        };
        let ended = asking.carry_out(operation).await;
        self.judge(&ended);
        self.report(step, &ended, finally, began.elapsed()).await;
        ended
    }

    fn judge(&mut self, ended: &StepEnd) {
        if let Err(error) = &ended.result {
            // What is stopped because its time is up ends soon, and the workspace is not passed on before.
            self.lost |= is_lost(error) && ended.outcome != Outcome::TimedOut;
            self.in_doubt |= matches!(error.kind, ErrorKind::OutcomeUnknown { .. });
        }
    }

    async fn report(&mut self, step: &JobStep, ended: &StepEnd, finally: bool, duration: Duration) {
        let index = self.index;
        self.index += 1;
        let job = &self.attempt.job;
        if job.steps.len() + job.finally.len() < 2 {
            return;
        }
        let finished = StepFinished {
            target: self.attempt.id.clone(),
            step: step.describe(),
            index,
            finally,
            outcome: ended.outcome,
            value: ended.result.as_ref().ok().cloned().flatten(),
            error: ended.result.as_ref().err().cloned(),
            duration,
            attempt: self.attempt.number,
        };
        if !self.shared.emitter.emit_kept(RunEventKind::StepFinished(Box::new(finished))).await {
            // No further step follows on one of whose end nobody knows.
            self.shared.stop.cancelled().await;
        }
    }
}

/// Whether there is no use in asking the workspace anything any more.
fn is_gone(error: &WorkspaceError) -> bool {
    matches!(error.kind, ErrorKind::Gone { .. } | ErrorKind::Unauthorized { .. } | ErrorKind::Tls { .. })
}

fn is_unreachable(error: &WorkspaceError) -> bool {
    matches!(error.kind, ErrorKind::Unreachable { .. })
}

const fn changes_something(operation: Operation) -> bool {
    matches!(operation, Operation::ExecuteCommand | Operation::FileUpload | Operation::DirectoryUpload)
}

/// Whether a workspace is not to be used by another job after this.
fn is_lost(error: &WorkspaceError) -> bool {
    match error.kind {
        ErrorKind::Unreachable { .. }
        | ErrorKind::Tls { .. }
        | ErrorKind::Unauthorized { .. }
        | ErrorKind::Gone { .. }
        | ErrorKind::Deadline { .. }
        | ErrorKind::OutcomeUnknown { .. } => true,
        // What may have been begun goes on beside whatever comes next.
        ErrorKind::ServerError { .. } | ErrorKind::Protocol { .. } => {
            changes_something(error.operation) && error.effect != Effect::NotSent
        }
        ErrorKind::Panicked { .. } => error.effect != Effect::NotSent,
        _ => false,
    }
}
