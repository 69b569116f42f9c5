use std::{os::unix::fs::OpenOptionsExt as _, process::Command};

use serde_json::json;

use crate::{
    http::{get, post, send},
    scene::Served,
};

const FULL: &str = "full-0123456789abcdef";
const READER: &str = "reader-0123456789abcdef";

#[actix_rt::test]
async fn a_key_is_asked_for_and_one_that_may_look_changes_nothing() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("keys");
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&file).unwrap();
    std::fs::write(&file, format!("# of a test\nci:full:{FULL}\nboard:read-only:{READER}\n")).unwrap();
    let service = Served::start(&["--local", "1", "--api-key-file", file.to_str().unwrap()]);
    for path in ["/health", "/ready", "/docs", "/openapi.json"] {
        assert_eq!(get(&service, path).await.status, 200, "{path}");
    }
    for path in ["/v1/workspaces", "/v1/commands", "/v1/leases", "/metrics", "/v1/workspaces/x/git/changes"] {
        let refused = get(&service, path).await;
        refused.is_problem(401, "unauthorized");
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        let bearer = format!("Bearer {READER}x");
        send(&service, "GET", path, &[("authorization", &bearer)], "").await.is_problem(401, "unauthorized");
    }
    let reader = format!("Bearer {READER}");
    let full = format!("Bearer {FULL}");
    assert_eq!(send(&service, "GET", "/v1/workspaces", &[("authorization", &reader)], "").await.status, 200);
    assert_eq!(send(&service, "GET", "/v1/workspaces", &[("x-session-api-key", READER)], "").await.status, 200);
    let headers = |key| [("authorization", key), ("content-type", "application/json")];
    for (method, path) in [
        ("POST", "/v1/workspaces"),
        ("PATCH", "/v1/workspaces/w"),
        ("DELETE", "/v1/workspaces/w"),
        ("POST", "/v1/workspaces/w/execute"),
        ("POST", "/v1/workspaces/w/commands"),
        ("POST", "/v1/workspaces/w/reset"),
        ("PUT", "/v1/workspaces/w/files?path=/x"),
        ("POST", "/v1/leases"),
    ] {
        let body = json!({ "name": "w", "host": "http://a", "command": "true" }).to_string();
        let refused = send(&service, method, path, &headers(reader.as_str()), body).await;
        assert!(matches!(refused.status.as_u16(), 403 | 422), "{method} {path}: {}", refused.text());
        refused.is_problem(403, "forbidden");
    }
    let packed = "/v1/workspaces/local-1/directories?path=/tmp";
    send(&service, "GET", packed, &[("authorization", &reader)], "").await.is_problem(403, "forbidden");
    let leased = send(&service, "POST", "/v1/leases", &headers(full.as_str()), "{\"wait_ms\": 20000}").await;
    assert_eq!(leased.json()["holder"], "ci", "{}", leased.text());
}

#[test]
fn a_service_that_others_can_reach_needs_keys() {
    let state = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
    command.args(["serve", "--host", "0.0.0.0", "--port", "0", "--state-dir"]).arg(state.path());
    let ended = command.env_remove("WSFLEET_SERVICE_KEYS").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("API key"));
}

#[actix_rt::test]
async fn pages_of_others_can_neither_read_nor_change_anything() {
    let service =
        Served::start(&["--local", "1", "--allow-origin", "https://fleet.example", "--server-name", "proxy.example"]);
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1"] {
        send(&service, "GET", "/v1/workspaces", &[("host", host)], "").await.is_problem(421, "misdirected");
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:80", "proxy.example", "a.localhost"] {
        assert_eq!(send(&service, "GET", "/v1/workspaces", &[("host", host)], "").await.status, 200, "{host}");
    }
    let reset = "/v1/workspaces/none/reset";
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        let refused = send(&service, "POST", reset, &[("origin", origin)], "").await;
        refused.is_problem(403, "forbidden");
        assert!(refused.header("access-control-allow-origin").is_empty());
        assert!(send(&service, "OPTIONS", reset, &[("origin", origin)], "").await.status.as_u16() >= 400);
    }
    let folder = tempfile::TempDir::new().unwrap();
    let packed = format!("/v1/workspaces/local-1/directories?path={}", folder.path().display());
    let foreign = send(&service, "GET", &packed, &[("origin", "https://evil.example")], "").await;
    foreign.is_problem(403, "forbidden");
    assert_eq!(send(&service, "GET", &packed, &[("origin", "https://fleet.example")], "").await.status, 200);
    let own = format!("http://127.0.0.1:{}", service.port);
    send(&service, "POST", reset, &[("origin", &own)], "").await.is_problem(404, "not-found");
    let allowed = send(&service, "OPTIONS", reset, &[("origin", "https://fleet.example")], "").await;
    assert_eq!(
        (allowed.status.as_u16(), allowed.header("access-control-allow-origin")),
        (204, "https://fleet.example")
    );
    let answer = get(&service, "/v1/workspaces").await;
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("cache-control", "no-store")]
    {
        assert_eq!(answer.header(name), value);
    }
}

