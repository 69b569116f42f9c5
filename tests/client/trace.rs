//! What a message belongs to, in the headers of its requests, in its result and in its error.

use workspace_fleet::{
    Connection, Fleet, WorkspaceConfig,
    protocol::{EventId, Trace, TraceParent},
};

use crate::server::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn trace() -> Trace {
    let parent: TraceParent = PARENT.parse().unwrap();
    Trace::new(parent).with_tag("episode", "17, b").unwrap()
}

#[actix_rt::test]
async fn a_trace_travels_with_a_message() {
    let (address, seen) = serve(|_, mut peer| async move {
        while let Some(request) = peer.request().await {
            let body = match request.line().split(' ').nth(1) {
                Some(path) if path.contains("/upload") => r#"{"success":true,"file_size":1}"#,
                Some("/server_info") => r#"{"uptime":1,"idle_time":0,"capabilities":["atomic_upload_v1"]}"#,
                _ => ALIVE,
            };
            peer.write(json(body)).await;
        }
    });
    let fleet = Fleet::start().unwrap();
    let connection = Connection::new(&format!("http://{address}")).unwrap();
    let workspace = fleet.add(WorkspaceConfig::new("w", connection)).await.unwrap();
    let traced = workspace.with_trace(trace());

    traced.alive().await.unwrap();
    let upload = traced.file_upload(vec![1], "/x").await.unwrap();
    assert_eq!(upload.trace.as_deref(), Some(&trace()));
    let error = traced.git_changes("relative").await.unwrap_err();
    assert_eq!(error.trace.as_deref(), Some(&trace()));
    // A handle without a trace sends none, also over the same connection. The server is asked only once what it can do.
    workspace.alive().await.unwrap();
    assert!(workspace.file_upload(vec![1], "/x").await.unwrap().trace.is_none());

    let headers = |request: &Request| {
        (request.header("traceparent").map(str::to_owned), request.header("baggage").map(str::to_owned))
    };
    let sent = (Some(PARENT.to_owned()), Some("episode=17%2C%20b".to_owned()));
    let seen: Vec<_> = seen.borrow().iter().map(headers).collect();
    assert_eq!(seen, [sent.clone(), sent.clone(), sent, (None, None), (None, None)]);
    fleet.shutdown().await;
}

#[actix_rt::test]
async fn it_travels_with_pages_that_are_asked_for_ahead() {
    const PAGES: usize = 5;
    let (address, seen) = serve(|_, mut peer| async move {
        while let Some(request) = peer.request().await {
            let page = request.line().split_once("page_id=").map_or(0, |(_, page)| page[..1].parse().unwrap());
            let is_last = page == PAGES - 1;
            let event = serde_json::json!({
                "id": EventId::random(), "timestamp": "2026-11-22T18:53:12.027140Z", "command_id": EventId::nil(), "order": page,
                "exit_code": is_last.then_some(0), "stdout": "x".repeat(200_000), "stderr": null, "kind": "BashOutput",
            });
            let next = (!is_last).then(|| (page + 1).to_string());
            peer.write(json(&serde_json::json!({ "items": [event], "next_page_id": next }).to_string())).await;
        }
    });
    let fleet = Fleet::start().unwrap();
    let connection = Connection::new(&format!("http://{address}")).unwrap();
    let workspace = fleet.add(WorkspaceConfig::new("w", connection)).await.unwrap();

    let output = workspace.with_trace(trace()).get_command_output(EventId::nil()).await.unwrap();
    assert_eq!(output.stdout.len(), PAGES * 200_000);
    let parents: Vec<_> =
        seen.borrow().iter().map(|request| request.header("traceparent").map(str::to_owned)).collect();
    assert_eq!(parents, vec![Some(PARENT.to_owned()); PAGES]);
    fleet.shutdown().await;
}
