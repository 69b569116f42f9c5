use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;
use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Job, RunProgress, RunSpec, Work,
    attempt::{self, Attempt, AttemptEnd, Shared},
    cancel::CancelRun,
    dispatcher::{Action, Again, Dispatcher, Input, Rules, SeatNo, TargetNo},
    emitter::{Emitter, Waiting},
    progress::TargetProgress,
    restore::{Restored, restore},
    roster::{Roster, Target},
};
use crate::{
    ErrorKind, Failure, Operation, WorkspaceError,
    fleet::{
        Outcome, RunEventKind, RunSummary, TargetFinished,
        lease::{Leases, RunLease, TakenByRun},
    },
    protocol::EventId,
    workspace::doubled,
};

/// The pause before the first try after a workspace could not be used. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest such pause, and the longest that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Starts a run.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Run {
    pub(crate) id: EventId,
    pub(crate) spec: RunSpec,
    /// Takes the events; the run waits while it is full.
    pub(crate) events: mpsc::Sender<Waiting>,
    /// Gives more jobs; the run goes on until it is closed.
    pub(crate) added: mpsc::Receiver<Job>,
    /// Ends the run.
    pub(crate) cancel: CancelRun,
}

/// What ends the runs of a fleet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    /// Cancelled when no further target is to begin.
    pub(crate) begin_nothing: CancellationToken,
    /// Cancelled when what runs is to be stopped.
    pub(crate) stop: CancellationToken,
}

/// Carries a run out: does what the dispatcher says, and tells it what happened, until all targets have ended.
///
/// After a cancellation, by its handle or by the end of the fleet, no further target begins, those that run are
/// stopped, and each is still reported.
pub(crate) async fn drive(run: Run, targets: Vec<Target>, leases: Rc<Leases>, ends: Ends) {
    let Run { id, mut spec, events, added, cancel } = run;
    let progress = spec.progress.take().map(|progress| *progress);
    if progress.as_ref().is_some_and(RunProgress::has_ended) {
        return;
    }
    let durable = spec.id.is_some() || progress.is_some();
    let clock = Clock { began: Instant::now(), before: progress.as_ref().map(RunProgress::age).unwrap_or_default() };
    let command = spec.describe();
    let work = std::mem::replace(&mut spec.work, Work::Jobs(Vec::new()));
    let mut dispatcher = Dispatcher::new(rules(&spec, &work));
    let mut roster = roster(work, targets, &spec, &mut dispatcher);
    let (first, has_begun) = progress.as_ref().map_or((0, false), |run| (run.next_seq(), run.started().is_some()));
    let restored = progress.map(|progress| restore(progress, &mut roster, &mut dispatcher));
    let Restored { begun, progress } = restored.unwrap_or_default();
    let trace = Some(std::mem::take(&mut spec.trace)).filter(|trace| !trace.is_empty()).map(Arc::new);
    let shared = Shared {
        emitter: Emitter::new(id, trace.clone(), events, cancel.first.clone(), first, durable),
        trace,
        stream_output: spec.stream_output,
        target_timeout: spec.target_timeout,
        global_timeout: spec.global_timeout,
        finally_timeout: spec.finally_timeout,
        slow_after: spec.slow_after,
        stop: CancellationToken::new(),
        reason: Cell::new(None),
        give_up: cancel.second.clone(),
        leases,
        rest_after: dispatcher.total() > spec.pace.fanout.saturating_mul(2),
    };
    if !has_begun {
        let started = RunEventKind::RunStarted { command, targets: dispatcher.total(), fanout: spec.pace.fanout };
        shared.emitter.emit(started).await;
    }
    let mut driver = Driver {
        shared: &shared,
        ends: &ends,
        drain_seen: false,
        dispatcher,
        roster,
        clock,
        progress,
        going: FuturesUnordered::new(),
        unreported: HashMap::new(),
        leases: HashMap::new(),
        lines: FuturesUnordered::new(),
        outbox: VecDeque::new(),
        saying: None,
    };
    driver.go_on_with(begun);
    driver.run_to_the_end(added, &cancel.first).await;
    // Whoever sees the run end finds its workspaces free, but for those on which something that it began is still ending.
    let dispatcher = driver.end();
    let summary = RunSummary {
        total: dispatcher.total(),
        outcomes: dispatcher.outcomes().clone(),
        flaky: dispatcher.flaky(),
        cancelled: dispatcher.cancelled(),
        duration: clock.elapsed(),
    };
    shared.emitter.emit(RunEventKind::RunFinished(summary)).await;
}

