use std::time::Duration;

use futures::StreamExt as _;
use workspace_fleet::{
    Connection, Fleet, Outcome, RunSpec, Selector, WorkspaceConfig,
    fleet::{CancelReason, RunEventKind, TargetValue},
    messages::ExecuteCommand,
};

use crate::{
    sandboxes::{Sandboxes, count, end_of, events, eventually, most_at_once, outcome_of, runs, stdout, summary, until},
    support::processes,
};

fn all(command: impl Into<ExecuteCommand>) -> RunSpec {
    RunSpec::command(Selector::all(), command)
}

/// A command that says that it runs, and goes on until it is stopped.
fn endless(sandboxes: &Sandboxes) -> ExecuteCommand {
    let folder = sandboxes.shared("").display().to_string();
    let text = format!("echo begun; echo $$ > {folder}$W.part; mv {folder}$W.part {folder}$W.pid; sleep 1000");
    ExecuteCommand::new(text).with_timeout(None).with_env("W", "{workspace}")
}

#[tokio::test]
async fn the_window_and_the_caps_hold() {
    let sandboxes = Sandboxes::start(6).await;
    // A second workspace on each of two agents: they share its host and port.
    for number in 0..2 {
        let connection = Connection::new(&sandboxes.agents[number].url()).unwrap();
        sandboxes.fleet.add(WorkspaceConfig::new(format!("twin-{number}"), connection)).await.unwrap();
    }
    let happened = events(sandboxes.fleet.run(all("sleep 0.05").with_fanout(3))).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Succeeded), 8);
    assert_eq!(most_at_once(&happened, |_| true), 3);

    let happened = events(sandboxes.fleet.run(all("sleep 0.05").with_per_host(1))).await;
    for number in 0..2 {
        let (one, other) = (format!("w{number}"), format!("twin-{number}"));
        assert_eq!(most_at_once(&happened, |name| name == one || name == other), 1);
    }
    let cap = "half=1".parse::<workspace_fleet::fleet::LabelCap>().unwrap();
    let happened = events(sandboxes.fleet.run(all("sleep 0.05").with_per_label(cap))).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Succeeded), 8);
    assert_eq!(most_at_once(&happened, |name| ["w0", "w2", "w4"].contains(&name)), 1);
    sandboxes.end().await;
}

#[tokio::test]
async fn the_rate_holds() {
    let sandboxes = Sandboxes::start(4).await;
    let happened = events(sandboxes.fleet.run(all("true").with_rate(5.0))).await;
    let began = happened.iter().filter(|event| matches!(event.kind, RunEventKind::TargetBegan { .. }));
    let began: Vec<_> = began.map(|event| event.time).collect();
    let took = Duration::try_from(began[3].duration_since(began[0])).unwrap();
    // What is said of the first may come late, of the last it never comes early.
    assert!(took > Duration::from_millis(450), "{took:?}");
    sandboxes.end().await;
}

#[tokio::test]
async fn too_many_failures_stop_what_runs_and_leave_no_process() {
    let sandboxes = Sandboxes::start(6).await;
    let mut command = endless(&sandboxes);
    let folder = sandboxes.shared("");
    let pids = format!("{}*.pid", folder.display());
    command.command = format!(
        "[ $W = w0 ] || setsid sleep 1000 & if [ $W = w0 ]; then while [ $(ls {pids} 2>/dev/null | wc -l) -lt 3 ]; do sleep 0.02; done; exit 1; fi; {}",
        command.command
    );
    let spec =
        all(command).with_fanout(4).with_max_fail("1:immediate".parse::<workspace_fleet::fleet::MaxFail>().unwrap());
    let happened = events(sandboxes.fleet.run(spec)).await;
    let summary = summary(&happened);
    assert_eq!(summary.cancelled, Some(CancelReason::MaxFailImmediate));
    for (outcome, times) in [(Outcome::Failed, 1), (Outcome::Stopped, 3), (Outcome::Skipped, 2)] {
        assert_eq!(summary.outcomes.get(outcome), times, "{outcome}");
    }
    for number in 1..4 {
        let name = format!("w{number}");
        assert_eq!(stdout(end_of(&happened, &name)), "begun\n");
    }
    eventually("something runs on", || processes::running_in(&sandboxes.shared("")).is_empty()).await;
    sandboxes.end().await;
}

#[tokio::test]
async fn a_command_that_fails_once_is_flaky() {
    let sandboxes = Sandboxes::start(2).await;
    let command = "case $PWD in */w0) exit 0;; esac; [ -e seen ] || { touch seen; exit 3; }";
    let happened = events(sandboxes.fleet.run(all(command).with_retries(2))).await;
    let summary = summary(&happened);
    assert_eq!((summary.flaky, summary.outcomes.get(Outcome::Succeeded)), (1, 2));
    assert_eq!(count(&happened, |event| matches!(event, RunEventKind::TargetRetried(_))), 1);
    assert_eq!((end_of(&happened, "w0").attempt, end_of(&happened, "w1").attempt), (1, 2));

    let happened = events(sandboxes.fleet.run(all("echo x >> times; exit 1").with_retries(2))).await;
    assert_eq!(end_of(&happened, "w0").attempt, 3);
    assert_eq!(sandboxes.read("w0/times").lines().count(), 3);
    sandboxes.end().await;
}

