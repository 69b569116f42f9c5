use std::{
    fs,
    time::{Duration, Instant},
};

use awc::http::{Method, StatusCode};
use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    agent::Agent,
    client::post_once,
    client::until_state,
    records::{put, record},
    scene::Served,
};

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
    assert_eq!((status, &again["id"]), (StatusCode::OK, &ids[0]), "{again}");
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

#[actix_rt::test]
async fn what_is_kept_of_a_request_lets_nobody_try_out_what_was_in_it() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&[]);
    let host = format!("http://127.0.0.1:{}", agent.port);
    service.post("/v1/workspaces", &json!({ "name": "w", "host": host })).await;
    let body = json!({ "command": "true", "secret_env": { "PIN": "1234" } });
    let url = service.url("/v1/workspaces/w/commands");
    let (status, started) = post_once(&url, "key", &body).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{started}");
    assert_eq!(service.terminate(), Some(0));
    let record = record(&service, "idempotency", "\nkey").unwrap();
    let mut sum = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [b"POST".as_slice(), b"/v1/workspaces/w/commands", body.to_string().as_bytes()] {
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    let guessed: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_ne!(record["fingerprint"], guessed.as_str(), "{record}");
    service.start_again();
    let (status, again) = post_once(&url, "key", &body).await.unwrap();
    assert_eq!((status, &again["id"]), (StatusCode::OK, &started["id"]), "it is known all the same");
    let other = json!({ "command": "true", "secret_env": { "PIN": "1235" } });
    assert_eq!(post_once(&url, "key", &other).await.unwrap().0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[actix_rt::test]
async fn the_key_of_a_lease_that_has_ended_is_refused() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&[]);
    let host = format!("http://127.0.0.1:{}", agent.port);
    service.post("/v1/workspaces", &json!({ "name": "w", "host": host })).await;
    let url = service.url("/v1/leases");
    let terms = json!({ "wait_ms": 30_000 });
    let (status, first) = post_once(&url, "key", &terms).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{first}");
    assert_eq!(post_once(&url, "key", &terms).await.unwrap().1["id"], first["id"], "it is the same one");
    let path = format!("/v1/leases/{}", first["id"].as_str().unwrap());
    assert_eq!(service.ask(Method::DELETE, &path, None).await.0, StatusCode::NO_CONTENT);
    let (status, problem) = post_once(&url, "key", &terms).await.unwrap();
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("has ended"), "{problem}");
    let (_, second) = post_once(&url, "another key", &terms).await.unwrap();
    service.kill();
    service.start_again();
    let (status, problem) = post_once(&url, "another key", &terms).await.unwrap();
    assert_eq!(status, StatusCode::CONFLICT, "leases end with the service: {second} {problem}");
}

#[actix_rt::test]
async fn old_keys_are_removed_also_those_of_an_earlier_version_and_logs_that_belong_to_nothing() {
    let mut service = Served::start(&[]);
    service.kill();
    let key = |created: &str| {
        let record = json!({ "created": created, "fingerprint": "f", "location": "/v1/commands/c" });
        serde_json::to_vec(&record).unwrap()
    };
    let now = jiff::Timestamp::now();
    let (old, young) = (now - Duration::from_secs(25 * 3600), now - Duration::from_secs(23 * 3600));
    put(&service, "idempotency", "\nold", &key(&old.to_string()));
    put(&service, "idempotency", "\nyoung", &key(&young.to_string()));
    let log = service.state().join("logs").join("019a0000000070008000000000000000.log");
    fs::write(&log, "").unwrap();
    service.start_again();
    let until = Instant::now() + Duration::from_secs(60);
    while log.exists() {
        assert!(Instant::now() < until, "the log stays");
        actix_rt::time::sleep(Duration::from_millis(20)).await;
    }
    // Once more, for the end of a service does not wait for what it removes.
    assert_eq!(service.terminate(), Some(0));
    while record(&service, "idempotency", "\nold").is_some() {
        assert!(Instant::now() < until, "the key stays");
        service.start_again();
        actix_rt::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(service.terminate(), Some(0));
    }
    assert!(record(&service, "idempotency", "\nyoung").is_some());
}
