//! Servers that do not answer, or not as they should.

use std::time::{Duration, Instant};

use workspace_fleet::{Connection, Effect, ErrorKind, HealthState, Outcome, Selector};

use crate::servers::{PATIENCE, Stub, agent_at, health_is, workspace};

#[tokio::test]
async fn an_unreachable_workspace_fails_fast_and_comes_back_by_its_probe() {
    let first = agent_at(0).await;
    let port = first.addr().port();
    let (fleet, workspace) = workspace(&first.url(), |config| config).await;
    assert_eq!(workspace.health().await.unwrap().state, HealthState::Connecting);
    assert_eq!(workspace.execute_command("echo in").await.unwrap().stdout, "in\n");
    assert_eq!(workspace.health().await.unwrap().state, HealthState::Ready);
    first.stop().await;
    let began = Instant::now();
    while workspace.health().await.unwrap().state != HealthState::Unreachable {
        let error = workspace.execute_command("echo out").await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Unreachable { .. }), "{error}");
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = workspace.file_upload(b"x".to_vec(), "/tmp/x").await.unwrap_err();
    assert_eq!(error.effect, Effect::NotSent);
    let words = error.to_string();
    assert!(words.contains("has not answered for") && words.contains("probed next"), "{words}");
    let health = workspace.health().await.unwrap();
    assert!(health.reason.is_some() && health.failures >= 3, "{health:?}");
    assert_eq!(fleet.list(Selector::all()).await[0].health, HealthState::Unreachable);
    // Nothing is asked of the workspace: only its probe can find that the server is back. It is not the same one, and so
    // the workspace has to be told that it may be used.
    let _second = agent_at(port).await;
    let began = Instant::now();
    while !matches!(workspace.health().await.unwrap().state, HealthState::Ready | HealthState::Gone) {
        assert!(began.elapsed() < PATIENCE, "{:?}", workspace.health().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    workspace.update_connection(Connection::new(&format!("http://127.0.0.1:{port}")).unwrap()).await.unwrap();
    assert_eq!(workspace.execute_command("echo in again").await.unwrap().stdout, "in again\n");
    fleet.shutdown().await;
    assert_eq!(workspace.health().await, None);
}

#[tokio::test]
async fn a_probe_brings_a_server_back_that_was_never_another() {
    // A port on which nobody listens yet.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (fleet, workspace) = workspace(&format!("http://127.0.0.1:{port}"), |config| config).await;
    while workspace.health().await.unwrap().state != HealthState::Unreachable {
        workspace.alive().await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _agent = agent_at(port).await;
    health_is(&workspace, HealthState::Ready).await;
    assert_eq!(workspace.execute_command("echo in").await.unwrap().stdout, "in\n");
    fleet.shutdown().await;
}

#[tokio::test]
async fn idle_workspaces_are_probed_when_asked_for() {
    let agent = agent_at(0).await;
    let (fleet, workspace) =
        workspace(&agent.url(), |config| config.with_probe_interval(Duration::from_millis(100))).await;
    health_is(&workspace, HealthState::Ready).await;
    agent.stop().await;
    health_is(&workspace, HealthState::Unreachable).await;
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_server_that_never_says_anything_is_unreachable_soon() {
    let hole = Stub::silent().await;
    let (fleet, workspace) = workspace(&hole.url, |mut config| {
        config.limits.answer_timeout = Duration::from_secs(1);
        config
    })
    .await;
    let began = Instant::now();
    let error = workspace.execute_command("true").await.unwrap_err();
    assert_eq!((Outcome::from(&error.kind), error.effect), (Outcome::Unreachable, Effect::MaybeSent), "{error}");
    assert!(error.to_string().contains("never answered"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_server_that_only_fails_is_a_server_error_soon() {
    let failing = Stub::answering(500).await;
    let (fleet, workspace) = workspace(&failing.url, |config| config).await;
    let began = Instant::now();
    let error = workspace.execute_command("true").await.unwrap_err();
    assert_eq!(Outcome::from(&error.kind), Outcome::ServerError, "{error}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(workspace.health().await.unwrap().state, HealthState::Degraded);
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_gateway_that_knows_no_sandbox_makes_it_gone() {
    let gateway = Stub::answering(404).await;
    let (fleet, workspace) = workspace(&gateway.url, |config| config).await;
    for _ in 0..2 {
        let error = workspace.execute_command("true").await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Gone { .. }), "{error}");
        assert_eq!(error.effect, Effect::NotSent);
    }
    assert_eq!(workspace.health().await.unwrap().state, HealthState::Gone);
    workspace.reset_client().await;
    assert_eq!(workspace.health().await.unwrap().state, HealthState::Connecting);
    fleet.shutdown().await;
}

#[tokio::test]
async fn another_sandbox_behind_the_address_is_noticed() {
    let first = agent_at(0).await;
    let (fleet, workspace) = workspace(&first.url(), |config| config).await;
    workspace.wait_ready(PATIENCE).await.unwrap();
    first.stop().await;
    let _second = agent_at(first.addr().port()).await;
    workspace.get_server_info().await.unwrap();
    let error = workspace.execute_command("true").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Gone { .. }) && error.to_string().contains("another sandbox"), "{error}");
    // However well it answers, and however long one waits, it is not this workspace's.
    workspace.alive().await.unwrap();
    assert!(matches!(workspace.wait_ready(PATIENCE).await.unwrap_err().kind, ErrorKind::Gone { .. }));
    workspace.update_connection(Connection::new(&first.url()).unwrap()).await.unwrap();
    workspace.wait_ready(PATIENCE).await.unwrap();
    assert!(workspace.execute_command("true").await.unwrap().success());
    fleet.shutdown().await;
}
