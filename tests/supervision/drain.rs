use std::{fs, time::Duration};

use workspace_fleet::{
    Drain, Effect, ErrorKind, Outcome, RunSpec, Selector, WorkspaceError, fleet::DrainEnd, messages::HoldUntil,
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

#[tokio::test]
async fn after_the_end_there_is_nothing_to_drain_and_the_status_says_so() {
    let scene = Scene::new();
    let fleet = scene.fleet.clone();
    scene.end().await;
    assert!(fleet.drain(Drain::default()).await.commands.is_empty());
    assert!(fleet.status().await.ended);
    assert!(fleet.snapshots(Selector::all()).await.is_empty());
}