#[actix_rt::test]
async fn workspaces_are_where_they_may_be() {
    let service = Served::start(&["--allow-host", "10.9.*:8000", "--allow-host", "box"]);
    let add = |name: &str, host: &str| json!({ "name": name, "host": host });
    for (index, host) in ["http://10.9.1.1:8001", "http://127.0.0.1:8000", "http://box.evil", "http://169.254.169.254"]
        .iter()
        .enumerate()
    {
        let refused = post(&service, "/v1/workspaces", &add(&format!("w{index}"), host)).await;
        refused.is_problem(422, "host-not-allowed");
    }
    assert_eq!(post(&service, "/v1/workspaces", &add("a", "http://10.9.1.1:8000")).await.status, 201);
    let change = json!({ "host": "http://169.254.169.254" }).to_string();
    let moved = send(&service, "PATCH", "/v1/workspaces/a", &[("content-type", "application/json")], change).await;
    moved.is_problem(422, "host-not-allowed");
    assert_eq!(get(&service, "/v1/workspaces/a").await.json()["host"], "http://10.9.1.1:8000/");
    let split = json!({ "name": "b", "host": "http://box", "headers": { "X-A": "1\r\nX-B: 2" } });
    post(&service, "/v1/workspaces", &split).await.is_problem(422, "invalid-request");
}

#[actix_rt::test]
async fn a_workspace_that_may_not_be_there_any_more_is_left_aside() {
    let mut service = Served::start(&["--allow-host", "10.9.*"]);
    for name in ["removed", "moved", "allowed"] {
        let workspace = json!({ "name": name, "host": "http://10.9.1.1:8000" });
        assert_eq!(post(&service, "/v1/workspaces", &workspace).await.status, 201);
    }
    assert_eq!(service.terminate(), Some(0));
    service.start_again_with(&["--allow-host", "10.8.*"]);
    assert_eq!(get(&service, "/v1/workspaces").await.json()["total"], 0);
    for name in ["removed", "moved", "allowed"] {
        let aside = get(&service, &format!("/v1/workspaces/{name}")).await;
        aside.is_problem(409, "conflict");
        let text = aside.text();
        assert!(text.contains("left aside") && text.contains("10.9.1.1") && text.contains("--allow-host"), "{text}");
        assert_eq!(get(&service, &format!("/workspaces/{name}/health")).await.status, 503);
        let again = json!({ "name": name, "host": "http://10.8.1.1:8000" });
        post(&service, "/v1/workspaces", &again).await.is_problem(409, "conflict");
    }
    assert_eq!(send(&service, "DELETE", "/v1/workspaces/removed", &[], "").await.status, 204);
    get(&service, "/v1/workspaces/removed").await.is_problem(404, "not-found");
    let change = json!({ "host": "http://10.8.1.1:8000" }).to_string();
    let moved = send(&service, "PATCH", "/v1/workspaces/moved", &[("content-type", "application/json")], change).await;
    assert_eq!(moved.json()["host"], "http://10.8.1.1:8000/", "{}", moved.text());
    assert_eq!(service.terminate(), Some(0));
    service.start_again_with(&[]);
    let list = get(&service, "/v1/workspaces").await.json();
    let found: Vec<_> = list["workspaces"].as_array().unwrap().iter().map(|found| found["host"].clone()).collect();
    assert_eq!(
        found,
        ["http://10.9.1.1:8000/", "http://10.8.1.1:8000/"],
        "where they are allowed they are there: {list}"
    );
}

