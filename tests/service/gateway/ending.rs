use awc::http::StatusCode;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    agent::Agent,
    http::{get, post},
    scene::Served,
};

#[actix_rt::test]
async fn who_waits_for_a_command_is_told_that_the_service_ends() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    // It would be cut off after the time that is left to requests.
    let mut service = Served::start(&["--drain-timeout", "120s"]);
    let host = format!("http://127.0.0.1:{}", agent.port);
    assert_eq!(post(&service, "/v1/workspaces", &json!({ "name": "w", "host": host })).await.status, 201);
    let (begun, release) = (root.path().join("begun"), root.path().join("release"));
    let command = format!(
        "touch '{}'; while [ ! -e '{}' ]; do sleep 0.05; done; touch '{}'",
        begun.display(),
        release.display(),
        root.path().join("ended").display()
    );
    let body = json!({ "command": command, "timeout": 60 });
    let execution = post(&service, "/workspaces/w/api/bash/execute_bash_command", &body);
    let end = async {
        while !begun.exists() {
            assert_eq!(get(&service, "/health").await.status, 200);
        }
        service.tell_to_end();
    };
    let (answer, ()) = futures::join!(execution, end);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert!(!answer.header("retry-after").is_empty());
    assert!(answer.json()["detail"].as_str().unwrap().contains("the service ends"), "{}", answer.text());
    assert_eq!(service.wait_for_end(), Some(0));
    // The command itself has run on.
    std::fs::write(&release, "").unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !root.path().join("ended").exists() {
        assert!(std::time::Instant::now() < until, "it was stopped");
        actix_rt::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
