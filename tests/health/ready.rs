//! Servers that come up late, or dormant.

use std::time::{Duration, Instant};

use serde_json::json;
use workspace_fleet::{Connection, ErrorKind, InitConfig};

use crate::servers::{Agent, PATIENCE, agent_at, workspace};

#[tokio::test]
async fn a_server_that_comes_up_late_is_waited_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (fleet, workspace) = workspace(&format!("http://127.0.0.1:{port}"), |config| config).await;
    let error = workspace.wait_ready(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline { .. }), "{error}");
    assert!(error.to_string().contains("last answer: unreachable: "), "{error}");
    let waiting = tokio::spawn(workspace.wait_ready(PATIENCE));
    // Some tries fail before it is there.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _agent = agent_at(port).await;
    waiting.await.unwrap().unwrap();
    assert!(workspace.execute_command("true").await.unwrap().success());
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_dormant_server_is_woken_once_with_its_configuration() {
    let agent = Agent::start(&["--deferred-init-key-env", "INIT_KEY"]);
    let with_key = || Connection::new(&agent.url()).unwrap().with_api_key("session");
    let config = json!({ "session_api_keys": ["session"], "env": { "FROM_INIT": "yes" } });

    let (fleet, keyless) = workspace(&agent.url(), |mut config| {
        config.connection = with_key();
        config
    })
    .await;
    let error = keyless.wait_ready(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline { .. }) && error.to_string().contains("dormant"), "{error}");
    fleet.shutdown().await;

    let (fleet, wrong) =
        workspace(&agent.url(), |config| config.with_init(InitConfig::new("nonsense", json!({})))).await;
    let began = Instant::now();
    let error = wrong.wait_ready(PATIENCE).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    assert!(began.elapsed() < PATIENCE / 2 && !error.to_string().contains("nonsense"), "{error}");
    fleet.shutdown().await;

    // With what no process can be given, all commands would fail. It stays as it is, and no key is taken.
    for (name, value) in [("A", "null \0 byte"), ("A=B", "c"), ("", "c")] {
        let config = json!({ "session_api_keys": ["nonsense"], "env": { name: value } });
        let (fleet, useless) =
            workspace(&agent.url(), |settings| settings.with_init(InitConfig::new("wake-up", config))).await;
        let error = useless.wait_ready(PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains(&format!("env cannot contain {name:?}")), "{error}");
        fleet.shutdown().await;
    }

    let (fleet, workspace) = workspace(&agent.url(), |mut settings| {
        settings.connection = with_key();
        settings.with_init(InitConfig::new("wake-up", config.clone()))
    })
    .await;
    // Two at once: one of them wakes it.
    let (one, other) = tokio::join!(workspace.wait_ready(PATIENCE), workspace.wait_ready(PATIENCE));
    one.unwrap();
    other.unwrap();
    assert_eq!(workspace.execute_command("echo $FROM_INIT").await.unwrap().stdout, "yes\n");
    // A ready server is not woken again: its keys stay.
    workspace.wait_ready(PATIENCE).await.unwrap();
    workspace.update_connection(Connection::new(&agent.url()).unwrap().with_api_key("other")).await.unwrap();
    workspace.wait_ready(PATIENCE).await.unwrap();
    let error = workspace.execute_command("true").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unauthorized { .. }), "{error}");
    fleet.shutdown().await;
}
