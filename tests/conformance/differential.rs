//! The official Python client cannot tell the embedded agent server from the real one, nor whether a service is in between.

use std::{process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::process::Command;
use workspace_fleet::{
    WorkspaceConfig,
    service::{Access, ApiKey, Service, ServiceConfig},
};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::{
        boot,
        server::{Kind, Server},
    },
};

pub(crate) const CASES: &[Case] = &[
    case!(the_python_client_sees_no_difference).only(is_the_measure).within(10).alone(),
    case!(the_python_client_sees_no_service_before_the_same_server).only(is_the_measure).within(10).alone(),
    case!(the_python_client_sees_no_service_before_the_embedded_server).only(is_the_measure).within(10).alone(),
];

/// The version whose API the embedded server has.
const MEASURE: &str = "1.58.0";

/// The key of a service.
const SERVICE_KEY: &str = "key-of-the-service";

fn is_the_measure(kind: Kind) -> bool {
    kind == Kind::OpenHands(MEASURE)
}

async fn the_python_client_sees_no_difference(sandbox: &Sandbox) {
    let ours = embedded();
    compare(sandbox, &ours.url(), ours.keys[0], &["--ours"]).await;
}

async fn the_python_client_sees_no_service_before_the_same_server(sandbox: &Sandbox) {
    let (service, _state) = serve(sandbox.server).await;
    compare(sandbox, &format!("{}/workspaces/w%201", service.url()), SERVICE_KEY, &["--gateway"]).await;
}

async fn the_python_client_sees_no_service_before_the_embedded_server(sandbox: &Sandbox) {
    let (service, _state) = serve(embedded()).await;
    compare(sandbox, &format!("{}/workspaces/w%201", service.url()), SERVICE_KEY, &["--ours", "--gateway"]).await;
}

fn embedded() -> &'static Server {
    Server::get(Kind::Embedded).expect("the embedded server starts")
}

/// A service with this server as its only workspace.
async fn serve(server: &Server) -> (Service, TempDir) {
    let state = TempDir::new().expect("a directory can be made");
    let config = ServiceConfig::new(state.path())
        .with_key(ApiKey::new("client", SERVICE_KEY, Access::Full))
        .with_workspace(WorkspaceConfig::new("w 1", server.connection()));
    // It starts where nothing else is driven meanwhile.
    let started = tokio::task::spawn_blocking(|| Service::start(config)).await.expect("it is not interrupted");
    (started.expect("a service starts"), state)
}

/// Lets the client do everything on the real server and on another one.
async fn compare(sandbox: &Sandbox, url: &str, key: &str, options: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential.py");
    let client = Command::new(boot::python(MEASURE))
        .args([script, &sandbox.server.url(), sandbox.server.keys[0], url, key, "--raw"])
        .args(options)
        .current_dir(sandbox.directory())
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(540), client).await.expect("it ends in time").unwrap();
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let differing: Vec<&str> = lines.lines().filter(|line| line.starts_with("DIFF")).collect();
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let same = lines.lines().filter(|line| line.starts_with("ok")).count();
    assert!(same > 200, "only {same} cases were tried");
}