#[actix_rt::test]
async fn no_command_of_a_stored_workspace_runs_in_another_of_its_name() {
    let mut service = Served::start(&[]);
    let workspace = json!({ "name": "local-1", "host": "http://10.9.1.1:8000" });
    assert_eq!(post(&service, "/v1/workspaces", &workspace).await.status, 201);
    assert_eq!(service.terminate(), Some(0));
    let said = service.cannot_start_with(&["--local", "1"]);
    assert!(said.contains("local-1") && said.contains("DELETE /v1/workspaces/local-1"), "{said}");
    service.start_again();
    assert_eq!(send(&service, "DELETE", "/v1/workspaces/local-1", &[], "").await.status, 204);
    assert_eq!(service.terminate(), Some(0));
    service.start_again_with(&["--local", "1"]);
    // Such a name is not given to another one either.
    assert_eq!(send(&service, "DELETE", "/v1/workspaces/local-1", &[], "").await.status, 204);
    post(&service, "/v1/workspaces", &workspace).await.is_problem(409, "conflict");
}

#[actix_rt::test]
async fn secrets_of_a_workspace_do_not_go_to_another_server_unless_they_are_given_again() {
    let service = Served::start(&[]);
    let workspace = json!({
        "name": "w", "host": "http://10.0.0.1:8000", "api_key": "its-key", "headers": { "X-Gate": "open" }
    });
    assert_eq!(post(&service, "/v1/workspaces", &workspace).await.status, 201);
    let change = async |change: serde_json::Value| {
        let headers = [("content-type", "application/json")];
        send(&service, "PATCH", "/v1/workspaces/w", &headers, change.to_string()).await
    };
    for host in ["http://10.0.0.2:8000", "http://10.0.0.1:8001", "https://10.0.0.1:8000"] {
        for (given, left) in [
            (json!({ "host": host }), "`api_key` and `headers`"),
            (json!({ "host": host, "headers": null }), "`api_key`"),
            (json!({ "host": host, "api_key": "another" }), "`headers`"),
        ] {
            let refused = change(given).await;
            refused.is_problem(422, "invalid-request");
            assert!(refused.text().contains(&format!("give {left} again")), "{}", refused.text());
        }
    }
    assert_eq!(get(&service, "/v1/workspaces/w").await.json()["host"], "http://10.0.0.1:8000/");
    let same = change(json!({ "host": "http://10.0.0.1:8000/s/abc" })).await.json();
    assert_eq!(same["settings"]["has_api_key"], true, "it is the same server: {same}");
    let moved = change(json!({ "host": "http://10.0.0.2:8000", "api_key": "its-key", "headers": null })).await.json();
    assert_eq!((&moved["host"], &moved["settings"]["has_api_key"]), (&json!("http://10.0.0.2:8000/"), &json!(true)));
    assert_eq!(moved["settings"]["header_names"], json!([]));
    let dropped = change(json!({ "host": "http://10.0.0.3:8000", "api_key": null })).await.json();
    assert_eq!(dropped["settings"]["has_api_key"], false, "{dropped}");
    assert_eq!(change(json!({ "host": "http://10.0.0.4:8000" })).await.status, 200, "there is no secret any more");
}

#[actix_rt::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let service = Served::start(&["--rate-limit", "3"]);
    let mut refused = None;
    for _ in 0..50 {
        let answer = get(&service, "/v1/leases").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("50 requests take less than 15 s");
    refused.is_problem(429, "rate-limited");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(get(&service, "/health").await.status, 200);
}

#[actix_rt::test]
async fn it_is_served_over_tls_where_there_is_a_certificate() {
    let folder = tempfile::TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let service = Served::start(&["--tls-cert", certificate, "--tls-key", key]);
    let url = format!("https://localhost:{}/health", service.port);
    let asked = Command::new("curl").args(["-sS", "--max-time", "20", "--cacert", certificate, &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "OK", "{}", String::from_utf8_lossy(&asked.stderr));
    let plain = format!("http://localhost:{}/health", service.port);
    assert!(!Command::new("curl").args(["-sS", "--max-time", "20", &plain]).output().unwrap().status.success());
}
