use awc::http::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::{agent::Agent, scene::Served};

#[actix_rt::test]
async fn a_command_is_started_followed_and_known_after_a_crash() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &["secret-of-the-agent"]);
    let mut service = Served::start(&[]);
    let host = format!("http://127.0.0.1:{}", agent.port);
    let workspace = json!({ "name": "w1", "host": host, "api_key": "secret-of-the-agent" });
    service.post("/v1/workspaces", &workspace).await;
    let started = service.post("/v1/workspaces/w1/commands", &json!({ "command": "echo out; exit 3" })).await;
    let path = format!("/v1/commands/{}", started["id"].as_str().unwrap());
    let client = awc::Client::default();
    let mut events = client.get(service.url(&format!("{path}/events"))).send().await.unwrap();
    let text = String::from_utf8(events.body().await.unwrap().to_vec()).unwrap();
    assert!(text.contains("event: stdout\ndata: \"out\\n\"\n"), "{text}");
    assert!(text.contains("event: end\n"), "{text}");
    service.kill();
    service.start_again();
    let ended = service.get(&path).await;
    assert_eq!((&ended["state"], &ended["result"]["exit_code"]), (&json!("finished"), &json!(3)), "{ended}");
    let (status, problem) = service.ask(Method::POST, "/v1/workspaces", Some(&workspace)).await;
    assert_eq!(status, StatusCode::CONFLICT, "the workspace is there again: {problem}");
    let records = std::fs::read(service.state().join("records.redb")).unwrap();
    assert!(!records.windows(19).any(|text| text == b"secret-of-the-agent"), "the key is in the store");
    assert_eq!(service.terminate(), Some(0));
}
