use std::fs;

use awc::http::StatusCode;
use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;

use crate::{agent::Agent, client::post_once, client::until_state, scene::Served};

#[actix_rt::test]
async fn the_same_key_starts_a_command_once_also_at_the_same_time_and_after_a_crash() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&[]);
    let host = format!("http://127.0.0.1:{}", agent.port);
    service.post("/v1/workspaces", &json!({ "name": "w", "host": host })).await;
    let url = service.url("/v1/workspaces/w/commands");
    let starts = root.path().join("starts");
    let body = json!({ "command": format!("echo a >> {}", starts.display()) });
    let answers = join_all((0..8).map(|_| post_once(&url, "key", &body))).await;
    let ids: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().1["id"].clone()).collect();
    assert!(ids.iter().all(|id| id.is_string() && *id == ids[0]), "{ids:?}");
    service.kill();
    service.start_again();
    let (status, again) = post_once(&url, "key", &body).await.unwrap();
    assert_eq!((status, &again["id"]), (StatusCode::CREATED, &ids[0]), "{again}");
    let path = service.url(&format!("/v1/commands/{}", ids[0].as_str().unwrap()));
    until_state(&path, "finished").await;
    assert_eq!(fs::read_to_string(&starts).unwrap(), "a\n");
    let (status, problem) = post_once(&url, "key", &json!({ "command": "true" })).await.unwrap();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("Idempotency-Key"), "{problem}");
    let (_, other) = post_once(&url, "another key", &body).await.unwrap();
    assert_ne!(other["id"], ids[0]);
}

#[actix_rt::test]
async fn a_key_whose_request_was_refused_can_be_used_again() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let service = Served::start(&[]);
    let url = service.url("/v1/workspaces/w/commands");
    let body = json!({ "command": "true" });
    let (status, problem) = post_once(&url, "key", &body).await.unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
    let host = format!("http://127.0.0.1:{}", agent.port);
    service.post("/v1/workspaces", &json!({ "name": "w", "host": host })).await;
    let (status, started) = post_once(&url, "key", &body).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{started}");
}
