use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::CancelReason;
use crate::{
    WorkspaceError,
    fleet::{Outcome, RunEvent, RunEventKind, StepFinished, TargetFinished, TargetId},
    protocol::EventId,
    workspace::OutputStream,
};

/// How far a run had come, from its events so far: what another process needs to go on with it.
///
/// ```
/// use workspace_fleet::fleet::{RunEvent, RunProgress};
///
/// # let stored: Vec<RunEvent> = Vec::new();
/// let progress = RunProgress::from_events(&stored);
/// assert_eq!(progress.next_seq(), stored.len() as u64);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunProgress {
    /// The run; absent before its first event.
    pub(super) run_id: Option<EventId>,
    pub(super) next_seq: u64,
    /// When it began.
    pub(super) started: Option<Timestamp>,
    /// How targets ended, by their labels. A label has several ends only where jobs had the same name, and all but one of
    /// them were rejected.
    pub(super) finished: BTreeMap<Arc<str>, Vec<TargetEnd>>,
    /// Targets that had their turn and have not ended, by their labels.
    pub(super) unfinished: BTreeMap<Arc<str>, TargetProgress>,
    pub(super) cancelled: Option<CancelReason>,
    pub(super) ended: bool,
}

/// How a target ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TargetEnd {
    pub(super) target: TargetId,
    pub(super) outcome: Outcome,
    pub(super) attempt: u32,
}

/// How far a target had come that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TargetProgress {
    /// The target, with the workspace that it was on last.
    pub(super) target: TargetId,
    /// The attempt that is under way, or the last one.
    pub(super) attempt: u32,
    /// When it began; absent when it has ended and another one is to come.
    pub(super) began: Option<Timestamp>,
    /// How the attempt before it ended.
    pub(super) last: Option<Outcome>,
    /// How many attempts ended with a command that failed or timed out.
    pub(super) failed: u32,
    /// How many ended because the workspace could not be used.
    pub(super) unusable: u32,
    /// The steps of the attempt that have ended.
    pub(super) steps: Vec<StepFinished>,
    /// The command that was started and has not ended.
    pub(super) command: Option<CommandProgress>,
    /// Whether the attempt was called slow.
    pub(super) slow: bool,
}

/// How far a command had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommandProgress {
    pub(super) command_id: EventId,
    pub(super) step: usize,
    /// How many bytes of its two streams were told of.
    pub(super) told: [u64; 2],
}

impl RunProgress {
    /// What these events of one run say, which are all from its first one on, in their order.
    pub fn from_events<E: std::borrow::Borrow<RunEvent>>(events: impl IntoIterator<Item = E>) -> Self {
        let mut progress = Self::default();
        for event in events {
            progress.note(event.borrow());
        }
        progress
    }

    /// Takes the next event in. One that was taken in before changes nothing.
    pub fn note(&mut self, event: &RunEvent) {
        if event.seq < self.next_seq {
            return;
        }
        self.run_id = Some(event.run_id);
        self.next_seq = event.seq + 1;
        match &event.kind {
            RunEventKind::RunStarted { .. } => self.started = Some(event.time),
            RunEventKind::TargetBegan { target, attempt } => self.began(target, *attempt, event.time),
            RunEventKind::TargetStarted { target, command_id, step, .. } => {
                if let Some(progress) = self.target(target) {
                    progress.started(*command_id, *step);
                }
            }
            RunEventKind::Output { target, stream, text } => {
                if let Some(command) = self.target(target).and_then(|progress| progress.command.as_mut()) {
                    let stream = usize::from(*stream == OutputStream::Stderr);
                    command.told[stream] += text.len() as u64;
                }
            }
            RunEventKind::TargetSlow { target, .. } => {
                if let Some(progress) = self.target(target) {
                    progress.slow = true;
                }
            }
            RunEventKind::StepFinished(step) => {
                if let Some(progress) = self.target(&step.target) {
                    progress.step_finished(step);
                }
            }
            RunEventKind::TargetRetried(ended) => {
                if let Some(progress) = self.target(&ended.target) {
                    progress.retried(ended);
                }
            }
            RunEventKind::TargetFinished(ended) => self.finished(ended),
            RunEventKind::RunCancelled { reason } => self.cancelled = self.cancelled.max(Some(*reason)),
            RunEventKind::RunFinished(_) => self.ended = true,
            RunEventKind::TargetsAdded { .. } => {}
        }
    }

    /// The run that the events are of; absent where there were none.
    #[must_use]
    pub const fn run_id(&self) -> Option<EventId> {
        self.run_id
    }

    /// The number that the run's next event has.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// When the run began, by the clock of the machine that it began on.
    #[must_use]
    pub const fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// Whether the run has ended, so that there is nothing to go on with.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Why the run ends early, if it does.
    #[must_use]
    pub const fn cancelled(&self) -> Option<CancelReason> {
        self.cancelled
    }

