//! Where there are many workspaces, only those hold a connection that use it.

use std::time::{Duration, Instant};

use workspace_fleet::{Connection, Fleet, WorkspaceConfig};

use crate::stub::{Manner, Stub};

/// More than may hold idle clients on one thread.
const MANY: usize = 400;

/// How long they may take to give them up; fewer would keep them for 4 s.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_idle_workspaces_soon_gives_its_connections_up() {
    let stub = Stub::start().await.unwrap();
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    let mut all = Vec::new();
    for number in 0..MANY {
        let connection = Connection::new(&stub.url(Manner::Instant, number)).unwrap();
        all.push(fleet.add(WorkspaceConfig::new(format!("w{number}"), connection)).await.unwrap());
    }
    let ran = all.iter().map(|workspace| workspace.execute_command("true"));
    for result in futures::future::join_all(ran).await {
        assert!(result.unwrap().success());
    }
    let began = Instant::now();
    while fleet.status().await.connected_workspaces > MANY / 2 {
        assert!(began.elapsed() < SOON, "{} are connected", fleet.status().await.connected_workspaces);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // They are as usable as before.
    assert!(all[0].execute_command("true").await.unwrap().success());
    fleet.shutdown().await;
}
