//! What those are told who follow the fleet.

use serde_json::json;

use crate::{
    follower::Follower,
    http::{get, post, send},
    scene::Served,
};

#[actix_rt::test]
async fn a_workspace_that_has_moved_is_told_where_it_is() {
    let service = Served::start(&[]);
    let workspace = json!({ "name": "w", "host": "http://127.0.0.1:1", "working_dir": "/work" });
    assert_eq!(post(&service, "/v1/workspaces", &workspace).await.status, 201);
    let listed = get(&service, "/v1/workspaces").await.json();
    assert_eq!(listed["workspaces"][0]["working_dir"], "/work", "{listed}");
    let mut follower = Follower::start(service.port, "/v1/events", None).await;
    assert_eq!(follower.next().await.unwrap().name, "hello");
    assert!(get(&service, "/metrics").await.text().contains("\nwsfleet_sse_readers 1\n"), "somebody reads");
    let change = json!({ "host": "http://127.0.0.1:2" }).to_string();
    let moved = send(&service, "PATCH", "/v1/workspaces/w", &[("content-type", "application/json")], change).await;
    assert_eq!(moved.status, 200, "{}", moved.text());
    let told = async {
        loop {
            let event = follower.next().await.expect("the service goes on");
            if event.name == "workspaces" {
                return event.json();
            }
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("it is told");
    assert_eq!(told["added"][0]["host"], "http://127.0.0.1:2/", "{told}");
    assert_eq!(told["added"][0]["working_dir"], "/work", "{told}");
}
