use std::time::{Duration, Instant};

use serde_json::{Value, json};
use workspace_fleet::agent::{AgentConfig, AgentError, AgentServer};

use crate::support::{Agent, KEY, send, send_bytes, send_json};

#[actix_rt::test]
async fn a_key_is_asked_for_where_the_real_server_asks() {
    let agent = Agent::start();
    for path in ["/", "/alive", "/health", "/ready", "/server_info"] {
        assert_eq!(send(agent.client.get(agent.url(path))).await.status, 200, "{path}");
    }
    for key in [None, Some("wrong"), Some("")] {
        let mut request = agent.client.get(agent.url("/api/file/home"));
        if let Some(key) = key {
            request = request.insert_header(("X-Session-API-Key", key));
        }
        let reply = send(request).await;
        assert_eq!((reply.status, reply.json()), (401, json!({ "detail": "Unauthorized" })));
    }
}

#[actix_rt::test]
async fn unknown_routes_and_methods_are_told_as_by_the_real_server() {
    let agent = Agent::start();
    let plain = |method: awc::http::Method, path: &str| send(agent.client.request(method, agent.url(path)));
    use awc::http::Method;
    let unknown = plain(Method::GET, "/api/nope").await;
    assert_eq!((unknown.status, unknown.json()), (404, json!({ "detail": "Not Found" })));
    let wrong = plain(Method::PUT, "/api/bash/start_bash_command").await;
    assert_eq!(
        (wrong.status, wrong.header("allow"), wrong.json()),
        (405, Some("POST"), json!({ "detail": "Method Not Allowed" }))
    );
    let head = plain(Method::HEAD, "/api/file/download").await;
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    let slash = plain(Method::GET, "/alive/").await;
    assert_eq!((slash.status, slash.header("location")), (307, Some(agent.url("/alive").as_str())));
    assert_eq!(plain(Method::GET, "/api/init").await.status, 404);
}

#[actix_rt::test]
async fn invalid_requests_list_everything_that_is_wrong() {
    let agent = Agent::start();
    let start = agent.post("/api/bash/start_bash_command");
    let reply = send_json(start, &json!({ "command": 1, "timeout": 1.5 })).await;
    let expected = json!({ "detail": [
        { "type": "string_type", "loc": ["body", "command"], "msg": "Input should be a valid string", "input": 1 },
        { "type": "int_from_float", "loc": ["body", "timeout"],
          "msg": "Input should be a valid integer, got a number with a fractional part", "input": 1.5 },
    ] });
    assert_eq!((reply.status, reply.json()), (422, expected));
    let search = send(agent.get("/api/bash/bash_events/search?limit=101&kind__eq=x")).await;
    let kinds: Vec<_> = search.json()["detail"].as_array().unwrap().iter().map(|e| e["type"].clone()).collect();
    assert_eq!((search.status, kinds), (422, vec![json!("literal_error"), json!("less_than_equal")]));
    // Broken JSON is told before a missing key.
    let request = agent.client.post(agent.url("/api/bash/start_bash_command"));
    let broken = send_bytes(request.insert_header(("Content-Type", "application/json")), "{").await;
    assert_eq!((broken.status, &broken.json()["detail"][0]["loc"]), (422, &json!(["body", 1])));
    let large = agent.post("/api/bash/start_bash_command").insert_header(("Content-Type", "application/json"));
    assert_eq!(send_bytes(large, vec![b' '; 3 << 20]).await.status, 413);
}

#[actix_rt::test]
async fn the_routes_of_any_conversation_reach_the_workspace() {
    let agent = Agent::start();
    let base = "/api/conversations/12345678-1234-5678-1234-567812345678";
    let request = agent.post(&format!("{base}/bash/execute_bash_command"));
    assert_eq!(send_json(request, &json!({ "command": "echo x" })).await.json()["stdout"], "x\n");
    assert_eq!(agent.get_json(&format!("{base}/git/changes?path=/")).await, json!([]));
    let wrong = send(agent.get("/api/conversations/x/bash/bash_events/search")).await;
    assert_eq!((wrong.status, &wrong.json()["detail"][0]["type"]), (422, &json!("uuid_parsing")));
}

#[actix_rt::test]
async fn each_start_is_another_instance_of_a_compatible_version() {
    let instance = async || {
        let info = Agent::start().get_json("/server_info").await;
        assert_eq!((&info["version"], &info["runtime_idle_timeout_seconds"]), (&json!("1.58.0"), &Value::Null));
        info["instance_id"].as_str().unwrap().to_owned()
    };
    assert_ne!(instance().await, instance().await);
}

#[actix_rt::test]
async fn many_agents_share_a_thread() {
    let start = Instant::now();
    let mut urls = Vec::new();
    let mut running = Vec::new();
    for _ in 0..16 {
        let server = AgentServer::bind(AgentConfig::default().with_session_key(KEY)).unwrap();
        urls.push((server.url(), server.handle()));
        running.push(actix_rt::spawn(server.run()));
    }
    for (url, _) in &urls {
        let reply = send(awc::Client::new().get(format!("{url}/alive"))).await;
        assert_eq!(reply.status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for (_, handle) in &urls {
        handle.stop().await;
    }
    for server in running {
        server.await.unwrap().unwrap();
    }
}

#[test]
fn an_open_server_for_others_is_refused_with_a_way_out() {
    let error = AgentServer::bind(AgentConfig::default().with_host("0.0.0.0")).unwrap_err();
    assert!(matches!(error, AgentError::OpenToOthers { .. }), "{error}");
    assert!(error.to_string().contains("OH_SESSION_API_KEYS_0") && error.to_string().contains("127.0.0.1"), "{error}");
    let missing = AgentServer::bind(AgentConfig::default().with_root("/no/such/root")).unwrap_err();
    assert!(missing.to_string().contains("/no/such/root"), "{missing}");
}

#[test]
fn keys_are_in_no_debug_output() {
    let config = AgentConfig::default().with_session_key("topsecret");
    let server = AgentServer::bind(config.clone()).unwrap();
    assert!(!format!("{config:?}{server:?}{:?}", server.handle()).contains("topsecret"));
}
