//! Sandboxes that are reaped when they seem idle.

use std::time::{Duration, Instant};

use workspace_fleet::{
    Keepalive, Push, Workspace,
    agent::{AgentConfig, AgentHandle, AgentServer},
};

use crate::servers::workspace;

const LIMIT: Duration = Duration::from_secs(3);

/// Ends the agent when it has been idle for longer than it announced, as a platform does. Returns whether it came to that.
async fn reap(agent: &AgentHandle, watching: &Workspace) -> bool {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let info = watching.get_server_info().await.unwrap();
        if info.idle_time > LIMIT.as_secs_f64() {
            agent.stop().await;
            return true;
        }
    }
}

#[tokio::test]
async fn a_sandbox_in_use_is_not_reaped_while_it_is_polled() {
    a_sandbox_in_use_is_not_reaped(Push::Never).await;
}

#[tokio::test]
async fn a_sandbox_in_use_is_not_reaped_while_it_pushes() {
    a_sandbox_in_use_is_not_reaped(Push::Auto).await;
}

async fn a_sandbox_in_use_is_not_reaped(push: Push) {
    let agent = AgentServer::spawn(AgentConfig::default().with_runtime_idle_timeout(LIMIT)).unwrap();
    let (fleet, workspace) = workspace(&agent.url(), |config| config.with_push(push)).await;
    let (others, watching) = crate::servers::workspace(&agent.url(), |config| config).await;
    let began = Instant::now();
    let running = async {
        let result = workspace.execute_command("sleep 8; echo done").await.unwrap();
        assert_eq!((result.stdout.as_str(), result.stderr.as_str(), result.exit_code), ("done\n", "", 0));
        let halves = began.elapsed().as_secs_f64() / (LIMIT.as_secs_f64() / 2.0);
        let seen = workspace.observe().await.unwrap();
        assert_eq!(seen.pushed_events > 0, push == Push::Auto);
        let sent = seen.keepalives;
        assert!(sent >= 2 && (sent as f64) <= halves, "{sent} in {halves} half intervals");
        // Held, it may be idle for as long as it likes.
        let held = workspace.hold().await.unwrap();
        tokio::time::sleep(2 * LIMIT).await;
        drop(held);
    };
    tokio::select! {
        () = running => {}
        _ = reap(&agent, &watching) => panic!("it was reaped after {:?}", began.elapsed()),
    }
    // Nobody uses it any more.
    assert!(tokio::time::timeout(10 * LIMIT, reap(&agent, &watching)).await.expect("it is let go"));
    fleet.shutdown().await;
    others.shutdown().await;
}

#[tokio::test]
async fn without_keepalive_it_is_reaped() {
    let agent = AgentServer::spawn(AgentConfig::default().with_runtime_idle_timeout(LIMIT)).unwrap();
    let (fleet, workspace) =
        workspace(&agent.url(), |config| config.with_keepalive(Keepalive::Off).with_max_outage(Duration::from_secs(1)))
            .await;
    let (others, watching) = crate::servers::workspace(&agent.url(), |config| config).await;
    let (result, reaped) = tokio::join!(workspace.execute_command("sleep 60"), reap(&agent, &watching));
    assert!(reaped);
    assert!(!result.is_ok_and(|result| result.success()), "the agent ends its commands when it is stopped");
    assert_eq!(workspace.observe().await.unwrap().keepalives, 0);
    fleet.shutdown().await;
    others.shutdown().await;
}
