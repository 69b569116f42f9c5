//! Keys that are wrong, servers that are not there, connections that change in the middle of things.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use workspace_fleet::{Effect, ErrorKind, Workspace, WorkspaceError, messages::ExecuteCommand, protocol::EventId};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::{
        proxy::{Fault, Proxy},
        server::connection,
    },
    timeouts::started,
};

pub(crate) const CASES: &[Case] = &[
    case!(a_wrong_key_is_said),
    case!(a_missing_key_is_said),
    case!(nobody_there),
    case!(something_else_is_there),
    case!(another_address_and_key_in_mid_command),
    case!(a_connection_that_cannot_be_is_refused),
    case!(reset_client_in_mid_command),
    case!(a_lost_connection_in_mid_command),
];

/// Every operation that needs a key.
fn operations(
    sandbox: &Sandbox,
    workspace: &Workspace,
) -> Vec<(&'static str, BoxFuture<'static, Option<WorkspaceError>>)> {
    fn error<T>(
        operation: impl Future<Output = Result<T, WorkspaceError>> + Send + 'static,
    ) -> BoxFuture<'static, Option<WorkspaceError>> {
        Box::pin(async move { operation.await.err() })
    }
    let (file, back, id) = (sandbox.remote("file"), sandbox.path("back"), EventId::random());
    let private = ExecuteCommand::new("touch ran").with_stdin("x").with_secret_env("A", "hush".to_owned());
    vec![
        ("execute_command", error(workspace.execute_command("touch ran"))),
        ("execute_command", error(workspace.execute_command(private))),
        ("execute_command", error(workspace.follow_command("touch ran").result())),
        ("start_command", error(workspace.start_command("touch ran"))),
        ("get_command_output", error(workspace.get_command_output(id))),
        ("stop_command", error(workspace.stop_command(id))),
        ("file_upload", error(workspace.file_upload(b"x".to_vec(), &file))),
        ("file_download", error(workspace.file_download(&file, back))),
        ("git_changes", error(workspace.git_changes("."))),
        ("git_diff", error(workspace.git_diff("file"))),
        ("git_commits", error(workspace.git_commits("."))),
    ]
}

async fn a_wrong_key_is_said(sandbox: &Sandbox) {
    let mut config = sandbox.config("wrong", &sandbox.server.url());
    config.connection = connection(&sandbox.server.url(), "not-the-key");
    all_are_unauthorized(sandbox, &sandbox.add(config).await).await;
}

async fn a_missing_key_is_said(sandbox: &Sandbox) {
    let mut config = sandbox.config("none", &sandbox.server.url());
    config.connection = connection(&sandbox.server.url(), "");
    all_are_unauthorized(sandbox, &sandbox.add(config).await).await;
}

async fn all_are_unauthorized(sandbox: &Sandbox, workspace: &Workspace) {
    for (name, operation) in operations(sandbox, workspace) {
        let error = operation.await.unwrap_or_else(|| panic!("{name} did without the key"));
        assert!(matches!(error.kind, ErrorKind::Unauthorized { status: 401, .. }), "{name}: {error}");
        assert_eq!(error.operation.name(), name);
        assert_eq!(error.workspace, workspace.name());
        assert_eq!(error.effect, Effect::NotSent, "{name}");
        assert!(!error.is_retryable(), "{name}");
        assert!(!error.to_string().contains("not-the-key") && !error.to_string().contains("hush"), "{error}");
    }
    // These two are open to everyone.
    workspace.alive().await.unwrap();
    workspace.get_server_info().await.unwrap();
    assert!(!sandbox.path("ran").exists() && !sandbox.path("file").exists() && !sandbox.path("back").exists());
}

async fn nobody_there(sandbox: &Sandbox) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let workspace = sandbox.by_way_of("nobody", &url).await;
    for (name, operation) in operations(sandbox, &workspace) {
        let began = Instant::now();
        let error = operation.await.unwrap_or_else(|| panic!("{name} did without a server"));
        assert!(matches!(error.kind, ErrorKind::Unreachable { .. }), "{name}: {error}");
        assert_eq!(error.effect, Effect::NotSent, "{name}: {error}");
        assert!(error.is_retryable(), "{name}");
        assert!(began.elapsed() < Duration::from_secs(10), "{name} took {:?}", began.elapsed());
    }
    assert!(matches!(workspace.alive().await.unwrap_err().kind, ErrorKind::Unreachable { .. }));
    assert!(matches!(workspace.get_server_info().await.unwrap_err().kind, ErrorKind::Unreachable { .. }));
}

