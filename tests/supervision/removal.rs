use std::fs;

use workspace_fleet::{Effect, ErrorKind, OnRemove};

use crate::scene::{Scene, until, within};

#[tokio::test]
async fn a_command_of_a_detached_workspace_runs_on() {
    let scene = Scene::new();
    let workspace = scene.add("w").await;
    let running = workspace.execute_command(until("go"));
    scene.begun(1).await;
    scene.running(1).await;
    within(scene.fleet.remove_with("w", OnRemove::Detach)).await.unwrap();
    let error = within(running).await.unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Stopped { reason } if reason.contains("runs on")), "{error}");
    assert_eq!(error.effect, Effect::Done);
    assert!(!scene.processes().is_empty(), "it was stopped");
    assert!(scene.fleet.workspace("w").await.is_none());
    assert_eq!(scene.fleet.status().await.running_commands, 0);
    fs::write(scene.root.path().join("go"), "").unwrap();
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    scene.end().await;
}

#[tokio::test]
async fn a_command_of_a_removed_workspace_is_stopped() {
    let scene = Scene::new();
    let workspace = scene.add("w").await;
    let running = workspace.execute_command(until("never"));
    scene.begun(1).await;
    scene.running(1).await;
    within(scene.fleet.remove("w")).await.unwrap();
    let result = within(running).await.unwrap();
    assert!(result.stopped, "{result:?}");
    assert_eq!(result.stdout, "waiting\n");
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    let error = within(workspace.execute_command("true")).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Stopped { .. }), "{error}");
    scene.end().await;
}