    /// The targets that have ended, with their outcomes.
    pub fn finished_targets(&self) -> impl Iterator<Item = (&TargetId, Outcome)> {
        self.finished.values().flatten().map(|end| (&end.target, end.outcome))
    }

    /// The targets that had their turn and have not ended, with the command that was started and has not ended.
    pub fn unfinished_targets(&self) -> impl Iterator<Item = (&TargetId, Option<EventId>)> {
        self.unfinished.values().map(|progress| (&progress.target, progress.command.map(|command| command.command_id)))
    }

    /// How long ago the run began, by this machine's clock.
    pub(super) fn age(&self) -> Duration {
        self.started.map(since).unwrap_or_default()
    }

    fn target(&mut self, target: &TargetId) -> Option<&mut TargetProgress> {
        self.unfinished.get_mut(target.label())
    }

    fn began(&mut self, target: &TargetId, attempt: u32, time: Timestamp) {
        let before = self.unfinished.remove(target.label());
        let before = before.map(|before| (before.last, before.failed, before.unusable)).unwrap_or_default();
        let progress = TargetProgress {
            target: target.clone(),
            attempt,
            began: Some(time),
            last: before.0,
            failed: before.1,
            unusable: before.2,
            steps: Vec::new(),
            command: None,
            slow: false,
        };
        self.unfinished.insert(target.label().into(), progress);
    }

    fn finished(&mut self, ended: &TargetFinished) {
        // A second job of the same name is rejected, and says nothing of the first.
        let same = |progress: &TargetProgress| progress.attempt == ended.attempt && progress.target == ended.target;
        let label = ended.target.label();
        if ended.outcome != Outcome::Rejected || self.unfinished.get(label).is_some_and(same) {
            self.unfinished.remove(label);
        }
        let end = TargetEnd { target: ended.target.clone(), outcome: ended.outcome, attempt: ended.attempt };
        self.finished.entry(label.into()).or_default().push(end);
    }
}

impl TargetProgress {
    fn started(&mut self, command_id: EventId, step: usize) {
        if self.command.is_none_or(|command| command.command_id != command_id) {
            self.command = Some(CommandProgress { command_id, step, told: [0; 2] });
        }
    }

    fn step_finished(&mut self, step: &StepFinished) {
        // What came of a step is of use only when it may decide what comes of the target.
        if let Some(before) = self.steps.last_mut()
            && before.outcome == Outcome::Succeeded
            && !step.finally
        {
            before.value = None;
        }
        self.command = None;
        self.steps.push(step.clone());
    }

    fn retried(&mut self, ended: &TargetFinished) {
        self.last = Some(ended.outcome);
        match (ended.outcome, &ended.error) {
            (Outcome::Failed | Outcome::TimedOut, _) => self.failed += 1,
            (_, Some(error)) if WorkspaceError::is_retryable(error) => self.unusable += 1,
            _ => {}
        }
        (self.began, self.command, self.slow) = (None, None, false);
        self.steps.clear();
    }
}

