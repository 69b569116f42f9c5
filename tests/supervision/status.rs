use std::time::{Duration, Instant};

use workspace_fleet::{Selector, fleet::FleetStatus};

use crate::scene::{Scene, within};

const WORKSPACES: usize = 10_000;

#[tokio::test]
async fn ten_thousand_workspaces_answer_at_once() {
    let scene = Scene::new();
    for batch in (0..WORKSPACES).collect::<Vec<_>>().chunks(500) {
        let adding = batch.iter().map(|number| {
            let tier = if number % 10 == 0 { "gpu" } else { "cpu" };
            scene.fleet.add(scene.config(&format!("w{number}")).with_label("tier", tier))
        });
        futures::future::try_join_all(adding).await.unwrap();
    }
    let began = Instant::now();
    let status = within(scene.fleet.status()).await;
    let gpus = within(scene.fleet.snapshots(Selector::label("tier", "gpu"))).await;
    let took = began.elapsed();
    assert_eq!(status.workspaces, WORKSPACES);
    assert_eq!(gpus.len(), WORKSPACES / 10);
    let added = scene.fleet.list(Selector::label("tier", "gpu")).await;
    let in_order = gpus.iter().map(|snapshot| &snapshot.name).eq(added.iter().map(|info| &info.name));
    assert!(in_order, "not in the order in which they were added");
    assert!(took < Duration::from_secs(1), "{took:?}");
    scene.end().await;
}

#[tokio::test]
async fn the_status_counts_what_happened_and_keeps_what_was_removed() {
    let scene = Scene::new();
    let (one, two) = (scene.add("one").await, scene.add("two").await);
    one.execute_command("echo 123456789").await.unwrap();
    two.execute_command("false").await.unwrap();
    scene.fleet.remove("one").await.unwrap();
    let status = scene.fleet.status().await;
    assert_eq!((status.workspaces, status.running_commands, status.running_runs), (1, 0, 0));
    assert_eq!((status.totals.commands_started, status.totals.commands_finished), (2, 2));
    assert_eq!(status.totals.output_bytes, 10);
    assert!(!status.draining && !status.ended);
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<FleetStatus>(&json).unwrap(), status);
    scene.end().await;
}
