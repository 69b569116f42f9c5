use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use awc::http::{Method, StatusCode, header::HeaderMap};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use workspace_fleet::Connection;

use super::scene::{AGENT_KEY, FULL_KEY, LOOKING_KEY, Scene};

#[actix_rt::test]
async fn the_key_of_the_service_is_needed_and_that_of_the_agent_is_not_known() {
    let scene = Scene::start().await;
    let home = || scene.url("/api/file/home");
    for (key, status) in [
        ("", StatusCode::UNAUTHORIZED),
        (AGENT_KEY, StatusCode::UNAUTHORIZED),
        (FULL_KEY, StatusCode::OK),
        (LOOKING_KEY, StatusCode::OK),
    ] {
        let (found, body) = scene.ask(Method::GET, home(), key, None).await;
        assert_eq!(found, status, "{key}: {body}");
        if status == StatusCode::UNAUTHORIZED {
            assert_eq!(body, json!({ "detail": "Unauthorized" }));
        }
    }
    // Whether an agent is there, the client asks without a key.
    for (path, status) in [("/health", "ok"), ("/alive", "ok"), ("/ready", "ready")] {
        let told = scene.ask(Method::GET, scene.url(path), "", None).await;
        assert_eq!(told, (StatusCode::OK, json!({ "status": status })), "{path}");
    }
    let start = json!({ "command": "true" });
    let (status, body) =
        scene.ask(Method::POST, scene.url("/api/bash/start_bash_command"), LOOKING_KEY, Some(&start)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    let (status, _) = scene.ask(Method::DELETE, scene.url("/api/bash/bash_events"), LOOKING_KEY, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[actix_rt::test]
async fn nothing_is_passed_on_without_a_key_and_no_name_is_told() {
    let (url, mirror) = mirror().await;
    let scene = Scene::by_way_of(&url).await;
    let unknown = |path: &str| scene.url(path).replace("w%201", "w%202");
    for path in ["/", "/server_info", "/api/init", "/docs", "/health/"] {
        for url in [scene.url(path), unknown(path)] {
            let (status, body) = scene.ask(Method::GET, url, "", None).await;
            assert_eq!((status, body), (StatusCode::UNAUTHORIZED, json!({ "detail": "Unauthorized" })), "{path}");
        }
    }
    mirror.abort();
    // One that is away looks like one that was never there.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let scene = Scene::by_way_of(&format!("http://{nobody}")).await;
    for path in ["/alive", "/health", "/ready"] {
        let away = scene.ask(Method::GET, scene.url(path), "", None).await;
        assert_eq!(away.0, StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", away.1);
        assert_eq!(away, scene.ask(Method::GET, scene.url(path).replace("w%201", "w%202"), "", None).await, "{path}");
    }
}

#[actix_rt::test]
async fn a_key_to_look_with_sees_commands_files_and_repositories_and_nothing_else() {
    let (url, mirror) = mirror().await;
    let scene = Scene::by_way_of(&url).await;
    let conversation = "/api/conversations/7f6f9d6e-0d0f-4b62-9a5e-0a3f1f0b7f11";
    for path in [
        "/api/bash/bash_events/search?limit=1",
        "/api/file/download?path=/a",
        "/api/file/home",
        "/api/file/search_subdirs?path=/",
        "/api/git/changes?path=/a",
        "/server_info",
        &format!("{conversation}/git/diff?path=/a"),
        &format!("{conversation}/bash/bash_events/search"),
    ] {
        let (status, _) = scene.ask(Method::GET, scene.url(path), LOOKING_KEY, None).await;
        assert_eq!(status, StatusCode::TEMPORARY_REDIRECT, "the workspace answers {path}");
    }
    for path in [
        "/api/settings/secrets/TOKEN",
        "/api/settings",
        "/api/init",
        "/api/file/archive?path=/",
        "/api/conversations/search",
        "/api/vscode/url",
        "/docs",
        &format!("{conversation}/events/search"),
        &format!("{conversation}/vscode/url"),
    ] {
        let (status, body) = scene.ask(Method::GET, scene.url(path), LOOKING_KEY, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {body}");
        assert!(body["detail"].as_str().unwrap().contains("the key of looker allows to look"), "{path}: {body}");
        let (status, _) = scene.ask(Method::GET, scene.url(path), FULL_KEY, None).await;
        assert_eq!(status, StatusCode::TEMPORARY_REDIRECT, "{path}");
    }
    mirror.abort();
}

#[actix_rt::test]
async fn no_path_leaves_the_workspace_and_no_other_is_found() {
    let scene = Scene::start().await;
    let raw = |path: &str| {
        let mut stream = TcpStream::connect(scene.address()).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-session-api-key: {FULL_KEY}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for path in ["/..", "/../w/health", "/%2e%2e/%2e%2e/v1/workspaces", "/a%2f..%2f..%2fb", "/%252e%252e/x", "/..%5cx"]
    {
        let answer = raw(&format!("/workspaces/w%201{path}"));
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"detail\""), "{path}: {answer}");
    }
    let answer = raw("/workspaces/w%202/health");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("w 2"), "{answer}");
    assert!(raw("/workspaces/w%201/health").starts_with("HTTP/1.1 200"));
    assert!(
        raw("http://127.0.0.1:1/workspaces/w%201/health").starts_with("HTTP/1.1 200"),
        "the host is the workspace's"
    );
}

/// A server that tells what it was asked: one connection at a time, one request a connection.
async fn mirror() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{address}/s/abc/api/v9/git/x?y=1\r\n\
                 set-cookie: session=1\r\naccess-control-allow-origin: *\r\nx-own: 1\r\nconnection: close, x-own\r\n\
                 content-length: {}\r\n\r\n{text}",
                text.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (format!("http://{address}"), task)
}

#[actix_rt::test]
async fn what_goes_on_is_the_request_and_nothing_that_is_for_the_service() {
    let (url, mirror) = mirror().await;
    let connection = Connection::new(&format!("{url}/s/abc")).unwrap().with_header("X-Gate", "open").unwrap();
    let connection = connection.with_api_prefix("/api/v9").unwrap();
    let scene = Scene::with(|_| connection).await;
    let mut answer = scene
        .client
        .put(scene.url(&format!("/api/git/x?path=%2Fa+b&session%5Fapi_key={FULL_KEY}")))
        .insert_header(("x-session-api-key", FULL_KEY))
        .insert_header(("authorization", format!("Bearer {FULL_KEY}")))
        .insert_header(("cookie", "a=b"))
        .insert_header(("x-gate", "forged"))
        .insert_header(("x-forwarded-host", "elsewhere"))
        .insert_header(("x-kept", "1"))
        .send()
        .await
        .unwrap();
    let seen = String::from_utf8(answer.body().await.unwrap().to_vec()).unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("put /s/abc/api/v9/git/x?path=%2fa+b http/1.1\r\n"), "{seen}");
    for (header, value) in [
        ("host", url.trim_start_matches("http://")),
        ("x-session-api-key", AGENT_KEY),
        ("x-gate", "open"),
        ("x-kept", "1"),
    ] {
        assert_eq!(seen.matches(&format!("\r\n{header}: ")).count(), 1, "{header}: {seen}");
        assert!(seen.contains(&format!("\r\n{header}: {value}\r\n")), "{header}: {seen}");
    }
    for absent in [FULL_KEY, "cookie", "authorization", "x-forwarded-host"] {
        assert!(!seen.contains(absent), "{absent}: {seen}");
    }
    let headers: &HeaderMap = answer.headers();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(headers.get("location").unwrap().to_str().unwrap(), scene.url("/api/git/x?y=1"));
    for absent in ["set-cookie", "access-control-allow-origin", "x-own"] {
        assert!(!headers.contains_key(absent), "{absent}");
    }
    assert_eq!(headers.get("content-security-policy").unwrap(), "sandbox");
    mirror.abort();
}

#[actix_rt::test]
async fn a_workspace_that_does_not_answer_is_a_bad_gateway() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let scene = Scene::by_way_of(&format!("http://{nobody}")).await;
    for path in ["/health", "/api/file/home"] {
        let (status, body) = scene.ask(Method::GET, scene.url(path), FULL_KEY, None).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{path}: {body}");
        assert!(body["detail"].as_str().unwrap().contains("cannot connect"), "{body}");
    }
}
