//! What is tried again, and on which servers it is not.

use std::time::{Duration, Instant};

use workspace_fleet::{ErrorKind, Workspace, WorkspaceError};

use crate::servers::{Stub, workspace};

/// Asks in several ways for what could be tried again, each on a workspace that knows nothing yet.
async fn each(url: &str) -> Vec<(Duration, u64, WorkspaceError)> {
    let folder = tempfile::tempdir().unwrap();
    let mut ended = Vec::new();
    for way in 0..4 {
        let (fleet, workspace) = workspace(url, |mut config| {
            config.limits.answer_timeout = Duration::from_millis(500);
            config.limits.idle_timeout = Duration::from_millis(500);
            config
        })
        .await;
        let began = Instant::now();
        let error = ask(&workspace, way, folder.path()).await;
        let took = began.elapsed();
        ended.push((took, workspace.observe().await.unwrap().retries, error));
        fleet.shutdown().await;
    }
    ended
}

async fn ask(workspace: &Workspace, way: u32, folder: &std::path::Path) -> WorkspaceError {
    match way {
        0 => workspace.git_changes("/").await.unwrap_err(),
        1 => workspace.file_download("/file", folder.join("file")).await.unwrap_err(),
        2 => workspace.file_upload(b"x".to_vec(), "/tmp/file").await.unwrap_err(),
        _ => workspace.get_server_info().await.unwrap_err(),
    }
}

#[tokio::test]
async fn a_server_that_was_never_there_is_asked_once() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = Stub::silent().await;
    for url in [format!("http://127.0.0.1:{refused}"), silent.url.clone()] {
        for (took, retries, error) in each(&url).await {
            assert!(matches!(error.kind, ErrorKind::Unreachable { .. } | ErrorKind::Deadline { .. }), "{error}");
            assert!(retries == 0 && took < Duration::from_secs(5), "{retries} tries more in {took:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_fails_is_asked_a_few_times_more() {
    for (status, most) in [(500, 2..=2), (502, 2..=8)] {
        let failing = Stub::answering(status).await;
        for (took, retries, error) in each(&failing.url).await {
            assert!(matches!(error.kind, ErrorKind::ServerError { .. }), "{error}");
            assert!(most.contains(&retries) && took < Duration::from_secs(10), "{status}: {retries} in {took:?}");
        }
    }
}
