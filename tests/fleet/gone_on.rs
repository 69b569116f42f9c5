//! Runs that are gone on with from events of a process that has ended.

use std::time::Duration;

use jiff::Timestamp;
use workspace_fleet::{
    Outcome, RunSpec, Selector,
    fleet::{CancelReason, Job, JobStep, RunEvent, RunEventKind, RunOperation, RunProgress, TargetId},
    messages::ExecuteCommand,
    protocol::EventId,
};

use crate::sandboxes::{PATIENCE, Sandboxes, count, outcome_of, summary};

const HOUR: Duration = Duration::from_secs(3600);

fn run(command: &str) -> JobStep {
    JobStep::new(RunOperation::Execute(ExecuteCommand::new(command)))
}

/// The events of a run that began an hour ago.
fn an_hour_ago(kinds: Vec<RunEventKind>) -> Vec<RunEvent> {
    let (run_id, time) = (EventId::random(), Timestamp::now() - HOUR);
    let begin = RunEventKind::RunStarted { command: "c".to_owned(), targets: 2, fanout: 2 };
    let event = |(seq, kind)| RunEvent { seq, time, run_id, trace: None, kind };
    (0..).zip(std::iter::once(begin).chain(kinds)).map(event).collect()
}

fn began(workspace: &str) -> RunEventKind {
    RunEventKind::TargetBegan { target: TargetId::workspace(workspace), attempt: 1 }
}

/// All events, those from before first.
async fn all(sandboxes: &Sandboxes, spec: RunSpec, before: Vec<RunEvent>) -> Vec<RunEvent> {
    let spec = spec.with_id(before[0].run_id).with_progress(RunProgress::from_events(&before));
    let run = futures::StreamExt::collect::<Vec<_>>(sandboxes.fleet.run(spec));
    let after = tokio::time::timeout(PATIENCE, run).await.expect("the run does not end");
    let events = [before, after].concat();
    assert!((0..).zip(&events).all(|(seq, event)| event.seq == seq && event.run_id == events[0].run_id));
    assert_eq!(count(&events, |event| matches!(event, RunEventKind::RunStarted { .. })), 1);
    events
}

#[tokio::test]
async fn a_command_that_its_server_lost_is_not_started_again() {
    let sandboxes = Sandboxes::start(2).await;
    let target = TargetId::workspace("w0");
    let started = RunEventKind::TargetStarted { target, command_id: EventId::random(), attempt: 1, step: 0 };
    let before = an_hour_ago(vec![began("w0"), started]);
    let spec = RunSpec::command(Selector::all(), "echo ran >>ran").with_retries(3).with_transport_retries(3);
    let events = all(&sandboxes, spec, before).await;
    assert_eq!((outcome_of(&events, "w0"), outcome_of(&events, "w1")), (Outcome::OutcomeUnknown, Outcome::Succeeded));
    assert_eq!((&*sandboxes.read("w0/ran"), &*sandboxes.read("w1/ran")), ("", "ran\n"));
    assert!(summary(&events).duration >= HOUR);
    sandboxes.end().await;
}

#[tokio::test]
async fn a_cancelled_run_carries_out_what_is_left_of_finally_and_no_more() {
    let sandboxes = Sandboxes::start(2).await;
    let cancelled = RunEventKind::RunCancelled { reason: CancelReason::Cancelled };
    let before = an_hour_ago(vec![began("w0"), cancelled]);
    let job = Job::new([run("touch never"), run("touch never")]).with_finally([run("touch always")]);
    let events = all(&sandboxes, RunSpec::each(Selector::all(), job), before).await;
    assert_eq!((outcome_of(&events, "w0"), outcome_of(&events, "w1")), (Outcome::Stopped, Outcome::Skipped));
    let exists = |name: &str| sandboxes.shared(name).exists();
    assert!(exists("w0/always") && !exists("w1/always") && !exists("w0/never") && !exists("w1/never"));
    assert_eq!(count(&events, |event| matches!(event, RunEventKind::RunCancelled { .. })), 1);
    assert_eq!(summary(&events).cancelled, Some(CancelReason::Cancelled));
    sandboxes.end().await;
}

#[tokio::test]
async fn its_time_counts_from_its_beginning_and_a_run_that_has_ended_says_no_more() {
    let sandboxes = Sandboxes::start(2).await;
    let spec = || RunSpec::command(Selector::all(), "echo ran >>ran").with_global_timeout(HOUR / 2);
    let events = all(&sandboxes, spec(), an_hour_ago(Vec::new())).await;
    assert_eq!(summary(&events).cancelled, Some(CancelReason::GlobalTimeout));
    assert_eq!(summary(&events).outcomes.get(Outcome::Skipped), 2);
    let known = events.len();
    assert_eq!(all(&sandboxes, spec(), events).await.len(), known);
    assert_eq!((&*sandboxes.read("w0/ran"), &*sandboxes.read("w1/ran")), ("", ""));
    sandboxes.end().await;
}
