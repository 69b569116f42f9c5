//! Waiting for a server, and keeping its sandbox from being reaped.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use workspace_fleet::{HealthState, Keepalive, messages::CommandEvent};

use crate::case::{Case, case};
use crate::sandbox::Sandbox;

pub(crate) const CASES: &[Case] = &[case!(a_server_is_ready), case!(signs_of_use_count).alone()];

async fn a_server_is_ready(sandbox: &Sandbox) {
    sandbox.workspace.wait_ready(Duration::from_secs(30)).await.unwrap();
    assert_eq!(sandbox.workspace.health().await.unwrap().state, HealthState::Ready);
    assert_eq!(sandbox.output("echo on").await, "on\n");
}

async fn signs_of_use_count(sandbox: &Sandbox) {
    let interval = Duration::from_millis(500);
    let config = sandbox.config("kept", &sandbox.server.url()).with_keepalive(Keepalive::Every(interval));
    let kept = sandbox.add(config).await;
    let began = Instant::now();
    let mut running = kept.follow_command("sleep 6; echo done");
    // Before it had started the server may have been idle for long.
    assert!(matches!(running.next().await, Some(CommandEvent::Started { .. })));
    let running = tokio::spawn(running.result());
    let mut idle = 0.0_f64;
    while !running.is_finished() {
        // To ask what the server is does not count as use.
        idle = idle.max(sandbox.workspace.get_server_info().await.unwrap().idle_time);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(running.await.unwrap().unwrap().stdout, "done\n");
    assert!(idle < 5.0, "it was idle for {idle} s");
    // The first is due at once where the server was idle before.
    let most = 1 + (began.elapsed().as_secs_f64() / interval.as_secs_f64()) as u64;
    let sent = kept.observe().await.unwrap().keepalives;
    assert!((3..=most).contains(&sent), "{sent} signs of use, of 3 to {most}");
}