/// How long ago that was, by this machine's clock; no time when it was set back since.
pub(super) fn since(time: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        CommandResult, Operation,
        fleet::{OutcomeCounts, RunSummary, TargetValue},
    };

    fn job(name: &str) -> TargetId {
        TargetId { workspace: "w".into(), job: Some(name.into()) }
    }

    fn ended(name: &str, outcome: Outcome, attempt: u32, error: Option<WorkspaceError>) -> Box<TargetFinished> {
        Box::new(TargetFinished { target: job(name), outcome, value: None, error, duration: Duration::ZERO, attempt })
    }

    fn value() -> TargetValue {
        let json = serde_json::json!({ "command": "c", "exit_code": 0, "stdout": "x", "stderr": "",
            "timeout_occurred": false, "command_id": EventId::nth(1), "duration_ms": 1 });
        TargetValue::Command(serde_json::from_value::<CommandResult>(json).unwrap())
    }

    fn step(name: &str, index: usize, finally: bool) -> RunEventKind {
        RunEventKind::StepFinished(Box::new(StepFinished {
            target: job(name),
            step: "s".to_owned(),
            index,
            finally,
            outcome: Outcome::Succeeded,
            value: Some(value()),
            error: None,
            duration: Duration::ZERO,
            attempt: 1,
        }))
    }

    fn output(name: &str, stream: OutputStream, text: &str) -> RunEventKind {
        RunEventKind::Output { target: job(name), stream, text: text.to_owned() }
    }

    fn started(name: &str, id: u8, attempt: u32, step: usize) -> RunEventKind {
        RunEventKind::TargetStarted { target: job(name), command_id: EventId::nth(id), attempt, step }
    }

    fn busy() -> WorkspaceError {
        let kind = crate::ErrorKind::ServerError { status: 503, detail: String::new(), retry_after: None };
        crate::Failure::not_sent(kind).on("w", Operation::ExecuteCommand)
    }

    fn recorded() -> Vec<RunEvent> {
        let began = |name: &str, attempt| RunEventKind::TargetBegan { target: job(name), attempt };
        let kinds = vec![
            RunEventKind::RunStarted { command: "c".to_owned(), targets: 3, fanout: 2 },
            began("a", 1),
            began("b", 1),
            started("a", 1, 1, 0),
            output("a", OutputStream::Stdout, "é1"),
            step("a", 0, false),
            started("a", 2, 1, 1),
            RunEventKind::TargetRetried(ended("b", Outcome::ServerError, 1, Some(busy()))),
            began("b", 2),
            output("a", OutputStream::Stderr, "err"),
            output("a", OutputStream::Stdout, "12345"),
            started("b", 3, 2, 0),
            RunEventKind::TargetSlow { target: job("b"), running_for: Duration::from_secs(1) },
            RunEventKind::TargetRetried(ended("b", Outcome::Failed, 2, None)),
            // Another job of the same name.
            RunEventKind::TargetFinished(ended("a", Outcome::Rejected, 9, None)),
            step("a", 1, false),
            step("a", 2, true),
            RunEventKind::RunCancelled { reason: CancelReason::MaxFailWait },
            RunEventKind::TargetFinished(ended("a", Outcome::Succeeded, 1, None)),
            RunEventKind::TargetFinished(ended("b", Outcome::Failed, 2, None)),
            RunEventKind::RunFinished(RunSummary {
                total: 3,
                outcomes: OutcomeCounts::default(),
                flaky: 0,
                cancelled: Some(CancelReason::MaxFailWait),
                duration: Duration::ZERO,
            }),
        ];
        let event = |(seq, kind): (u64, RunEventKind)| RunEvent {
            seq,
            time: Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap(),
            run_id: EventId::nth(9),
            trace: None,
            kind,
        };
        (0..).zip(kinds).map(event).collect()
    }

    fn after(events: usize) -> RunProgress {
        RunProgress::from_events(&recorded()[..events])
    }

    #[test]
    fn a_command_goes_on_from_what_was_told_of_it() {
        let a = &after(11).unfinished["a"];
        let command = CommandProgress { command_id: EventId::nth(2), step: 1, told: [5, 3] };
        assert_eq!((a.command, a.steps.len(), a.began.map(Timestamp::as_second)), (Some(command), 1, Some(1)));
        assert!(a.steps[0].value.is_some(), "it decides, should nothing come after it");
        let done = &after(17).unfinished["a"];
        assert_eq!((done.command, done.steps.len()), (None, 3));
        let kept: Vec<_> = done.steps.iter().map(|step| step.value.is_some()).collect();
        assert_eq!(kept, [false, true, true]);
    }

    #[test]
    fn attempts_are_counted_by_why_they_ended() {
        let b = &after(13).unfinished["b"];
        assert_eq!((b.attempt, b.failed, b.unusable, b.last, b.slow), (2, 0, 1, Some(Outcome::ServerError), true));
        let b = &after(14).unfinished["b"];
        assert_eq!((b.attempt, b.began, b.failed, b.unusable, b.slow), (2, None, 1, 1, false));
        assert_eq!(b.last, Some(Outcome::Failed));
    }

    #[test]
    fn targets_end_and_so_does_the_run() {
        let progress = after(15);
        assert_eq!(progress.finished_targets().count(), 1);
        assert!(progress.unfinished.contains_key("a"), "the one that was rejected is another");
        assert_eq!((progress.cancelled(), after(18).cancelled()), (None, Some(CancelReason::MaxFailWait)));
        let all = after(recorded().len());
        assert!(all.has_ended() && !progress.has_ended());
        assert_eq!((all.unfinished_targets().count(), all.finished_targets().count()), (0, 3));
        assert_eq!((all.next_seq(), all.run_id()), (recorded().len() as u64, Some(EventId::nth(9))));
        assert_eq!(all.started().map(Timestamp::as_second), Some(0));
    }

    proptest! {
        #[test]
        fn it_can_be_stored_at_any_moment_and_events_may_come_twice(cut in 0..22usize, back in 0..22usize) {
            let events = recorded();
            let (cut, back) = (cut.min(events.len()), back.min(cut));
            let json = serde_json::to_string(&after(cut)).unwrap();
            let mut progress: RunProgress = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&progress, &after(cut));
            for event in &events[cut - back..] {
                progress.note(event);
            }
            prop_assert_eq!(progress, after(events.len()));
        }
    }
}