fn roster(work: Work, targets: Vec<Target>, spec: &RunSpec, dispatcher: &mut Dispatcher) -> Roster {
    let label = spec.pace.per_label.as_ref().map(|cap| cap.label.as_str());
    match work {
        Work::Each(job) => Roster::each(job, targets, label, dispatcher),
        Work::Jobs(jobs) => {
            let mut roster = Roster::jobs(targets, label, dispatcher);
            for job in jobs {
                roster.add(job, dispatcher);
            }
            roster
        }
    }
}

fn rules(spec: &RunSpec, work: &Work) -> Rules {
    Rules {
        fanout: spec.pace.fanout,
        gap: spec.pace.gap(),
        per_host: spec.pace.per_host,
        per_label: spec.pace.per_label.as_ref().map(|cap| cap.at_once),
        max_fail: spec.max_fail,
        global_timeout: spec.global_timeout,
        retries: spec.retries,
        transport_retries: spec.transport_retries,
        lose_seats: matches!(work, Work::Jobs(_)),
        move_lost: spec.move_lost_jobs,
    }
}

/// Counts from when the run began, in this process or in an earlier one.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    /// How long it had gone on before.
    before: Duration,
}

impl Clock {
    fn elapsed(self) -> Duration {
        self.before + self.began.elapsed()
    }

    fn at(self, elapsed: Duration) -> Instant {
        self.began + elapsed.saturating_sub(self.before)
    }
}

/// What one of the futures that go on came to.
enum Happening {
    Ended { target: TargetNo, end: AttemptEnd },
    Reported { target: TargetNo },
}

/// What is to be said apart from what targets say themselves.
enum Note {
    Event(RunEventKind),
    /// Jobs were added; it begins when that was said.
    Added(Box<Job>),
}

type Line = (SeatNo, Option<RunLease>);

struct Driver<'a> {
    shared: &'a Shared,
    ends: &'a Ends,
    /// Whether the dispatcher was told that the fleet is being drained.
    drain_seen: bool,
    dispatcher: Dispatcher,
    roster: Roster,
    clock: Clock,
    /// How far attempts had come that an earlier process began.
    progress: HashMap<TargetNo, TargetProgress>,
    /// The attempts, and the reports of those that ended.
    going: FuturesUnordered<LocalBoxFuture<'a, Happening>>,
    /// How attempts ended that are to be reported.
    unreported: HashMap<TargetNo, Box<TargetFinished>>,
    /// The workspaces that the run has for itself.
    leases: HashMap<SeatNo, RunLease>,
    /// Those that it waits for.
    lines: FuturesUnordered<LocalBoxFuture<'static, Line>>,
    outbox: VecDeque<Note>,
    saying: Option<LocalBoxFuture<'a, Option<Box<Job>>>>,
}

impl<'a> Driver<'a> {
    /// Goes on with what an earlier process had begun, and stops it if that process was to.
    fn go_on_with(&mut self, begun: Vec<Action>) {
        if let Some(reason) = self.dispatcher.cancelled().filter(|reason| reason.stops_running()) {
            self.act(Action::StopRunning(reason));
        }
        for action in begun {
            for input in self.act(action).into_iter().flatten() {
                self.tell(input);
            }
        }
    }

    async fn run_to_the_end(&mut self, mut added: mpsc::Receiver<Job>, cancelled: &CancellationToken) {
        let ends = self.ends;
        let (mut open, mut cancel_seen) = (true, false);
        self.dispatcher.set_open(true);
        if cancelled.is_cancelled() || ends.stop.is_cancelled() {
            // Nothing begins in a run that was over before it began.
            cancel_seen = true;
            added.close();
            self.tell(Input::Cancel);
        } else {
            self.tell(Input::Tick);
        }
        loop {
            self.say_next();
            if !open && self.dispatcher.is_idle() && self.going.is_empty() && self.saying.is_none() {
                return;
            }
            let wake_at = self.dispatcher.wake_at().map(|at| self.clock.at(at));
            // All of them are polled each time, so that none waits for another.
            tokio::select! {
                Some(happening) = self.going.next(), if !self.going.is_empty() => self.happened(happening),
                Some((seat, lease)) = self.lines.next(), if !self.lines.is_empty() => self.left_line(seat, lease),
                job = said(&mut self.saying) => {
                    self.saying = None;
                    if let Some(job) = job {
                        self.roster.add(*job, &mut self.dispatcher);
                        self.tell(Input::Tick);
                    }
                }
                job = added.recv(), if open && self.outbox.is_empty() => match job {
                    Some(job) => self.outbox.push_back(Note::Added(Box::new(job))),
                    None => {
                        open = false;
                        self.dispatcher.set_open(false);
                        self.tell(Input::Tick);
                    }
                },
                () = ends.begin_nothing.cancelled(), if !self.drain_seen => self.tell(Input::Tick),
                () = either(cancelled, &ends.stop), if !cancel_seen => {
                    cancel_seen = true;
                    added.close();
                    self.tell(Input::Cancel);
                }
                () = sleep_until(wake_at), if wake_at.is_some() => self.tell(Input::Tick),
            }
            if self.dispatcher.cancelled().is_some() {
                added.close();
            }
        }
    }

    fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Ended { target, end } => {
                let again = again(&end);
                if end.in_doubt {
                    self.quarantine(target, &end.finished);
                }
                let outcome = end.finished.outcome;
                self.unreported.insert(target, end.finished);
                self.tell(Input::Ended { target, outcome, again, lost: end.lost });
            }
            Happening::Reported { target } => self.tell(Input::Reported { target }),
        }
    }

    /// Keeps everybody from a workspace on which a command may still run.
    fn quarantine(&mut self, target: TargetNo, finished: &TargetFinished) {
        if let Some(seat) = self.dispatcher.seat_of(target)
            && let Some(lease) = self.leases.remove(&seat)
        {
            lease.quarantine(format!("a command of {} may still run there", finished.target.label()));
        }
    }

    /// Tells the dispatcher what happened, and does what it says.
    fn tell(&mut self, input: Input) {
        if let Input::Reported { target } = input
            && let Some(seat) = self.dispatcher.seat_of(target)
        {
            // Others may be next in line for it, and what the job left going on there comes before all of them.
            if let Some(lease) = self.leases.remove(&seat) {
                lease.give_back();
            }
        }
        let mut inputs = VecDeque::from([input]);
        // What happens beside a drain must not begin anything any more. A cancellation ends more than that.
        if !self.drain_seen && input != Input::Cancel && self.ends.begin_nothing.is_cancelled() {
            self.drain_seen = true;
            inputs.push_front(Input::Drain);
        }
        while let Some(input) = inputs.pop_front() {
            for action in self.dispatcher.handle(self.clock.elapsed(), input) {
                inputs.extend(self.act(action).into_iter().flatten());
            }
        }
    }

    /// Does one thing, and returns what to tell the dispatcher of it.
    fn act(&mut self, action: Action) -> [Option<Input>; 2] {
        match action {
            Action::Start { target, seat, attempt } => return self.start(target, seat, attempt),
            Action::Retry { target } => self.report(target, RunEventKind::TargetRetried),
            Action::Finish { target } => {
                self.report(target, RunEventKind::TargetFinished);
                self.roster.forget(target);
            }
            Action::GiveUp { target, outcome, attempt } => {
                let finished = Box::new(self.given_up(target, outcome, attempt));
                self.outbox.push_back(Note::Event(RunEventKind::TargetFinished(finished)));
                self.roster.forget(target);
            }
            Action::Cancelled(reason) => {
                self.outbox.push_back(Note::Event(RunEventKind::RunCancelled { reason }));
            }
            Action::StopRunning(reason) => {
                self.shared.reason.set(Some(reason));
                self.shared.stop.cancel();
            }
        }
        [None, None]
    }

    fn start(&mut self, target: TargetNo, seat: SeatNo, attempt: u32) -> [Option<Input>; 2] {
        let address = self.roster.address(seat);
        if self.roster.is_exclusive() && address.is_ok() && !self.leases.contains_key(&seat) {
            let name = self.roster.seat_name(seat);
            let occupied = Some(Input::Occupied { target });
            match self.shared.leases.take(name) {
                TakenByRun::Lease(lease) => {
                    self.leases.insert(seat, lease);
                }
                TakenByRun::Held => {
                    let lease = self.shared.leases.line_up(name);
                    self.lines.push(async move { (seat, lease.await) }.boxed_local());
                    return [occupied, None];
                }
                TakenByRun::Quarantined => {
                    return [occupied, Some(Input::SeatLost { seat, outcome: Outcome::Rejected })];
                }
                TakenByRun::Unknown => {
                    return [occupied, Some(Input::SeatLost { seat, outcome: Outcome::Gone })];
                }
            }
        }
        let Some(job) = self.roster.job(target) else { return [None, None] };
        let work = self.leases.get(&seat).map(RunLease::work);
        let before = self.progress.remove(&target).filter(|before| before.attempt == attempt);
        let id = self.roster.id(target, Some(seat));
        let attempt = Attempt { id, address, job, number: attempt, work, before };
        let shared = self.shared;
        let carry_out = async move { Happening::Ended { target, end: attempt::carry_out(attempt, shared).await } };
        self.going.push(carry_out.boxed_local());
        [None, None]
    }

    fn report(&mut self, target: TargetNo, event: fn(Box<TargetFinished>) -> RunEventKind) {
        let shared = self.shared;
        let finished = self.unreported.remove(&target);
        let report = async move {
            if let Some(finished) = finished {
                shared.emitter.emit(event(finished)).await;
            }
            Happening::Reported { target }
        };
        self.going.push(report.boxed_local());
    }

    /// How a target ended that waited.
    fn given_up(&self, target: TargetNo, outcome: Outcome, attempt: u32) -> TargetFinished {
        let id = self.roster.id(target, None);
        let reason = match (outcome, attempt) {
            (Outcome::Skipped, _) => None,
            (_, 1..) => Some("the run ended before it was tried again; its last attempt tells why"),
            (Outcome::Rejected, _) => Some(
                "no workspace is left that it could run on: they are in quarantine, or what an earlier job began may go on there",
            ),
            _ => Some("the last workspace that it could run on was lost before its turn"),
        };
        let error = reason.map(|reason| {
            let kind = match outcome {
                Outcome::Gone => ErrorKind::Gone { reason: reason.to_owned() },
                Outcome::Unreachable => ErrorKind::Unreachable { reason: reason.to_owned() },
                Outcome::Rejected => ErrorKind::InvalidInput { reason: reason.to_owned() },
                _ => ErrorKind::Stopped { reason: reason.to_owned() },
            };
            Failure::not_sent(kind).on(&id.workspace, Operation::LookUp)
        });
        TargetFinished { target: id, outcome, value: None, error, duration: Duration::ZERO, attempt }
    }

    /// A workspace that the run waited for is its own, or can be used no more.
    fn left_line(&mut self, seat: SeatNo, lease: Option<RunLease>) {
        let input = match lease {
            Some(lease) => {
                self.leases.insert(seat, lease);
                Input::Vacant { seat }
            }
            // All are turned away who wait.
            None if self.shared.leases.have_ended() => Input::Drain,
            // What is still there is in quarantine.
            None if self.shared.leases.has(self.roster.seat_name(seat)) => {
                Input::SeatLost { seat, outcome: Outcome::Rejected }
            }
            None => Input::SeatLost { seat, outcome: Outcome::Gone },
        };
        self.tell(input);
        if !self.dispatcher.is_busy(seat) {
            // Nobody wants it any more, or the window is full: it is not kept from others meanwhile.
            self.leases.remove(&seat);
        }
    }

    /// Gives everything back.
    fn end(self) -> Dispatcher {
        self.dispatcher
    }

    /// Begins to say the next of what is to be said.
    fn say_next(&mut self) {
        if self.saying.is_some() {
            return;
        }
        let Some(note) = self.outbox.pop_front() else { return };
        let emitter = &self.shared.emitter;
        self.saying = Some(match note {
            Note::Event(event) => async move {
                emitter.emit(event).await;
                None
            }
            .boxed_local(),
            Note::Added(job) => async move {
                emitter.emit(RunEventKind::TargetsAdded { targets: 1 }).await;
                Some(job)
            }
            .boxed_local(),
        });
    }
}

