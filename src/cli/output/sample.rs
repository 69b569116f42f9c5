//! Events for tests.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    CommandResult, ErrorKind, Failure, Operation, Outcome, OutputStream,
    fleet::{
        CancelReason, OutcomeCounts, RunEvent, RunEventKind, RunSummary, StepFinished, TargetFinished, TargetId,
        TargetValue,
    },
    protocol::EventId,
};

/// A command that ended.
pub(super) fn command(exit_code: i32, stdout: &str, stderr: &str) -> CommandResult {
    CommandResult {
        command: "cmd".into(),
        exit_code,
        stdout: stdout.into(),
        stderr: stderr.into(),
        timeout_occurred: false,
        stopped: false,
        raw_exit_code: Some(exit_code),
        command_id: id(),
        duration: Duration::from_millis(1200),
        stdout_bytes: stdout.len() as u64,
        stderr_bytes: stderr.len() as u64,
        truncated: false,
        trace: None,
    }
}

/// An id that is always the same.
pub(super) fn id() -> EventId {
    "00000000000000000000000000000001".parse().unwrap()
}

/// How the target `w1` ended.
pub(super) fn target(outcome: Outcome, value: Option<TargetValue>) -> TargetFinished {
    let duration = Duration::from_millis(1500);
    TargetFinished { target: TargetId::workspace("w1"), outcome, value, error: None, duration, attempt: 1 }
}

/// The event of that.
pub(super) fn finished(outcome: Outcome, value: Option<TargetValue>) -> RunEventKind {
    RunEventKind::TargetFinished(Box::new(target(outcome, value)))
}

/// A target whose command ended with this code.
pub(super) fn ran(name: &str, exit_code: i32, stdout: &str, stderr: &str) -> RunEventKind {
    let outcome = if exit_code == 0 { Outcome::Succeeded } else { Outcome::Failed };
    let ended = target(outcome, Some(TargetValue::Command(command(exit_code, stdout, stderr))));
    RunEventKind::TargetFinished(Box::new(TargetFinished { target: TargetId::workspace(name), ..ended }))
}

pub(super) fn failed() -> RunEventKind {
    ran("w1", 3, "no newline", "bad\nworse\n")
}

pub(super) fn alive() -> RunEventKind {
    finished(Outcome::Succeeded, Some(TargetValue::Alive(Duration::from_micros(1500))))
}

pub(super) fn refused() -> RunEventKind {
    unusable("w1")
}

/// A target that refuses connections.
pub(super) fn unusable(name: &str) -> RunEventKind {
    let kind = ErrorKind::Unreachable { reason: "connection refused".into() };
    let error = Some(Failure::not_sent(kind).on(name, Operation::ExecuteCommand));
    let ended = target(Outcome::Unreachable, None);
    RunEventKind::TargetFinished(Box::new(TargetFinished { target: TargetId::workspace(name), error, ..ended }))
}

pub(super) fn began(name: &str) -> RunEventKind {
    RunEventKind::TargetBegan { target: TargetId::workspace(name), attempt: 1 }
}

pub(super) fn output(name: &str, stream: OutputStream, text: &str) -> RunEventKind {
    RunEventKind::Output { target: TargetId::workspace(name), stream, text: text.into() }
}

pub(super) fn slow(name: &str, seconds: u64) -> RunEventKind {
    RunEventKind::TargetSlow { target: TargetId::workspace(name), running_for: Duration::from_secs(seconds) }
}

/// An attempt at a target that failed, and is followed by another.
pub(super) fn retried(name: &str) -> RunEventKind {
    let RunEventKind::TargetFinished(ended) = ran(name, 9, "", "once\n") else { unreachable!() };
    RunEventKind::TargetRetried(ended)
}

/// A step of a job on `w1`.
pub(super) fn step(name: &str) -> RunEventKind {
    RunEventKind::StepFinished(Box::new(StepFinished {
        target: TargetId { workspace: "w1".into(), job: Some("job-1".into()) },
        step: name.into(),
        index: 0,
        finally: false,
        outcome: Outcome::Succeeded,
        value: Some(TargetValue::Command(command(0, "built\n", ""))),
        error: None,
        duration: Duration::from_millis(700),
        attempt: 1,
    }))
}

pub(super) fn started(targets: usize, fanout: usize) -> RunEventKind {
    RunEventKind::RunStarted { command: "cmd".into(), targets, fanout }
}

/// The end of a run with these outcomes.
pub(super) fn summary(counts: &[(Outcome, usize)]) -> RunEventKind {
    run_finished(counts, 0, None)
}

pub(super) fn run_finished(counts: &[(Outcome, usize)], flaky: usize, cancelled: Option<CancelReason>) -> RunEventKind {
    let mut outcomes = OutcomeCounts::default();
    for (outcome, count) in counts {
        (0..*count).for_each(|_| outcomes.add(*outcome));
    }
    let duration = Duration::from_secs(2);
    RunEventKind::RunFinished(RunSummary { total: outcomes.total(), outcomes, flaky, cancelled, duration })
}

/// These events, a second apart.
pub(super) fn events(kinds: Vec<RunEventKind>) -> Vec<RunEvent> {
    let numbered = kinds.into_iter().enumerate();
    let event = |(seq, kind)| RunEvent { seq: seq as u64, time: at(seq as i64), run_id: id(), trace: None, kind };
    numbered.map(event).collect()
}

/// So many seconds after the epoch.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}
