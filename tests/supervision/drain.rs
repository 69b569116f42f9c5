use std::{fs, time::Duration};

use workspace_fleet::{
    Drain, Effect, ErrorKind, Outcome, RunSpec, Selector, WorkspaceError,
    fleet::{CancelReason, DrainEnd, Job, JobStep, RunOperation},
    messages::{ExecuteCommand, HoldUntil},
};

use crate::scene::{LIMIT, Scene, until, within};

fn is_told_of_the_drain(error: &WorkspaceError) -> bool {
    error.effect == Effect::NotSent
        && matches!(&error.kind, ErrorKind::Stopped { reason } if reason.contains("being drained"))
}

#[tokio::test]
async fn what_runs_finishes_within_the_bound_and_nothing_new_is_taken() {
    let scene = Scene::new();
    let (one, two) = (scene.add("one").await, scene.add("two").await);
    let finishing =
        [one.execute_command(until("go")), two.execute_command(until("go").with_hold_until(HoldUntil::Finished))];
    scene.begun(2).await;
    let waiting = two.execute_command("echo waiting");
    within(async {
        while scene.fleet.status().await.waiting_steps == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let draining = tokio::spawn({
        let fleet = scene.fleet.clone();
        async move { fleet.drain(Drain::within(LIMIT)).await }
    });
    within(async {
        while !scene.fleet.status().await.draining {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(is_told_of_the_drain(&within(waiting).await.unwrap_err()), "what waited is turned away");
    assert!(is_told_of_the_drain(&within(one.execute_command("true")).await.unwrap_err()));
    assert!(is_told_of_the_drain(&within(scene.fleet.add(scene.config("three"))).await.unwrap_err()));
    let run = scene.fleet.run(RunSpec::command(Selector::all(), "true"));
    let summary = within(run.finish()).await.unwrap();
    assert_eq!(summary.outcomes.get(Outcome::Skipped), 2, "a run reports each target, and begins with none");
    assert!(!draining.is_finished());

    fs::write(scene.root.path().join("go"), "").unwrap();
    let report = within(draining).await.unwrap();
    for command in finishing {
        assert_eq!(within(command).await.unwrap().stdout, "waiting\ndone\n");
    }
    assert_eq!((report.count(DrainEnd::Finished), report.commands.len(), report.turned_away), (2, 2, 1), "{report:?}");
    let status = scene.fleet.status().await;
    assert_eq!((status.running_commands, status.stopped_workspaces, status.ended), (0, 2, false));
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<workspace_fleet::DrainReport>(&json).unwrap().commands, report.commands);
    scene.end().await;
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_stopped() {
    let scene = Scene::new();
    let workspaces = [scene.add("one").await, scene.add("two").await, scene.add("three").await];
    let running: Vec<_> = workspaces.iter().map(|workspace| workspace.execute_command(until("never"))).collect();
    scene.begun(3).await;
    scene.running(3).await;
    let report = within(scene.fleet.drain(Drain::within(Duration::from_millis(300)))).await;
    assert_eq!((report.count(DrainEnd::Stopped), report.commands.len()), (3, 3), "{report:?}");
    assert!(report.duration >= Duration::from_millis(300));
    for command in running {
        let result = within(command).await.unwrap();
        assert!(result.stopped, "{result:?}");
        assert_eq!(result.stdout, "waiting\n");
    }
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    // Draining once more finds nothing to do.
    assert!(within(scene.fleet.drain(Drain::default())).await.commands.is_empty());
    scene.end().await;
}

fn step(command: impl Into<ExecuteCommand>) -> JobStep {
    JobStep::new(RunOperation::Execute(command.into()))
}

#[tokio::test]
async fn a_job_that_has_begun_goes_through_its_steps_and_those_that_wait_are_skipped() {
    let scene = Scene::new();
    scene.add("w").await;
    let job = |name: &str| {
        Job::new([step(until("go")), step("echo $J >>second")])
            .with_finally([step("echo $J >>finally")])
            .with_env("J", "{job}")
            .with_name(name)
    };
    let run = tokio::spawn(scene.fleet.run(RunSpec::jobs(Selector::all(), ["one", "two", "three"].map(job))).report());
    scene.begun(1).await;
    let lease = tokio::spawn(scene.fleet.acquire(Selector::all()));
    let draining = tokio::spawn({
        let fleet = scene.fleet.clone();
        async move { fleet.drain(Drain::within(LIMIT)).await }
    });
    let turned_away = within(lease).await.unwrap().unwrap_err();
    assert!(is_told_of_the_drain(&turned_away), "{turned_away:?}");
    fs::write(scene.root.path().join("go"), "").unwrap();
    let report = within(run).await.unwrap().unwrap();
    assert_eq!(report.summary.cancelled, Some(CancelReason::Drained));
    for (outcome, times) in [(Outcome::Succeeded, 1), (Outcome::Skipped, 2)] {
        assert_eq!(report.summary.outcomes.get(outcome), times, "{report:?}");
    }
    for file in ["second", "finally"] {
        assert_eq!(fs::read_to_string(scene.root.path().join(file)).unwrap(), "one\n");
    }
    let drained = within(draining).await.unwrap();
    assert_eq!((drained.count(DrainEnd::Finished), drained.commands.len()), (3, 3), "{drained:?}");
    scene.end().await;
}

#[tokio::test]
async fn a_job_that_outlasts_a_drain_is_stopped_and_its_finally_steps_are_carried_out() {
    let scene = Scene::new();
    scene.add("w").await;
    let job = Job::new([step(until("never")), step("touch second")]).with_finally([step("touch finally")]);
    let run = tokio::spawn(scene.fleet.run(RunSpec::jobs(Selector::all(), [job])).report());
    scene.begun(1).await;
    within(scene.fleet.drain(Drain::within(Duration::from_millis(300)))).await;
    let report = within(run).await.unwrap().unwrap();
    assert_eq!(report.summary.outcomes.get(Outcome::Stopped), 1, "{report:?}");
    let exists = |file: &str| scene.root.path().join(file).exists();
    assert!(exists("finally") && !exists("second"));
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    scene.end().await;
}

#[tokio::test]
async fn after_the_end_there_is_nothing_to_drain_and_the_status_says_so() {
    let scene = Scene::new();
    let fleet = scene.fleet.clone();
    scene.end().await;
    assert!(fleet.drain(Drain::default()).await.commands.is_empty());
    assert!(fleet.status().await.ended);
    assert!(fleet.snapshots(Selector::all()).await.is_empty());
}