/// Whether and how an attempt may be made again.
fn again(end: &AttemptEnd) -> Again {
    if end.stopped_by_run {
        return Again::No;
    }
    match (end.finished.outcome, &end.finished.error) {
        (Outcome::Failed | Outcome::TimedOut, _) => Again::Command,
        (_, Some(error)) if error.is_retryable() && end.repeats_safely => {
            Again::Transport { after: pause(end.finished.attempt, error) }
        }
        _ => Again::No,
    }
}

/// The pause before the next try, with jitter: many workspaces behind one gateway must not all come back at once.
fn pause(attempt: u32, error: &WorkspaceError) -> Duration {
    let pause =
        doubled(FIRST_PAUSE, LONGEST_PAUSE, attempt.saturating_sub(1)).mul_f64(fastrand::f64().mul_add(0.5, 0.5));
    match error.kind {
        ErrorKind::ServerError { retry_after: Some(asked), .. } => pause.max(asked.min(LONGEST_PAUSE)),
        _ => pause,
    }
}

async fn said(saying: &mut Option<LocalBoxFuture<'_, Option<Box<Job>>>>) -> Option<Box<Job>> {
    match saying {
        Some(saying) => saying.await,
        None => std::future::pending().await,
    }
}

async fn either(one: &CancellationToken, other: &CancellationToken) {
    tokio::select! {
        () = one.cancelled() => {}
        () = other.cancelled() => {}
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => actix_rt::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
