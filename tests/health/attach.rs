//! A command that is attached to after its server has been started anew, whose end would never come.

use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use workspace_fleet::{
    ErrorKind,
    messages::{AttachCommand, CommandEvent, ExecuteCommand, OnDrop},
    protocol::EventId,
};

use crate::servers::{Agent, PATIENCE, Stub, workspace};

/// A server that has been up for so many seconds and knows of a command that began ten minutes ago, by a clock that is wrong
/// by an hour.
async fn server(uptime: u64, id: EventId) -> Stub {
    let now = || Timestamp::now() + SignedDuration::from_hours(1);
    let began = now() - SignedDuration::from_mins(10);
    Stub::telling(move |path| match path {
        "/server_info" => json!({"uptime": uptime, "idle_time": 0, "version": "1.58.0"}),
        "/api/bash/execute_bash_command" => output(now(), "server 1\n"),
        path if path.starts_with("/api/bash/bash_events/search") => json!({"items": [], "next_page_id": null}),
        _ => json!({
            "id": id, "timestamp": began, "command": "sleep 1000", "cwd": null, "timeout": 3600, "kind": "BashCommand",
        }),
    })
    .await
}

fn output(now: Timestamp, stdout: &str) -> Value {
    json!({
        "id": EventId::random(), "timestamp": now, "command_id": EventId::random(), "order": 0, "exit_code": 0,
        "stdout": stdout, "stderr": null, "kind": "BashOutput",
    })
}

#[tokio::test]
async fn a_command_of_an_earlier_server_has_no_outcome() {
    let id = EventId::random();
    let server = server(60, id).await;
    let (fleet, workspace) = workspace(&server.url, |config| config).await;
    let attached = tokio::time::timeout(PATIENCE, workspace.attach(id).result()).await;
    let error = attached.expect("it is not waited for").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::OutcomeUnknown { command_id: Some(found), .. } if found == id), "{error}");
    assert!(error.to_string().contains("the server restarted"), "{error}");
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_command_of_this_server_is_waited_for() {
    let id = EventId::random();
    let server = server(6_000, id).await;
    let (fleet, workspace) = workspace(&server.url, |config| config).await;
    let waiting = workspace.ask(AttachCommand::new(id));
    assert!(tokio::time::timeout(Duration::from_secs(2), waiting).await.is_err());
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_command_whose_server_restarts_while_it_is_followed_has_no_outcome() {
    let mut agent = Agent::start(&[]);
    let (fleet, workspace) = workspace(&agent.url(), |config| config).await;
    let command = ExecuteCommand::new("echo begun; exec sleep 1000").with_timeout(None).with_on_drop(OnDrop::Detach);
    let id = workspace.start_command(command).await.unwrap();
    let mut attached = workspace.attach(id);
    while !matches!(attached.next().await, Some(CommandEvent::Output { .. })) {}
    agent.kill();
    agent.restart();
    let error = tokio::time::timeout(PATIENCE, attached.result()).await.expect("it is said at once").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::OutcomeUnknown { command_id: Some(found), .. } if found == id), "{error}");
    assert!(error.to_string().contains("the server restarted"), "{error}");
    // The embedded server keeps its log in memory: the new one knows nothing of the command, and says so.
    let error = tokio::time::timeout(PATIENCE, workspace.attach(id).result()).await.expect("at once").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }) && error.to_string().contains("no longer"), "{error}");
    fleet.shutdown().await;
}