async fn something_else_is_there(sandbox: &Sandbox) {
    let proxy = Proxy::start(&sandbox.server.address).await.unwrap();
    let workspace = sandbox.by_way_of("gateway", &proxy.url()).await;
    // The gateway no longer has a route to the sandbox.
    proxy.spoil_all("/api/", Fault::Refuse(404, 0));
    for (name, operation) in operations(sandbox, &workspace) {
        let error = operation.await.unwrap_or_else(|| panic!("{name} did without a server"));
        assert!(matches!(error.kind, ErrorKind::Gone { .. }), "{name}: {error}");
        assert_eq!(error.effect, Effect::NotSent, "{name}: {error}");
    }
    assert!(!sandbox.path("ran").exists());
}

async fn another_address_and_key_in_mid_command(sandbox: &Sandbox) {
    let proxy = Proxy::start(&sandbox.server.address).await.unwrap();
    let workspace = sandbox.by_way_of("moving", &proxy.url()).await;
    let command = ExecuteCommand::new("echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 5");
    let mut stream = workspace.follow_command(command);
    let id = started(&mut stream).await;
    assert!(sandbox.is_busy().await);
    // The old address is dead before the new one is known, as when a sandbox is resumed elsewhere.
    drop(proxy);
    assert!(matches!(workspace.alive().await.unwrap_err().kind, ErrorKind::Unreachable { .. }));
    let new = connection(&sandbox.server.url(), sandbox.server.keys[1]);
    workspace.update_connection(new).await.unwrap();
    assert_eq!(workspace.get_command_output(id).await.unwrap().exit_code, None);
    std::fs::write(sandbox.path("go"), "").unwrap();
    let began = Instant::now();
    let result = stream.result().await.unwrap();
    assert_eq!((result.exit_code, result.stdout.as_str()), (5, "before\nafter\n"));
    assert!(began.elapsed() < Duration::from_secs(5), "the end is seen under the new address: {:?}", began.elapsed());
    assert_eq!(workspace.execute_command("echo more").await.unwrap().stdout, "more\n");
}

async fn a_connection_that_cannot_be_is_refused(sandbox: &Sandbox) {
    let bad = sandbox.server.connection().with_ca_file(sandbox.path("missing.pem"));
    let url = bad.host().as_str().replace("http:", "https:");
    let bad = connection(&url, "k").with_ca_file(sandbox.path("missing.pem"));
    let error = sandbox.workspace.update_connection(bad).await.unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
    assert_eq!(sandbox.output("echo the old one stays").await, "the old one stays\n");
}

async fn reset_client_in_mid_command(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("while [ ! -e go ]; do sleep 0.02; done; echo done");
    let running = tokio::spawn(sandbox.workspace.execute_command(command));
    assert!(sandbox.is_busy().await);
    for _ in 0..20 {
        sandbox.workspace.reset_client().await;
        sandbox.workspace.alive().await.unwrap();
    }
    std::fs::write(sandbox.path("go"), "").unwrap();
    assert_eq!(running.await.unwrap().unwrap().stdout, "done\n");
}

async fn a_lost_connection_in_mid_command(sandbox: &Sandbox) {
    let proxy = Proxy::start(&sandbox.server.address).await.unwrap();
    let workspace = sandbox.by_way_of("shaky", &proxy.url()).await;
    for fault in [
        Fault::DropAnswer,
        Fault::AnswerInstead(502),
        Fault::AnswerInstead(504),
        Fault::Refuse(503, 0),
        Fault::CutAnswer(20),
    ] {
        proxy.spoil_next("bash_events/search", fault);
    }
    let result = workspace.execute_command("seq 1 50000; sleep 0.5; seq 1 50000 >&2; exit 6").await.unwrap();
    let expected = crate::support::pattern::seq(1, 50_000);
    assert_eq!(result.exit_code, 6);
    assert!(result.stdout == expected && result.stderr == expected, "{} {}", result.stdout.len(), result.stderr.len());
    assert!(proxy.spoilt() >= 3, "{}", proxy.spoilt());
}