#[tokio::test]
async fn a_workspace_that_refuses_is_tried_again_and_a_command_that_fails_is_not() {
    let sandboxes = Sandboxes::start(1).await;
    // Bound and not listening: connections are refused, and nobody else can take the port meanwhile.
    let refuses = tokio::net::TcpSocket::new_v4().unwrap();
    refuses.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = Connection::new(&format!("http://{}", refuses.local_addr().unwrap())).unwrap();
    sandboxes.fleet.add(WorkspaceConfig::new("dead", connection)).await.unwrap();
    let happened = events(sandboxes.fleet.run(all("exit 1").with_transport_retries(2))).await;
    assert_eq!((outcome_of(&happened, "dead"), end_of(&happened, "dead").attempt), (Outcome::Unreachable, 3));
    assert_eq!((outcome_of(&happened, "w0"), end_of(&happened, "w0").attempt), (Outcome::Failed, 1));
    assert_eq!(count(&happened, |event| matches!(event, RunEventKind::TargetRetried(_))), 2);
    sandboxes.end().await;
}

#[tokio::test]
async fn the_runs_own_time_stops_what_runs_and_keeps_its_output() {
    let sandboxes = Sandboxes::start(3).await;
    let spec = all(endless(&sandboxes)).with_fanout(2).with_global_timeout(Duration::from_secs(4)).with_retries(5);
    let happened = events(sandboxes.fleet.run(spec)).await;
    let summary = summary(&happened);
    assert_eq!(summary.cancelled, Some(CancelReason::GlobalTimeout));
    assert_eq!((summary.outcomes.get(Outcome::TimedOut), summary.outcomes.get(Outcome::Skipped)), (2, 1));
    let ended = end_of(&happened, "w0");
    let Some(TargetValue::Command(result)) = &ended.value else { panic!("{ended:?}") };
    assert!(result.timeout_occurred && !result.stopped && result.stdout == "begun\n", "{result:?}");
    sandboxes.end().await;
}

#[tokio::test]
async fn the_time_of_a_target_bounds_it_and_those_that_still_run_are_called_slow() {
    let sandboxes = Sandboxes::start(2).await;
    let command = ExecuteCommand::new("echo begun; [ $W = w1 ] || sleep 1000").with_timeout(None);
    let spec = all(command.with_env("W", "{workspace}")).with_target_timeout(Duration::from_secs(4));
    let happened = events(sandboxes.fleet.run(spec.with_slow_after(Duration::from_millis(800)))).await;
    assert_eq!(outcome_of(&happened, "w0"), Outcome::TimedOut);
    assert_eq!(stdout(end_of(&happened, "w0")), "begun\n");
    let slow =
        |event: &RunEventKind| matches!(event, RunEventKind::TargetSlow { target, .. } if &*target.workspace == "w0");
    assert_eq!(count(&happened, slow), 1);
    assert_eq!(summary(&happened).cancelled, None);
    sandboxes.end().await;
}

#[tokio::test]
async fn a_cancelled_run_keeps_what_was_gathered() {
    let sandboxes = Sandboxes::start(3).await;
    let mut run = sandboxes.fleet.run(all(endless(&sandboxes)).with_fanout(2).with_stream_output(true));
    let mut begun = 0;
    until(&mut run, |event| {
        begun += usize::from(matches!(event, RunEventKind::Output { .. }));
        begun == 2
    })
    .await;
    run.cancel();
    let rest: Vec<_> = tokio::time::timeout(crate::sandboxes::PATIENCE, run.collect()).await.unwrap();
    assert_eq!(outcome_of(&rest, "w0"), Outcome::Stopped);
    assert_eq!(stdout(end_of(&rest, "w0")), "begun\n");
    assert_eq!(outcome_of(&rest, "w2"), Outcome::Skipped);
    assert_eq!(summary(&rest).cancelled, Some(CancelReason::Cancelled));
    sandboxes.end().await;
}

#[tokio::test]
async fn dropping_the_stream_stops_what_runs() {
    let sandboxes = Sandboxes::start(1).await;
    let mut run = sandboxes.fleet.run(all(endless(&sandboxes)));
    until(&mut run, |event| matches!(event, RunEventKind::TargetStarted { .. })).await;
    let pid = sandboxes.shared("w0.pid");
    eventually("the command does not run", || runs(&pid)).await;
    drop(run);
    eventually("the command runs on", || !runs(&pid)).await;
    sandboxes.end().await;
}

#[tokio::test]
async fn a_report_has_every_target_without_its_output() {
    let sandboxes = Sandboxes::start(2).await;
    let report = sandboxes.fleet.run(all("echo out")).report().await.unwrap();
    assert_eq!((report.targets.len(), report.summary.total), (2, 2));
    let Some(TargetValue::Command(result)) = &report.targets[0].value else { panic!("{report:?}") };
    assert_eq!((result.stdout.as_str(), result.stdout_bytes, result.truncated), ("", 4, true));
    sandboxes.end().await;
}

#[tokio::test]
async fn ten_thousand_targets_are_reported_once_each() {
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    // The address is refused before anything is sent, so that this is the run's own work.
    let names: Vec<_> = (0..10_000).map(|number| format!("none-{number}")).collect();
    let run = fleet.run(RunSpec::command(Selector::names(names), "true"));
    let happened = events(run).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Rejected), 10_000);
    fleet.shutdown().await;
}
