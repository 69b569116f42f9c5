use futures::{StreamExt as _, stream};
use workspace_fleet::{OnRemove, fleet::FleetStatus};

use crate::{
    scene::{Scene, until, within},
    support::eventually,
};

const CYCLES: usize = 200;
const AT_ONCE: usize = 16;

/// How many sockets are connected to this port of the loopback, seen from the side that connected.
fn sockets_to(port: u16) -> usize {
    let (remote, table) = (format!(":{port:04X}"), std::fs::read_to_string("/proc/self/net/tcp").unwrap());
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // What was closed on this side is in TIME_WAIT (06) for a while, without a socket.
    fields.filter(|fields| fields[2].ends_with(&remote) && fields[3] != "06").count()
}

/// Workspaces come and go, each with a command: awaited, stopped by the removal, dropped, or left running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workspaces_that_come_and_go_leave_nothing_behind() {
    let scene = Scene::new();
    stream::iter(0..CYCLES).for_each_concurrent(AT_ONCE, |number| cycle(&scene, number)).await;
    std::fs::write(scene.root.path().join("go"), "").unwrap();

    let status = scene.fleet.status().await;
    let mut left = FleetStatus::default();
    left.totals = status.totals;
    assert_eq!(status, left, "nothing runs, waits or is there");
    assert_eq!(status.totals.commands_started, status.totals.commands_finished);
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    let limit = std::time::Duration::from_secs(20);
    let port = scene.agent.addr().port();
    assert!(eventually(limit, || sockets_to(port) == 0).await, "{} sockets are left", sockets_to(port));
    scene.end().await;
}

async fn cycle(scene: &Scene, number: usize) {
    let name = format!("w{number}");
    let workspace = within(scene.add(&name)).await;
    match number % 8 {
        1 => {
            let running = workspace.execute_command(until("never"));
            within(scene.fleet.remove(&name)).await.unwrap();
            // Whether it had begun is a matter of luck; that it is not left running is not.
            if let Ok(result) = within(running).await {
                assert!(result.stopped, "{result:?}");
            }
        }
        2 => {
            drop(workspace.execute_command(until("never")));
            within(scene.fleet.remove(&name)).await.unwrap();
        }
        3 => {
            let running = workspace.execute_command(until("go"));
            within(scene.fleet.remove_with(&name, OnRemove::Detach)).await.unwrap();
            within(running).await.unwrap_err();
        }
        _ => {
            let result = within(workspace.execute_command(format!("echo {number}"))).await.unwrap();
            assert_eq!(result.stdout, format!("{number}\n"));
            within(scene.fleet.remove(&name)).await.unwrap();
        }
    }
}
